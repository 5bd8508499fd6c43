"""Scene priors in the short notation of the tests: "2 dogs (black; wet)", "dog > on > grass"; a second object of the
same name is "dog#2"."""

from __future__ import annotations

from collections import Counter

from parsers.priors import ScenePriors


def notation(priors: ScenePriors) -> tuple[list[str], list[str], list[str]]:
    """Objects, relations and absent names, each sorted; attributes in alphabetical order."""
    seen: Counter[str] = Counter()
    objects, names = [], []
    for item in priors.objects:
        seen[item.name] += 1
        names.append(item.name if seen[item.name] == 1 else f"{item.name}#{seen[item.name]}")
        count = f"{item.count} " if item.count > 1 else ""
        said = f" ({'; '.join(sorted(item.attributes))})" if item.attributes else ""
        objects.append(f"{count}{item.name}{said}")
    relations = [f"{names[r.subject]} > {r.predicate} > {names[r.object]}" for r in priors.relations]
    return sorted(objects), sorted(relations), sorted(priors.absent)
