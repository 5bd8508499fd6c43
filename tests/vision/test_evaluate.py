"""Evaluation with segmenters whose answers are known beforehand."""

import hashlib

import numpy as np
import pytest

from parsers.errors import Code, DatasetError, InputError, SettingError, VocabularyError
from parsers.vocabulary import Vocabulary, VocabularyClass
from vision.evaluate import (
    choose_candidates,
    evaluate,
    evaluation_vocabulary,
    exchange_names,
    parse_candidates,
    score_masks,
    shuffle_subclasses,
    with_subclasses,
)
from vision.types import ScoreMap

NAMES = ("dog", "cat", "car", "tree", "sky", "road")


class Blocks:
    """Pictures of four blocks; the red value of a pixel is its class id, so a segmenter can read the truth."""

    name, ignore_id, always = "blocks", 99, ("sky",)
    classes = dict(enumerate(NAMES))  # noqa: RUF012
    groups = {"animals": frozenset({"Dog", "cat"}), "none": frozenset()}  # noqa: RUF012

    def __init__(self, count=5, order=None):
        self.order = list(range(count)) if order is None else order

    def __len__(self):
        return len(self.order)

    def key(self, i):
        return f"block-{self.order[i]}"

    def load(self, i):
        random = np.random.default_rng(self.order[i])
        labels_HW = np.kron(random.integers(0, len(NAMES), (2, 2)), np.ones((8, 8), int)).astype(np.uint16)
        image_HW3 = np.zeros((16, 16, 3), np.uint8)
        image_HW3[..., 0] = labels_HW
        labels_HW[0, 0] = self.ignore_id
        return image_HW3, labels_HW


class Oracle:
    """Answers with the name that the red value stands for; with `wrong` names exchanged. Notes what it was asked."""

    def __init__(self, dataset, wrong=None, size=16):
        self.names, self.wrong, self.size, self.asked, self.batches = dataset.classes, wrong or {}, size, [], []

    def score(self, samples):
        self.batches.append(len(samples))
        return [self.answer(sample) for sample in samples]

    def answer(self, sample):
        names = sample.vocabulary.names
        ids, words = list(names), list(names.values())
        if sample.vocabulary.background_words:
            ids, words = [0, *ids], ["background", *words]
        self.asked.append(words)
        step = 16 // self.size
        red_HW = sample.image_HW3[::step, ::step, 0]
        scores_CHW = np.full((len(ids), *red_HW.shape), -9, np.float16)
        for id, name in self.names.items():
            said = self.wrong.get(name, name)
            if said in words:
                scores_CHW[words.index(said)][red_HW == id] = 9
        return ScoreMap(scores_CHW=scores_CHW, class_ids=tuple(ids), names=tuple(words),
                        image_scores_C=np.ones(len(ids), np.float32))


@pytest.mark.parametrize("absent", [None, 0, 2])
def test_a_segmenter_that_knows_everything_gets_everything(absent):
    run = evaluate(Blocks(), Oracle(Blocks()), absent=absent)
    assert (run.scores.miou, run.scores.pixel_accuracy, run.scores.mean_accuracy) == (1, 1, 1)
    assert run.images == 5
    assert run.groups["animals"].miou == 1
    assert run.groups["none"].miou is None
    assert run.control.miou == 0, "with the names exchanged, everything that was right is wrong"
    assert list(run.per_class) == list(NAMES)


def test_a_segmenter_that_always_says_dog_gets_dogs_only():
    dataset = Blocks(20)
    run = evaluate(dataset, Oracle(dataset, wrong=dict.fromkeys(NAMES, "dog")), absent=None)
    truth = np.concatenate([dataset.load(i)[1].ravel() for i in range(20)])
    share = (truth == 0).sum() / (truth != 99).sum()
    assert run.per_class["dog"].iou == pytest.approx(share)
    assert run.scores.miou == pytest.approx(share / len(NAMES))
    assert run.scores.pixel_accuracy == pytest.approx(share)


def test_the_control_finds_what_exchanged_names_would_have_found():
    """A segmenter that answers with the name the exchange puts there is wrong, and right in the control."""
    dataset = Blocks(1)
    exchange = exchange_names(dataset.key(0), NAMES)
    wrong = {meant: name for name, meant in exchange.items()}
    run = evaluate(dataset, Oracle(dataset, wrong=wrong), absent=None)
    assert (run.scores.miou, run.control.miou) == (0, 1)
    assert run.control_groups.keys() == run.groups.keys()


def test_present_names_are_those_of_the_ground_truth_and_always():
    dataset = Blocks(6)
    oracle = Oracle(dataset)
    evaluate(dataset, oracle, absent=0)
    for i, asked in enumerate(oracle.asked):
        own = {NAMES[id] for id in np.unique(dataset.load(i)[1]) if id != 99}
        assert set(asked) == own | {"sky"}
        assert asked == [name for name in NAMES if name in asked], "the order says nothing about the picture"


def test_absent_names_depend_on_the_picture_alone():
    first, second = Oracle(Blocks()), Oracle(Blocks())
    evaluate(Blocks(6), first, absent=2, batch_size=4)
    evaluate(Blocks(order=[5, 3, 1]), second, absent=2, batch_size=1)
    assert second.asked == [first.asked[5], first.asked[3], first.asked[1]]
    assert len({tuple(asked) for asked in first.asked}) > 1


def test_absent_names_are_the_smallest_digests():
    names = [f"name {i}" for i in range(30)]
    chosen = choose_candidates("a/b.jpg", ["name 3"], names, 4, ["name 9"])
    others = sorted(set(names) - {"name 3", "name 9"},
                    key=lambda name: hashlib.sha256(f"a/b.jpg\0{name}".encode()).digest())
    assert set(chosen) == {"name 3", "name 9", *others[:4]}


def test_more_absent_names_than_there_are_is_all_of_them():
    assert choose_candidates("k", ["dog"], NAMES, 100) == list(NAMES)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 17])
def test_the_exchange_leaves_no_name_in_its_place(count):
    names = [f"name {i}" for i in range(count)]
    exchange = exchange_names("key", names)
    assert sorted(exchange) == sorted(exchange.values()) == sorted(names)
    assert count < 2 or all(name != other for name, other in exchange.items())
    assert exchange == exchange_names("key", reversed(names))


@pytest.mark.parametrize(("text", "absent"), [("all", None), ("present", 0), ("present+0", 0), ("present+20", 20)])
def test_candidates_are_read(text, absent):
    assert parse_candidates(text) == absent


@pytest.mark.parametrize("text", ["", "some", "present+", "present-1", "present+x", "all+2"])
def test_other_candidates_are_refused(text):
    with pytest.raises(SettingError, match=r"present\+N"):
        parse_candidates(text)


def test_names_that_the_dataset_has_not_can_only_be_wrong():
    dataset = Blocks(8)
    run = evaluate(dataset, Oracle(dataset, wrong={"dog": "unicorn"}), absent=0, always=["unicorn", "Unicorn"])
    assert run.per_class["dog"].iou != 1
    plain = Oracle(dataset)
    evaluate(dataset, plain, absent=0, always=["unicorn"])
    assert all("unicorn" in asked for asked in plain.asked)
    assert "unicorn" not in run.per_class


def test_limit_takes_the_first_pictures_and_progress_tells_of_them():
    told, oracle = [], Oracle(Blocks())
    run = evaluate(Blocks(9), oracle, absent=0, limit=5, batch_size=2, on_progress=lambda *state: told.append(state))
    assert told == [(2, 5), (4, 5), (5, 5)]
    assert oracle.batches == [2, 2, 1]
    assert run.images == 5


def test_score_maps_may_be_coarser_than_pictures():
    assert evaluate(Blocks(), Oracle(Blocks(), size=4), absent=None).scores.miou > 0.5


class WithBackground(Blocks):
    classes = {0: "Background", 1: "cat", 2: "car", 3: "tree", 4: "sky", 5: "CAT "}  # noqa: RUF012
    always = ()
    groups = {}  # noqa: RUF012


def test_background_is_found_as_id_0_and_ids_of_one_name_are_one_class():
    dataset = WithBackground(6)
    oracle = Oracle(dataset)
    oracle.names = {0: "background", 1: "cat", 2: "car", 3: "tree", 4: "sky", 5: "cat"}
    run = evaluate(dataset, oracle, absent=None)
    assert list(run.per_class) == ["background", "cat", "car", "tree", "sky"]
    assert run.scores.miou == 1


def test_a_picture_of_nothing_but_background_is_not_searched():
    class Empty(WithBackground):
        def load(self, i):
            return np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16)

    oracle = Oracle(Empty())
    run = evaluate(Empty(2), oracle, absent=0)
    assert oracle.asked == []
    assert run.scores.miou == 1


def knowledge():
    return Vocabulary(classes=(
        VocabularyClass(id=7, name="Dog", subclasses=("poodle", "hound"), gloss="the animal", parent="animal"),
        VocabularyClass(id=8, name="cat", synonyms=("kitty",), subclasses=("tabby",)),
        VocabularyClass(id=9, name="car", subclasses=("coupe", "limousine")),
        VocabularyClass(id=10, name="animal")), background=("wall",))


def test_knowledge_reaches_the_vocabulary():
    vocabulary = evaluation_vocabulary(["dog", "tree", "cat"], True, knowledge())
    dog, tree, cat = vocabulary.classes
    assert (dog.subclasses, dog.gloss, dog.parent) == (("poodle", "hound"), "the animal", None)
    assert (tree.subclasses, cat.synonyms) == ((), ("kitty",))
    assert vocabulary.background == ("wall",)
    assert evaluation_vocabulary(["dog"], False, knowledge()).background == ()


def test_knowledge_about_other_things_is_refused():
    with pytest.raises(VocabularyError, match="none of the names"):
        evaluation_vocabulary(["lamp"], False, knowledge())


def test_shuffled_lists_are_the_same_lists_elsewhere():
    before, after = knowledge(), shuffle_subclasses(knowledge())
    lists = {entry.name: entry.subclasses for entry in before.classes}
    moved = {entry.name: entry.subclasses for entry in after.classes}
    assert sorted(lists.values()) == sorted(moved.values())
    assert all(lists[name] != moved[name] for name in ("Dog", "cat", "car"))
    assert moved["animal"] == ()
    assert after == shuffle_subclasses(knowledge())


def test_made_masks_are_scored_like_segmented_ones():
    dataset = Blocks(4)
    names = {0: "background"} | {id + 10: name for id, name in dataset.classes.items()} | {90: "unicorn"}

    def read_mask(i):
        labels_HW = dataset.load(i)[0][..., 0].astype(np.uint16) + 10
        labels_HW[:8] = 90
        return labels_HW

    run = score_masks(dataset, read_mask, names, name="made")
    truth = np.stack([dataset.load(i)[1] for i in range(4)])
    assert run.scores.pixel_accuracy == pytest.approx((truth[:, 8:] != 99).sum() / (truth != 99).sum())
    assert run.control.pixel_accuracy < run.scores.pixel_accuracy
    assert (run.name, run.images) == ("made", 4)


class Damaged(Blocks):
    """Every third picture has a mask that does not fit, the last one is gone."""

    def load(self, i):
        if i == len(self) - 1:
            raise InputError(Code.FILE_MISSING, f"{i} is gone.")
        if i % 3 == 1:
            raise DatasetError(Code.LABEL_SIZE, f"{i} does not fit.", "", "Look at it.")
        return super().load(i)


def test_bad_pictures_are_left_out_and_counted_if_that_is_asked_for():
    dataset = Damaged(9)
    run = evaluate(dataset, Oracle(dataset), absent=None, skip_bad=True, batch_size=2)
    assert (run.images, run.skipped) == (5, {"label-size": 3, "file-missing": 1})
    assert run.scores.miou == 1
    good = evaluate(Blocks(order=[0, 2, 3, 5, 6]), Oracle(dataset), absent=None)
    assert run.per_class == good.per_class


def test_the_first_bad_picture_ends_the_evaluation_otherwise():
    dataset, oracle = Damaged(9), Oracle(Damaged(9))
    with pytest.raises(DatasetError, match="1 does not fit"):
        evaluate(dataset, oracle, absent=None, batch_size=1)
    assert oracle.batches == [1]


def test_nothing_but_bad_pictures_gives_no_figures():
    run = evaluate(Damaged(1), Oracle(Blocks()), absent=None, skip_bad=True)
    assert (run.images, run.scores.miou, run.skipped) == (0, None, {"file-missing": 1})


def test_what_concerns_the_whole_dataset_is_never_left_out():
    class Broken(Blocks):
        def load(self, i):
            raise DatasetError(Code.DATASET_INVALID, "No dataset.")

    with pytest.raises(DatasetError, match="No dataset"):
        evaluate(Broken(2), Oracle(Blocks()), absent=None, skip_bad=True)


def test_the_seconds_of_the_stages_are_told():
    run = evaluate(Blocks(4), Oracle(Blocks()), absent=None)
    assert list(run.stages) == ["read", "score", "refine", "count"]
    assert all(seconds > 0 for seconds in run.stages.values())
    assert sum(seconds for stage, seconds in run.stages.items() if stage != "read") <= run.seconds


def test_pictures_are_read_only_a_little_ahead():
    class Watched(Blocks):
        read = 0

        def load(self, i):
            self.read += 1
            return super().load(i)

    dataset, seen = Watched(40), []
    evaluate(dataset, Oracle(dataset), absent=0, batch_size=2, on_progress=lambda done, total: seen.append(
        dataset.read - done))
    assert max(seen) <= 4
    assert dataset.read == 40


def test_subclasses_come_to_the_names_of_a_protocol():
    names = Vocabulary(classes=(VocabularyClass(id=1, name="dog", synonyms=("hound", "doggy")),
                                VocabularyClass(id=2, name="tree", synonyms=("oak",))), background=("floor", "sky"))
    merged = with_subclasses(names, knowledge().model_copy(update={"background": ()}))
    dog, tree = merged.classes
    assert (dog.id, dog.subclasses, dog.synonyms, dog.gloss) == (1, ("poodle", "hound"), ("doggy",), "the animal")
    assert (tree.synonyms, tree.subclasses) == (("oak",), ())
    assert merged.background == ("floor", "sky")
    assert with_subclasses(names, knowledge()).background == ("wall",)
    assert evaluation_vocabulary(["dog", "tree"], True, merged).classes[0].subclasses == ("poodle", "hound")


def test_knowledge_about_other_things_stays_what_it_is():
    names = Vocabulary.from_names("lamp, table")
    assert with_subclasses(names, knowledge()) == knowledge()
