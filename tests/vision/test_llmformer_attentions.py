"""The three attentions against their definitions, on random numbers."""

import pytest
import torch
from torch.nn import functional as F

from vision.llmformer.attentions import (
    AttentionCues,
    PriorEmbedding,
    RelationAttention,
    ScaleSelection,
    SemanticAttention,
    VisualAttention,
)
from vision.llmformer.deformable import DeformableAttention, cell_centres
from vision.llmformer.priors import PriorBatch

B, Q, N, D, H, C = 2, 5, 4, 16, 2, 6


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def priors(valid=((1, 1, 1, 0), (0, 0, 0, 0))):
    valid_BN = torch.tensor(valid, dtype=torch.bool)
    pairs = torch.tensor([[[0, 1], [2, 0]], [[0, 0], [0, 0]]])
    related = torch.tensor([[True, True], [False, False]])
    return PriorBatch(
        objects_BNc=torch.randn(B, N, C) * valid_BN[..., None], valid_BN=valid_BN,
        attributes_BNc=torch.randn(B, N, C), described_BN=valid_BN & torch.tensor([True, False, True, False]),
        pairs_BR2=pairs, relations_BRc=torch.randn(B, 2, C), related_BR=related)


def test_rows_of_semantic_attention_sum_to_one_and_leave_filling_out():
    said = priors()
    rows = PriorEmbedding(C, D)(said, use_attributes=True)
    weights = SemanticAttention(D, H, "cross-attention", cue=False).weights(torch.randn(B, Q, D), rows, said.valid_BN)
    assert weights.shape == (B, H, Q, N + 1)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, H, Q))
    assert (weights[0, ..., 4] == 0).all()
    assert (weights[1, ..., 0] == 1).all()  # a description with no object leaves "none"


@pytest.mark.parametrize("fusion", ["cross-attention", "add", "concat"])
def test_a_description_without_objects_gives_numbers(fusion):
    said = priors(valid=((0, 0, 0, 0), (0, 0, 0, 0)))
    rows = PriorEmbedding(C, D)(said, use_attributes=True)
    masks, linked = SemanticAttention(D, H, fusion, cue=False)(torch.randn(B, Q, D), rows, said.valid_BN)
    assert masks.isfinite().all()
    assert (linked == 0).all()


@pytest.mark.parametrize("fusion", ["cross-attention", "add", "concat"])
def test_the_order_of_objects_does_not_matter(fusion):
    said, order = priors(), torch.tensor([2, 0, 3, 1])
    embedding, attention = PriorEmbedding(C, D), SemanticAttention(D, H, fusion, cue=False)
    masks = torch.randn(B, Q, D)
    rows = embedding(said, use_attributes=True)
    one, linked = attention(masks, rows, said.valid_BN)
    moved_rows = torch.cat([rows[:, :1], rows[:, 1:][:, order]], 1)
    other, moved = attention(masks, moved_rows, said.valid_BN[:, order])
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(linked[..., order], moved)


def test_a_cue_draws_a_mask_to_its_object():
    said = priors()
    attention = SemanticAttention(D, H, "cross-attention", cue=True)
    rows = PriorEmbedding(C, D)(said, use_attributes=False)
    cue = torch.zeros(B, Q, N)
    cue[0, 3, 2] = 5.0
    _, linked = attention(torch.randn(B, Q, D), rows, said.valid_BN, cue)
    assert linked[0, 3].argmax() == 2 and linked[0, 3, 2] > 0.99


def test_hard_selection_is_one_hot_at_test_and_has_a_gradient_in_training():
    select = ScaleSelection(C, D, 3, "hard")
    masks, told = torch.randn(B, Q, D), torch.randn(B, Q, C)
    gates = select.eval()(masks, told)
    assert sorted(gates.unique().tolist()) == [0.0, 1.0]
    assert (gates.sum(-1) == 1).all()
    scores = select.score(torch.cat([select.attribute(told), masks], -1))
    assert (gates.argmax(-1) == scores.argmax(-1)).all()
    trained = select.train()(masks, told)
    assert ((trained.detach() - trained.detach().round()).abs() < 1e-6).all()
    (trained * torch.randn(B, Q, 3)).sum().backward()
    assert select.score[2].weight.grad.abs().sum() > 0


def test_selection_reads_the_chosen_level():
    visual = VisualAttention(D, H)
    masks, positions = torch.randn(B, Q, D), torch.randn(Q, D)
    levels = [torch.randn(B, cells, D) for cells in (4, 9, 16)]
    places = [torch.randn(cells, D) for cells in (4, 9, 16)]
    read = torch.stack([visual.attend(masks, positions, level, place, None)
                        for level, place in zip(levels, places, strict=True)], 2)
    gates = ScaleSelection(C, D, 3, "hard").eval()(masks, torch.randn(B, Q, C))
    chosen = read.gather(2, gates.argmax(-1)[..., None, None].expand(-1, -1, 1, D))[:, :, 0]
    torch.testing.assert_close((gates[..., None] * read).sum(2), chosen)


@pytest.mark.parametrize(("kind", "expected"), [
    ("single:0", [1, 0, 0]), ("single:2", [0, 0, 1]), ("mean", [1 / 3] * 3)])
def test_fixed_selections(kind, expected):
    gates = ScaleSelection(C, D, 3, kind)(torch.randn(B, Q, D), torch.randn(B, Q, C))
    torch.testing.assert_close(gates, torch.tensor(expected, dtype=torch.float32).expand(B, Q, 3))


def test_soft_selection_sums_to_one():
    gates = ScaleSelection(C, D, 3, "soft")(torch.randn(B, Q, D), torch.randn(B, Q, C))
    torch.testing.assert_close(gates.sum(-1), torch.ones(B, Q))
    assert (gates > 0).all()


def test_gates_from_attention_maps_sum_to_one():
    maps = [torch.randn(B, H, Q, cells).softmax(-1) for cells in (4, 9, 16)]
    gates = AttentionCues(3)(maps, torch.randn(B, H, Q, Q).softmax(-1))
    torch.testing.assert_close(gates.sum(-1), torch.ones(B, Q))


def test_visual_attention_is_plain_attention():
    visual = VisualAttention(D, H)
    masks, positions, level, places = torch.randn(B, Q, D), torch.randn(Q, D), torch.randn(B, 9, D), torch.randn(9, D)
    weights = visual.weights(masks, positions, level, places)
    values = visual.value(level).unflatten(-1, (H, -1)).transpose(1, 2)
    expected = visual.out((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(visual.attend(masks, positions, level, places, None), expected)


def test_a_mask_that_blocks_everything_blocks_nothing():
    visual = VisualAttention(D, H)
    masks, positions, level, places = torch.randn(B, Q, D), torch.randn(Q, D), torch.randn(B, 9, D), torch.randn(9, D)
    free = visual.attend(masks, positions, level, places, None)
    torch.testing.assert_close(visual.attend(masks, positions, level, places, torch.ones(B, Q, 9, dtype=bool)), free)
    blocked = torch.ones(B, Q, 9, dtype=bool)
    blocked[..., 4] = False
    only = visual.attend(masks, positions, level, places, blocked)
    expected = visual.out(visual.value(level)[:, 4:5]).expand(B, Q, D)
    torch.testing.assert_close(only, expected)


def test_no_relation_is_plain_self_attention():
    said = priors()
    attention = RelationAttention(C, D, H, relation=True)
    masks, positions, linked = torch.randn(B, Q, D), torch.randn(Q, D), torch.rand(B, Q, N)
    plain = attention(masks, positions)
    silent = attention.bias(linked, said.without(torch.zeros(B, dtype=torch.bool)))
    assert torch.equal(silent, torch.zeros(B, H, Q, Q))
    torch.testing.assert_close(attention(masks, positions, silent), plain, rtol=0, atol=1e-6)
    with torch.no_grad():
        attention.strength.zero_()
    torch.testing.assert_close(attention(masks, positions, attention.bias(linked, said)), plain, rtol=0, atol=1e-6)
    reference = F.multi_head_attention_forward(
        (masks + positions).transpose(0, 1), (masks + positions).transpose(0, 1), masks.transpose(0, 1), D, H,
        attention.inputs.weight, attention.inputs.bias, None, None, False, 0.0, attention.out.weight,
        attention.out.bias, need_weights=False)[0].transpose(0, 1)
    torch.testing.assert_close(plain, attention.norm(masks + reference))


def test_a_relation_changes_something():
    said = priors()
    attention = RelationAttention(C, D, H, relation=True)
    masks, positions, linked = torch.randn(B, Q, D), torch.randn(Q, D), torch.rand(B, Q, N) * 5
    bias = attention.bias(linked, said)
    assert not torch.allclose(attention(masks, positions, bias)[0], attention(masks, positions)[0])


def test_the_bias_of_masks_is_the_double_sum_over_objects():
    said = priors()
    attention = RelationAttention(C, D, H, relation=True)
    graph = torch.zeros(H, N, N)
    for r, (s, o) in enumerate(said.pairs_BR2[0].tolist()):
        graph[:, s, o] += attention.forward_edge(said.relations_BRc[0, r])
        graph[:, o, s] += attention.reverse_edge(said.relations_BRc[0, r])
    torch.testing.assert_close(attention.graph(said)[0], graph)
    linked = torch.rand(B, Q, N)
    expected = torch.zeros(H, Q, Q)
    for p in range(Q):
        for q in range(Q):
            for i in range(N):
                for j in range(N):
                    expected[:, p, q] += linked[0, p, i] * graph[:, i, j] * linked[0, q, j]
    torch.testing.assert_close(attention.bias(linked, said)[0], expected)


def bilinear(values_DHW, x, y):
    """Value at (x, y) in [0, 1], cells outside are 0."""
    height, width = values_DHW.shape[1:]
    column, row = x * width - 0.5, y * height - 0.5
    total = torch.zeros(values_DHW.shape[0])
    for r in (int(row // 1), int(row // 1) + 1):
        for c in (int(column // 1), int(column // 1) + 1):
            if 0 <= r < height and 0 <= c < width:
                total += values_DHW[:, r, c] * (1 - abs(row - r)) * (1 - abs(column - c))
    return total


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_deformable_attention_is_a_loop_over_places(ratio):
    shapes, heads, points = [(3, 4), (2, 2)], 2, 3
    attention = DeformableAttention(D, heads, 2, points, ratio)
    torch.nn.init.normal_(attention.sampling_offsets.weight, std=0.3)
    torch.nn.init.normal_(attention.attention_weights.weight, std=0.3)
    queries, tokens = torch.randn(1, 3, D), torch.randn(1, 16, D)
    reference = torch.rand(3, 2)
    found = attention.attend(queries, tokens, reference[:, None].expand(-1, 2, 2), shapes)[0]
    values = attention.value_proj(tokens)[0]
    share = values.shape[1] // heads
    offsets = attention.sampling_offsets(queries).view(3, heads, 2, points, 2)
    weights = attention.attention_weights(queries).view(3, heads, -1).softmax(-1).view(3, heads, 2, points)
    rows = []
    for q in range(3):
        row = torch.zeros(values.shape[1])
        for h in range(heads):
            start = 0
            for level, (height, width) in enumerate(shapes):
                cells = values[start:start + height * width, h * share:(h + 1) * share]
                picture = cells.T.unflatten(1, (height, width))
                start += height * width
                for p in range(points):
                    dx, dy = offsets[q, h, level, p].tolist()
                    place = bilinear(picture, reference[q, 0].item() + dx / width, reference[q, 1].item() + dy / height)
                    row[h * share:(h + 1) * share] += weights[q, h, level, p] * place
        rows.append(row)
    torch.testing.assert_close(found, attention.output_proj(torch.stack(rows)), rtol=1e-4, atol=1e-5)


def test_centres_are_those_of_the_library():
    from transformers.models.mask2former.modeling_mask2former import Mask2FormerPixelDecoderEncoderOnly

    shapes = [(2, 3), (1, 1)]
    expected = Mask2FormerPixelDecoderEncoderOnly.get_reference_points(shapes, torch.ones(1, 2, 2), "cpu")[0, :, 0]
    torch.testing.assert_close(cell_centres(shapes, torch.device("cpu")), expected)
