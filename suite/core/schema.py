"""The JSON schema of a line of ``records.jsonl``, made from the dataclasses: ``python -m suite.core.schema`` prints it.

It is shipped as ``suite/core/records.schema.json``, so that other programs can check a run without this one. It states
the types; what `suite.core.records.decode` checks beyond them, such as the grammar of names, is not in it.
"""

import json
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from suite.core.records import FORMAT, Record


def schema() -> dict[str, Any]:
    """Of every line: the first, which names the format, and each kind of record."""
    header = {
        "type": "object",
        "properties": {"format": {"const": FORMAT}},
        "required": ["format"],
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of records.jsonl",
        "description": "Seconds, bytes and pure numbers; floats are finite, or null. The first line names the format.",
        "oneOf": [header, *(_object(kind) for kind in get_args(Record))],
    }


def _object(cls: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    items = fields(cls)
    required = [item.name for item in items if item.default is MISSING and item.default_factory is MISSING]
    return {
        "title": cls.kind,
        "description": (cls.__doc__ or "").strip(),
        "type": "object",
        "properties": {"kind": {"const": cls.kind}} | {item.name: _of(hints[item.name]) for item in items},
        "required": ["kind", *required],
        "additionalProperties": False,
    }


def _of(hint: Any) -> dict[str, Any]:
    """What JSON holds for a type."""
    origin, inner = get_origin(hint), get_args(hint)
    simple = {str: "string", int: "integer", float: "number", bool: "boolean", types.NoneType: "null"}
    if hint in simple:
        return {"type": simple[hint]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of(choice) for choice in inner]}
    if origin in (tuple, Sequence):
        return {"type": "array", "items": _of(inner[0])}
    assert origin is Mapping, hint
    return {"type": "object", "additionalProperties": _of(inner[1])}


if __name__ == "__main__":
    print(json.dumps(schema(), indent=1))
