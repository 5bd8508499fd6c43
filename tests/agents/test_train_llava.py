"""Training of the pocket LLaVA-Phi2: its forward pass against transformers', batches, resuming, the exported files."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors import safe_open
from transformers import LlavaForConditionalGeneration

from agents.pocket.network import load_network
from agents.train import tokenizer
from agents.train.batches import (
    CHOICES,
    Questions,
    Rows,
    name_tokens,
    pack,
    patch_marks,
    patch_things,
    pixels,
    prompt_text,
)
from agents.train.export import CHAT_TEMPLATE, read_weights, write_model
from agents.train.loop import Plan, looking_loss, make_optimisers, train_llava, train_step
from agents.train.network import (
    FINDERS,
    GRID,
    add_places,
    initialise_projector,
    logits,
    make_network,
    normalised,
    opening_token,
    patch_features,
    text_states,
    window,
)
from agents.train.tasks import Example, Look, description
from agents.train.tokenizer import COLUMNS, EDGES, END, ROWS, make_tokenizer, pieces
from vision.datasets.pictograms import PictogramDataset
from vision.datasets.sprites import PICTOGRAMS, concepts
from vision.train.checkpoint import read_checkpoint

SHEET = PICTOGRAMS / "noto.webp"
TINY = Plan(steps=4, pictures=2, singles=3, texts=3, tower_after=2)


@pytest.fixture(scope="module")
def network() -> LlavaForConditionalGeneration:
    clip = PICTOGRAMS.parent / "clip"
    found = make_network(clip, seed=1).eval()
    with torch.no_grad():
        found.lm_head.bias.normal_(std=0.5)
    return found


@pytest.fixture(scope="module")
def batch():
    return next(iter(Questions([SHEET], pictures=2, singles=3, texts=6, loose=0.5, seed=1)))


def _rows_equal(one: Rows, other: Rows) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in
               ("tokens_BT", "segments_BT", "positions_BT", "learn_BT", "looks_BT", "shown_BGN"))


@torch.no_grad()
def test_the_vision_tower_begins_as_the_pocket_clip(network, batch, pocket_clip):
    clip = open_clip.create_model(f"local-dir:{pocket_clip}").eval()
    pixels = normalised(batch.images_B3SS, torch.float32)
    pooled = network.model.vision_tower(pixels).pooler_output @ clip.visual.proj
    assert torch.allclose(pooled, clip.encode_image(pixels), atol=1e-4)


@torch.no_grad()
def test_the_fast_forward_pass_equals_transformers(network, batch):
    features = patch_features(network, batch.images_B3SS, torch.float32)
    pixels = normalised(batch.images_B3SS, torch.float32)
    states = network.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1][:, 1:]
    assert torch.allclose(features, states, atol=1e-2)
    rows = batch.questions
    states = text_states(network, rows.tokens_BT, rows.segments_BT, rows.positions_BT, features, torch.float32)
    ours = logits(network, states)
    for segment in (0, 3):
        place = rows.segments_BT[0] == segment
        image = torch.full((GRID * GRID,), network.config.image_token_index)
        ids = torch.cat([opening_token()[0], image, rows.tokens_BT[0][place]])[None]
        theirs = network(input_ids=ids, pixel_values=pixels[:1], attention_mask=torch.ones_like(ids)).logits
        assert torch.allclose(ours[0][place], theirs[0, 1 + GRID * GRID :], atol=1e-3)
    rows = batch.texts
    states = text_states(network, rows.tokens_BT, rows.segments_BT, rows.positions_BT, None, torch.float32)
    place = rows.segments_BT[0] == 0
    theirs = network(input_ids=rows.tokens_BT[0][place][None]).logits
    assert torch.allclose(logits(network, states)[0][place], theirs[0], atol=1e-3)


@torch.no_grad()
def test_the_finders_are_heads_of_transformers_attention(batch):
    network = make_network(PICTOGRAMS.parent / "clip", seed=1).eval()
    network.set_attn_implementation("eager")
    features, rows = patch_features(network, batch.images_B3SS, torch.float32), batch.questions
    watched: list[torch.Tensor] = []
    text_states(network, rows.tokens_BT, rows.segments_BT, rows.positions_BT, features, torch.float32, watched)
    place = rows.segments_BT[0] == 2
    image = torch.full((GRID * GRID,), network.config.image_token_index)
    ids = torch.cat([opening_token()[0], image, rows.tokens_BT[0][place]])[None]
    found = network(input_ids=ids, pixel_values=normalised(batch.images_B3SS, torch.float32)[:1],
                    output_attentions=True).attentions
    before = 1 + GRID * GRID
    for (layer, head), attention_BTN in zip(FINDERS, watched, strict=True):
        assert torch.allclose(attention_BTN[0][place], found[layer][0, head, before:, :before], atol=1e-4)


@torch.no_grad()
def test_a_small_picture_that_fills_the_grid_is_a_picture(network, batch):
    places = window(GRID, 0, 0)
    features = patch_features(network, batch.images_B3SS, torch.float32)
    assert torch.equal(features, patch_features(network, batch.images_B3SS, torch.float32, places))
    assert window(2, 3, 5).tolist() == [3 * GRID + 5, 3 * GRID + 6, 4 * GRID + 5, 4 * GRID + 6]


@torch.no_grad()
def test_questions_of_a_row_do_not_see_each_other(network, batch):
    rows = batch.texts
    before = text_states(network, rows.tokens_BT, rows.segments_BT, rows.positions_BT, None, torch.float32)
    other = rows.segments_BT[0] == 1
    changed = rows.tokens_BT.clone()
    changed[0][other] = 7
    after = text_states(network, changed, rows.segments_BT, rows.positions_BT, None, torch.float32)
    assert torch.equal(before[0][rows.segments_BT[0] == 0], after[0][rows.segments_BT[0] == 0])
    assert not torch.allclose(before[0][other], after[0][other])


def test_only_answers_are_learnt_up_to_their_end():
    tokenizer = make_tokenizer()
    rows = pack([[Example("Describe the picture.", "A dog on the grass.")]], tokenizer, 32,
                [patch_things(PictogramDataset(count=1, seed=3).scene(0))])
    tokens, learn = rows.tokens_BT[0], rows.learn_BT[0]
    learnt = tokenizer.decode(tokens[1:][learn[:-1] > 0].tolist(), skip_special_tokens=False)
    assert learn.square().sum().item() == pytest.approx(1)
    assert learnt == "A dog on the grass.<|endoftext|>"
    assert rows.positions_BT[0, 0] == 1 + GRID * GRID
    text = pack([[Example("Name 7 kinds of \"bird\".", "x")]], tokenizer, 32)
    assert text.positions_BT[0, 0] == 0
    assert tokenizer.decode(text.tokens_BT[0].tolist()).startswith('USER: Name 7 kinds of "bird". ASSISTANT:x')


def test_prompts_are_what_the_chat_template_writes(tmp_path, network):
    from transformers import AutoProcessor

    write_model(network.state_dict(), tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path, local_files_only=True)
    plain = [{"role": "user", "content": "Name 7 kinds of x."}]
    shown = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Describe the picture."}]}]
    for turns, question, with_picture in ((plain, "Name 7 kinds of x.", False), (shown, "Describe the picture.", True)):
        written = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        assert written == prompt_text(question, with_picture=with_picture)
    assert "<image>" in CHAT_TEMPLATE


def test_batches_depend_on_seed_and_step_alone(batch):
    first, second = islice(iter(Questions([SHEET], pictures=2, singles=3, texts=6, loose=0.5, seed=1)), 2)
    again = next(iter(Questions([SHEET], pictures=2, singles=3, texts=6, loose=0.5, seed=1, start=1)))
    assert torch.equal(first.images_B3SS, batch.images_B3SS) and _rows_equal(first.questions, batch.questions)
    assert torch.equal(second.images_B3SS, again.images_B3SS) and _rows_equal(second.texts, again.texts)
    assert not torch.equal(first.images_B3SS, second.images_B3SS)


def test_patches_are_asked_for_seen_names_only(batch):
    labels = name_tokens(make_tokenizer())
    assert all((labels[9 + i] >= 0) == concept.seen for i, concept in enumerate(concepts()))
    named = batch.names_BP[batch.names_BP >= 0]
    assert len(named) and set(named.tolist()) <= set(labels.tolist())


def test_patches_are_asked_for_the_place_size_and_colour_of_their_thing():
    scene = PictogramDataset(count=4, seed=3).scene(2)
    marks = patch_marks(scene)
    cells = scene.instances_HW.reshape(GRID, 8, GRID, 8).swapaxes(1, 2).reshape(GRID * GRID, 64)
    said = set()
    for index, thing in enumerate(scene.objects):
        mine = (cells == index + 1).sum(1) > 32
        visible = scene.instances_HW == index + 1
        rows, columns = visible.any(1).nonzero()[0] // 8, visible.any(0).nonzero()[0] // 8
        middle = thing.box[0] + thing.box[2] / 2, thing.box[1] + thing.box[3] / 2
        told = {f"{word} " for word in thing.attributes}
        for name, expected in (("left", {EDGES[columns[0]]}), ("right", {EDGES[16 + columns[-1]]}),
                               ("top", {EDGES[32 + rows[0]]}), ("bottom", {EDGES[48 + rows[-1]]}),
                               ("far", {COLUMNS[int(middle[0] / 25.6)]}), ("high", {ROWS[int(middle[1] / 25.6)]}),
                               ("size", told & set(CHOICES["size"]) or {END}),
                               ("colour", told & set(CHOICES["colour"]) or {END})):
            assert not mine.any() or {CHOICES[name][choice] for choice in marks[name][mine]} == expected
        said |= told
    assert all(((marks[name] < 0) == ((cells > 0).sum(1) <= 32)).mean() > 0.9 for name in CHOICES) and said


def test_words_look_at_the_patches_of_their_thing():
    tokenizer = make_tokenizer()
    scene = next(scene for scene in map(PictogramDataset(count=40, seed=3, split="seen").scene, range(40))
                 if len(scene.relations) > 2)
    things = patch_things(scene)
    assert [row.any() for row in things] == [True] * (len(scene.objects) + 1)
    cells = scene.instances_HW.reshape(GRID, 8, GRID, 8).swapaxes(1, 2).reshape(GRID * GRID, 64)
    assert all(set(cells[p]) == {0} for p in things[-1].nonzero()[0])
    absent = Example('Where is "dog"?', "no", (Look(len('Where is "'), ()),))
    ground = Example(f'Where is "{scene.texture}"?', "x", (Look(len('Where is "'), (len(scene.objects),)),))
    rows = pack([[description(scene, detailed=True), absent, ground]], tokenizer, 256, [things])
    names, found = {thing.name: i for i, thing in enumerate(scene.objects)}, set()
    words = [tokenizer.decode([token], skip_special_tokens=False) for token in rows.tokens_BT[0].tolist()]
    for t, word in enumerate(words):
        look = int(rows.looks_BT[0, t])
        shown = None if look < 0 else rows.shown_BGN[0, look]
        if word in names:
            assert shown is not None and not shown[0] and torch.equal(
                shown[1:], torch.from_numpy(things[names[word]])), word
            if words[t - 1].startswith(" is ") or words[t - 1] == " The ":
                assert torch.equal(shown, rows.shown_BGN[0, rows.looks_BT[0, t - 1]])
            found.add(word)
        elif word == "dog" or (word == "." and words[t + 1] == END):
            assert shown is not None and shown.nonzero()[:, 0].tolist() == [0]
        elif word in ROWS:  # the place of the next name
            following = next(later for later in words[t:] if later in names)
            assert torch.equal(shown[1:], torch.from_numpy(things[names[following]]))
            assert rows.looks_BT[0, t] == rows.looks_BT[0, t - 1] == rows.looks_BT[0, t + 1]
        elif word == scene.texture:
            assert torch.equal(shown[1:], torch.from_numpy(things[-1]))
    assert found == set(names)


def test_looking_counts_how_much_attention_a_thing_gets():
    rows = pack([[Example("x", "no", (Look(0, ()),))]], make_tokenizer(), 16,
                [patch_things(PictogramDataset(count=1, seed=3).scene(0))])
    at = int((rows.looks_BT[0] >= 0).nonzero())
    attention_BTN = torch.zeros(1, 16, 1 + GRID * GRID)
    attention_BTN[0, at, :2] = torch.tensor([0.25, 0.75])
    assert looking_loss([attention_BTN, attention_BTN], rows).item() == pytest.approx(2 * 1.3862944)


def test_marks_are_single_words(batch):
    assert all(len(set(mark.tokens_W.tolist())) == len(CHOICES[name]) for name, mark in batch.marks.items())


def test_a_second_round_begins_with_the_weights_of_the_first(tmp_path, pocket_clip):
    train_llava(tmp_path / "first", [SHEET], minutes=9, clip=pocket_clip, plan=TINY, report=4)
    first = tmp_path / "first" / "checkpoint.safetensors"
    still = replace(TINY, steps=1, tower_after=9, places=False)
    train_llava(tmp_path / "second", [SHEET], minutes=9, clip=pocket_clip, plan=still, start=first, report=4)
    one, other = (read_checkpoint(path).weights for path in (first, tmp_path / "second" / "checkpoint.safetensors"))
    seeing = [name for name in one if "vision_tower" in name]
    assert seeing and all(torch.equal(one[name], other[name]) for name in seeing)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_run_in_pieces_is_the_run_in_one(tmp_path, pocket_clip):
    whole = train_llava(tmp_path / "whole", [SHEET], minutes=9, clip=pocket_clip, plan=TINY, report=4)
    for expected in (1, 2):
        piece = train_llava(tmp_path / "pieces", [SHEET], minutes=0, clip=pocket_clip, plan=TINY, report=4)
        assert piece == {"step": expected, "total": 4, "done": False}
    assert train_llava(tmp_path / "pieces", [SHEET], minutes=9, clip=pocket_clip, plan=TINY, report=4) == whole
    with (safe_open(tmp_path / "whole" / "checkpoint.safetensors", "pt") as one,
          safe_open(tmp_path / "pieces" / "checkpoint.safetensors", "pt") as other):
        assert set(one.keys()) == set(other.keys())
        for name in one.keys():  # noqa: SIM118
            assert torch.allclose(one.get_tensor(name), other.get_tensor(name), atol=1e-4), name
    assert json.loads((tmp_path / "whole" / "curve.jsonl").read_text().splitlines()[-1])["step"] == 4


def test_the_loss_falls_on_one_batch(batch, pocket_clip):
    network = make_network(pocket_clip, seed=2)
    initialise_projector(network, batch.images_B3SS)
    optimisers, peaks = make_optimisers(network, TINY)
    for optimiser, peak in zip(optimisers, peaks, strict=True):
        for group in optimiser.param_groups:
            group["lr"] = 0.5 * peak
    losses = [train_step(network, optimisers, batch, naming=1.0, marking=1.0, looking=1.0, frozen=False)
              for _ in range(12)]
    assert all(losses[-1][name] < 0.6 * losses[0][name] for name in losses[0])


def test_the_export_is_what_vllm_and_transformers_read(tmp_path, network):
    folder = write_model(network.state_dict(), tmp_path / "model")
    again = read_weights(folder)
    assert again.keys() == network.state_dict().keys()
    assert all(torch.allclose(value, again[name], atol=1e-2) for name, value in network.state_dict().items())
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert "language_model.lm_head.bias" in names
    assert {name.split(".")[0] for name in names} == {"vision_tower", "multi_modal_projector", "language_model"}
    assert all(name.startswith("vision_tower.vision_model.") for name in names if name.startswith("vision_tower"))
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlavaForConditionalGeneration"]
    assert config["text_config"]["vocab_size"] == make_tokenizer().get_vocab_size()
    loaded = load_network(folder)
    for name, weight in network.state_dict().items():
        assert torch.allclose(loaded.state_dict()[name], weight, atol=0.1, rtol=1e-3), name
    assert _size(folder) <= 14_000_000


def test_pieces_that_stay_keep_their_vectors_when_others_change(tmp_path, network, monkeypatch):
    folder = write_model(network.state_dict(), tmp_path / "model")
    before = make_tokenizer().get_vocab()
    changed = ("a new piece", *(piece for piece in pieces() if piece != "dog"))
    monkeypatch.setattr(tokenizer, "pieces", lambda: changed)
    words, again = make_tokenizer().get_vocab(), read_weights(folder)
    kept = [word for word in words if word in before]
    assert len(kept) == len(words) - 1 == len(before) - 1
    for name in ("model.language_model.embed_tokens.weight", "lm_head.weight", "lm_head.bias"):
        ours, theirs = again[name], network.state_dict()[name]
        assert len(ours) == len(words) and ours.isfinite().all()
        assert torch.allclose(ours[[words[word] for word in kept]], theirs[[before[word] for word in kept]], atol=1e-2)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


@torch.no_grad()
def test_places_can_be_read_from_features_and_change_little_else(pocket_clip):
    scenes = PictogramDataset(count=12, seed=3)
    images = pixels([scenes.scene(i).image_HW3 for i in range(12)])
    network = make_network(pocket_clip)
    before = patch_features(network, images, torch.float32)
    add_places(network, images)
    after = patch_features(network, images, torch.float32)
    assert torch.nn.functional.cosine_similarity(before, after, dim=-1).median() > 0.9
    for features, readable in ((before, False), (after, True)):
        inputs, others = features[:8].flatten(0, 1).double(), features[8:].flatten(0, 1).double()
        for place in (torch.arange(GRID**2) // GRID, torch.arange(GRID**2) % GRID):
            wave = (torch.pi * (place.double() + 0.5) / GRID).cos()
            weights = torch.linalg.lstsq(inputs, wave.repeat(8)).solution
            error = (others @ weights - wave.repeat(4)).square().mean() / wave.var()
            assert (error < 0.2) == readable
