"""What a variant's name says, from the descriptions of a run: no page reads a name.

Runs of before there were descriptions have none, and neither have modules that are no variants: of these the name is
read as the grammar of names was then, here and nowhere else.
"""

from collections.abc import Iterable

from suite.core.records import Description, Record, Role

CONTROLS = ("pool", "cross")
"""What people would use instead: in every table, but never its winner."""
_PRECISIONS = {"fp16": "float16", "amp_fp16": "float16", "bf16": "bfloat16", "amp_bf16": "bfloat16", "tf32": "tf32"}
_AXES = {
    **dict.fromkeys(("fused", "chunked", "sdpa", "fast"), "kernel"),
    **dict.fromkeys(_PRECISIONS, "precision"),
    "cudagraph": "capture",
}


class Descriptions:
    """The descriptions of a run by variant.

    Args:
        records: of the run; others than descriptions are passed over.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._known = {record.variant: record for record in records if isinstance(record, Description)}

    def __getitem__(self, variant: str) -> Description:
        known = self._known.get(variant)
        if known is None:
            known = self._known[variant] = _read(variant)
        return known


def role(mechanism: str, *, published: bool) -> Role:
    """What a mechanism is to a table: what may win it, what people would use instead, or what others published."""
    return "published" if published else "control" if mechanism in CONTROLS else "mechanism"


def _read(variant: str) -> Description:
    parent, *words = variant.split("+")
    whole, _, inside = parent.partition("[")
    options, _, _ = inside.partition("]")
    mechanism = whole.partition("-")[0]
    return Description(
        task="",
        variant=variant,
        mechanism=mechanism,
        parent=parent,
        role=role(mechanism, published=mechanism.startswith("published_")),
        options=dict(option.split("=", 1) for option in options.split(",") if "=" in option),
        transforms={_AXES.get(word, "compilation"): word for word in words},
        dtype=next((_PRECISIONS[word] for word in words if word in _PRECISIONS), "float32"),
    )
