"""The JSON Schemas that constrain answers. Both ways of serving enforce them with xgrammar, so they use what it knows:
flat objects, enumerations, bounded lists; no `maxLength`, under which it lets raw control characters into texts. What a
grammar cannot say (length, alphabet, repeats) is checked after reading.

Where it can, a schema leaves no room for an invalid answer: a partition is an object with every class name as a key in
the order given, so a name can neither be left out, nor come twice, nor be invented.

xgrammar 0.2 reads a letter from U+0080 to U+00FF together with a hexadecimal digit behind it as another letter, in
enumerations and keys: "Käfer" could never be said. Patterns are not concerned; keys have none, so any are allowed then.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from parsers.files import canonical_json, sha256_bytes

Schema = Mapping[str, Any]
_MISREAD = re.compile("[\u0080-\u00ff][0-9A-Fa-f]")
_SPECIAL = re.compile(r"[\\^$.|?*+()\[\]{}]")


def names_schema(count: int) -> Schema:
    """{"names": ["poodle", ...]} with one to `count` names."""
    return _object(names={"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": count})


def labels_schema(names: Sequence[str]) -> Schema:
    """{"dog": "animals", "bus": "vehicles"}: for each name, in this order, the cluster that it belongs to."""
    if any(_MISREAD.search(name) for name in names):
        return {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": len(names)}
    return _object(**{name: {"type": "string"} for name in names})


def choice_schema(options: Sequence[str]) -> Schema:
    """{"clusters": ["animals"]}: none, some or all of the options."""
    return _object(clusters={"type": "array", "items": _one_of(options), "maxItems": len(options)})


def yes_no_schema() -> Schema:
    """{"answer": "yes"}"""
    return _object(answer={"type": "string", "enum": ["yes", "no"]})


def plan_schema(targets: Sequence[str] = (), parts: Sequence[str] = ()) -> Schema:
    """The fields of `agents.records.Plan`. targets: what may be looked for; parts: what a filter's target,
    attribute and other side may be, beside nothing. Any text where none are given."""
    text, flag = {"type": "string"}, {"type": "boolean"}
    name = _one_of(targets) if targets else text
    part = _one_of(["", *parts]) if parts else text
    one_filter = _object(target=part, attribute=part, relation=text, object=part)
    return _object(targets={"type": "array", "items": name, "maxItems": 32}, subclasses=flag, candidate_free=flag,
                   filters={"type": "array", "items": one_filter, "maxItems": 16})


def response_format(name: str, schema: Schema) -> dict[str, Any]:
    """`schema` as the option `response_format` of a chat call, strict."""
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


def schema_digest(schema: Schema | None) -> str:
    """Hexadecimal sha256 of a schema; of JSON null for answers in prose."""
    return sha256_bytes(canonical_json(schema))


def _one_of(options: Sequence[str]) -> dict[str, Any]:
    """A text that is one of the options."""
    if not any(_MISREAD.search(option) for option in options):
        return {"type": "string", "enum": list(options)}
    written = "|".join(_SPECIAL.sub(r"\\\g<0>", json.dumps(option, ensure_ascii=False)[1:-1]) for option in options)
    return {"type": "string", "pattern": f"^({written})$"}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
