"""Training of the pocket CLIP: own forward passes against open_clip's, losses against loops, resuming."""

from __future__ import annotations

import math

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from tokenizers import Tokenizer

from vision.datasets.sprites import PICTOGRAMS, concepts
from vision.train.clip import Stage, Stream, model_config, train_clip
from vision.train.export import export_clip
from vision.train.losses import caption_loss, patch_losses, phrase_loss
from vision.train.pictures import CaptionedPictures, bank_phrases
from vision.train.tokenizer import known_words, make_tokenizer, words_of
from vision.train.towers import encode_image, encode_text

SHEET = PICTOGRAMS / "noto.webp"
ONE = Stream(side=48, counts=(1, 1), sizes=(26, 46), loose=0.5, best=(2, 3), batch=4)
TWO = Stream(side=64, counts=(1, 2), sizes=(26, 46), loose=0.5, best=(3, 3), batch=4)
TINY = (Stage(streams=(ONE,), steps=1), Stage(streams=(TWO, ONE), steps=3))


@pytest.fixture(scope="module")
def model() -> CLIP:
    torch.manual_seed(0)
    return CLIP(**model_config()).eval()


@torch.no_grad()
def test_towers_equal_the_library(model):
    images = torch.randn(2, 3, 128, 128)
    image_BE, patches_BPE = encode_image(model, images)
    assert torch.allclose(image_BE, model.encode_image(images), atol=1e-5)
    assert patches_BPE.shape == (2, 256, 192)
    tokens = torch.zeros(3, 48, dtype=torch.long)
    tokens[:, 0], tokens[:, 1], tokens[:, 2] = 2, torch.tensor([5, 6, 7]), model.vocab_size - 1
    assert torch.allclose(encode_text(model, tokens[:, :5]), model.encode_text(tokens), atol=1e-5)


def test_the_tokenizer_knows_its_words_and_marks_the_rest():
    tokenizer = make_tokenizer()
    size = tokenizer.get_vocab_size()
    assert tokenizer.encode("A red Dog.").tokens == ["<start>", "a", "red", "dog", "<end>"]
    assert tokenizer.encode("zyzzyva").tokens[1] == "<unk>"
    assert tokenizer.encode("dog").ids[-1] == size - 1 == model_config()["text_cfg"]["vocab_size"] - 1
    unseen = {word for c in concepts() if not c.seen for word in words_of(c.name)}
    assert unseen - set(known_words()), "words of unseen names stay unknown"


def test_batches_hold_captions_and_true_phrases_but_no_mask():
    pictures = CaptionedPictures([SHEET], side=48, counts=(1, 2), sizes=(26, 40), loose=0.5, batch=8, seed=1)
    batch = next(iter(pictures))
    assert set(vars(batch)) == {"images_B3SS", "named_BM", "unknown_BK", "captions_BT"}
    tokenizer: Tokenizer = make_tokenizer()
    for row in range(8):
        text = tokenizer.decode(batch.captions_BT[row].tolist())
        for phrase in batch.named_BM[row][batch.named_BM[row] >= 0]:
            assert " ".join(words_of(bank_phrases()[phrase])) in text
            assert not batch.unknown_BK[row, phrase]
    again = next(iter(CaptionedPictures([SHEET], side=48, counts=(1, 2), sizes=(26, 40), loose=0.5, batch=8, seed=1)))
    assert torch.equal(batch.images_B3SS, again.images_B3SS)
    seen = {c.name for c in concepts() if c.seen} | {c.superclass for c in concepts()}
    assert set(bank_phrases()[8:]) == seen


def test_patch_losses_equal_a_plain_loop():
    torch.manual_seed(1)
    patches = F.normalize(torch.randn(2, 9, 6), dim=-1)
    bank = F.normalize(torch.randn(7, 6), dim=-1)
    named = torch.tensor([[0, 3, -1], [5, -1, -1]])
    unknown = torch.zeros(2, 7, dtype=torch.bool)
    unknown[0, 4] = True
    best = {0: 3, 3: 2, 5: 2}
    pooled, cover, explain = patch_losses(patches, bank, named, unknown, torch.tensor(10.0),
                                          torch.where(named == 0, 3, 2), named != 0)
    pools, covers, explains = [], [], []
    for b in range(2):
        allowed = [k for k in range(7) if not unknown[b, k]]
        true = [int(k) for k in named[b] if k >= 0]
        logits = [10 * bank @ patches[b, p] for p in range(9)]
        logp = [{k: float(row[k] - torch.logsumexp(row[allowed], 0)) for k in true} for row in logits]
        claimed = set()
        for k in true:
            top = sorted(range(9), key=lambda p: -logp[p][k])[:best[k]]
            weights = np.array([best[k] - rank for rank in range(best[k])], float)
            weights /= weights.sum()
            mean = sum(weight * logits[p] for weight, p in zip(weights, top, strict=True))
            pools.append(-float(mean[k] - torch.logsumexp(mean[allowed], 0)))
            covers.append(-np.dot(weights, [logp[p][k] for p in top]))
            claimed |= set(top) if k else set()  # 0 is a texture
        explains += [-math.log(sum(math.exp(v) for v in logp[p].values())) for p in range(9) if p not in claimed]
    assert float(pooled) == pytest.approx(np.mean(pools), abs=1e-5)
    assert float(cover) == pytest.approx(np.mean(covers), abs=1e-5)
    assert float(explain) == pytest.approx(np.mean(explains), abs=1e-5)


def test_phrases_that_are_also_true_do_not_count_as_wrong():
    image = F.normalize(torch.ones(1, 4), dim=-1)
    bank = F.normalize(torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 0.9], [-1, 0, 0, 0]]), dim=-1)
    named, scale = torch.tensor([[0, -1]]), torch.tensor(20.0)
    strict = phrase_loss(image, bank, named, torch.tensor([[False, False, False]]), scale)
    lenient = phrase_loss(image, bank, named, torch.tensor([[False, True, False]]), scale)
    assert lenient < 1e-3 < strict


def test_equal_captions_are_not_each_others_negatives():
    vectors = F.normalize(torch.randn(3, 8), dim=-1)
    vectors[1] = vectors[0]
    same = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    blind = caption_loss(vectors, vectors, torch.eye(3, dtype=torch.bool), torch.tensor(50.0))
    aware = caption_loss(vectors, vectors, same, torch.tensor(50.0))
    assert aware < 0.05 < blind


def test_a_run_goes_on_from_its_checkpoint_and_gives_a_model_that_open_clip_loads(tmp_path):
    whole = train_clip(tmp_path / "whole", [SHEET], minutes=60, stages=TINY, report=1)
    assert whole == {"step": 4, "total": 4, "done": True}
    pieces = [train_clip(tmp_path / "pieces", [SHEET], minutes=0, stages=TINY, report=1)["step"] for _ in range(4)]
    assert pieces == [1, 2, 3, 4]
    exported = [export_clip(tmp_path / name / "checkpoint.safetensors", tmp_path / name / "clip")
                for name in ("whole", "pieces")]
    models = [open_clip.create_model(f"local-dir:{folder}") for folder in exported]
    for (name, a), b in zip(models[0].state_dict().items(), models[1].state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=2e-3), name
    more = train_clip(tmp_path / "more", [SHEET], minutes=60, stages=TINY[:1], init=exported[0], seed=9)
    assert more["done"], "a second round starts from an exported model"
    tokens = open_clip.get_tokenizer(f"local-dir:{exported[0]}")(["a red dog", "a picture of a cup"])
    assert models[0].encode_text(tokens).shape == (2, 192)
    assert (exported[0] / "open_clip_model.safetensors").stat().st_size <= 8_000_000
