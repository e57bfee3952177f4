"""An audit as plain rows, in the order in which they become known; made where a user's code may run."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from suite.audit.findings import findings, judged, summary
from suite.audit.properties import PROPERTIES, Outcome, examine
from suite.audit.reading import NotUnderstood, Stated, Understood, understand
from suite.audit.reading.doubt import doubted
from suite.audit.subject import WIDTH, from_variant
from suite.core import user_files
from suite.core.errors import UserError, as_users
from suite.core.records import Finding, encode
from variants import Skip, build

Row = dict[str, Any]


def rows(target: str, seed: int, stated: Mapping[str, Any]) -> Iterator[Row]:
    """Audit ``path/to/file.py:NAME`` or a built-in variant.

    Yields:
        ``{"refused": ..., "adapter": ...}`` alone, where the signature is not understood; else
        ``{"name", "account", "remarks", "doubts"}``, then ``{"begun": id}`` and ``{"outcome": finding}`` for each
        property as soon as it is examined, and in the end ``{"finding": record}`` for each, with its cause.

    Raises:
        UserError: there is no such file, name or variant.
    """
    try:
        understood = read(target, seed, as_stated(stated))
    except NotUnderstood as error:
        yield {"refused": error.why, "adapter": error.adapter}
        return
    yield from audited(understood, seed)


def as_stated(stated: Mapping[str, Any]) -> Stated:
    return Stated(
        masks=dict(stated.get("masks", {})),
        inputs=dict(stated.get("inputs", {})),
        ignore=frozenset(stated.get("ignore", ())),
    )


def audited(understood: Understood, seed: int) -> Iterator[Row]:
    """What an audit finds, as rows."""
    subject = understood.subject
    yield {
        "name": subject.name,
        "account": list(understood.account),
        "remarks": list(understood.remarks),
        "doubts": list(understood.doubts),
    }
    outcomes: list[Outcome] = []
    examined = examine(subject, seed=seed)
    for item in PROPERTIES:
        yield {"begun": item.id}
        outcome = next(examined, None)
        if outcome is None:
            break
        outcomes.append(outcome)
        yield {"outcome": encode(_early(understood, outcome))}
    found = findings(subject, outcomes, task="audit", device=subject.device.type, seed=seed)
    for finding in doubted(found, understood.doubts):
        yield {"finding": encode(finding)}


def _early(understood: Understood, outcome: Outcome) -> Finding:
    """What is known of a property before the others are examined: no cause yet."""
    item = outcome.examined
    verdict, worst = judged(understood.subject, outcome)
    finding = Finding(
        task="audit",
        variant=understood.subject.name,
        quantity=item.id,
        verdict=verdict,
        severity=item.severity,
        summary=summary(understood.subject, outcome, worst),
        value=worst.leak if worst is not None else None,
        limit=worst.limit if worst is not None else None,
        details={"title": item.title, "statement": item.statement},
    )
    return next(doubted([finding], understood.doubts))


def read(target: str, seed: int, stated: Stated) -> Understood:
    """What a target on the command line is.

    Raises:
        UserError: there is no such file, name or variant.
        NotUnderstood: no reading of its signature runs.
    """
    path, colon, name = target.rpartition(":")
    if not colon:
        if stated != Stated():
            raise UserError(f"{target} is a variant of this program: --mask, --inputs and --ignore have no effect")
        try:
            with as_users():
                subject = from_variant(build(target, width=WIDTH, seed=seed))
        except Skip as reason:
            raise UserError(f"{target!r} cannot be had here: {reason}") from reason
        return Understood(subject=subject, account=("a built-in variant",))
    module = user_files.load(Path(path), given_as="audit")
    if not hasattr(module, name):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise UserError(f"{path} has no {name!r}; it has {', '.join(public) or 'nothing'}")
    return understand(getattr(module, name), name=name, stated=stated)
