"""Jobs without candidates: from what is said of pictures to masks with one vocabulary, the same bytes on every way."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import workers.queue.numbers
import workers.queue.shard
from parsers import ObjectPrior, ScenePriors, Vocabulary
from parsers.errors import Code, JobError, LlmError, ModelError, SettingError
from parsers.free import PLACES
from parsers.prepared import PreparedRow, write_prepared
from tests.by_hand import content, finish, work_off
from tests.llm_server import Reply, llm_server
from workers import read_job, read_results, run_job
from workers.description import describe_job, made_with
from workers.estimate import estimate
from workers.ledger.dispatch import hand_out
from workers.ledger.jobs import counts, find_job, get_job, resume_job, told_number
from workers.queue.finalise import finalise
from workers.queue.shard import ShardWorker
from workers.queue.telling import TellingWorker
from workers.spec import CandidateFree, JobSpec
from workers.submit import spec_digest, submit
from workers.telling import check_free
from workers.verify import verify

SAID = {"a.jpg": ("red", "green"), "a.png": ("blue",), "deep/b.png": ("green", "dark blue", "yellow"),
        "deep/cut.png": ("red",), "empty.jpg": ("zebra",), "nothing.png": ()}
"""Of deep/c.bmp and text.jpg there is no row; deep/cut.png and empty.jpg cannot be read."""


def row(name, things, presence=()):
    return PreparedRow(image_id=name, prompt_id="detailed", model_id="nobody", presence=dict(presence),
                       priors=ScenePriors(text="a text", objects=tuple(
                           ObjectPrior(name=one.split()[-1], lemma=one.split()[-1],
                                       attributes=tuple(one.split()[:-1])) for one in things)))


@pytest.fixture
def said(tmp_path) -> Path:
    path = tmp_path / "said.jsonl"
    write_prepared(path, [row(name, things, {"yellow": False}) for name, things in SAID.items()])
    return path


@pytest.fixture
def make_free(make_spec, said):
    """make_free(out=..., ...): a job on `photos` whose names are those of the prepared descriptions."""

    def make(**changes) -> JobSpec:
        values = {"vocabulary": Vocabulary(classes=(), background=PLACES),
                  "free": check_free(CandidateFree(descriptions=str(said)))}
        return make_spec(**(values | changes))

    return make


@pytest.fixture
def hands(ledger, segmenter, monkeypatch):
    """Who segments and who says, in this process."""
    monkeypatch.setattr(workers.queue.shard, "load_backend", lambda spec: segmenter)
    teller = TellingWorker(ledger, lease_s=30, is_stopping=lambda: False)
    masker = ShardWorker(ledger, lease_s=30, is_stopping=lambda: False)
    yield masker, teller
    teller.close()
    masker.close()


def test_each_picture_is_searched_for_what_is_said_of_it(make_free, segmenter, tmp_path):
    summary = run_job(make_free(), segmenter=segmenter)
    found = {result.name: result for result in read_results(tmp_path / "out")}
    assert {name: [one.name for one in found[name].classes] for name in SAID if found[name].state != "failed"} == {
        "a.jpg": ["green", "red"], "a.png": ["blue"], "deep/b.png": ["blue", "green"], "nothing.png": []}
    names = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert names == {"0": "background", "1": "blue", "2": "green", "3": "red", "4": "zebra", "ignore_id": 255}
    assert Vocabulary.load(tmp_path / "out" / "vocabulary.yaml").names == {1: "blue", 2: "green", 3: "red", 4: "zebra"}
    assert found["deep/b.png"].told == row("deep/b.png", SAID["deep/b.png"], {"yellow": False})
    assert (found["nothing.png"].state, found["nothing.png"].told.priors.objects) == ("done-empty", ())
    assert (found["deep/c.bmp"].code, found["text.jpg"].code) == (Code.DATASET_INVALID, Code.DATASET_INVALID)
    assert (summary.total, summary.failed) == (8, 4)
    with Image.open(tmp_path / "out" / "masks" / "a.jpg.png") as mask:
        assert set(np.unique(np.asarray(mask))) == {2, 3}


def test_workers_write_what_one_process_writes_in_any_order(make_free, segmenter, ledger, hands, tmp_path):
    run_job(make_free(out=str(tmp_path / "alone"), overlay=True, confidence=True), segmenter=segmenter)
    for number, backwards in enumerate((False, True)):
        spec = make_free(out=str(tmp_path / f"job{number}"), overlay=True, confidence=True)
        job = submit(ledger, spec, shard_size=3).job
        order = work_off(ledger, job, *hands, at_once=2, backwards=backwards)
        assert order.count("tell") == order.count("mask") == 3
        assert order.index("mask") < 4, "the first shard is segmented before something is said of the last"
        assert finish(ledger, job) and get_job(ledger, job.id).state == "done"
        assert content(tmp_path / f"job{number}") == content(tmp_path / "alone")
        assert verify(ledger, find_job(ledger, job.id)).is_whole
        assert read_job(tmp_path / f"job{number}").vocabulary.classes == 4


@pytest.mark.parametrize("point", ["numbering", "numbered", "moving"])
def test_an_end_that_is_interrupted_goes_on_where_it_was(make_free, segmenter, ledger, hands, tmp_path, monkeypatch,
                                                         point):
    run_job(make_free(out=str(tmp_path / "alone")), segmenter=segmenter)
    job = submit(ledger, make_free(), shard_size=3).job
    work_off(ledger, job, *hands)
    before = content(tmp_path / "out")
    number = iter(range(100))

    def die(*arguments):
        if arguments[0] == point or (point == "moving" and len(arguments) == 2 and next(number) == 4):
            raise KeyboardInterrupt
        return real(*arguments)

    name = "os.replace" if point == "moving" else "workers.queue.numbers.reach"
    real = workers.queue.numbers.os.replace if point == "moving" else workers.queue.numbers.reach
    with monkeypatch.context() as patch:
        patch.setattr(name, die)
        with pytest.raises(KeyboardInterrupt):
            finish(ledger, job)
    assert any(content(tmp_path / "out").get(name) == mask for name, mask in before.items()), "it is not through"
    masker = hands[0]
    monkeypatch.setattr(masker, "work", None)  # nothing is segmented again
    assert finalise(ledger, job.id, lease_s=30)
    assert content(tmp_path / "out") == content(tmp_path / "alone")
    assert verify(ledger, find_job(ledger, job.id)).is_whole and not (tmp_path / "out" / ".numbered").exists()


def test_ending_twice_changes_nothing_and_a_damaged_mask_is_made_again(make_free, ledger, hands, tmp_path):
    job = submit(ledger, make_free(), shard_size=8).job
    work_off(ledger, job, *hands)
    assert finish(ledger, job)
    before = content(tmp_path / "out")
    mask = tmp_path / "out" / "masks" / "a.jpg.png"
    mask.write_bytes(b"damaged")
    (tmp_path / "photos" / "later.png").write_bytes((tmp_path / "photos" / "a.png").read_bytes())
    submit(ledger, make_free())
    work_off(ledger, job, *hands)
    assert not finish(ledger, job), "the damaged one goes back"
    assert counts(ledger, job.id)["queued"] == 1
    assert work_off(ledger, job, *hands) == ["mask"], "nothing is asked again"
    assert finish(ledger, job)
    after = content(tmp_path / "out")
    assert {name for name in after if after[name] != before.get(name)} == {"results.jsonl"}


def test_further_pictures_bring_further_names_and_all_masks_follow(make_free, said, segmenter, ledger, hands, paint,
                                                                   tmp_path):
    paint(tmp_path / "photos" / "z.png", "green")
    rows = [row(name, things, {"yellow": False}) for name, things in SAID.items()]
    write_prepared(said, [*rows, row("z.png", ("green", "apple"))])
    late = (tmp_path / "photos" / "z.png").rename(tmp_path / "z.png")
    job = submit(ledger, make_free(), shard_size=3).job
    work_off(ledger, job, *hands)
    assert finish(ledger, job)
    assert json.loads((tmp_path / "out" / "classes.json").read_text())["1"] == "blue"
    late.rename(tmp_path / "photos" / "z.png")
    assert submit(ledger, make_free(), shard_size=3).intake.added == 1
    work_off(ledger, job, *hands)
    assert finish(ledger, job)
    assert json.loads((tmp_path / "out" / "classes.json").read_text())["1"] == "apple"
    run_job(make_free(out=str(tmp_path / "alone")), segmenter=segmenter)
    assert content(tmp_path / "out") == content(tmp_path / "alone")


def test_results_are_descriptions_for_the_next_job(make_free, segmenter, tmp_path):
    run_job(make_free(out=str(tmp_path / "first")), segmenter=segmenter)
    again = check_free(CandidateFree(descriptions=str(tmp_path / "first" / "results.jsonl")))
    run_job(make_free(out=str(tmp_path / "second"), free=again), segmenter=segmenter)
    first, second = (tmp_path / name / "masks" / "deep" / "b.png.png" for name in ("first", "second"))
    lines = [[one for one in read_results(tmp_path / name) if one.state != "failed"] for name in ("first", "second")]
    assert [one.told for one in lines[0]] == [one.told for one in lines[1]]
    assert np.array_equal(np.asarray(Image.open(first)), np.asarray(Image.open(second)))


def test_changed_descriptions_stop_the_job(make_free, said, ledger, hands, tmp_path):
    spec = make_free()
    job = submit(ledger, spec).job
    write_prepared(said, [row("a.png", ("red",))])
    (shard,) = hand_out(ledger, job, 1)
    with pytest.raises(SettingError, match="changed since"):
        hands[1].work(job.id, shard, job.digest[:16])
    assert get_job(ledger, job.id).state == "stopped"
    assert spec_digest(spec) != spec_digest(make_free())


def test_a_sample_takes_the_time_of_both_stages(make_free, segmenter):
    found = estimate(make_free(), measured=3, segmenter=segmenter)
    assert found.images == 8 and found.measured >= 1 and found.images_per_s > 0


@pytest.mark.parametrize("values", [{}, {"llm": "pocket", "descriptions": "a.jsonl"}])
def test_names_come_from_one_place(values):
    with pytest.raises(ValueError, match="one of llm and descriptions"):
        CandidateFree(**values)


# with a language model


def answers(request):
    content = request["messages"][-1]["content"]
    text = content if isinstance(content, str) else content[-1]["text"]
    if text.startswith("Is there"):
        return '{"answer": "no"}' if "cat" in text else '{"answer": "yes"}'
    return "A red dog sits next to a cat. There is no car."


@pytest.fixture
def llm():
    with llm_server() as server:
        server.answer = answers
        yield server


@pytest.fixture
def ask(llm, tmp_path):
    return CandidateFree(llm=llm.url, store=str(tmp_path / "answers.sqlite"), timeout_s=20)


def test_a_language_model_is_asked_what_is_there_and_never_twice(make_free, ask, llm, ledger, hands, segmenter, paint,
                                                                 tmp_path):
    free = check_free(ask)
    assert free.llm_digest and free.llm_model == "stub"
    spec = make_free(free=free)
    job = submit(ledger, spec, shard_size=3).job
    met = threading.Event()

    def meet(request):  # nobody is answered before a second question has come beside the first
        if llm.most_in_flight > 1:
            met.set()
        met.wait(10)
        return answers(request)

    llm.answer = meet
    work_off(ledger, job, *hands)
    assert finish(ledger, job)
    results = {one.name: one for one in read_results(tmp_path / "out")}
    told = results["a.png"].told
    assert told.priors.text == "A red dog sits next to a cat. There is no car."
    assert (told.presence, told.model_id, told.prompt_id) == ({"cat": False, "dog": True}, "stub", "detailed")
    assert (tmp_path / "out" / "classes.json").read_text().count("dog") == 1
    assert "cat" not in (tmp_path / "out" / "classes.json").read_text()
    assert results["text.jpg"].code == Code.NOT_AN_IMAGE and met.is_set()
    calls = llm.calls
    run_job(make_free(free=free, out=str(tmp_path / "alone")), segmenter=segmenter)
    assert llm.calls == calls and content(tmp_path / "alone") == content(tmp_path / "out")


@pytest.mark.parametrize(("reply", "code"), [
    (Reply("the the the the the the the the the the the the the the the the"), Code.ANSWER_UNFIT),
    (Reply(""), Code.ANSWER_UNFIT),
    (Reply(status=500, body="{}", headers={"Retry-After": "0"}), Code.LLM_UNAVAILABLE),
    (Reply("slow", wait_s=1.0), Code.LLM_UNAVAILABLE),
    (Reply(status=400, body='{"error": {"message": "image input is not supported"}}'), Code.LLM_BLIND)],
    ids=["repeats", "empty", "broken", "slow", "blind"])
def test_a_model_that_gives_nothing_costs_pictures_not_the_job(make_free, ask, llm, ledger, hands, paint, tmp_path,
                                                               reply, code):
    photos = tmp_path / "few"
    paint(photos / "a.png", "red")
    paint(photos / "b.png", "blue")
    free = check_free(ask).model_copy(update={"timeout_s": 0.3 if reply.wait_s else 20})
    job = submit(ledger, make_free(inputs=(str(photos),), free=free)).job
    llm.answer = lambda request: reply
    work_off(ledger, job, *hands)
    assert finish(ledger, job)
    assert [(one.state, one.code) for one in read_results(tmp_path / "out")] == [("failed", code)] * 2
    assert read_job(tmp_path / "out").counts["failed"] == 2


def test_how_often_the_model_was_replaced_is_said_on_every_way(make_free, ask, llm, ledger, hands, segmenter, paint,
                                                               tmp_path):
    photos = tmp_path / "few"
    for name, colour in (("a.png", "red"), ("b.png", "blue"), ("c.png", "green")):
        paint(photos / name, colour)
    free = check_free(ask.model_copy(update={"parallel": 1}))
    described = iter(["The dog is next to a cat.", "", "", "A dog sits on a cat."])
    llm.answer = lambda request: "Perhaps." if "response_format" in request else next(described)
    make = {"inputs": (str(photos),), "free": free}
    job = submit(ledger, make_free(**make)).job
    work_off(ledger, job, *hands)
    assert finish(ledger, job)
    run_job(make_free(**make, out=str(tmp_path / "alone")), segmenter=segmenter)
    said, alone = ([warning for warning in read_job(tmp_path / name).warnings if "could not be used" in warning]
                   for name in ("out", "alone"))
    assert [warning.split(" answers")[0] for warning in said] == ["describe-detailed: 1 of 3", "presence: 4 of 4"]
    assert alone == said


def test_no_more_pictures_are_asked_about_than_may_fail(make_free, ask, llm, segmenter, tmp_path):
    """In one process everything is said before anything is masked."""
    told, free = [], check_free(ask)
    llm.answer = lambda request: Reply("")
    with pytest.raises(JobError) as caught:
        run_job(make_free(free=free, max_failures=1), segmenter=segmenter, on_told=lambda done, _: told.append(done))
    assert caught.value.code == Code.TOO_MANY_FAILURES and told == [1]
    assert not (tmp_path / "out").exists()


def test_a_server_that_is_gone_costs_pictures_not_the_job(make_free, ask, ledger, hands, tmp_path):
    with llm_server() as gone:
        gone.answer = answers
        free = check_free(ask.model_copy(update={"llm": gone.url}))
    job = submit(ledger, make_free(free=free)).job
    work_off(ledger, job, *hands)
    assert finish(ledger, job)
    assert {one.code for one in read_results(tmp_path / "out")} == {Code.LLM_UNAVAILABLE}


def test_a_model_without_eyes_is_refused_before_anything_is_written(ask, llm):
    llm.answer = lambda request: Reply(status=400, body='{"error": {"message": "stub is not a multimodal model"}}')
    with pytest.raises(LlmError) as caught:
        check_free(ask)
    assert caught.value.code == Code.LLM_BLIND


def test_another_language_model_leaves_the_job_alone(make_free, ask, llm, ledger, hands):
    free = check_free(ask)
    job = submit(ledger, make_free(free=free)).job
    llm.models["data"][0]["max_model_len"] = 4096
    (shard,) = hand_out(ledger, job, 1)
    with pytest.raises(Exception, match="another one than the job began with"):
        hands[1].work(job.id, shard, job.digest[:16])
    assert (get_job(ledger, job.id).state, get_job(ledger, job.id).error_code) == ("running", Code.WORKER_DIFFERS)
    assert counts(ledger, job.id)["running"] == 0


def test_a_missing_model_directory_is_said_at_once(tmp_path):
    with pytest.raises(ModelError):
        check_free(CandidateFree(llm=str(tmp_path / "none")))


def test_no_more_calls_than_the_job_may_make_and_more_when_it_may(make_free, ask, llm, ledger, hands, segmenter,
                                                                  tmp_path):
    free = check_free(ask)
    asked = llm.calls  # whether it sees
    job = submit(ledger, make_free(free=free.model_copy(update={"max_calls": 7})), shard_size=3).job
    for _ in range(2):
        with pytest.raises(LlmError, match="the 7 calls"):
            work_off(ledger, job, *hands)
        stopped = get_job(ledger, job.id)
        assert (stopped.state, stopped.error_code, stopped.llm_calls) == ("stopped", Code.LLM_CALLS, 7)
        assert llm.calls - asked == 7 and counts(ledger, job.id)["running"] == 0
        resume_job(ledger, stopped)  # which grants nothing, and neither does another worker
        hands = hands[0], TellingWorker(ledger, lease_s=30, is_stopping=lambda: False)
    assert submit(ledger, make_free(free=free.model_copy(update={"max_calls": 50}))).job.id == job.id
    work_off(ledger, job, *hands)
    assert finish(ledger, job)
    assert llm.calls - asked == get_job(ledger, job.id).llm_calls == 5 * 3, "the store kept what was answered"
    run_job(make_free(free=free, out=str(tmp_path / "alone")), segmenter=segmenter)
    assert content(tmp_path / "out") == content(tmp_path / "alone")


def test_the_site_may_allow_fewer_and_what_was_said_before_is_kept(make_free, ask, llm, ledger):
    free = check_free(ask.model_copy(update={"store": "none", "parallel": 1}))
    job = submit(ledger, make_free(free=free)).job
    teller = TellingWorker(ledger, lease_s=30, is_stopping=lambda: False, max_calls=7)
    (shard,) = hand_out(ledger, job, 1)
    with closing(teller), pytest.raises(LlmError, match="LEXISEG_MAX_LLM_CALLS"):
        teller.work(job.id, shard, job.digest[:16])
    assert told_number(ledger, job.id) == 2  # of three calls each


def test_a_message_has_a_time_and_the_rest_of_its_shard_waits_for_the_next(make_free, ask, llm, ledger):
    free = check_free(ask.model_copy(update={"parallel": 1}))
    job = submit(ledger, make_free(free=free), shard_size=8).job
    told = []
    with closing(TellingWorker(ledger, lease_s=30, is_stopping=lambda: False, limit_s=0.001)) as teller:
        while told[-1:] != [5] and len(told) < 20:
            (shard,) = hand_out(ledger, job, 1)  # the dispatcher sends it again
            teller.work(job.id, shard, job.digest[:16])
            found = counts(ledger, job.id)
            assert found["running"] == 0 and found["queued"] + found["failed"] == 8
            told.append(told_number(ledger, job.id))
    assert told == sorted(told) and len(told) > 2 and told[-1] == 5  # the others cannot be read


def test_calls_that_were_counted_and_not_made_are_given_back(make_free, ask, ledger, hands, llm):
    job = submit(ledger, make_free(free=check_free(ask))).job
    asked = llm.calls
    work_off(ledger, job, *hands)
    assert get_job(ledger, job.id).llm_calls == llm.calls - asked == 15


def test_one_process_makes_no_more_calls_than_that_either(make_free, ask, llm, segmenter, tmp_path):
    free = check_free(ask)
    asked = llm.calls
    with pytest.raises(LlmError) as caught:
        run_job(make_free(free=free.model_copy(update={"max_calls": 4})), segmenter=segmenter)
    assert (caught.value.code, llm.calls - asked) == (Code.LLM_CALLS, 4) and not (tmp_path / "out").exists()


def test_without_a_number_the_bound_grows_with_the_pictures():
    assert CandidateFree(llm="pocket").call_limit(3) == 300
    assert CandidateFree(llm="pocket", max_calls=5).call_limit(3) == 5
    with pytest.raises(ValueError, match="language model"):
        CandidateFree(descriptions="a.jsonl", max_calls=5)


def test_passwords_of_servers_are_not_in_the_job_file(make_free, segmenter, said, tmp_path):
    free = CandidateFree(llm="http://a:secret@one/v1,http://b:secret@two/v1", store="postgresql://c:secret@three/d")
    spec = make_free(free=free)
    text = describe_job(spec, spec.vocabulary, made_with(spec, spec.vocabulary, segmenter), state="done")
    assert text.spec["free"]["llm"] == "http://one/v1,http://two/v1" and "secret" not in text.model_dump_json()
    assert text.spec["free"]["store"] == "postgresql://three/d"
