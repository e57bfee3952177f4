"""What there is to ask for: mechanisms with their options and parts, transforms, workloads and presets."""

from collections.abc import Iterator, Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from suite.workloads import PRESETS, WORKLOADS
from variants.build import option_types
from variants.registry import mechanisms
from variants.transforms import TRANSFORMS


def page() -> RenderableType:
    """Everything that a variant's name and the options of ``run`` may say, each with a line."""
    sections: tuple[tuple[str, Mapping[str, str]], ...] = (
        ("Mechanisms", dict(_mechanisms())),
        ("Options, as mechanism[key=value,...]", dict(_options())),
        ("Parts, removed as mechanism-part", dict(_parts())),
        ("Transforms, added as mechanism+transform", {f"+{name}": item.summary for name, item in TRANSFORMS.items()}),
        ("Workloads", dict(_workloads())),
        ("Presets", dict(_presets())),
    )
    return Group(*(part for title, lines in sections for part in (Text(title, style="bold"), _table(lines), Text())))


def _mechanisms() -> Iterator[tuple[str, str]]:
    for name, mechanism in mechanisms().items():
        defects = len(mechanism.known_defects)
        yield name, mechanism.source + (f" (known defects: {defects})" if defects else "")


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


def _table(lines: Mapping[str, str]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, line in lines.items():
        table.add_row(Text(name), Text(line))
    return table
