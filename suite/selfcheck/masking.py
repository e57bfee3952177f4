"""`python run_all.py selfcheck masking`: does the audit see planted defects, and does it leave correct modules alone?

A trial is one module with the weights of one seed. Each is stored as soon as it is judged, so that a folder whose
self-check was interrupted is gone on with.
"""

import shlex
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from suite.audit import selfcheck as trials
from suite.audit.causes import SIGNATURES, traits, write_signatures
from suite.audit.defects import DEFECTS, SOUND, subject_of
from suite.audit.innocents import INNOCENTS
from suite.audit.properties import PROPERTIES
from suite.bench import environment
from suite.bench.request import Request
from suite.core import exits, store
from suite.core.answer import SPOKEN, Answer, Manner, give
from suite.core.errors import UserError
from suite.core.records import Finding, Measurement, Record
from suite.report import outcome, units
from suite.report import selfcheck as page
from suite.report.html import checked
from suite.selfcheck.row import row

TRIAL = "trial"
"""The quantity of a finding that is one trial."""
GROUPS: Mapping[str, Mapping[str, str]] = {
    "defect": {name: f"planted, {name}: caught by {', '.join(defect.caught_by)}" for name, defect in DEFECTS.items()},
    "mechanism": {kind.__name__: f"correct mechanism, {kind.__name__}: accused of anything" for kind in SOUND},
    "convention": {name: f"correct module, {name}: refused or called wrong" for name in INNOCENTS},
}
"""What is tried, and how a row says it."""
ALL = sum(map(len, GROUPS.values()))


def start(*, seeds: int, out: Path | None, resume: Path | None, manner: Manner = SPOKEN) -> int:
    """Try everything with each seed, and return the exit code: 1 where something is missed or accused.

    Args:
        seeds: how many, from 0.
        out: a new folder; named by the hour if left out.
        resume: the folder of an interrupted one instead, or of one with fewer seeds.
        manner: in which the answer is wanted.

    Raises:
        UserError: the folder cannot be used, or its trials are of another program.
    """
    described = environment.describe(Request(device="cpu"))
    folder = resume or out or Path("results") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-selfcheck-masking"
    if resume is None:
        store.claim(folder)
        environment.write(folder, described)
    elif changed := environment.changes(environment.read(folder), described):
        raise UserError(f"cannot resume {folder}: {'; '.join(changed)}; start a new self-check")
    resuming = f"python run_all.py selfcheck masking --trials {seeds} --resume {shlex.quote(str(folder))}"
    return outcome.seen_through(
        lambda: _work(seeds, folder, resume is not None, manner), folder, manner, resume=resuming
    )


def _work(seeds: int, folder: Path, resumed: bool, manner: Manner) -> int:
    console = manner.console()
    known = store.read(folder) if resumed else []
    done = {record.task for record in known if isinstance(record, Finding) and record.quantity == TRIAL}
    began, tried = time.monotonic(), 0
    with store.Writer(folder) as writer:
        try:
            for seed in range(seeds):
                left = [(group, name) for group, names in GROUPS.items() for name in names]
                left = [(group, name) for group, name in left if _task(group, name, seed) not in done]
                wrong = 0
                for group, name in left:
                    found = _tried(group, name, seed)
                    writer.write([found])
                    wrong += found.verdict == "broken"
                    if found.verdict == "broken":
                        console.print(f"seed {seed}: {GROUPS[group][name]}: {found.summary}")
                if left:
                    tried += len(left)
                    each = (time.monotonic() - began) / tried
                    rest = f", about {units.seconds(each * ALL * (seeds - seed - 1))} left" if seed + 1 < seeds else ""
                    console.print(f"seed {seed}: {len(left)} trials, {wrong} of them not as they should be{rest}")
        finally:  # the rows of what was tried, also where it was interrupted
            took = time.monotonic() - began
            writer.write([Measurement(task="selfcheck", quantity="run_time", unit="s", value=took)])
            writer.write(rows(store.read(folder)))
    page.write(folder)
    path = checked.write(folder).resolve()
    said = page.data(store.read(folder))
    code = exits.INCORRECT if any(row["verdict"] == "broken" for row in said) else exits.DONE
    return give(Answer(code=code, last=str(path), data={"page": path, "rows": said}), manner)


def _task(group: str, name: str, seed: int) -> str:
    return f"masking: {group}: {name}: seed {seed}"


def _tried(group: str, name: str, seed: int) -> Finding:
    """One trial; ``broken`` where the audit was wrong."""
    said = _TRIED[group](name, seed)
    return Finding(
        task=_task(group, name, seed),
        variant=name,
        quantity=TRIAL,
        verdict="broken" if said else "holds",
        summary=said,
        details={"group": group, "seed": seed},
    )


def _of_defect(name: str, seed: int) -> str:
    missed = trials.missed(DEFECTS[name], seed)
    return f"missed by {' and '.join(missed)}" if missed else ""


def _of_mechanism(name: str, seed: int) -> str:
    (kind,) = (kind for kind in SOUND if kind.__name__ == name)
    return "; ".join(f"{found.examined.id} {found.verdict}" for _, _, found in trials.false_alarms([seed], [kind]))


def _of_convention(name: str, seed: int) -> str:
    ((_, _, said),) = trials.accusations([seed], [name])
    return said


_TRIED: Mapping[str, Callable[[str, int], str]] = {
    "defect": _of_defect,
    "mechanism": _of_mechanism,
    "convention": _of_convention,
}


def rows(records: Sequence[Record]) -> Iterator[Finding]:
    """A row for each planted defect and each correct module, from the trials of a folder."""
    found: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for record in records:
        if isinstance(record, Finding) and record.quantity == TRIAL:
            found[str(record.details.get("group")), record.variant].append(record)
    for group, names in GROUPS.items():
        for name, check in names.items():
            tried = found[group, name]
            wrong = [trial for trial in tried if trial.verdict == "broken"]
            told = "; ".join(f"seed {trial.details.get('seed')}: {trial.summary}" for trial in wrong[:3])
            if group == "defect":
                yield row(check, len(tried) - len(wrong), len(tried), at_least=1, summary=told)
            else:
                yield row(check, len(wrong), len(tried), at_most=0, summary=told)


def matrix(*, write: bool) -> int:
    """Print the planted defects by the properties that see them, and which detectors no defect needs.

    Args:
        write: keep the defects' signatures, from which hints at causes are taken.

    Returns:
        0, or 1 where something is missed or a detector has no reason to be there.
    """
    ids = [item.id for item in PROPERTIES]
    print(f"{'':40}{' '.join(f'{id:>3}' for id in ids)}")
    caught, missed = [], 0
    for found in trials.plant_all():
        caught.append(found)
        marks = " ".join(f"{'x' if id in found.broken else '!' if id in found.missed else '.':>3}" for id in ids)
        print(f"{found.defect.name:40}{marks}", flush=True)
        missed += len(found.missed)
    alone = trials.only_catchers(caught)
    print()
    for id in trials.NEEDED:
        names, reason = alone[id], trials.REASONS.get(id, "has no reason to be there")
        print(f"{id:4} {'alone catches ' + ', '.join(names) if names else reason}")
        missed += not names and id not in trials.REASONS
    if write:
        write_signatures({found.defect.name: traits(subject_of(found.defect), found.outcomes) for found in caught})
        print(f"signatures written to {SIGNATURES}")
    print(f"\n{len(caught)} planted defects, {missed} missed")
    return exits.INCORRECT if missed else exits.DONE
