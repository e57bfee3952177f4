"""What there is to ask for: mechanisms with their options and parts, transforms, workloads and presets."""

from collections.abc import Iterator, Mapping

from rich.console import RenderableType
from rich.text import Text

from suite.core.workloads import PRESETS, WORKLOADS
from suite.report.columns import Column, Columns, literal
from variants.build import option_types
from variants.interface import CoAttention
from variants.registry import mechanisms, published_names
from variants.transforms import TRANSFORMS

_TITLES = {
    "mechanisms": "Mechanisms",
    "options": "Options, as mechanism[key=value,...]",
    "parts": "Parts, removed as mechanism-part",
    "transforms": "Transforms, added as mechanism+transform",
    "workloads": "Workloads",
    "presets": "Presets",
}
_COLUMNS = (Column(title=""), Column(title="", words=True))


def sections() -> dict[str, dict[str, str]]:
    """Everything that a variant's name and the options of ``run`` may say, each with a line."""
    return {
        "mechanisms": dict(_mechanisms()),
        "options": dict(_options()),
        "parts": dict(_parts()),
        "transforms": {f"+{name}": item.summary for name, item in TRANSFORMS.items()},
        "workloads": dict(_workloads()),
        "presets": dict(_presets()),
    }


def words(found: Mapping[str, Mapping[str, str]]) -> list[RenderableType]:
    """`sections`, for a terminal."""
    parts: list[RenderableType] = []
    for name, lines in _folded(found).items():
        parts += [Text(), literal(_TITLES[name], style="bold"), Columns(_COLUMNS, list(lines.items()))]
    return parts[1:]


def _folded(found: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """`sections`, published code in a line each: where it is from, its paper and its options left out."""
    made = {name: dict(lines) for name, lines in found.items()}
    for name in published_names():
        mechanism = mechanisms()[name]
        assert mechanism.origin is not None
        made["mechanisms"][name] = mechanism.origin.where + _counted(mechanism)
        made["options"].pop(name, None)
    made["options"]["published code"] = "the sizes of each, and of many corrected=false: list --json"
    return made


def _mechanisms() -> Iterator[tuple[str, str]]:
    for name, mechanism in mechanisms().items():
        yield name, mechanism.source + _counted(mechanism)


def _counted(mechanism: type[CoAttention]) -> str:
    defects = len(mechanism.known_defects)
    return f" (known defects: {defects})" if defects else ""


def _options() -> Iterator[tuple[str, str]]:
    for name, mechanism in mechanisms().items():
        known = option_types(mechanism)
        if known:
            yield name, ", ".join(f"{key}={_spelt(default)}" for key, (_, default) in known.items())


def _spelt(value: object) -> str:
    """As the grammar writes it: ``true``, ``none``."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _parts() -> Iterator[tuple[str, str]]:
    for name, mechanism in mechanisms().items():
        if mechanism.parts:
            yield name, ", ".join(f"-{part}" for part in mechanism.parts)


def _workloads() -> Iterator[tuple[str, str]]:
    for name, shape in WORKLOADS.items():
        sizes = f"B {shape.batch}, N {shape.regions}, T {shape.words}, D {shape.image_width}"
        yield name, f"{shape.summary} ({sizes})"


def _presets() -> Iterator[tuple[str, str]]:
    for name, preset in PRESETS.items():
        chosen = ", ".join(f"{workload} at batch {batch}" for workload, batch in preset.batches)
        yield name, f"{preset.summary} ({chosen})"
