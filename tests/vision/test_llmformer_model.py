"""The whole model around a tiny encoder."""

import pytest
import torch
from pydantic import ValidationError

from parsers.priors import ObjectPrior, RelationPrior, ScenePriors
from tests.vision.conftest import LLMFORMER
from vision.llmformer.config import LlmformerConfig, differing_keys
from vision.llmformer.model import make_pixel_decoder
from vision.llmformer.priors import embed_priors, prior_phrases


def vectors(texts):
    """A vector per text, the same wherever it occurs; "unknown" has none."""
    rows = []
    for text in texts:
        generator = torch.Generator().manual_seed(sum(map(ord, text)))
        rows.append(torch.nn.functional.normalize(torch.randn(24, generator=generator), dim=0) * (text != "unknown"))
    return torch.stack(rows) if rows else torch.zeros(0, 24)


def said(*names, relations=(), attributes=None):
    return ScenePriors(
        text="a text", objects=tuple(ObjectPrior(name=name, lemma=name, attributes=(attributes or {}).get(name, ()))
                                     for name in names),
        relations=tuple(RelationPrior(subject=s, predicate=p, object=o) for s, p, o in relations))


def batch(*descriptions, objects=6, relations=4):
    return embed_priors([prior_phrases(one, objects, relations) for one in descriptions], vectors, vectors,
                        objects=objects, relations=relations, width=24)


DOG = said("dog", "cat", "grass", relations=[(0, "on", 2), (1, "behind", 0)], attributes={"dog": ("red", "small")})


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def same(one, other, **tolerance):
    for before, after in zip(one.layers, other.layers, strict=True):
        torch.testing.assert_close(before.masks_BQhw, after.masks_BQhw, **tolerance)
        torch.testing.assert_close(before.classes_BQc, after.classes_BQc, **tolerance)


@torch.no_grad()
@pytest.mark.parametrize("cue", [False, True])
def test_filling_of_priors_changes_nothing(make_llmformer, images, cue):
    model = make_llmformer(cue=cue)
    same(model(images, batch(DOG, None)), model(images, batch(DOG, None, objects=11, relations=9)),
         rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_order_of_objects_changes_nothing(make_llmformer, images):
    model = make_llmformer(cue=True)
    turned = said("grass", "dog", "cat", relations=[(1, "on", 0), (2, "behind", 1)],
                  attributes={"dog": ("red", "small")})
    same(model(images, batch(DOG, DOG)), model(images, batch(turned, turned)), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_description_changes_the_result_unless_priors_are_off(make_llmformer, images):
    one, other = batch(DOG, DOG), batch(None, None)
    model = make_llmformer()
    assert not torch.allclose(model(images, one).last.classes_BQc, model(images, other).last.classes_BQc, atol=1e-4)
    same(make_llmformer(priors="none")(images, one), make_llmformer(priors="none")(images, other))


@torch.no_grad()
def test_attributes_count_only_where_they_are_switched_on(make_llmformer, images):
    plain = said("dog", "cat", "grass", relations=[(0, "on", 2), (1, "behind", 0)])
    model = make_llmformer(priors="object")
    same(model(images, batch(DOG, DOG)), model(images, batch(plain, plain)))
    model = make_llmformer()
    assert not torch.allclose(model(images, batch(DOG, DOG)).last.classes_BQc,
                              model(images, batch(plain, plain)).last.classes_BQc, atol=1e-5)


@torch.no_grad()
def test_relations_count_only_where_they_are_switched_on(make_llmformer, images):
    plain = said("dog", "cat", "grass", attributes={"dog": ("red", "small")})
    same(make_llmformer(relation=False)(images, batch(DOG, DOG)),
         make_llmformer(relation=False)(images, batch(plain, plain)))
    model = make_llmformer()
    one, other = model(images, batch(DOG, DOG)), model(images, batch(plain, plain))
    assert (one.last.classes_BQc - other.last.classes_BQc).abs().max() > 0


@torch.no_grad()
@pytest.mark.parametrize("changes", [
    {"fusion": "add"}, {"fusion": "concat"}, {"scales": "soft"}, {"scales": "mean"}, {"scales": "single:1"},
    {"attention": "mask2former"}, {"attention": "tsg"}, {"masked": True}, {"relation": False}, {"mask_stride": 4},
    {"priors": "object"}, {"cue": True, "masked": True}, {"pixel_head": True},
    {"adapter": LLMFORMER["adapter"] | {"injector": False, "stem_blocks": (1, 1, 0, 0)}},
], ids=str)
def test_every_switch_gives_numbers_of_the_right_shape(make_llmformer, images, changes):
    model = make_llmformer(**changes)
    found = model(images, batch(DOG, None))
    cells = 32 // model.config.cell
    assert len(found.layers) == 3
    assert found.last.masks_BQhw.shape == (2, 5, cells, cells)
    assert found.last.classes_BQc.shape == (2, 5, 24)
    torch.testing.assert_close(found.last.classes_BQc.norm(dim=-1), torch.ones(2, 5))
    assert all(layer.masks_BQhw.isfinite().all() and layer.classes_BQc.isfinite().all() for layer in found.layers)
    assert (found.pixels_Bchw is not None) == model.config.pixel_head
    logits = model.class_logits(found.last.classes_BQc, vectors(["dog", "cat"]))
    assert logits.shape == (2, 5, 3) and logits.abs().max() <= model.scale + 1e-4


@torch.no_grad()
def test_a_single_scale_is_the_only_one_that_is_looked_at(make_llmformer, images):
    model = make_llmformer(scales="single:1")
    picture = model.read(images)
    model.read = lambda _: picture
    before = model(images, batch(DOG, None))
    picture.levels[0].normal_()
    picture.levels[2].normal_()
    same(before, model(images, batch(DOG, None)))
    picture.levels[1].normal_()
    assert not torch.allclose(before.last.classes_BQc, model(images, batch(DOG, None)).last.classes_BQc, atol=1e-4)


@torch.no_grad()
def test_the_injector_begins_as_the_identity_and_the_maps_have_their_strides(make_llmformer, images):
    model = make_llmformer(mask_stride=4)
    features = model.adapter(model.tower, images, frozen=True)
    tokens = model.tower.embed(images)
    for block in model.tower.blocks:
        tokens = block(tokens)
    torch.testing.assert_close(features.tokens_BNE, tokens)
    assert [tuple(level.shape[1:]) for level in features.maps] == [(32, 16, 16), (32, 8, 8), (32, 4, 4), (32, 2, 2)]
    model.adapter.injectors[0].gamma.fill_(0.5)
    moved = model.adapter(model.tower, images, frozen=True)
    assert not torch.allclose(moved.tokens_BNE, tokens, atol=1e-3)


def test_text_space_features_are_those_of_the_clip_backend(make_llmformer, images):
    from vision.clip.dense import dense_features

    model = make_llmformer(cue=True, adapter=LLMFORMER["adapter"] | {"injector": False})
    with torch.no_grad():
        expected, _ = dense_features(model.tower.visual, images, "loda")
        features = model.adapter(model.tower, images, frozen=True)
        torch.testing.assert_close(model.tower.text_space(features.tokens_BNE), expected)


def test_a_frozen_encoder_learns_nothing_and_the_rest_does(make_llmformer, images):
    model = make_llmformer(cue=True).train()
    found = model(images, batch(DOG, None))
    loss = sum(layer.masks_BQhw.square().mean() + model.class_logits(layer.classes_BQc, vectors(["dog"])).logsumexp(-1)
               .mean() for layer in found.layers)
    loss.backward()
    assert not model.tower.training
    assert all(p.grad is None for p in model.tower.parameters())
    silent = [name for name, p in model.named_parameters() if not name.startswith("tower.") and p.grad is None]
    assert silent == []


def test_a_trainable_timm_tower(make_llmformer, images):
    tower = {"kind": "timm", "name": "vit_tiny_patch16_224", "frozen": False,
             "options": {"embed_dim": 32, "depth": 2, "num_heads": 2}}
    adapter = LLMFORMER["adapter"] | {"stem_stride": 4}
    model = make_llmformer(tower=tower, adapter=adapter)
    found = model(images, batch(DOG, None))
    assert found.last.masks_BQhw.shape == (2, 5, 4, 4)
    found.last.masks_BQhw.sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.tower.parameters())


def test_the_pixel_decoder_begins_with_numbers():
    config = LlmformerConfig.model_validate(LLMFORMER)
    decoders = []
    for _ in range(2):
        torch.manual_seed(1)
        decoders.append(make_pixel_decoder(config, 32))
    assert decoders[0].level_embed.isfinite().all() and decoders[0].level_embed.abs().max() < 1
    for one, other in zip(decoders[0].parameters(), decoders[1].parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("changes", "message"), [
    ({"width": 96, "heads": 8}, "power of two"), ({"window": 40}, "multiple of 16"),
    ({"cue": True, "tower": {"kind": "timm", "name": "vit_tiny_patch16_224", "frozen": False}}, "cue needs"),
    ({"tower": {"kind": "timm", "name": "vit_tiny_patch16_224"}}, "frozen must be false"),
    ({"tower": {"kind": "open_clip"}}, "needs `path`"), ({"scales": "some"}, "scales"), ({"colour": 1}, "colour"),
])
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        LlmformerConfig.model_validate(LLMFORMER | changes)


def test_differing_keys_are_named():
    one = LlmformerConfig.model_validate(LLMFORMER)
    other = LlmformerConfig.model_validate(LLMFORMER | {"queries": 7, "adapter": LLMFORMER["adapter"] | {"stem": 16}})
    assert differing_keys(one, other) == ["adapter.stem 8 and 16", "queries 5 and 7"]
    assert differing_keys(one, one) == []
