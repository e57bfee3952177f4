"""From outcomes to findings: what is known, what is not, and one sentence for a person."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from suite.audit.causes import NOTHING, explain
from suite.audit.evidence import leak
from suite.audit.lab import Lab
from suite.audit.observation import ANY, OWN_WORDS, Observation, condition
from suite.audit.properties import BY_ID, Outcome
from suite.audit.subject import Side, Subject
from suite.core.records import Detail, Finding, Verdict
from variants import KnownDefect


def findings(
    subject: Subject,
    outcomes: Iterable[Outcome],
    *,
    task: str,
    device: str,
    seed: int = 0,
    early: Callable[[Finding], None] | None = None,
) -> Iterator[Finding]:
    """One finding per property, and one per known defect that ought to have been found and was not.

    Args:
        subject: what was examined.
        outcomes: of the properties that were examined.
        task: of the records.
        device: label of the records.
        seed: that they were examined with.
        early: is handed each property's finding as soon as it is examined, when causes are not known yet.
    """
    examined = []
    for outcome in outcomes:
        examined.append(outcome)
        if early is not None:
            early(_finding(subject, outcome, task=task, device=device))
    outcomes = tuple(examined)
    unexpected = any(_finding(subject, one, task=task, device=device).verdict == "broken" for one in outcomes)
    explanation = explain(Lab(subject, seed), outcomes) if unexpected else NOTHING  # what is known is explained already
    for outcome in outcomes:
        item = outcome.examined
        finding = _finding(subject, outcome, task=task, device=device)
        text, details = finding.summary, dict(finding.details)
        if finding.verdict in ("broken", "known") and item.id == "P1":
            found = leak(Lab(subject, seed), outcome)
            if found is not None:
                text, details = f"{text} ({found})", details | found.details()
        details["said"] = text
        if finding.verdict == "broken" and explanation.sentence(item.id):
            text = f"{text}: {explanation.sentence(item.id)}"
            details["causes"] = explanation.causes(item.id)
        yield replace(finding, summary=text, details=details)
        if outcome.verdict in ("not applicable", "not judged"):
            continue
        for defect in subject.known_defects:
            shown = any(_is(defect, found) for found in outcome.failures)
            if defect.always and defect.property == item.id and not shown:
                yield missing(subject, defect, task=task, device=device)


def settled(found: Iterable[Finding]) -> list[Finding]:
    """Those that a verdict was reached on."""
    return [finding for finding in found if finding.verdict in ("holds", "broken", "known")]


def why_nothing(found: Sequence[Finding]) -> str:
    """Why no verdict was reached on any, in one line."""
    unjudged = next((finding for finding in found if finding.verdict == "not judged"), None)
    if unjudged is not None:
        return unjudged.summary
    unclear = [finding.quantity for finding in found if finding.verdict == "unclear"]
    if unclear:
        return f"its own noise is too large for {', '.join(unclear)}"
    reasons = dict.fromkeys(finding.summary for finding in found)
    return f"nothing applies to it: {'; '.join(reasons)}" if reasons else "no property was asked for"


def judged(subject: Subject, outcome: Outcome) -> tuple[Verdict, Observation | None]:
    """The verdict of a property, ``known`` where the subject declares all that broke, and what shows it best."""
    unexpected = [found for found in outcome.failures if not _known(subject.known_defects, outcome, found)]
    broken = [found for found in unexpected if found.verdict == "broken"]
    if outcome.verdict == "broken" and not broken:
        return "known", outcome.worst
    return outcome.verdict, broken[0] if broken else outcome.worst


def _finding(subject: Subject, outcome: Outcome, *, task: str, device: str) -> Finding:
    """What is known of a property as soon as it is examined: no cause yet."""
    verdict, shown = judged(subject, outcome)
    text = summary(subject, outcome, shown)
    return Finding(
        task=task,
        variant=subject.name,
        device=device,
        quantity=outcome.examined.id,
        verdict=verdict,
        severity=outcome.severity,
        value=_number(shown.leak) if shown else None,
        limit=_number(shown.limit) if shown else None,
        summary=text,
        details=_details(subject, outcome, shown) | {"said": text} | _declared(subject, outcome),
    )


def _declared(subject: Subject, outcome: Outcome) -> dict[str, Detail]:
    """What the subject itself says of the defects that showed."""
    shown = [
        defect.summary
        for defect in subject.known_defects
        if defect.property == outcome.examined.id and any(_is(defect, found) for found in outcome.failures)
    ]
    return {"defects": list(dict.fromkeys(shown))} if shown else {}


def missing(subject: Subject, defect: KnownDefect, *, task: str, device: str) -> Finding:
    """A known defect that did not show: the audit or the declaration is wrong."""
    return Finding(
        task=task,
        variant=subject.name,
        device=device,
        quantity=defect.property,
        verdict="broken",
        severity=BY_ID[defect.property].severity,
        summary=f"known defect not found: {defect.output} with {defect.what}, side {defect.side} ({defect.summary})",
        details={"missing": True, "output": defect.output, "what": defect.what, "sides": [defect.side]},
    )


def summary(subject: Subject, outcome: Outcome, shown: Observation | None) -> str:
    """One sentence: what moved, by how much, where, and what was done."""
    if outcome.verdict in ("not applicable", "not judged"):
        return outcome.reason
    if shown is None or outcome.verdict == "holds":
        return outcome.examined.statement
    if shown.what in OWN_WORDS:
        return OWN_WORDS[shown.what].format(output=shown.output, note=shown.note)
    done = condition(shown.what, shown.sides, subject)
    if shown.output == ANY:
        return f"with {done}, it {shown.note}"
    leak = f"{shown.leak:.2g}" if math.isfinite(shown.leak) else "not finite"
    text = outcome.examined.says.format(output=shown.output, leak=leak, condition=done)
    text = text.replace("by not finite", "to something not finite")
    place = f" at {list(shown.where)}" if shown.where else ""
    return f"{text}{place}" + (f" ({shown.note})" if shown.note else "")


def _known(defects: Iterable[KnownDefect], outcome: Outcome, found: Observation) -> bool:
    return any(defect.property == outcome.examined.id and _is(defect, found) for defect in defects)


def _is(defect: KnownDefect, found: Observation) -> bool:
    return (
        defect.output in (ANY, found.output)
        and defect.what in (ANY, found.what)
        and (defect.side == ANY or defect.side in found.sides)
    )


def _details(subject: Subject, outcome: Outcome, shown: Observation | None) -> dict[str, Detail]:
    details: dict[str, Detail] = {"title": outcome.examined.title, "statement": outcome.examined.statement}
    if shown is not None:
        details |= {
            "output": shown.output,
            "what": shown.what,
            "sides": list(shown.sides),
            "condition": condition(shown.what, shown.sides, subject),
            "noise": shown.noise,
            "position": list(shown.where),
        }
        if shown.noise:
            details["leak_over_noise"] = _number(shown.leak / shown.noise)
    failures = outcome.failures
    if failures:
        details["failures"] = [
            [found.output, found.what, " and ".join(found.sides), _number(found.leak), _number(found.limit), found.note]
            for found in _worst_of_each(failures)
        ]
    return details


def _worst_of_each(failures: tuple[Observation, ...]) -> list[Observation]:
    """The worst failure of each output, of each change."""
    first: dict[tuple[str, str, tuple[Side, ...]], Observation] = {}
    for found in failures:
        first.setdefault((found.output, found.what, found.sides), found)
    return list(first.values())


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
