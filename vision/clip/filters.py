"""Which subclasses of a vocabulary are left out, by how alike the text vectors of the bare names are.

Source: LLM-Supervision (arXiv 2404.00701), whose code weighs a sentence encoder with 1/4 and CLIP's text encoder with
3/4. Here CLIP is all there is, so its cosines count alone; `own` is ours.

Shapes: N names; C classes; D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from parsers.errors import Code, SettingError
from parsers.vocabulary import Vocabulary

CUTOFFS = {"published": 0.46, "published-names": 0.95, "own": 0.95}
MOST = 20_000
"""All pairs are compared; more subclasses than this are refused."""

Embed = Callable[[Sequence[str]], torch.Tensor]
"""Names to (N, D) vectors of length 1, on the CPU."""


def filter_subclasses(vocabulary: Vocabulary, embed: Embed, method: str, cutoff: float | None = None) -> Vocabulary:
    """The vocabulary without the subclasses that the filter drops.

    `published`: over the subclasses of all classes together, of each pair with a cosine of at most `cutoff` the one
    with the smaller sum of cosines goes, in order. `published-names`: a subclass with a cosine of at least `cutoff` to
    any class name goes. `own`: a subclass with at least `cutoff` to an earlier one of its class goes, and one that is
    nearer to another class name than to its own. Raises SettingError for more than 20,000 subclasses.
    """
    if method == "none":
        return vocabulary
    cutoff = CUTOFFS[method] if cutoff is None else cutoff
    subclasses = [name for entry in vocabulary.classes for name in entry.subclasses]
    if len(subclasses) > MOST:
        raise SettingError(Code.SETTING_INVALID, f"subclass_filter is {method!r} with {len(subclasses)} subclasses.",
                           f"It compares all pairs; at most {MOST} subclasses.", "Leave the filter out.")
    if not subclasses:
        return vocabulary
    class_N = torch.tensor([row for row, entry in enumerate(vocabulary.classes) for _ in entry.subclasses])
    vectors_ND = embed(subclasses)
    if method == "published":
        kept_N = ~_unlike_all(vectors_ND @ vectors_ND.T, cutoff)
    else:
        to_names_NC = vectors_ND @ embed([entry.name for entry in vocabulary.classes]).T
        if method == "published-names":
            kept_N = (to_names_NC < cutoff).all(dim=1)
        else:
            own_N = to_names_NC.gather(1, class_N[:, None])[:, 0]
            kept_N = (own_N >= to_names_NC.amax(dim=1)) & ~_duplicates(vectors_ND, class_N, cutoff)
    left = iter(kept_N.tolist())
    return vocabulary.model_copy(update={"classes": tuple(
        entry.model_copy(update={"subclasses": tuple([name for name in entry.subclasses if next(left)])})
        for entry in vocabulary.classes)})


def _unlike_all(cosine_NN: torch.Tensor, cutoff: float) -> torch.Tensor:
    """(N,) bool: true for what goes. Of two with equal sums the second of the pair goes, as in the public code."""
    total_N = cosine_NN.sum(dim=1)
    gone_N = torch.zeros(len(cosine_NN), dtype=torch.bool)
    unlike_NN = cosine_NN <= cutoff
    unlike_NN.fill_diagonal_(False)
    for first in range(len(cosine_NN)):
        if gone_N[first]:
            continue
        for second in torch.nonzero(unlike_NN[first] & ~gone_N)[:, 0].tolist():
            if total_N[first] < total_N[second]:
                gone_N[first] = True
                break
            gone_N[second] = True
    return gone_N


def _duplicates(vectors_ND: torch.Tensor, class_N: torch.Tensor, cutoff: float) -> torch.Tensor:
    """(N,) bool: true for a name that is alike to an earlier one of its class that stays."""
    gone_N = torch.zeros(len(class_N), dtype=torch.bool)
    for row in range(1, len(class_N)):
        earlier_R = torch.nonzero((class_N[:row] == class_N[row]) & ~gone_N[:row])[:, 0]
        gone_N[row] = bool((vectors_ND[earlier_R] @ vectors_ND[row] >= cutoff).any())
    return gone_N
