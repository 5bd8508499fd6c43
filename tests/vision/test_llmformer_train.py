"""Training in small: losses by hand, batches, checkpoints, and what stops a run."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F
from torch.utils.data import DataLoader

from parsers.errors import Code, DatasetError, ModelError, SettingError
from parsers.prepared import PreparedPriors, recall, write_prepared
from parsers.vocabulary import Vocabulary
from tests.servers import free_port
from tests.vision.conftest import LLMFORMER
from vision.datasets.pictograms import PictogramDataset
from vision.llmformer.directory import read_model
from vision.llmformer.model import Prediction, Predictions
from vision.llmformer.segmenter import LlmformerSegmenter
from vision.llmformer.words import load_words
from vision.refine import refine
from vision.train import llmformer as training
from vision.train.llmformer_config import CONFIGS, DataConfig, LossConfig, TrainingConfig, read_training
from vision.train.llmformer_data import IGNORED, FolderSource, LabelledPictures, SyntheticSource, cut, open_source
from vision.train.llmformer_loss import SegmentationLoss, pixel_loss, summed, targets
from vision.train.llmformer_priors import Mistakes, describe_scene, label_rows, scene_rows
from vision.types import Sample

NAMES = {"a": "dog", "b": "cat", "c": "grass"}


def config(**changes):
    values = {"name": "tiny", "model": LLMFORMER, "data": {"kind": "synthetic", "count": 8, "names": NAMES},
              "loss": {"points": 64}, "steps": 4, "batch": 2, "rate": 1e-3, "clip": 1.0, "save": 2, "report": 2}
    return TrainingConfig.model_validate(values | changes)


def train(settings, folder, base, **options):
    return training.train_llmformer(settings, folder, base=base, workers=0, **options)


def curve(folder):
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_the_training_files_are_valid(name):
    assert read_training(CONFIGS / f"{name}.yaml").name == name
    assert read_training(Path(name)).name == name


def test_values_of_a_training_file_can_be_changed_and_faults_are_named(tmp_path):
    changed = read_training(CONFIGS / "pictograms.yaml", {"model.relation": False, "steps": 7})
    assert not changed.model.relation and changed.steps == 7
    with pytest.raises(SettingError, match=r"model\.colour"):
        read_training(CONFIGS / "pictograms.yaml", {"model.colour": 1})
    with pytest.raises(SettingError, match="one of camvid, cocostuff, pictograms"):
        read_training(tmp_path / "none")
    (tmp_path / "broken").write_text("a: [")
    with pytest.raises(SettingError, match="not YAML"):
        read_training(tmp_path / "broken")


def test_targets_are_a_mask_for_each_class_in_the_picture():
    labels = torch.tensor([[[0, 0], [2, IGNORED]], [[1, 1], [1, 1]]])
    masks, classes = targets(labels)
    assert [c.tolist() for c in classes] == [[0, 2], [1]]
    assert masks[0].tolist() == [[[1, 1], [0, 0]], [[0, 0], [1, 0]]]


class Cosines:
    """Stands for the class logits of a model: three classes and "no object", which is the last column."""

    scale = torch.tensor(2.0)

    def class_logits(self, classes, texts):
        return torch.cat([classes @ texts.T, torch.full((*classes.shape[:2], 1), 0.3)], -1) * self.scale


def test_the_losses_are_those_computed_by_hand():
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    masks = torch.stack([torch.full((8, 8), 1.5), torch.full((8, 8), -2.0)])[None]
    classes, texts = F.normalize(torch.tensor([[[1.0, 0.2, 0.0], [0.1, 0.0, 1.0]]]), dim=-1), torch.eye(3)
    layer = Prediction(masks_BQhw=masks, classes_BQc=classes)
    found = Predictions(layers=(layer, layer), pixels_Bchw=None, linked_BQN=torch.zeros(1, 2, 1))
    loss = SegmentationLoss(LossConfig(points=64), 3)
    torch.manual_seed(0)
    by_kind = summed(loss(Cosines(), found, labels, texts))
    logits = Cosines().class_logits(classes, texts)
    # mask 0 is the dog, mask 1 nothing
    cross = F.cross_entropy(logits[0], torch.tensor([0, 3]), weight=torch.tensor([1.0, 1.0, 1.0, 0.1]))
    assert by_kind["cross_entropy"] == pytest.approx(2 * 2 * cross.item(), rel=1e-5)
    torch.manual_seed(0)
    output = {"masks_queries_logits": masks, "class_queries_logits": logits}
    plain = loss.criterion(**output, mask_labels=[torch.ones(1, 8, 8)], class_labels=[torch.tensor([0])],
                           auxiliary_predictions=[output])
    assert by_kind["mask"] == pytest.approx(5 * (plain["loss_mask"] + plain["loss_mask_0"]).item(), rel=1e-5)
    assert by_kind["dice"] == pytest.approx(5 * (plain["loss_dice"] + plain["loss_dice_0"]).item(), rel=1e-5)
    assert by_kind["total"] == pytest.approx(sum(by_kind[kind] for kind in ("cross_entropy", "mask", "dice")))


def test_the_pixel_loss_is_cross_entropy_at_the_cells():
    labels = torch.tensor([[[0, 0, 1, 1]] * 2 + [[2, 2, IGNORED, IGNORED]] * 2])
    pixels = F.normalize(torch.randn(1, 3, 2, 2), dim=1)
    expected = F.cross_entropy(2.0 * pixels, torch.tensor([[[0, 1], [2, IGNORED]]]), ignore_index=IGNORED)
    torch.testing.assert_close(pixel_loss(Cosines(), pixels, labels, torch.eye(3)), expected)
    assert pixel_loss(Cosines(), pixels, torch.full_like(labels, IGNORED), torch.eye(3)) == 0
    few = [pixel_loss(Cosines(), pixels, labels, torch.eye(3), 1).item() for _ in range(20)]
    assert len(set(few)) > 1 and min(few) < expected < max(few)


def test_batches_depend_on_their_number_alone(llmformer_base):
    settings = config()
    source = open_source(settings.data, 32)
    options = {"batch": 2, "seed": 1}
    whole = iter(LabelledPictures(source, settings.data, settings.model, **options))
    _, second = next(whole), next(whole)
    late = next(iter(LabelledPictures(source, settings.data, settings.model, start=1, **options)))
    assert torch.equal(second.images_B3SS, late.images_B3SS) and torch.equal(second.labels_BSS, late.labels_BSS)
    parts = [LabelledPictures(source, settings.data, settings.model, batch=1, seed=1, rank=rank, world=2).make(1)
             for rank in range(2)]
    assert torch.equal(torch.cat([part.images_B3SS for part in parts]), second.images_B3SS)


def test_more_workers_change_nothing():
    settings = config()
    pictures = LabelledPictures(open_source(settings.data, 32), settings.data, settings.model, batch=2, seed=1)
    loader = iter(DataLoader(pictures, batch_size=None, num_workers=2))
    for number in range(3):
        assert torch.equal(next(loader).images_B3SS, pictures.make(number).images_B3SS)


def test_a_window_is_cut_with_its_labels():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)[None].repeat(40, 0)
    image = (labels[..., None] * 100).repeat(3, -1).astype(np.uint8)
    data = DataConfig(kind="synthetic", zoom=(0.5, 2.0), mirror=True)
    for _ in range(20):
        picture, names = cut(image, labels, 32, data, rng)
        assert picture.shape == (32, 32, 3) and names.shape == (32, 32)
        inside = names != IGNORED
        assert np.abs(picture[inside][:, 0].astype(int) - names[inside] * 100).mean() < 12  # but for blurred edges


def test_training_resumes_and_the_result_is_a_model(llmformer_base, tmp_path):
    evaluated = config(evaluation={"dataset": "pictograms:count=2,seed=2,split=seen", "limit": 1, "every": 4})
    assert train(evaluated, tmp_path / "whole", llmformer_base)["done"]
    lines = curve(tmp_path / "whole")
    assert [line["step"] for line in lines] == [2, 4, 4]
    assert {"cross_entropy", "mask", "dice", "total", "rate"} <= lines[0].keys() and "miou" in lines[2]
    assert list((tmp_path / "whole" / "tensorboard").iterdir())
    first = train(config(), tmp_path / "parts", llmformer_base, minutes=0)
    assert first == {"step": 1, "total": 4, "done": False}
    assert train(config(), tmp_path / "parts", llmformer_base)["done"]
    whole, parts = (training.trained_model(tmp_path / name / "checkpoint.safetensors", llmformer_base)
                    for name in ("whole", "parts"))
    for (name, one), other in zip(whole.state_dict().items(), parts.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, msg=name)
    card = training.export_llmformer(tmp_path / "parts" / "checkpoint.safetensors", llmformer_base.parent / "made",
                                     name="made", trained_by="a test")
    assert card.kind == "llmformer"
    assert read_model(llmformer_base.parent / "made").config.tower.digest is not None
    with pytest.raises(ModelError, match="queries 5 and 6") as caught:
        train(config(model=LLMFORMER | {"queries": 6}), tmp_path / "parts", llmformer_base)
    assert caught.value.code == Code.MODEL_UNSUPPORTED


def test_a_gradient_that_is_no_number_changes_nothing(llmformer_base, tmp_path, monkeypatch):
    """The loss may be a number all the same; then the weights, and the only checkpoint, would become none."""
    monkeypatch.setattr(training.Accelerator, "clip_grad_norm_", lambda *_: torch.tensor(float("inf")))
    with pytest.raises(SettingError, match=r"gradient of step 1 is no number.*There is no checkpoint yet"):
        train(config(), tmp_path / "run", llmformer_base)


def test_a_run_that_was_cut_names_the_step_that_was_saved(llmformer_base, tmp_path, monkeypatch):
    assert train(config(steps=9), tmp_path / "run", llmformer_base, minutes=0)["step"] == 1
    monkeypatch.setattr(training, "is_finite", lambda _: False)
    with pytest.raises(SettingError, match=r"step 2 is no number.*last good state, of step 1\."):
        train(config(steps=9), tmp_path / "run", llmformer_base)


def test_what_is_wrong_with_a_picture_is_said_by_a_process_that_loads(llmformer_base, tmp_path):
    """A loader would make an unknown error of it."""
    ignored = folder(tmp_path / "ignored", {"1": "dog", "ignore_id": 255}, 255)
    with pytest.raises(DatasetError, match="'a' shows no class"):
        training.train_llmformer(config(data={"kind": "folder", "path": str(ignored)}), tmp_path / "run",
                                 base=llmformer_base, workers=1)


@pytest.fixture
def fresh_accelerate():
    """accelerate remembers the number format of a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_half_precision_is_evaluated_too(llmformer_base, tmp_path, fresh_accelerate):
    settings = config(precision="bf16", steps=1, model=LLMFORMER | {"pixel_head": True},
                      evaluation={"dataset": "pictograms:count=1", "candidates": "present", "every": 1})
    train(settings, tmp_path / "run", llmformer_base)
    assert 0 <= curve(tmp_path / "run")[-1]["miou"] <= 1


def test_a_loss_that_is_no_number_stops_with_the_last_good_state(llmformer_base, tmp_path, monkeypatch):
    steps = iter(range(10))
    step = training.train_step

    def spoiled(accelerator, model, whole, *rest):
        if next(steps) == 3:
            with torch.no_grad():
                whole.query.fill_(float("nan"))
        return step(accelerator, model, whole, *rest)

    monkeypatch.setattr(training, "train_step", spoiled)
    with pytest.raises(SettingError, match=r"step 4 is no number.*last good state, of step 2"):
        train(config(), tmp_path, llmformer_base)
    model = training.trained_model(tmp_path / "checkpoint.safetensors", llmformer_base)
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_four_pictures_are_learned_by_heart(llmformer_base, tmp_path):
    settings = config(model=LLMFORMER | {"masked": True, "queries": 6}, steps=120, rate=3e-3, save=120, report=120,
                      data={"kind": "synthetic", "count": 4, "names": NAMES}, batch=4, loss={"points": 256})
    train(settings, tmp_path, llmformer_base)
    model = training.trained_model(tmp_path / "checkpoint.safetensors", llmformer_base)
    segmenter = LlmformerSegmenter(model, load_words(model.config.words, llmformer_base), training.card_of(model))
    source = open_source(settings.data, model.config.window)
    pictures, labels_4HW = zip(*[source.load(i) for i in range(4)], strict=True)
    vocabulary = Vocabulary.from_names(source.names)
    found = segmenter.score([Sample(image_HW3=image_HW3, vocabulary=vocabulary) for image_HW3 in pictures])
    right = [refine(image_HW3, maps, "none").labels_HW == labels_HW + 1
             for image_HW3, maps, labels_HW in zip(pictures, found, labels_4HW, strict=True)]
    assert np.mean(right) > 0.9


def folder(root, classes, label):
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    (root / "classes.json").write_text(json.dumps(classes))
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(root / "images" / "a.png")
    Image.fromarray(np.full((20, 20), label, np.uint8)).save(root / "labels" / "a.png")
    return root


def test_data_sets_that_cannot_be_learned_from_are_refused(tmp_path, llmformer_base):
    empty = folder(tmp_path / "empty", {"ignore_id": 255}, 255)
    with pytest.raises(DatasetError, match="names no class"):
        open_source(DataConfig(kind="folder", path=str(empty)), 32)
    ignored = folder(tmp_path / "ignored", {"1": "dog", "ignore_id": 255}, 255)
    source = open_source(DataConfig(kind="folder", path=str(ignored)), 32)
    with pytest.raises(DatasetError, match="'a' shows no class"):
        LabelledPictures(source, DataConfig(kind="folder"), config().model, batch=1, seed=0).make(0)
    with pytest.raises(DatasetError, match=r"without data\.path"):
        open_source(DataConfig(kind="folder"), 32)
    with pytest.raises(DatasetError, match="no sprite sheet"):
        open_source(DataConfig(kind="pictograms", sprites=str(tmp_path)), 128)


def test_text_vectors_of_another_width_are_refused(llmformer_base, tmp_path):
    with pytest.raises(ModelError, match="text_width says 48"):
        train(config(model=LLMFORMER | {"text_width": 48}), tmp_path, llmformer_base)


def test_classes_take_the_names_that_are_learned(tmp_path):
    from vision.datasets.folder import FolderDataset

    dataset = FolderDataset(folder(tmp_path / "set", {"1": "Hund", "2": "Katze", "ignore_id": 0}, 2))
    source = FolderSource(dataset, {"Katze": "cat"})
    assert source.names == ("Hund", "cat")
    assert (source.load(0)[1] == 1).all()


def test_captions_with_mistakes_name_most_of_a_scene():
    dataset = PictogramDataset(count=40, seed=5, split="seen")
    rows = list(scene_rows((dataset.key(i) for i in range(40)), dataset.scene, Mistakes(), 3))
    assert [row.image_id for row in rows[:2]] == ["scene_0005_00000.png", "scene_0005_00001.png"]
    present = [set(dataset.scene(i).names) for i in range(40)]
    found = recall(zip((row.priors for row in rows), present, strict=True), dataset.superclasses)
    assert 0.5 < found < 0.95
    right = list(scene_rows((dataset.key(i) for i in range(40)), dataset.scene,
                            Mistakes(left_out=0, mistaken=0, added=0, ground=0), 3))
    assert recall(zip((row.priors for row in right), present, strict=True), dataset.superclasses) > found
    assert rows[3] == list(scene_rows((dataset.key(i) for i in range(5)), dataset.scene, Mistakes(), 3))[3]


def test_everything_left_out_still_is_a_description():
    scene = PictogramDataset(count=1).scene(0)
    text = describe_scene(scene, Mistakes(left_out=1, mistaken=1, added=0, ground=1), np.random.default_rng(0))
    assert text and not any(thing.name in text.split() for thing in scene.objects)


def test_labels_become_a_listing():
    source = SyntheticSource(3, ("dog", "cat", "grass"), 32)
    rows = list(label_rows(source, left_out=0.0))
    for i, row in enumerate(rows):
        present = {source.names[label] for label in np.unique(source.load(i)[1])}
        assert {item.lemma for item in row.priors.objects} == present
    assert next(iter(label_rows(source, left_out=1.0))).priors.objects == ()


def test_the_full_size_file_takes_steps(llmformer_base, tmp_path, fresh_accelerate):
    """With a small encoder in place of the large one, and without data."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 5, "num_attention_heads": 2,
              "image_size": 42, "patch_size": 14, "model_type": "clip_vision_model"}
    llava = tmp_path / "llava"
    llava.mkdir()
    weights = CLIPVisionModel(CLIPVisionConfig(**vision)).state_dict()
    save_file({f"vision_tower.vision_model.{name}": value for name, value in weights.items()
               if "position_ids" not in name}, llava / "model.safetensors")
    (llava / "config.json").write_text(json.dumps({"vision_config": vision}))
    settings = read_training(Path("cocostuff"), {
        "model.tower.path": str(llava), "model.words": LLMFORMER["words"], "model.text_width": 24, "model.window": 64,
        "data.kind": "synthetic", "data.count": 4, "data.priors": None, "batch": 2, "steps": 2})
    train(settings, tmp_path / "run", llmformer_base)
    assert curve(tmp_path / "run")[-1]["step"] == 2 and curve(tmp_path / "run")[-1]["total"] > 0


def test_the_prepared_file_is_read_by_the_training(llmformer_base, tmp_path):
    path = tmp_path / "priors.jsonl"
    write_prepared(path, label_rows(SyntheticSource(8, ("dog", "cat", "grass"), 32), left_out=0.0))
    assert len(PreparedPriors.read(path)) == 8
    data = DataConfig(kind="synthetic", count=8, names=NAMES, priors=str(path), prior_share=1.0)
    batch = LabelledPictures(open_source(data, 32), data, config().model, batch=4, seed=0).make(0)
    assert all(phrases.objects for phrases in batch.phrases)
    longer = DataConfig(kind="synthetic", count=9, names=NAMES, priors=str(path), prior_share=1.0)
    pictures = LabelledPictures(open_source(longer, 32), longer, config().model, batch=9, seed=0)
    with pytest.raises(DatasetError, match="'synthetic_000008'"):
        pictures.make(0)


def test_vectors_are_made_from_an_array(tmp_path):
    from vision.llmformer.words import TableWords
    from vision.train.llmformer_config import VectorsConfig
    from vision.train.llmformer_priors import make_vectors

    np.save(tmp_path / "v.npy", np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32))
    (tmp_path / "v.json").write_text('["dog", "cat", "sky"]')
    sources = {"pet": ("dog", "cat"), "sky": ("sky",)}
    values = {"array": str(tmp_path / "v.npy"), "names": str(tmp_path / "v.json"), "sources": sources}
    make_vectors(VectorsConfig(**values), tmp_path / "words.safetensors")
    found = TableWords(tmp_path / "words.safetensors").names(["pet", "sky"])
    torch.testing.assert_close(found[0], -found[1], rtol=0, atol=2e-3)  # centred: two names are opposites
    rows = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    np.save(tmp_path / "v.npy", rows)
    sources = {name: (name,) for name in ("dog", "cat", "sky")}
    make_vectors(VectorsConfig(**values | {"sources": sources}), tmp_path / "words.safetensors")
    found = TableWords(tmp_path / "words.safetensors").names(["dog", "cat", "sky"])
    centred = torch.nn.functional.normalize(torch.from_numpy(rows - rows.mean(0)), dim=-1)
    assert found.shape == (3, 3)
    torch.testing.assert_close(found @ found.T, centred @ centred.T, rtol=0, atol=2e-3)
    with pytest.raises(DatasetError, match="lacks bird"):
        make_vectors(VectorsConfig(**values | {"sources": {"x": ("bird",)}}), tmp_path / "other")


def test_other_descriptions_in_the_middle_are_refused(llmformer_base, tmp_path):
    source, path = SyntheticSource(8, tuple(NAMES.values()), 32), tmp_path / "priors.jsonl"
    told = config(data={"kind": "synthetic", "count": 8, "names": NAMES, "priors": str(path)})
    write_prepared(path, label_rows(source, left_out=0.1))
    assert train(told, tmp_path / "run", llmformer_base, minutes=0)["step"] == 1
    assert train(told, tmp_path / "run", llmformer_base, minutes=0)["step"] == 2
    write_prepared(path, label_rows(source, left_out=0.5))
    for other in (told, config()):
        with pytest.raises(ModelError, match=r"other descriptions.*--out DIR"):
            train(other, tmp_path / "run", llmformer_base)


@pytest.mark.parametrize("part", ["data", "evaluation"])
def test_a_missing_description_is_noticed_before_the_first_step(llmformer_base, tmp_path, part):
    source = SyntheticSource(8, tuple(NAMES.values()), 32)
    write_prepared(tmp_path / "priors.jsonl", list(label_rows(source, left_out=0.1))[:7])
    path = str(tmp_path / "priors.jsonl")
    told = {"data": {"data": {"kind": "synthetic", "count": 8, "names": NAMES, "priors": path}},
            "evaluation": {"evaluation": {"dataset": "pictograms:count=2", "priors": path}}}
    with pytest.raises(DatasetError, match="has no description of"):
        train(config(**told[part]), tmp_path / "run", llmformer_base)
    assert not (tmp_path / "run").exists()


def test_the_rate_rises_and_falls():
    settings = config(steps=100, warmup=10, schedule="cosine")
    rates = [training.rate(step, settings) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4) and max(rates) == pytest.approx(1e-3)
    assert rates[11:] == sorted(rates[11:], reverse=True)
    assert training.rate(50, config(steps=100)) == pytest.approx(1e-3 * 0.5**0.9)


def test_training_files_are_yaml_objects():
    for path in CONFIGS.glob("*.yaml"):
        assert isinstance(yaml.safe_load(path.read_text()), dict)


@pytest.mark.integration
def test_two_processes_train_one_model(llmformer_base, tmp_path):
    """They share the batches, stop together when the time of one is over, and one of them writes."""
    settings = config(steps=6, evaluation={"dataset": "pictograms:count=1", "candidates": "present", "every": 3})
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines",
               "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(free_port()), "-m",
               "vision.train", "llmformer", "--config", str(tmp_path / "tiny.yaml"), "--workers", "0",
               "--out", str(tmp_path / "run"), "--model-dir", str(llmformer_base)]
    for minutes, step in (("0", 1), ("9", 6)):
        done = subprocess.run([*command, "--minutes", minutes], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        assert curve(tmp_path / "run")[-1]["step"] == step
    assert training.trained_model(tmp_path / "run" / "checkpoint.safetensors", llmformer_base)
