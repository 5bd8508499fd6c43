"""From several names per class to one map per class (specification: LLM-Supervision, arXiv 2404.00701).

For one window with patch features f_n, image vector z and the vectors e_i of a class's list of names:

* `code`: w = softmax_i(z . e_i); the map is f_n . sum_i w_i e_i, the text vector is not made length 1 again.
* `softmax`: the same with w = softmax_i(z . e_i / temperature).
* `max`: the largest of the maps f_n . e_i.
* `map-mean`: the mean of the maps after each is scaled to [0, 1]; then from [0, 1] to the mean of their ranges, so that
  classes stay comparable.

With one name per class all four are f_n . e.

Shapes: C classes; M names of the longest list; N names altogether; P patches; D embedding.
"""

from __future__ import annotations

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
               ensemble: str, temperature: float) -> torch.Tensor:
    """(C, P): how well each class fits each patch, in units of cosine.

    patches and pooled: of length 1; table: text vectors of `lists.words`, of length 1. The background, where there is
    one, is always the maximum over its words.
    """
    background = int(lists.class_ids[:1] == (0,))
    if ensemble == "max" or lists.lists_CM.shape[1] == 1:
        return _maximum(patches_PD, table_ND, lists.lists_CM)
    listed_CM, valid_CM = lists.lists_CM[background:], lists.valid_CM[background:]
    if ensemble == "map-mean":
        maps_CP = _map_mean(patches_PD, table_ND, listed_CM, valid_CM)
    else:
        divisor = 1.0 if ensemble == "code" else temperature
        text_CD = weighted_text(pooled_D, table_ND, listed_CM, valid_CM, divisor)
        maps_CP = text_CD @ patches_PD.T
    if not background:
        return maps_CP
    return torch.cat([_maximum(patches_PD, table_ND, lists.lists_CM[:1]), maps_CP])


def weighted_text(pooled_D: torch.Tensor, table_ND: torch.Tensor, lists_CM: torch.Tensor, valid_CM: torch.Tensor,
                  temperature: float) -> torch.Tensor:
    """(C, D): sum_i w_i e_i with w = softmax_i(z . e_i / temperature), not of length 1."""
    relevance_N = table_ND @ pooled_D
    logits_CM = (relevance_N[lists_CM] / temperature).masked_fill(~valid_CM, float("-inf"))
    return torch.einsum("cm,cmd->cd", logits_CM.softmax(dim=-1), table_ND[lists_CM])


def _maximum(patches_PD: torch.Tensor, table_ND: torch.Tensor, lists_CM: torch.Tensor) -> torch.Tensor:
    maps_CP = table_ND[lists_CM[:, 0]] @ patches_PD.T
    for rows_C in lists_CM.T[1:]:
        maps_CP = torch.maximum(maps_CP, table_ND[rows_C] @ patches_PD.T)
    return maps_CP


def _map_mean(patches_PD: torch.Tensor, table_ND: torch.Tensor, lists_CM: torch.Tensor,
              valid_CM: torch.Tensor) -> torch.Tensor:
    scaled_CP = low_C1 = span_C1 = torch.zeros(())
    for rows_C, valid_C in zip(lists_CM.T, valid_CM.T, strict=True):
        maps_CP = table_ND[rows_C] @ patches_PD.T
        share_C1 = (valid_C / valid_CM.sum(dim=1))[:, None]
        lowest_C1, width_C1 = _range(maps_CP)
        scaled_CP = scaled_CP + share_C1 * min_max(maps_CP)
        low_C1, span_C1 = low_C1 + share_C1 * lowest_C1, span_C1 + share_C1 * width_C1
    return low_C1 + span_C1 * scaled_CP


def min_max(maps_CP: torch.Tensor) -> torch.Tensor:
    """Each row scaled to [0, 1]; a constant row becomes 0."""
    lowest_C1, width_C1 = _range(maps_CP)
    return (maps_CP - lowest_C1) / width_C1.clamp_min(EPS)


def _range(maps_CP: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    lowest_C1, highest_C1 = maps_CP.aminmax(dim=-1, keepdim=True)
    return lowest_C1, highest_C1 - lowest_C1
