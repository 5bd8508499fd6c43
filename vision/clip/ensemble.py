"""From several names per class to one map per class (specification: LLM-Supervision, arXiv 2404.00701).

For one window with patch features f_n, image vector z and the vectors e_i of a class's list of names:

* `code`: w = softmax_i(z . e_i); the map is f_n . sum_i w_i e_i, the text vector is not made length 1 again.
* `softmax`: the same with w = softmax_i(z . e_i / temperature).
* `mean`: the same with equal weights.
* `max`: the largest of the maps f_n . e_i.
* `map-mean`: the mean of the maps after each is scaled to [0, 1]; then from [0, 1] to the mean of their ranges, so that
  classes stay comparable.
* `mask-vote`: each map is scaled to [0, 1] and votes where it is above one half, with the weights of `softmax`; then
  the range as in `map-mean`. (Under the rule `simseg` the votes are masks after the CRF.)
* `super+lambda`: the vector of the class name plus lambda times the `softmax` mixture of its other names, divided by
  1 + lambda.

With one name per class all are f_n . e.

Shapes: C classes; M names of the longest list; N names altogether; P patches; D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from parsers.vocabulary import Vocabulary, VocabularyClass
from vision.clip.settings import ClipSettings

EPS = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class NameLists:
    """The names that speak for each class, as rows of one table of text vectors."""

    class_ids: tuple[int, ...]
    """0, the background, comes first where the vocabulary has background words."""
    class_names: tuple[str, ...]
    words: tuple[str, ...]
    """All names once, in the order of the rows of the table."""
    lists_CM: torch.Tensor
    """Rows of each class's list; lists are filled up with their own first row."""
    valid_CM: torch.Tensor
    """True where `lists_CM` is not filling."""
    own_C: torch.Tensor
    """The row of the class name; for the background its first word."""

    def to(self, device: torch.device) -> NameLists:
        """The same lists with their tensors on a device."""
        return replace(self, lists_CM=self.lists_CM.to(device), valid_CM=self.valid_CM.to(device),
                       own_C=self.own_C.to(device))


def name_lists(vocabulary: Vocabulary, settings: ClipSettings) -> NameLists:
    """The lists of a vocabulary: per class its name, its synonyms, and the first K subclasses.

    Synonyms are further names of the class. Without `superclass_in_list` the name and the synonyms of a class that
    has subclasses are left out of its list. A name occurs once in a list.
    """
    lists = [_list_of(entry, settings) for entry in vocabulary.classes]
    class_ids = [entry.id for entry in vocabulary.classes]
    names = [entry.name for entry in vocabulary.classes]
    own = list(names)
    background = list(vocabulary.background_words)
    if background:
        lists, class_ids, names = [background, *lists], [0, *class_ids], ["background", *names]
        own = [background[0], *own]
    words = tuple(dict.fromkeys(word for group in [own, *lists] for word in group))
    row = {word: index for index, word in enumerate(words)}
    longest = max(map(len, lists), default=0)
    filled = [[row[word] for word in group] + [row[group[0]]] * (longest - len(group)) for group in lists]
    return NameLists(
        class_ids=tuple(class_ids), class_names=tuple(names), words=words,
        lists_CM=torch.tensor(filled, dtype=torch.long).reshape(len(lists), longest),
        valid_CM=torch.tensor([[m < len(group) for m in range(longest)] for group in lists], dtype=torch.bool)
        .reshape(len(lists), longest),
        own_C=torch.tensor([row[word] for word in own], dtype=torch.long))


def _list_of(entry: VocabularyClass, settings: ClipSettings) -> list[str]:
    subclasses = entry.subclasses[:settings.subclass_count]
    plain = (entry.name, *entry.synonyms) if settings.superclass_in_list or not subclasses else ()
    return list(dict.fromkeys((*plain, *subclasses)))


def class_maps(patches_PD: torch.Tensor, pooled_D: torch.Tensor, table_ND: torch.Tensor, lists: NameLists,
               ensemble: str, temperature: float, subclass_weight: float = 0.5) -> torch.Tensor:
    """(C, P): how well each class fits each patch, in units of cosine.

    patches and pooled: of length 1; table: text vectors of `lists.words`, of length 1; subclass_weight: lambda. The
    background, where there is one, is always the maximum over its words.
    """
    background = int(lists.class_ids[:1] == (0,))
    if ensemble == "max" or (lists.lists_CM.shape[1] == 1 and ensemble != "super+lambda"):
        return _maximum(patches_PD, table_ND, lists.lists_CM)
    listed_CM, valid_CM = lists.lists_CM[background:], lists.valid_CM[background:]
    if ensemble == "map-mean":
        share_CM = list_weights(pooled_D, table_ND, listed_CM, valid_CM, "mean", temperature)
        maps_CP = _mean_of_scaled(patches_PD, table_ND, listed_CM, share_CM, share_CM, min_max)
    elif ensemble == "mask-vote":
        share_CM, votes_CM = (list_weights(pooled_D, table_ND, listed_CM, valid_CM, kind, temperature)
                              for kind in ("mean", "softmax"))
        maps_CP = _mean_of_scaled(patches_PD, table_ND, listed_CM, share_CM, votes_CM,
                                  lambda maps_CP: (min_max(maps_CP) > 0.5).to(maps_CP.dtype))
    else:
        own_C = lists.own_C[background:] if ensemble == "super+lambda" else None
        text_CD = class_texts(pooled_D, table_ND, listed_CM, valid_CM, ensemble, temperature, own_C, subclass_weight)
        maps_CP = text_CD @ patches_PD.T
    if not background:
        return maps_CP
    return torch.cat([_maximum(patches_PD, table_ND, lists.lists_CM[:1]), maps_CP])


def scaled_maps(patches_PD: torch.Tensor, pooled_D: torch.Tensor, table_ND: torch.Tensor, lists: NameLists,
                rows: Sequence[int], ensemble: str, temperature: float,
                subclass_weight: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    """(K, M, P) maps of the classes in `rows`, each scaled to [0, 1], and their (K, M) weights: for `mask-vote` one map
    per name and its `softmax` weight (0 for filling), else one per class. None of `rows` is the background."""
    picked = replace(lists, class_ids=tuple(lists.class_ids[row] for row in rows), lists_CM=lists.lists_CM[rows],
                     valid_CM=lists.valid_CM[rows], own_C=lists.own_C[rows])
    if ensemble == "mask-vote":
        weights_KM = list_weights(pooled_D, table_ND, picked.lists_CM, picked.valid_CM, "softmax", temperature)
        return min_max(table_ND[picked.lists_CM] @ patches_PD.T), weights_KM
    maps_KP = class_maps(patches_PD, pooled_D, table_ND, picked, ensemble, temperature, subclass_weight)
    return min_max(maps_KP)[:, None], torch.ones(len(rows), 1)


def list_weights(pooled_D: torch.Tensor, table_ND: torch.Tensor, lists_CM: torch.Tensor, valid_CM: torch.Tensor,
                 kind: str, temperature: float) -> torch.Tensor:
    """(C, M): how much each name counts: equal weights (`mean`), or softmax_i(z . e_i / temperature), the temperature
    being 1 for `code`. Rows sum to 1; a row without names is 0."""
    if kind == "mean":
        return valid_CM.to(table_ND.dtype) / valid_CM.sum(dim=1, keepdim=True).clamp_min(1)
    relevance_N = table_ND @ pooled_D
    divisor = 1.0 if kind == "code" else temperature
    logits_CM = (relevance_N[lists_CM] / divisor).masked_fill(~valid_CM, float("-inf"))
    return logits_CM.softmax(dim=-1).nan_to_num(0.0)


def class_texts(pooled_D: torch.Tensor, table_ND: torch.Tensor, lists_CM: torch.Tensor, valid_CM: torch.Tensor,
                ensemble: str, temperature: float, own_C: torch.Tensor | None = None,
                subclass_weight: float = 0.5) -> torch.Tensor:
    """(C, D): sum_i w_i e_i, not of length 1. own: rows of the class names, for `super+lambda`."""
    if own_C is None:
        weights_CM = list_weights(pooled_D, table_ND, lists_CM, valid_CM, ensemble, temperature)
        return _weighted(table_ND, lists_CM, weights_CM)
    others_CM = valid_CM & (lists_CM != own_C[:, None])
    weights_CM = list_weights(pooled_D, table_ND, lists_CM, others_CM, "softmax", temperature)
    share_C1 = others_CM.any(dim=1, keepdim=True) * subclass_weight
    return (table_ND[own_C] + share_C1 * _weighted(table_ND, lists_CM, weights_CM)) / (1 + share_C1)


def _weighted(table_ND: torch.Tensor, lists_CM: torch.Tensor, weights_CM: torch.Tensor) -> torch.Tensor:
    """(C, D): name after name, so that many classes with long lists need no (C, M, D)."""
    text_CD = weights_CM[:, :1] * table_ND[lists_CM[:, 0]]
    for rows_C, weight_C in zip(lists_CM.T[1:], weights_CM.T[1:], strict=True):
        text_CD = text_CD + weight_C[:, None] * table_ND[rows_C]
    return text_CD


def _maximum(patches_PD: torch.Tensor, table_ND: torch.Tensor, lists_CM: torch.Tensor) -> torch.Tensor:
    maps_CP = table_ND[lists_CM[:, 0]] @ patches_PD.T
    for rows_C in lists_CM.T[1:]:
        maps_CP = torch.maximum(maps_CP, table_ND[rows_C] @ patches_PD.T)
    return maps_CP


def _mean_of_scaled(patches_PD: torch.Tensor, table_ND: torch.Tensor, lists_CM: torch.Tensor, share_CM: torch.Tensor,
                    votes_CM: torch.Tensor, scale: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """(C, P): the mean of the scaled maps, weighted by `votes`, in the mean of their ranges, weighted by `share`."""
    scaled_CP = low_C1 = span_C1 = torch.zeros(())
    for rows_C, share_C, vote_C in zip(lists_CM.T, share_CM.T, votes_CM.T, strict=True):
        maps_CP = table_ND[rows_C] @ patches_PD.T
        lowest_C1, width_C1 = _range(maps_CP)
        scaled_CP = scaled_CP + vote_C[:, None] * scale(maps_CP)
        low_C1, span_C1 = low_C1 + share_C[:, None] * lowest_C1, span_C1 + share_C[:, None] * width_C1
    return low_C1 + span_C1 * scaled_CP


def min_max(maps_CP: torch.Tensor) -> torch.Tensor:
    """Each row scaled to [0, 1]; a constant row becomes 0."""
    lowest_C1, width_C1 = _range(maps_CP)
    return (maps_CP - lowest_C1) / width_C1.clamp_min(EPS)


def _range(maps_CP: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    lowest_C1, highest_C1 = maps_CP.aminmax(dim=-1, keepdim=True)
    return lowest_C1, highest_C1 - lowest_C1
