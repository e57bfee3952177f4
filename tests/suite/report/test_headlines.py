"""No title and no sentence says what a point beside it denies: each is computed again, from runs of any make."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.core import latencies, stats, store
from suite.core.records import Finding, Measurement, Record
from suite.report import ablation_plots, matrix, page, rows, scatter, standing, style, tables, units
from suite.report import accuracies as measured
from suite.report.tables import Tables
from tests.suite.report import arbitrary
from tests.suite.report.arbitrary import Run

pytestmark = pytest.mark.slow
PLOTTED = range(5)
"""Runs whose plots are drawn; sentences are cheaper."""
TOLD = range(40)
CONTROLS, PUBLISHED = arbitrary.CONTROLS, arbitrary.PUBLISHED


@cache
def made_of(seed: int) -> tuple[Run, Tables]:
    made = arbitrary.run(seed)
    return made, tables.make(made.records)


@pytest.fixture(autouse=True)
def look() -> Iterator[None]:
    with style.applied():
        yield


def mechanism(variant: str) -> str:
    return re.split(r"[\[+-]", variant)[0]


def is_ours(variant: str) -> bool:
    return block(variant) == 0


def block(variant: str) -> int:
    """Mechanisms, controls, published code."""
    return (mechanism(variant) in CONTROLS) + 2 * (mechanism(variant) in PUBLISHED)


class Truth:
    """What the samples of one place say, without the tables and sentences of the program."""

    def __init__(self, made: Run, place: tuple[str, str, str]) -> None:
        self.medians: dict[str, float] = {}
        self.over_anchor: dict[str, stats.Ratio] = {}
        self.over_parent: dict[str, stats.Ratio] = {}
        # what was found wrong on a device is wrong with any number of threads
        bare = (*place[:2], place[2].partition("[")[0])
        self.hidden = {key[3] for key in made.hidden if (*key[:2], key[2].partition("[")[0]) == bare}
        times = latencies.Latencies(made.records)
        where = latencies.Place(*place)
        timed = dict.fromkeys(name for members in times.places.get(where, {}).values() for name in members)
        self.medians = {name: times.time(where, name).estimate for name in timed}
        by_name = {name: times.timed(where, name) for name in timed}
        self.doubted = {name for name, own in by_name.items() if any(it.trust for it in own) or latencies.doubts(own)}
        pairs = [
            (ratios, name, times.ratio(where, name, base))
            for name in timed
            for ratios, base in ((self.over_parent, name.partition("+")[0]), (self.over_anchor, "parallel"))
            if name != base
        ]
        known = [(ratios, name, ratio) for ratios, name, ratio in pairs if ratio is not None]
        for (ratios, name, _), ratio in zip(known, stats.corrected([it[2] for it in known]), strict=True):
            ratios[name] = ratio
        self.over_anchor["parallel"] = stats.Ratio(estimate=1.0, low=1.0, high=1.0, verdict="same", count=1000)

    def shown(self) -> dict[str, float]:
        return {name: time_s for name, time_s in self.medians.items() if name not in self.hidden}

    def contenders(self) -> dict[str, float]:
        return {name: time_s for name, time_s in self.shown().items() if is_ours(name)}

    def is_faster(self, one: str, other: str) -> bool:
        """By its median, and beyond its interval."""
        if one in self.doubted or not self.medians[one] < self.medians[other]:
            return False
        both = [self.over_anchor.get(name) for name in (one, other)]
        if both[0] and both[1] and stats.relative(both[0], both[1]).high < 0.5:
            return True  # so far that a few rounds tell it
        if other == one.partition("+")[0]:
            return self.over_parent[one].verdict == "faster"
        if one == other.partition("+")[0]:
            return self.over_parent[other].verdict == "slower"
        if one not in self.over_anchor or other not in self.over_anchor:
            return False
        return stats.relative(self.over_anchor[one], self.over_anchor[other]).verdict == "faster"

    def fastest(self) -> str:
        """Who is told to be faster than every other; empty where nobody is."""
        ours = self.contenders()
        alone = [one for one in ours if len(ours) > 1 and all(self.is_faster(one, two) for two in ours if two != one)]
        return alone[0] if alone else ""


def places(made: Tables) -> Iterator[tuple[tuple[str, str, str], pd.DataFrame]]:
    for (workload, phase, device), cells in made.cells.groupby(["workload", "phase", "device"], sort=False):
        yield (str(workload), str(phase), str(device)), cells


def pictures(seeds: range) -> Iterator[tuple[Run, Tables, pd.DataFrame]]:
    """The cells of each place that has plots of its own."""
    for seed in seeds:
        made, found = made_of(seed)
        for _, cells in found.cells.groupby(["workload", "device"], sort=False):
            yield made, found, cells


def marks(axes: Axes) -> list[tuple[float, float]]:
    """Where the points of a panel stand."""
    return [
        (float(np.asarray(line.get_xdata())[0]), float(np.asarray(line.get_ydata())[0]))
        for line in axes.lines
        if line.get_marker() in style.EXECUTIONS.values()
    ]


def ends(axes: Axes) -> list[tuple[float, float]]:
    """The lines of intervals and ranges in a panel, each from where to where."""
    spans = [np.asarray(line.get_xdata(), dtype=float) for line in axes.lines if line.get_transform() == axes.transData]
    return [(float(span.min()), float(span.max())) for span in spans if len(span) == 2]


def test_the_sentence_about_a_place_names_the_fastest_where_there_is_one_and_nobody_otherwise() -> None:
    kinds = set()
    for seed in TOLD:
        made, found = made_of(seed)
        for place, cells in places(found):
            truth = Truth(made, place)
            ours, said = truth.contenders(), standing.headline(cells)
            named = re.findall(r"\*\*(.+?)\*\*", said)
            if said.startswith("Fastest mechanism: "):
                kinds.add("fastest")
                assert named == [truth.fastest()]
                gain = re.search(r"×(\S+) \(.* as fast as parallel", said)
                if gain:
                    assert "parallel" not in truth.hidden
                    assert gain[1] == units.factor(1 / truth.over_anchor[named[0]].estimate)[1:]
                    assert float(gain[1]) > 1 or "parallel" not in ours
            elif "for every time is doubted" in said:
                kinds.add("doubted")
                assert set(ours) <= truth.doubted
                assert len(ours) > 1
            elif "for some times are doubted" in said:
                kinds.add("some doubted")
                assert truth.fastest() == ""
                level = {other for other in ours if other != named[0] and not truth.is_faster(named[0], other)}
                assert named[0] not in truth.doubted
                first, _, rest = said.partition("; of the others, ")
                others = re.findall(r"([\w+]+), [\d.]+ .?s", first.partition("doubted: ")[2])
                assert others
                assert set(others) <= level & truth.doubted
                assert ("is the fastest" in rest) == (level <= truth.doubted)
            elif "not told apart from" in said:
                kinds.add("level")
                assert truth.fastest() == ""
                best, others = named[0], re.findall(r"([\w+]+), [\d.]+ .?s", said.partition("apart from ")[2])
                assert best not in truth.doubted
                assert others
                assert not any(truth.is_faster(best, other) for other in others)
                more = re.search(r"and (\d+) more", said)
                level = {other for other in ours if other != best and not truth.is_faster(best, other)}
                assert len(others) + int(more[1] if more else 0) == len(level)
                assert set(others) <= level
            elif "there is no other mechanism" in said:
                kinds.add("alone")
                assert named == list(ours)
            else:
                kinds.add("nobody")
                assert not ours
            for name in ours:
                if f"{name}**, " in said or f"{name}** takes" in said:
                    assert units.seconds(truth.medians[name]).split(" ")[0] in said
                    assert ("doubted" in said) or name not in truth.doubted
    assert kinds == {"fastest", "doubted", "some doubted", "level", "alone", "nobody"}


@pytest.mark.parametrize(("times_as_long", "told"), [(90.0, True), (1.0, False)])
@pytest.mark.parametrize("doubt", [(), ("samples spread by 20%",)])
def test_what_takes_many_times_as_long_does_not_keep_another_from_being_the_fastest_however_few_its_rounds(
    times_as_long: float, told: bool, doubt: tuple[str, ...]
) -> None:
    place = {"workload": "vqa-grid[batch=8]", "phase": "forward", "device": "cpu"}
    noise = np.random.default_rng(0).lognormal(0, 0.01, (3, 40))
    records: list[Record] = []
    for task, name, scale, rounds in (("a", "alternating", 0.6, 40), ("b", "modular", times_as_long, 6)):
        for variant, factor, row in (("parallel", 1.0, 0), (name, scale, 1)):
            samples = tuple(map(float, 0.01 * factor * noise[row, :rounds]))
            records.append(
                Measurement(
                    task=task, variant=variant, **place, quantity="latency", unit="s", samples=samples,
                    rounds=tuple(range(rounds)), trust=doubt if variant == "modular" else (),
                )
            )  # fmt: skip
    said = standing.headline(tables.make(records).cells)
    assert said.startswith("Fastest mechanism: **alternating**") == told, said
    assert ("modular" in said) != told


def test_a_title_without_a_fastest_counts_what_is_doubted_of_all_that_may_be_it() -> None:
    counted = 0
    for seed in TOLD:
        made, found = made_of(seed)
        for place, cells in places(found):
            truth = Truth(made, place)
            ours, said = truth.contenders(), standing.fastest(cells)
            if "every time is doubted" in said:
                assert set(ours) <= truth.doubted
            elif told := re.search(r"(\d+) of (\d+) that may be (is|are) doubted", said):
                best = min((name for name in ours if name not in truth.doubted), key=truth.medians.__getitem__)
                first = {best, *(other for other in ours if other != best and not truth.is_faster(best, other))}
                assert (int(told[1]), int(told[2])) == (len(first & truth.doubted), len(first))
                counted += 1
    assert counted


def test_what_is_not_counted_is_named_with_its_lowest_time() -> None:
    for seed in TOLD:
        made, found = made_of(seed)
        for place, cells in places(found):
            truth, said = Truth(made, place), standing.headline(cells)
            if "Not counted: " not in said:
                continue
            shown = truth.shown()
            for group in (*((name,) for name in CONTROLS), PUBLISHED):
                times = [time_s for name, time_s in shown.items() if mechanism(name) in group]
                named = re.findall(rf"(?:{'|'.join(group)})\S* ([\d.]+ \S?s)", said.partition("Not counted: ")[2])
                assert named == ([units.seconds(min(times))] if times else [])
            published = re.search(r"the lowest of (\d+) published", said)
            assert int(published[1]) if published else True
            if published:
                assert int(published[1]) == len([name for name in shown if mechanism(name) in PUBLISHED])


def test_the_plot_of_latencies_calls_fastest_what_stands_left_of_every_other_mechanism() -> None:
    told = 0
    for made, _, cells in pictures(PLOTTED):
        drawn = rows.latency(cells)
        if drawn is None:
            continue
        figure, title = drawn
        lines = {line.height: line for line in style.lines(cells, by="latency_s")}
        phases = [phase for phase in ("forward", "forward+backward") if (cells["phase"] == phase).any()]
        for phase, axes in zip(phases, figure.axes, strict=True):
            truth = Truth(made, (str(cells["workload"].iloc[0]), phase, str(cells["device"].iloc[0])))
            points = {lines[height].variant: time_s for time_s, height in marks(axes)}
            assert points == truth.shown()
            (said,) = [
                part for part in re.split(r"; |Latency, | \(tiny", title) if part.startswith(f"{phase}: ")
            ]  # fmt: skip
            bold = [text.get_text() for text in axes.texts if text.get_fontweight() == "bold"]
            assert len(bold) == bool(truth.fastest())
            if "fastest mechanism " in said:
                told += 1
                best = said.partition("fastest mechanism ")[2].split(" ")[0]
                assert best == truth.fastest()
                assert all(points[best] < time_s for name, time_s in points.items() if is_ours(name) and name != best)
            else:
                assert truth.fastest() == ""
    assert told


def test_rows_stand_in_blocks_each_with_the_fastest_first_and_forms_below_their_parent() -> None:
    for _, _, cells in pictures(PLOTTED):
        lines = style.lines(cells, by="latency_s")
        order = [block(line.variant) for line in lines]
        assert order == sorted(order)
        assert {line.variant for line in lines} == set(cells["variant"])
        typical = cells.groupby("variant")["latency_s"].min()
        best: dict[tuple[int, str], list[float]] = {}
        for place, line in zip(order, lines, strict=True):
            best.setdefault((place, line.variant.partition("+")[0]), []).append(typical[line.variant])
        for place in set(order):
            leads = [np.nanmin([np.inf, *times]) for (block, _), times in best.items() if block == place]
            assert all(first <= second for first, second in pairwise(leads))


def test_the_plot_of_memory_names_the_least_and_the_most_of_all_its_points() -> None:
    drawn_ones = 0
    for _, _, cells in pictures(PLOTTED):
        drawn = rows.memory(cells)
        if drawn is None:
            continue
        figure, title = drawn
        phases = [phase for phase in ("forward", "forward+backward") if (cells["phase"] == phase).any()]
        lines = {line.height: line.variant for line in style.lines(cells, by="peak_memory_bytes")}
        for phase, axes in zip(phases, figure.axes, strict=True):
            points = {lines[height]: peak for peak, height in marks(axes)}
            said = re.findall(rf"(?:; |, ){re.escape(phase)}: (.*?)(?:; | \(tiny)", title)
            assert bool(said) == bool(points)
            if not points:
                continue
            drawn_ones += 1
            parts = said[0].removeprefix("from ").split(" to ")
            assert len(parts) == (1 if len(set(points.values())) == 1 else 2)
            for part, end in zip(parts, (min, max), strict=False):
                value = end(points.values())
                assert part.endswith(f" {units.binary(value)}")
                assert points[part.split(" ")[0]] == value
                more = re.search(r"and (\d+) more", part)
                assert list(points.values()).count(value) == 1 + int(more[1] if more else 0)
    assert drawn_ones > len(PLOTTED) // 2


def test_the_plot_of_errors_counts_its_points_and_spans_all_of_the_transform_that_it_names() -> None:
    drawn_ones = 0
    for _, _, cells in pictures(PLOTTED):
        drawn = scatter.error(cells)
        if drawn is None:
            continue
        drawn_ones += 1
        figure, title = drawn
        points = [point for axes in figure.axes for point in marks(axes)]
        shown = cells[(cells["hidden"] == "") & (cells["speedup"] > 0) & (cells["agreement_error"] > 0)]
        assert len(points) == len(shown)
        told = int(((shown["verdict"] == "faster") & (shown["trust"].map(len) == 0)).sum())
        are = "is" if told == 1 else "are"
        assert title.startswith(f"{told} of {len(points)} points {are} told faster than eager float32")
        for name, span, count in re.findall(r": (\+\S+), (×.*?) over (\d+)", title):
            own = shown[[variant.partition("+")[2] == name[1:] for variant in shown["variant"]]]
            if f"like float32: {name}," in title:
                own = own[own["agreement_error"] < scatter.LIKE_FLOAT32]
            low, high = units.factor(own["speedup"].min()), units.factor(own["speedup"].max())
            assert (span, int(count)) == (low if low == high else f"{low} to {high}", len(own))
    assert drawn_ones > len(PLOTTED) // 2


def test_no_variant_exceeds_the_machine_and_the_plot_of_shares_spans_all_its_points() -> None:
    drawn_ones = flagged = 0
    for made, found, cells in pictures(PLOTTED):
        assert not (found.cells[["of_machine", "of_machine_low", "of_machine_high"]] > 1).any(axis=None)
        for row in found.peaks.itertuples():
            if row.reached_by:
                flagged += 1
                timed = {key[1:] for key in made.samples if key[3:] == (row.device, row.reached_by)}
                assert timed - made.doubted, "a doubted time is no evidence of what the machine can do"
        drawn = scatter.roofline(cells)
        if drawn is None:
            continue
        drawn_ones += 1
        figure, title = drawn
        spans = [span for axes in figure.axes for span in ends(axes) if span != (1.0, 1.0) or len(axes.lines)]
        shares = [point[0] for axes in figure.axes for point in marks(axes)]
        low, high = min(span[0] for span in spans), max(span[1] for span in spans)
        assert low * (1 - 1e-12) <= min(shares)
        assert max(shares) <= high * (1 + 1e-12) <= 1 + 1e-12
        percents = re.findall(r"([\d.]+ %) \((?!tiny)", title)
        assert percents == ([units.percent(low), units.percent(high)] if units.percent(low) != units.percent(high)
                            else [units.percent(low)])  # fmt: skip
    assert drawn_ones > 2
    assert flagged


def texts_of(figure: Figure) -> Iterator[str]:
    """What is written in the panels and above them."""
    for axes in figure.axes:
        yield from (text.get_text() for text in axes.texts)
        yield from (axes.get_title(loc=side) for side in ("left", "center"))


@pytest.mark.parametrize("quantity", ["latency_s", "peak_memory_bytes"])
def test_the_powers_in_a_title_bound_those_of_every_panel(quantity: str) -> None:
    drawn_ones = 0
    for seed in range(60):
        growth = made_of(seed)[1].growth
        for _, line in growth.groupby(["axis", "start", "phase", "device"], sort=False):
            drawn = scatter.growth(line, quantity)
            if drawn is None:
                continue
            drawn_ones += 1
            figure, title = drawn
            written = [float(power) for text in texts_of(figure) for power in re.findall(r"\^(-?[\d.]+)", text)]
            said = re.search(r"to the power (-?[\d.]+)(?: \(\S+\))?(?: to (-?[\d.]+))?", title)
            if said is None:
                assert "to the power not known" in title
                assert not written
                continue
            low, high = float(said[1]), float(said[2] or said[1])
            assert (min(written), max(written)) == (low, high)
        if drawn_ones > 5:
            break
    assert drawn_ones


@pytest.mark.parametrize("axis", ["fill", "image_fill"])
def test_the_changes_over_a_share_of_real_slots_bound_those_of_every_panel(axis: str) -> None:
    generator = np.random.default_rng(3)
    line = pd.DataFrame(
        [
            {
                "axis": axis, "start": f"tiny[{axis}=0.25]", "value": value, "slope": np.nan, "workload": "w",
                "phase": "forward", "device": "cpu", "variant": name, "mechanism": name, "parent": name,
                "role": "mechanism", "form": "", "precision": "float32", "execution": "eager",
                "latency_s": float(generator.uniform(1, 9)), "examples_per_s": 1.0, "peak_memory_bytes": np.nan,
                "hidden": "", "trust": (),
            }
            for name in ("parallel", "alternating", "pool", "published_csdn", "mine")
            for value in (0.25, 0.5, 1.0)
            if not (name == "mine" and value == 1.0)
        ]
    )  # fmt: skip
    drawn = scatter.growth(line, "latency_s")
    assert drawn is not None
    figure, title = drawn
    written = [float(times) for text in texts_of(figure) for times in re.findall(r"×([\d.]+)", text)]  # fmt: skip
    said = [float(times) for times in re.findall(r"×([\d.]+)", title)]
    assert len(written) == 4, "what has no time at one end has no change over the sweep"
    assert said == [min(written), max(written)]


def test_the_title_of_the_verdicts_counts_every_row_once() -> None:
    for seed in PLOTTED:
        made, found = made_of(seed)
        table = found.masking
        worst: dict[str, set[str]] = {}
        for record in made.records:
            if isinstance(record, Finding):
                worst.setdefault(record.variant, set()).add(record.verdict)
        audited = {record.variant for record in made.records
                   if isinstance(record, Finding) and record.quantity.startswith("P")}  # fmt: skip
        drawn = matrix.verdicts(table)
        assert (drawn is None) == (not audited)
        if drawn is None:
            continue
        counts = {"hold": 0, "broken": 0, "known": 0, "unclear": 0, "not judged": 0}
        for name in audited:
            first = next((word for word in ("broken", "known", "unclear") if word in worst[name]), None)
            counts[first or ("hold" if "holds" in worst[name] else "not judged")] += 1
        title = drawn[1]
        assert title.startswith(f"{counts['hold']} of {len(audited)} variants hold every property judged")
        for word, text in (
            ("known", "with known defects"),
            ("unclear", "unclear"),
            ("not judged", "not judged in everything"),
        ):
            assert (f"; {counts[word]} {text}" in title) == bool(counts[word])
        named = re.search(r"broken: (.*?)(?: and (\d+) more)?(?:;|$)", title)
        shown = (named[1].count(",") + 1 + int(named[2] or 0)) if named else 0
        assert shown == counts["broken"]


def trained(seed: int) -> list[Record]:
    """An ablation of any make: few rows or many, one seed or eight, ties, seeds that some rows lack."""
    generator = np.random.default_rng(seed)
    names = ["pool", "hierarchical", "hierarchical-phrase_level", "parallel", "cross"][: int(generator.integers(1, 6))]
    seeds = range(int(generator.choice([1, 2, 5, 8])))
    found: list[Record] = []
    for name in names:
        sight = str(generator.choice(["both", "both", "question"]))
        details = {"study": "core", "question": "What?", "data": "scenes", "row": name, "sight": sight, "width": 32}
        parent = names[0] if name != names[0] else ""
        about = {"task": f"t {name}", "variant": name}
        found.append(
            Measurement(**about, quantity="parameters", unit="1", value=10.0, details=details | {"parent": parent})
        )
        middle = float(generator.choice([0.4, 0.5, 0.5, 0.8]))
        for turn in seeds:
            if len(seeds) > 2 and generator.random() < 0.1:
                continue
            for evaluation in ("as_is", "noise_in_pads", "twice_the_width", "as_is_of_alone", "alone", "longer"):
                value = middle + float(generator.choice([0.0, 0.01, 0.1])) * float(generator.normal())
                found += [
                    Measurement(
                        **about, quantity="accuracy", unit="1", value=min(max(value, 0.0), 1.0),
                        details=details | {"seed": turn, "family": family, "evaluation": evaluation},
                    )
                    for family in ("all", "unary")
                ]  # fmt: skip
    return found


def test_titles_of_an_ablation_hold_for_every_row_that_is_drawn() -> None:
    drawn_ones = 0
    for seed in PLOTTED:
        accuracies = measured.Accuracies(trained(seed))
        rows_of = accuracies.trained("core")
        for evaluation, draw in (("as_is", ablation_plots.accuracy), ("longer", ablation_plots.longer)):
            if evaluation == "longer" and all(row.is_blindfolded for row in rows_of):
                continue  # no row is drawn
            figure = draw(accuracies, "core")
            title = " ".join(figure.get_suptitle().split())
            drawn = [label.get_text() for label in figure.axes[0].get_yticklabels()]
            by_row = {row.label: accuracies.of("core", row.label, evaluation=evaluation) for row in rows_of}
            means = {name: np.mean(list(by_row[name].values())) for name in drawn}
            best = re.search(r"(\S+) has the highest mean, ([\d.]+) %", title)
            assert best is not None, title
            assert means[best[1]] == max(means.values())
            assert best[2] == f"{100 * means[best[1]]:.1f}"
            level = set()
            for name in drawn:
                shared = by_row[best[1]].keys() & by_row[name].keys()
                gains = measured.interval(by_row[best[1]][turn] - by_row[name][turn] for turn in shared)
                if name != best[1] and not gains.low > 0:
                    level.add(name)
            told = re.search(r"not told from (\S+)(?: and (\d+) more)?$", title)
            assert bool(told) == bool(level)
            if told:
                assert told[1] in level
                assert 1 + int(told[2] or 0) == len(level)
            drawn_ones += 1
        if any(accuracies.cost("core", row.label, way) for row in rows_of for way in measured.WAYS
               if not row.is_control):  # fmt: skip
            title = " ".join(ablation_plots.costs(accuracies, "core").get_suptitle().split())
            lost = [
                measured.interval(accuracies.cost("core", row.label, way).values())
                for row in rows_of if not row.is_control for way in measured.WAYS
            ]  # fmt: skip
            told = [cost for cost in lost if cost.low > 0]
            assert title.endswith("no loss to changed padding is told from zero") == (not told)
    assert drawn_ones


def test_a_page_of_any_run_is_written_and_says_nothing_of_more_than_the_machine(tmp_path: Path) -> None:
    for seed in range(2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        with store.Writer(folder) as writer:
            writer.write(arbitrary.run(seed).records)
        text = (page.write(folder).parent / "REPORT.md").read_text()
        assert "nan" not in re.findall(r"\bnan\b", text)
        assert not [share for share in re.findall(r"([\d.]+) %", text) if float(share) > 100]
