"""The page that a person looks at first."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from parsers.vocabulary import Vocabulary
from workers import run_job
from workers.records import ClassFound, Result
from workers.report import SHEET_PICTURES, count


class Page(HTMLParser):
    """Checks that tags nest, and collects texts and links."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.stack, self.links, self.tags = [], [], []
        self.feed(html)
        self.close()
        assert not self.stack

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href", "action")]
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


@pytest.fixture
def report(make_spec, segmenter):
    def make(**changes) -> str:
        return run_job(make_spec(**changes), segmenter=segmenter).report.read_text()

    return make


def test_the_page_is_well_formed_and_stands_alone(report):
    html = report()
    page = Page(html)
    assert page.links and all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    assert "script" not in page.tags and "link" not in page.tags
    assert "http" not in re.sub(r"data:[^\"]*|http-equiv", "", html)


def test_it_says_what_happened(report):
    html = report(vocabulary=Vocabulary.from_names("red, green, blue, octarine"))
    for text in ("Masks for 8 pictures", "octarine", "file-empty", "image-truncated", "Copy it again from its source.",
                 "c0c0c0", "nothing found", "deep/b.png"):
        assert text in html


def test_hostile_names_are_text(report, photos):
    for name in ("<img src=x onerror=alert(1)>.png", '"><b>.png', "{{ 7*7 }}.png", "a\nb.png"):
        (photos / name).write_bytes((photos / "a.png").read_bytes())
    (photos / "<script>alert(2)<").with_suffix(".png").write_bytes(b"")
    html = report(vocabulary=Vocabulary.from_names(["red", "green", "<u>blue</u>"]))
    page = Page(html)
    assert not {"u", "script"} & set(page.tags)
    assert "&lt;script&gt;" in html and "&lt;img src=x onerror" in html and "{{ 7*7 }}" in html


def test_thumbnails_are_small(report, paint, photos):
    paint(photos / "large.png", "red", "green", size=(3000, 2000))
    assert len(report()) < 400_000


def test_the_same_job_gives_the_same_page(report):
    assert report() == report()


def test_a_page_survives_pictures_that_have_gone(make_spec, segmenter, photos):
    def vanish(_):
        (photos / "a.jpg").unlink(missing_ok=True)

    html = run_job(make_spec(), segmenter=segmenter, on_progress=vanish).report.read_text()
    Page(html)


def result(index: int) -> Result:
    found = ClassFound(id=index % 7 + 1, name="x", area=1 + index % 50, score=0.5)
    return Result(name=f"{index:05}.jpg", state="done", width=10, height=10, classes=(found,))


def test_the_tally_is_bounded_and_counts_everything():
    tally = count(result(index) for index in range(5000))
    assert len(tally.sheet) == SHEET_PICTURES
    assert tally.pixels == 500_000
    assert sum(entry.images for entry in tally.classes.values()) == 5000
    assert all(len(entry.samples) == 4 and min(entry.samples)[0] == 50 for entry in tally.classes.values())


def test_the_sample_does_not_depend_on_the_order_and_is_spread():
    names = [sorted(name for _, name, _ in count(map(result, order)).sheet)
             for order in (range(2000), reversed(range(2000)))]
    assert names[0] == names[1]
    assert sum(name < "01000.jpg" for name in names[0]) in range(12, 37)
