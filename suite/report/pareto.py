"""Accuracy beside cost: an ablation and a timing run of the same variants, and whom nothing dominates."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import RenderableType

from suite.core import folders
from suite.core.errors import UserError
from suite.core.latencies import Place
from suite.core.records import Record
from suite.core.workloads import Workload, named, override
from suite.report import escape, style, tables, units, wording
from suite.report.accuracies import Accuracies, Interval, interval, points
from suite.report.columns import Column, Columns, indented, literal
from suite.report.scatter import moved_apart


@dataclass(frozen=True, kw_only=True)
class Point:
    """A trained classifier with its accuracy and what one call of its co-attention costs."""

    label: str
    """What was trained: the variant, and whatever is not usual about it, such as its width."""
    workload: str
    """Where the cost was taken."""
    accuracy: Interval
    latency: Interval
    """Median in seconds with its 95 % interval; ``seeds`` counts the samples."""
    memory_B: float | None
    """Peak of one call."""
    doubts: tuple[str, ...]
    """Reasons against believing the costs."""


def join(ablation: Sequence[Record], run: Sequence[Record], *, study: str, place: Place) -> list[Point]:
    """Every row whose variant was timed, in the order of the study, without those whose speed a finding hides.

    A row's cost is that at the width at which it was trained, where the run has the place's workload at that width;
    otherwise it is the place's own, with a doubt that says so.

    Args:
        ablation: records of an ablation.
        run: records of a timing run.
        study: whose accuracies.
        place: workload, phase and device whose costs.

    Raises:
        UserError: the study or the place is not there, or they have no variant in common; says what there is.
    """
    accuracies = Accuracies(ablation)
    if study not in accuracies.rows:
        raise UserError(f"the ablation has no study {study!r}; it has {', '.join(accuracies.rows) or 'none'}")
    cells = tables.make(run).cells
    timed = cells[cells["latency_s"].notna() & (cells["phase"] == place.phase) & (cells["device"] == place.device)]
    costs = {(str(cell["workload"]), str(cell["variant"])): cell for cell in wording.rows(timed)}
    written = {_numbers(named(workload)): workload for workload, _ in costs}
    chosen = named(place.workload)
    found = []
    for row in accuracies.trained(study):
        own = written.get(_numbers(override(chosen, {"width": str(row.width)})), "")
        workload = own if (own, row.variant) in costs else place.workload
        cost = costs.get((workload, row.variant))
        if cost is None or cost["hidden"] or row.is_blindfolded:
            continue
        latency_s, low_s, high_s = (
            wording.number(cost, name) for name in ("latency_s", "latency_low_s", "latency_high_s")
        )
        assert latency_s is not None
        doubts = wording.trust(cost)
        if workload != own:
            widths = dict.fromkeys((chosen.image_width, chosen.question_width))
            doubts += (f"timed {' and '.join(map(str, widths))} wide, trained {row.width} wide",)
        point = Point(
            label=row.label,
            workload=workload,
            accuracy=interval(accuracies.of(study, row.label).values()),
            latency=Interval(
                mean=latency_s,
                low=latency_s if low_s is None else low_s,
                high=latency_s if high_s is None else high_s,
                seeds=int(wording.number(cost, "samples") or 0),
            ),
            memory_B=wording.number(cost, "peak_memory_bytes"),
            doubts=doubts,
        )
        found.append(point)
    if not found:
        trained = ", ".join(dict.fromkeys(row.variant for row in accuracies.trained(study)))
        raise UserError(f"no variant of {study} was timed at {', '.join(place)}: trained are {trained or 'none'}")
    return found


def _numbers(workload: Workload) -> Workload:
    """A workload without the way in which it is written."""
    return replace(workload, overrides=())


def undominated(pairs: dict[str, tuple[float, float]]) -> set[str]:
    """Names to whom no other is at least as accurate and at least as cheap, and one of the two strictly.

    Args:
        pairs: accuracy and cost by name.
    """
    return {
        name
        for name, (accuracy, cost) in pairs.items()
        if not any(
            other >= accuracy and price <= cost and (other, price) != (accuracy, cost)
            for other, price in pairs.values()
        )
    }


def _costs(found: Sequence[Point], *, memory: bool) -> dict[str, float]:
    """Seconds or bytes by label, of those that have them."""
    if not memory:
        return {point.label: point.latency.mean for point in found}
    return {point.label: point.memory_B for point in found if point.memory_B is not None}


def _front(found: Sequence[Point], *, memory: bool) -> list[Point]:
    """Whom nothing dominates, the cheapest first."""
    costs = _costs(found, memory=memory)
    best = undominated({it.label: (it.accuracy.mean, costs[it.label]) for it in found if it.label in costs})
    return sorted((point for point in found if point.label in best), key=lambda point: costs[point.label])


def table(found: Sequence[Point]) -> pd.DataFrame:
    """One line per variant, and whether anything dominates it in latency and in memory."""
    fast, small = ({point.label for point in _front(found, memory=memory)} for memory in (False, True))
    letters = _letters(found)
    return pd.DataFrame(
        [
            {
                "variant": f"`{point.label}`",
                "accuracy": points(point.accuracy),
                "latency": units.seconds_between(point.latency.mean, point.latency.low, point.latency.high),
                "peak memory": units.binary(point.memory_B),
                "undominated in latency": "yes" if point.label in fast else "",
                "undominated in memory": "yes" if point.label in small else "",
                "doubt": " ".join(dict.fromkeys(letters[reason] for reason in point.doubts)),
            }
            for point in found
        ]
    )


def page(found: Sequence[Point], place: Place, plots: Sequence[str], *, study: str) -> str:
    """The table, what its letters stand for, and the plots, in Markdown."""
    lines = [
        f"# Accuracy beside cost: {study}",
        "",
        "Accuracies of whole classifiers as they were trained, in percent; costs of one call of their co-attention at "
        f"{_where(found, place)}, {place.phase}, {place.device}. A mechanism with a text encoder of its own, as "
        "hierarchical co-attention has, is timed with it; the encoder that the others read is in none of their costs. "
        "Intervals are of 95 %; who dominates is decided by means.",
        "",
        wording.markdown(table(found)),
        "",
        *(f"- {escape.prose(doubt)}" for doubt in wording.explained(_letters(found))),
        "",
        *(f"![{name}](plots/{name}.png)\n" for name in plots),
    ]
    return "\n".join(lines)


def _where(found: Sequence[Point], place: Place) -> str:
    """The workload of the costs; without its width where each has its own."""
    if all(point.workload == place.workload for point in found):
        return place.workload
    shape = named(place.workload)
    kept = tuple((key, text) for key, text in shape.overrides if not key.endswith("width"))
    return f"{replace(shape, overrides=kept)}, each at the width that was trained"


def _letters(found: Sequence[Point]) -> dict[str, str]:
    return wording.lettered(doubt for point in found for doubt in point.doubts)


def draw(found: Sequence[Point], place: Place, *, memory: bool) -> Figure:
    """Accuracy against latency or memory, each point with its interval; the undominated are joined.

    A point is hollow where there is a reason to doubt its cost.
    """
    costs = _costs(found, memory=memory)
    chosen = [point for point in found if point.label in costs]
    front = _front(found, memory=memory)
    best = {point.label for point in front}
    figure = style.figure(_title(front, costs, len(chosen), memory=memory), max(4.2, 0.2 * len(chosen) + 1.6))
    axis, margin = figure.subplots(1, 2, width_ratios=(1.25, 1))
    for point in chosen:
        x, y = costs[point.label], 100 * point.accuracy.mean
        colour, above = (style.BLUE, 3) if point.label in best else (style.QUIET, 2)
        axis.plot(
            [x, x], [100 * point.accuracy.low, 100 * point.accuracy.high], color=colour, linewidth=1.4, zorder=above
        )
        if not memory:
            axis.plot([point.latency.low, point.latency.high], [y, y], color=colour, linewidth=1.4, zorder=above)
        inside = "white" if point.doubts else colour
        shape = "o" if point.label in best else "s"
        axis.plot(x, y, shape, color=colour, markerfacecolor=inside, markersize=6, zorder=above)
    steps = [(costs[point.label], 100 * point.accuracy.mean) for point in front]
    axis.step(*np.array(steps).T, where="post", color=style.BLUE, linewidth=0.8)
    axis.set_xscale("log")
    axis.margins(x=0.06)
    low, high = axis.get_ylim()
    axis.set_ylim(max(low, 0.0), min(high, 100.0))
    _name_points(axis, margin, chosen, costs, best)
    style.log_axis(axis.xaxis, units.binary if memory else units.seconds, base=2 if memory else 10)
    price = "peak memory" if memory else "latency"
    figure.supxlabel(
        f"{price} of one call, {place.phase}, {place.device}\n{_where(chosen, place)}", x=0.008, ha="left", fontsize=8.5
    )
    axis.set_ylabel("accuracy in %, with its 95 % interval")
    if any(point.doubts for point in chosen):
        figure.legend(handles=[style.doubted()], loc="outside lower right", frameon=False, handletextpad=0.2)
    return figure


def _title(front: Sequence[Point], costs: dict[str, float], count: int, *, memory: bool) -> str:
    """How many nothing dominates, and the ends of their row."""

    def told(point: Point) -> str:
        cost = units.binary(costs[point.label]) if memory else units.seconds(costs[point.label])
        return f"{point.label} ({100 * point.accuracy.mean:.1f} %, {cost})"

    price = "memory" if memory else "latency"
    if count == 1:
        return f"{told(front[0])} stands alone"
    if len(front) == 1:
        return f"By means, {told(front[0])} dominates all others in accuracy and {price}"
    ends = f"from {told(front[0])} to {told(front[-1])}"
    return f"By means, nothing dominates {len(front)} of {count} in accuracy and {price}: {ends}"


def _name_points(axis: Axes, margin: Axes, chosen: Sequence[Point], costs: dict[str, float], best: set[str]) -> None:
    """Every name beside the plot at its point's height, moved apart where points meet, with a line to its point."""
    margin.set_axis_off()
    line = {"arrowstyle": "-", "linewidth": 0.5, "alpha": 0.6, "shrinkA": 0, "shrinkB": 4, "relpos": (0, 0.5)}
    to_height = axis.transData + axis.transAxes.inverted()
    ordered = sorted(chosen, key=lambda point: (point.accuracy.mean, costs[point.label]))
    heights = [float(to_height.transform((costs[point.label], 100 * point.accuracy.mean))[1]) for point in ordered]
    for point, height in zip(ordered, moved_apart(heights, min(0.06, 1 / len(ordered))), strict=True):
        is_best = point.label in best
        colour = style.BLUE if is_best else style.QUIET
        name = margin.annotate(
            f"{point.label}  {100 * point.accuracy.mean:.1f}", (costs[point.label], 100 * point.accuracy.mean),
            xycoords=axis.transData, xytext=(0.02, height), textcoords=margin.transAxes, va="center", fontsize=7.5,
            color=colour, fontweight="bold" if is_best else "normal", annotation_clip=False,
            arrowprops=line | {"color": colour},
        )  # fmt: skip
        name.set_in_layout(False)  # the column is as wide as it is, whatever stands in it


def words(found: Sequence[Point], place: Place, *, study: str) -> list[RenderableType]:
    """The findings and the table, for a terminal."""
    rows = wording.rows(table(found))
    columns = [
        Column(
            title=name, number=name in ("accuracy", "latency", "peak memory"), words=name not in ("variant", "doubt")
        )
        for name in table(found).columns
    ]
    parts: list[RenderableType] = [
        literal(f"{study} beside {_where(found, place)}, {place.phase}, {place.device}", style="bold"),
        *(literal(sentence) for sentence in _sentences(found)),
        Columns(columns, [[str(cell).strip("`") for cell in row.values()] for row in rows]),
    ]
    doubts = wording.explained(_letters(found))
    return [*parts, indented("doubt", *doubts, style="yellow")] if doubts else parts


def data(found: Sequence[Point], place: Place, *, study: str) -> dict[str, object]:
    """The same for a program, in base units: shares of one, seconds and bytes."""
    fast, small = ({point.label for point in _front(found, memory=memory)} for memory in (False, True))
    return {
        "study": study,
        "place": place._asdict(),
        "answer": _sentences(found),
        "points": [
            asdict(point)
            | {"undominated_in_latency": point.label in fast, "undominated_in_memory": point.label in small}
            for point in found
        ],
    }


def _sentences(found: Sequence[Point]) -> list[str]:
    """What each plot is called."""
    sentences = []
    for memory in (False, True):
        costs = _costs(found, memory=memory)
        if costs:
            sentences.append(_title(_front(found, memory=memory), costs, len(costs), memory=memory))
    return sentences


def write(found: Sequence[Point], folder: Path, *, study: str, place: Place) -> Path:
    """Write PARETO.md, tables/pareto.csv, plots/pareto-latency.png and, where memory was measured, pareto-memory.png.

    Args:
        found: as `join` has found them.
        folder: of the ablation.
        study: whose accuracies.
        place: whose costs.

    Returns:
        The page's path.
    """
    for name in ("tables", "plots"):
        folders.made(folder, name)
    table(found).to_csv(folders.target(folder, "tables/pareto.csv"), index=False)
    plots = []
    with style.applied():
        for memory in (False, True):
            if not memory or any(point.memory_B is not None for point in found):
                plots.append(f"pareto-{'memory' if memory else 'latency'}")
                path = folders.target(folder, f"plots/{plots[-1]}.png")
                draw(found, place, memory=memory).savefig(path, dpi=style.DOTS_PER_INCH)
    return folders.write(folder, "PARETO.md", page(found, place, plots, study=study))


def choose(run: Sequence[Record], *, workload: str | None, phase: str | None, device: str | None) -> Place:
    """The first place where the run timed anything that agrees with what is asked.

    Raises:
        UserError: there is none; says which there are.
    """
    cells = tables.make(run).cells
    timed = cells[cells["latency_s"].notna()]
    there = [Place(str(row["workload"]), str(row["phase"]), str(row["device"])) for row in wording.rows(timed)]
    asked = (workload, phase, device)
    for place in there:
        if all(wanted in (None, found) for wanted, found in zip(asked, place, strict=True)):
            return place
    known = "; ".join(", ".join(place) for place in dict.fromkeys(there)) or "nothing"
    raise UserError(f"the run timed nothing at {', '.join(filter(None, asked)) or 'all'}; it timed {known}")
