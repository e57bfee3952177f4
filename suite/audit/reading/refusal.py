"""What is not understood: why, and the adapter to write, made from the real signature."""

from collections.abc import Iterable, Mapping, Sequence

from suite.audit.reading.arguments import Argument
from suite.audit.reading.forms import Feature
from suite.audit.reading.trial import Reading
from suite.core.errors import UserError

MASKS = (
    "~{valid}, {valid}.long(), {valid}.float(), (~{valid}).float() * -1e9, "
    "each with [:, None, None] where a head axis is; {valid}.sum(-1); {valid}.float().mean(-1)"
)


class NotUnderstood(UserError):
    """A signature that means nothing here; the message says why, and holds the adapter to write."""

    def __init__(self, why: str, adapter: str = "") -> None:
        more = f"\n\nWrite this beside it, in the same file, and audit that instead:\n\n{adapter}\n"
        super().__init__(why + (more if adapter else ""))
        self.why = why
        """One line."""
        self.adapter = adapter
        """Its lines; empty where none helps."""


def lost(
    why: str,
    name: str,
    *,
    arguments: Sequence[Argument] = (),
    reading: Reading | None = None,
    lists: Iterable[str] = (),
    ids: Mapping[str, int] | None = None,
) -> NotUnderstood:
    """The refusal.

    Args:
        why: one line.
        name: the user's own class or factory.
        arguments: of its ``forward``.
        reading: what was found of them.
        lists: arguments that take a list with one tensor an example.
        ids: arguments that take whole numbers, and how many there are.
    """
    return NotUnderstood(why, "\n".join(adapter_for(name, arguments, reading, tuple(lists), ids or {})))


def adapter_for(
    name: str, arguments: Sequence[Argument], reading: Reading | None, lists: Sequence[str], ids: Mapping[str, int]
) -> list[str]:
    """The lines of an adapter in the user's own words."""
    found = dict(reading.features) if reading is not None else {}
    inputs = [a for a in arguments if a.name in found or a.name in ids or (a.guess == "features" and a.required)]
    sides: dict[str, str] = {}
    for argument in inputs:
        sides.setdefault(found[argument.name].side if argument.name in found else argument.name, "")
    names = list(sides)[:3] or ["image", "question"]
    given = []
    for argument in arguments:
        written = _written(argument, names, found.get(argument.name), lists, ids)
        if written:
            given.append(f"            {'' if argument.by_place else f'{argument.name}='}{written}")
    widths = {side: _width(side, reading, ids) for side in names}
    masked = [side for side in names if reading is None or reading.lengths.get(side) != 1]
    lengths = {side: length for side, length in reading.lengths.items() if side in names} if reading else {}
    told = ", ".join(f'"{side}": {width}' for side, width in widths.items())
    shapes = ", ".join(f"batch.{side} [B, L, {width}]" for side, width in widths.items())
    lines = [
        "from suite.audit import Adapter",
        "",
        "",
        f"def {_identifier(name)}_adapted():",
        f"    module = {name}()",
        "",
        f"    def call(batch):  # {shapes};",
        f"        # batch.{names[0]}_valid [B, L] and so on are boolean, True where real",
        "        return module(",
        *(given or [f"            batch.{side}," for side in names]),
        "        )",
        "",
        "    return Adapter(",
        "        module,",
        "        call,",
        f"        widths={{{told}}},",
        f"        masked={tuple(masked)!r},  # the sides whose validity the call makes use of",
    ]
    if lengths:
        lines.append(f"        lengths={lengths!r},  # the numbers of slots that it has to have")
    else:
        lines.append(f'        # lengths={{"{names[0]}": 49}}, where it takes one number of slots only')
    lines += ['        # outputs={"output": "tokens"}, where two runs do not tell what an output is', "    )"]
    return lines


def _written(
    argument: Argument, sides: Sequence[str], feature: Feature | None, lists: Sequence[str], ids: Mapping[str, int]
) -> str:
    """What the call passes for an argument, with a comment where there is a choice."""
    name = argument.name
    side = feature.side if feature is not None else name
    if name in ids:
        count = max(ids[name] - 1, 1)
        ids_of = f"(batch.{side}[..., 0].abs() * 1e4).long() % {count} + 1"
        return f"({ids_of}).masked_fill(~batch.{side}_valid, 0),  # whole numbers in place of features; 0 is padding"
    if name in lists:
        return f"[x[real] for x, real in zip(batch.{side}, batch.{side}_valid)],  # a list, cut to what is real"
    if feature is not None and side in sides:
        turned = {
            "[L, B, D]": ".transpose(0, 1)",
            "[B, D, L]": ".transpose(1, 2)",
            "[B, D]": "[:, 0]",
            "[B, D, H, W]": ".transpose(1, 2).unflatten(2, (height, width))",
            "[B, H, W, D]": ".unflatten(1, (height, width))",
        }
        return f"batch.{side}{turned.get(feature.layout, '')},"
    if name in sides:
        return f"batch.{name},"
    if argument.guess in ("mask", "structure"):
        valid = f"batch.{_nearest(name, sides)}_valid"
        return f"None,  # or {valid}, {MASKS.format(valid=valid)}"
    if argument.required:
        return f"{argument.value!r}," if argument.guess == "flag" else "...,"
    return "" if argument.guess == "flag" else "None,"


def _nearest(name: str, sides: Sequence[str]) -> str:
    from suite.audit.reading.arguments import kinship

    return max(sides, key=lambda side: kinship(name, side))


def _width(side: str, reading: Reading | None, ids: Mapping[str, int]) -> object:
    if side in ids:
        return 4
    return reading.width(side) if reading is not None and side in reading.sides else "..."


def _identifier(name: str) -> str:
    plain = "".join(letter if letter.isalnum() else "_" for letter in name).lower()
    return plain or "module"
