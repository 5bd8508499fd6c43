"""What a description says, as vectors: objects, attributes and relations through the text encoder of a CLIP.

Shapes: B batch; N objects; R relations; c text width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from parsers.names import name_key
from parsers.priors import ScenePriors

Embed = Callable[[Sequence[str]], Tensor]
"""Texts to vectors of length 1, (number of texts, c); a row of zeros for a text that the encoder does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorPhrases:
    """The texts of one description that are embedded."""

    objects: tuple[str, ...]
    attributes: tuple[tuple[str, ...], ...]
    """Per object: "red dog", "small dog"."""
    relations: tuple[tuple[int, str, int], ...]
    """Object, "dog on grass", object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorBatch:
    """The priors of a batch, filled up to the same number of objects and relations.

    What is filling has zeros as vectors and False as `valid`; it changes no result.
    """

    objects_BNc: Tensor
    valid_BN: Tensor
    """bool: there is such an object, and the text encoder knows its name."""
    attributes_BNc: Tensor
    """Mean over an object's attributes."""
    described_BN: Tensor
    """bool: the object has attributes."""
    pairs_BR2: Tensor
    """int64: subject and object of a relation, indexes into N."""
    relations_BRc: Tensor
    related_BR: Tensor
    """bool: there is such a relation, between valid objects."""

    def to(self, device: torch.device) -> PriorBatch:
        """The same on a device."""
        return PriorBatch(**{name: getattr(self, name).to(device) for name in self.__slots__})

    def without(self, keep_B: Tensor) -> PriorBatch:
        """The same with nothing said of the pictures where `keep_B` is False."""
        return replace(self, valid_BN=self.valid_BN & keep_B[:, None], related_BR=self.related_BR & keep_B[:, None],
                       described_BN=self.described_BN & keep_B[:, None])


def prior_phrases(priors: ScenePriors | None, objects: int, relations: int) -> PriorPhrases:
    """The first `objects` different things of a description (by lemma in its first spelling, their attributes
    together) and the first `relations` relations between them. Relations to things that are not there are left out."""
    if priors is None:
        return PriorPhrases(objects=(), attributes=(), relations=())
    place: dict[str, int] = {}
    of_object: list[int | None] = []
    names: list[str] = []
    said: list[list[str]] = []
    for item in priors.objects:
        key = name_key(item.lemma)
        if key not in place and len(place) < objects:
            place[key] = len(names)
            names.append(item.lemma)
            said.append([])
        of_object.append(place.get(key))
        if key in place:
            said[place[key]] += [word for word in item.attributes if word not in said[place[key]]]
    found: dict[tuple[int, str, int], None] = {}
    for relation in priors.relations:
        if max(relation.subject, relation.object) >= len(of_object):
            continue
        s, o = of_object[relation.subject], of_object[relation.object]
        if s is not None and o is not None and s != o:
            found[s, f"{names[s]} {relation.predicate} {names[o]}", o] = None
    return PriorPhrases(objects=tuple(names), relations=tuple(found)[:relations],
                        attributes=tuple(tuple(f"{word} {name}" for word in words)
                                         for name, words in zip(names, said, strict=True)))


def embed_priors(phrases: Sequence[PriorPhrases], names: Embed, texts: Embed, *, objects: int, relations: int,
                 width: int) -> PriorBatch:
    """The vectors of a batch of descriptions, always `objects` and `relations` long.

    names: embeds object names (with the templates of class names); texts: embeds attribute and relation phrases.
    """
    batch = len(phrases)
    wanted_names = list(dict.fromkeys(name for item in phrases for name in item.objects))
    wanted_texts = list(dict.fromkeys([text for item in phrases for group in item.attributes for text in group]
                                      + [text for item in phrases for _, text, _ in item.relations]))
    of_name = dict(zip(wanted_names, names(wanted_names), strict=True)) if wanted_names else {}
    of_text = dict(zip(wanted_texts, texts(wanted_texts), strict=True)) if wanted_texts else {}
    objects_BNc, attributes_BNc = torch.zeros(batch, objects, width), torch.zeros(batch, objects, width)
    relations_BRc = torch.zeros(batch, relations, width)
    pairs_BR2 = torch.zeros(batch, relations, 2, dtype=torch.long)
    for row, item in enumerate(phrases):
        for n, (name, said) in enumerate(zip(item.objects, item.attributes, strict=True)):
            objects_BNc[row, n] = of_name[name]
            known = [of_text[text] for text in said if of_text[text].any()]
            if known:
                attributes_BNc[row, n] = torch.stack(known).mean(0)
        for r, (s, text, o) in enumerate(item.relations):
            relations_BRc[row, r] = of_text[text]
            pairs_BR2[row, r] = torch.tensor([s, o])
    valid_BN = objects_BNc.any(-1)
    ends_BR = valid_BN.gather(1, pairs_BR2[..., 0]) & valid_BN.gather(1, pairs_BR2[..., 1])
    return PriorBatch(objects_BNc=objects_BNc, valid_BN=valid_BN, attributes_BNc=attributes_BNc,
                      described_BN=attributes_BNc.any(-1) & valid_BN, pairs_BR2=pairs_BR2,
                      relations_BRc=relations_BRc, related_BR=relations_BRc.any(-1) & ends_BR)
