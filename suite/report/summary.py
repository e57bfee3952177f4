"""A run in a few lines: who is masked correctly, whether to believe it, and one narrow table."""

import shlex
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from suite.core.records import WORST_FIRST
from suite.core.workloads import PHASES
from suite.report import published, standing, units, wording
from suite.report.wording import Row, number

MOST_NAMED = 12
"""Names of one verdict in a sentence; the others are counted."""
RIGHT = PHASES
"""Columns of `table` that hold numbers."""
_CALLED = {
    "broken": "broken",
    "known": "with known defects",
    "unclear": "unclear",
    "not judged": "not judged in everything",
}


def by_worst(masking: pd.DataFrame) -> dict[str, list[str]]:
    """Every variant under the worst that was said of it, in the order of `WORST_FIRST`; what holds is last."""
    said = [word for word in WORST_FIRST if word != "not applicable"]
    found: dict[str, list[str]] = {word: [] for word in said}
    for name, *row in masking.itertuples(index=False):
        worst = next((word for word in said if word in row), "not judged")
        found[worst].append(str(name))
    return {word: names for word, names in found.items() if names}


def masked(masking: pd.DataFrame) -> str:
    """How many variants are masked correctly, and the others by name; empty where nothing was audited."""
    audited = masking[[name for name in masking if name == "variant" or str(name).startswith("P")]]
    if len(audited.columns) < 2:
        return ""
    audited = audited[(audited.drop(columns="variant") != "").any(axis=1)]
    if audited.empty:
        return ""
    found = by_worst(audited)
    text = f"{len(found.get('holds', ()))} of {len(audited)} variants hold every property that was judged"
    for worst, called in _CALLED.items():
        names = [f"`{name}`" for name in found.get(worst, ())]
        if names:
            more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            text += f"; {called}: {', '.join(names[:MOST_NAMED])}{more}"
    return f"{text}."


def believed(cells: pd.DataFrame) -> str:
    """How many times are doubted, and how few rounds stand behind one; empty where nothing was timed."""
    timed = cells[cells["latency_s"].notna()]
    if timed.empty:
        return ""
    doubted = int(wording.doubted(timed).sum())
    few = units.count(float(timed["samples"].min()))
    return (
        f"{doubted or 'None'} of {len(timed)} times {'carry' if doubted > 1 else 'carries'} a reason for doubt; "
        f"every time rests on {few} samples or more, all its processes together."
    )


AS_FAST = 0.9
"""Products of a dtype for which a machine has instructions are no slower than those in float32; this leaves noise."""


def lacking(peaks: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    """For which dtypes of its cells a device has no instructions, by its products: forms in them are slow for that."""
    said = []
    run = set(zip(cells["device"], cells["dtype"], strict=True))
    for device, own in peaks.groupby("device", sort=False):
        rates = dict(zip(own["what"], own["per_second"], strict=True))
        full = rates.get("float32")
        for dtype, rate in rates.items():
            if full and (device, dtype) in run and rate < AS_FAST * full:
                slow, fast = units.per_second(rate, "FLOP"), units.per_second(full, "FLOP")
                said.append(
                    f"On {device}, products in {dtype} run at {slow}, those in float32 at {fast}: it has no fast "
                    f"instructions for {dtype}, and forms in it are slow for that reason."
                )
    return said


def machine(peaks: pd.DataFrame) -> list[str]:
    """What each device was measured to do, a line for each kind of work."""
    lines = []
    in_float32 = {row["device"]: number(row, "per_second") for row in wording.rows(peaks[peaks["what"] == "float32"])}
    for row in wording.rows(peaks):
        rate = number(row, "per_second")
        if row["what"] == "copy":
            text = f"{row['device']}, copy: {units.binary_per_second(rate)}"
        else:
            text = f"{row['device']}, matrix product in {row['what']}: {units.per_second(rate, 'FLOP')}"
            if rate and rate < AS_FAST * (in_float32.get(row["device"]) or 0.0):
                text += f"; slower than float32, so it has no instructions for {row['what']} that are of use here"
        if row["reached_by"]:
            often = ", twice" if row["times_measured"] == 2 else ""  # a run measures it again where it was exceeded
            text += f", which `{row['reached_by']}` did: more than the peak that was measured apart{often}"
        lines.append(text)
    return lines


class LeftOut(NamedTuple):
    """What was not measured for one reason."""

    names: tuple[str, ...]
    """Variants; ``all`` where no single one is meant."""
    why: str
    command: str
    """That measures it, with VARIANT in the place of a name where there are several; empty where none does."""


_EXAMINED = {
    "start": "memory, error and profile",
    # where fewer were asked for
    "agreement": "error",
    "memory": "memory",
    "cost": "FLOPs",
    "trace": "profile",
    "masking": "audit",
}
"""What a process that was left out, by the first probe of it, would have told."""


def left_out(skips: pd.DataFrame) -> list[LeftOut]:
    """What was not measured, together by reason and command; of what was timed, what else is missing."""
    untimed = set(skips.loc[skips["quantity"] == "timing", "variant"])
    missing = skips.groupby("variant")["quantity"].agg(
        lambda own: ", ".join(said for probe, said in _EXAMINED.items() if probe in set(own))
    )
    what = ["" if name in untimed else str(missing[name]) for name in skips["variant"]]
    commands = [
        str(row.remedy).replace(f" run {shlex.quote(str(row.variant))}", " run VARIANT", 1)
        for row in skips.itertuples()
    ]
    found = []
    apart = skips.assign(command=commands, what=what)
    for (reason, command, parts), group in apart.groupby(["reason", "command", "what"], sort=False):
        names = tuple(dict.fromkeys(str(name) or "all" for name in group["variant"]))
        own = str(group["remedy"].iloc[0]) if len(names) == 1 else str(command)
        found.append(LeftOut(names, f"{reason} ({parts})" if parts else str(reason), own))
    return found


def table(cells: pd.DataFrame) -> pd.DataFrame:
    """A line per mechanism of one workload and device: masking, both phases, and the fastest of its forms."""
    lines = []
    for parent, forms in cells.groupby("parent", sort=False):
        line = {"variant": f"`{parent}`", "masking": _masking(forms)}
        for phase in PHASES:
            own = forms[(forms["phase"] == phase) & (forms["variant"] == parent)]
            line[phase] = next((_time(row) for row in wording.rows(own)), units.MISSING)
        lines.append(line | {"fastest form": _fastest(str(parent), forms, cells)})
    made = pd.DataFrame(lines, columns=["variant", "masking", *PHASES, "fastest form"])
    return made[[name for name in made if name not in PHASES or (made[name] != units.MISSING).any()]]


def _time(row: Row) -> str:
    if row["hidden"]:
        return "not shown"
    said = units.seconds(number(row, "latency_s")).replace(" ", "\N{NO-BREAK SPACE}")
    return f"*{said}*" if row["trust"] else said


def _masking(forms: pd.DataFrame) -> str:
    said = forms.drop_duplicates("variant")["masking_verdict"]
    judged = [str(verdict) for verdict in said if verdict not in ("", "not applicable")]
    if not judged:
        return units.MISSING
    if len(set(judged)) == 1:
        return "known defects" if judged[0] == "known" else judged[0]
    worst = "broken" if "broken" in judged else "holds"
    return f"{worst} in {judged.count(worst)} of {len(judged)} forms"


def _fastest(parent: str, forms: pd.DataFrame, cells: pd.DataFrame) -> str:
    """The form that is told to be faster than every other of its mechanism, forward where that was timed."""
    for phase in PHASES:
        here = wording.trusted(forms[forms["phase"] == phase])
        if here.empty:
            continue
        ours = published.corrected(parent, cells[cells["phase"] == phase])
        if ours:
            return f"ours: {ours}"
        rows = sorted(wording.rows(here), key=lambda row: number(row, "latency_s") or 0.0)
        return _told(rows) if len(rows) > 1 else units.MISSING
    return units.MISSING


def _told(rows: Sequence[Row]) -> str:
    first = standing.leaders(rows)
    if len(first) > 1:
        return "not told apart"
    if not first[0]["form"]:
        return "eager float32"
    gain = number(first[0], "speedup")
    return f"`{first[0]['form']}`" + (f" {units.factor(gain)}" if gain else "")
