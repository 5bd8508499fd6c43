"""Some regions of a job stay, the others are gone everywhere."""

import numpy as np
from PIL import Image

from parsers.files import sha256_file
from workers import read_job, read_results, run_job
from workers.records import DONE, EMPTY
from workers.selection import keep_regions


def labels(out, result):
    with Image.open(out / result.mask) as image:
        return np.array(image)


def test_what_is_kept_stays_as_it_was_and_all_else_is_gone(make_spec, segmenter, photos):
    out = run_job(make_spec(), segmenter=segmenter).out
    before = {result.name: result for result in read_results(out)}
    masks = {name: labels(out, result) for name, result in before.items() if result.mask}
    kept = {name: [result.regions[0].id] for name, result in before.items() if result.regions and name != "a.png"}
    keep_regions(out, kept, lambda name: photos / name)
    for result in read_results(out):
        old = before[result.name]
        if not old.regions:
            assert result == old
            continue
        left = [region for region in old.regions if region.id in kept.get(result.name, ())]
        assert list(result.regions) == left and result.state == (DONE if left else EMPTY)
        mask = labels(out, result)
        assert np.count_nonzero(mask) == sum(region.area for region in left)
        assert (mask[mask > 0] == masks[result.name][mask > 0]).all()
        assert [(found.id, found.area) for found in result.classes] == [(one.class_id, one.area) for one in left]
        assert result.mask_sha256 == sha256_file(out / result.mask)
    job = read_job(out)
    assert job.counts["done-empty"] == 2 and sum(job.counts.values()) == job.total
    assert (out / "report.html").exists()


def test_keeping_everything_changes_no_byte(make_spec, segmenter, photos):
    out = run_job(make_spec(), segmenter=segmenter).out
    files = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    keep_regions(out, {result.name: [one.id for one in result.regions] for result in read_results(out)},
                 lambda name: photos / name)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == files
