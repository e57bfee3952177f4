"""What ``pytest --benchmark`` prints: a table of times per place, and beside an earlier run what changed.

Variants are timed one after the other here: a ratio has in it what the machine did meanwhile, and what processes of the
same code differ by. A small difference is for ``run_all.py`` to judge.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from typing import Any

from rich.console import Console, RenderableType

from suite.core import stats
from suite.core.records import ANCHOR
from suite.report import units
from suite.report.columns import Column, Columns, literal

MARGIN = 0.02
WIDEST = 120
NO_SAMPLES = "saved without its samples (--benchmark-save-data)"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One variant, timed at one place."""

    name: str
    """Of the test, with its place: by it an earlier run is found."""
    group: str
    variant: str
    time: stats.Ratio | None
    """Seconds; None where the samples were not kept."""
    median_s: float
    rounds: int
    doubts: int


def cells(benchmarks: Iterable[Mapping[str, Any]]) -> list[Cell]:
    """What pytest-benchmark holds of this run, or has saved of an earlier one."""
    found = []
    for one in benchmarks:
        samples = one["stats"].get("data") or ()
        about = one.get("extra_info", {})
        found.append(
            Cell(
                name=str(one["fullname"]),
                group=str(one["group"] or ""),
                variant=str(about.get("variant", one["name"])),
                time=stats.time(samples) if len(samples) > 1 else None,
                median_s=float(one["stats"]["median"]),
                rounds=int(one["stats"]["rounds"]),
                doubts=len(about.get("trust", ())),
            )
        )
    return found


def over_anchor(here: Sequence[Cell]) -> dict[str, stats.Ratio]:
    """By variant, its time over the anchor's at the same place; verdicts hold together."""
    anchor = next((cell.time for cell in here if cell.variant == ANCHOR), None)
    if anchor is None:
        return {}
    ratios = {
        cell.variant: stats.across([stats.relative(cell.time, anchor, margin=MARGIN)], stats.ASSUMED, margin=MARGIN)
        for cell in here
        if cell.time is not None and cell.variant != ANCHOR
    }
    return dict(zip(ratios, stats.corrected(list(ratios.values()), margin=MARGIN), strict=True))


def changes(now: Sequence[Cell], before: Mapping[str, Cell]) -> dict[str, tuple[stats.Ratio, str]]:
    """By variant at one place, its time now over that of an earlier run, and what both were taken over."""
    anchors = [next((cell for cell in side if cell.variant == ANCHOR), None) for side in (now, before.values())]
    anchor = [None if cell is None else cell.time for cell in anchors]
    found: dict[str, tuple[stats.Ratio, str]] = {}
    for cell in now:
        old = before.get(cell.name)
        if old is None or cell.time is None or old.time is None:
            continue
        change, through = stats.relative(cell.time, old.time, margin=MARGIN), "its own times"
        if cell.variant != ANCHOR and anchor[0] is not None and anchor[1] is not None:
            # what the machine did between the runs is in both, and cancels
            change = stats.relative(change, stats.relative(anchor[0], anchor[1], margin=MARGIN), margin=MARGIN)
            through = f"over {ANCHOR}"
        found[cell.variant] = (
            stats.across(
                [
                    change,
                ],
                stats.ASSUMED,
                margin=MARGIN,
            ),
            through,
        )
    kept = stats.corrected([ratio for ratio, _ in found.values()], margin=MARGIN)
    return {name: (ratio, found[name][1]) for name, ratio in zip(found, kept, strict=True)}


def text(now: Sequence[Cell], earlier: Mapping[str, Sequence[Cell]], *, width: int) -> str:
    """Everything, as lines no wider than a terminal and `WIDEST`."""
    written = StringIO()
    console = Console(file=written, width=min(width, WIDEST), markup=False, highlight=False, color_system=None)
    for line in _lines(now, earlier):
        console.print(line)
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines())


def _lines(now: Sequence[Cell], earlier: Mapping[str, Sequence[Cell]]) -> Iterator[RenderableType]:
    by_group: dict[str, list[Cell]] = {}
    for cell in now:
        by_group.setdefault(cell.group, []).append(cell)
    for group, here in by_group.items():
        yield literal(f"{group}: medians with 95 % intervals, and speed over {ANCHOR}")
        yield _times(here)
        yield literal("")
        for run, cells_then in earlier.items():
            then = {cell.name: cell for cell in cells_then if cell.group == group}
            if then:
                yield literal(f"{group}, beside {run}")
                yield _changed(here, then)
                yield literal(_told(here, then))
                yield literal("")


def _times(here: Sequence[Cell]) -> RenderableType:
    ratios = over_anchor(here)
    columns = [
        Column(title="variant"), Column(title="median", number=True), Column(title="95 % interval", number=True),
        Column(title="rounds", number=True), Column(title=f"over {ANCHOR}", number=True),
        Column(title="verdict"), Column(title="doubts", number=True),
    ]  # fmt: skip
    rows = []
    for cell in sorted(here, key=lambda cell: cell.median_s):
        ratio = ratios.get(cell.variant)
        faster = None if ratio is None else _upside_down(ratio)
        rows.append(
            [
                cell.variant,
                units.seconds(cell.median_s),
                units.MISSING if cell.time is None else _interval(cell.time),
                str(cell.rounds),
                units.MISSING if faster is None else units.factor_between(faster.estimate, faster.low, faster.high),
                units.MISSING if ratio is None else ratio.verdict,
                str(cell.doubts or units.MISSING),
            ]
        )
    return Columns(columns, rows)


def _changed(here: Sequence[Cell], then: Mapping[str, Cell]) -> RenderableType:
    found = changes(here, then)
    columns = [
        Column(title="variant"), Column(title="before", number=True), Column(title="now", number=True),
        Column(title="now / before (95 %)", number=True), Column(title="verdict"), Column(title="taken", words=True),
    ]  # fmt: skip
    rows = []
    for cell in here:
        old = then.get(cell.name)
        if old is None:
            continue
        ratio, through = found.get(cell.variant, (None, NO_SAMPLES))
        rows.append(
            [
                cell.variant,
                units.seconds(old.median_s),
                units.seconds(cell.median_s),
                units.MISSING if ratio is None else units.factor_between(ratio.estimate, ratio.low, ratio.high),
                "not judged" if ratio is None else ratio.verdict,
                through,
            ]
        )
    return Columns(columns, rows)


def _told(here: Sequence[Cell], then: Mapping[str, Cell]) -> str:
    """What changed, in a sentence."""
    verdicts = {name: ratio.verdict for name, (ratio, _) in changes(here, then).items()}
    told = [f"{name} {verdict}" for name, verdict in verdicts.items() if verdict in ("slower", "faster")]
    rest = [f"{sum(one == word for one in verdicts.values())} {word}" for word in ("same", "unclear")]
    return f"{', '.join(told) or 'No change is told'}; {', '.join(rest)}, of {len(verdicts)}"


def _interval(time: stats.Ratio) -> str:
    _, _, between = units.seconds_between(time.estimate, time.low, time.high).partition(" (")
    return between.rstrip(")") or units.MISSING


def _upside_down(ratio: stats.Ratio) -> stats.Ratio:
    """How many times as fast, of how many times as long."""
    high = 1 / ratio.low if ratio.low > 0 else float("inf")
    return replace(ratio, estimate=1 / ratio.estimate, low=1 / ratio.high, high=high)
