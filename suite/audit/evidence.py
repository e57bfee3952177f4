"""Where a leak comes from and goes to: which padded slot moves which position of an output."""

import math
from dataclasses import dataclass

import torch

from suite.audit.calling import NotJudged
from suite.audit.lab import Lab, Lacking, Raised
from suite.audit.properties import Outcome
from suite.audit.subject import Side, SideOf, slots_of, with_side
from suite.core.records import Detail

MOST = 24
"""Slots and positions that a matrix keeps."""


@dataclass(frozen=True, kw_only=True)
class Leak:
    """How far each padded slot alone moves each position of one output of one example."""

    output: str
    example: int
    side: SideOf
    slots: tuple[tuple[int, int], ...]
    """Example and slot of each row."""
    moved: tuple[tuple[float, ...], ...]
    """Relative, ``[slots][positions]``."""
    first: int
    """Which position of the output stands first; the one that moves most is among them."""

    def __str__(self) -> str:
        row, column = max(
            ((row, column) for row in range(len(self.moved)) for column in range(len(self.moved[row]))),
            key=lambda at: self.moved[at[0]][at[1]],
        )
        example, slot = self.slots[row]
        whose = "" if example == self.example else f" of example {example}"
        return (
            f"in example {self.example}, position {self.first + column} of {self.output} moves most, because of padded "
            f"{self.side.slot} {slot}{whose}"
        )

    def details(self) -> dict[str, Detail]:
        """As a finding carries it."""
        return {
            "leak": [list(row) for row in self.moved],
            "padding": self.side.slots,
            "pad": self.side.slot,
            "slots": [f"{slot}" if example == self.example else f"{example}:{slot}" for example, slot in self.slots],
            "positions": [str(self.first + position) for position in range(len(self.moved[0]))],
            "example": self.example,
        }


def leak(lab: Lab, outcome: Outcome) -> Leak | None:
    """The leak behind the worst failure of P1, slot by slot; None where single slots move nothing.

    Args:
        lab: of the subject that failed.
        outcome: of P1.
    """
    failures = [found for found in outcome.failures if found.where and found.output in lab.reference]
    if not failures:
        return None
    worst = failures[0]
    try:
        return _matrix(lab, worst.output, worst.where[0], worst.sides[0]) if worst.sides else None
    except (Lacking, Raised, NotJudged):
        return None


def _matrix(lab: Lab, output: str, example: int, side: Side) -> Leak | None:
    features, valid = slots_of(lab.batch, side)
    slots = [(int(b), int(s)) for b, s in (~valid).nonzero()]
    slots.sort(key=lambda at: (at[0] != example, at))  # the example's own padding first
    reference = lab.reference[output][example].double()
    scale = float(lab.reference[output].double().square().mean().sqrt())
    fresh = 3 * lab.normal(*features.shape, salt=20)
    rows = []
    for b, s in slots[:MOST]:
        spot = torch.zeros_like(valid)
        spot[b, s] = True
        changed = with_side(lab.batch, side, features=torch.where(spot[..., None], fresh, features))
        difference = (lab.forward(changed)[output][example].double() - reference).abs() / scale
        difference = torch.nan_to_num(difference, nan=math.inf)
        if lab.subject.output(output).kind in ("tokens", "joined"):
            difference = difference.amax(-1)  # [L]: positions are slots, not features
        difference = difference.flatten(0, -2) if difference.dim() > 1 else difference[None]
        rows.append([float(value) for value in difference.amax(0)])
    if not rows or not any(value > 0 for row in rows for value in row):
        return None
    furthest = max(range(len(rows[0])), key=lambda position: max(row[position] for row in rows))
    first = max(0, min(furthest - MOST // 2, len(rows[0]) - MOST))
    kept = [index for index, (b, _) in enumerate(slots[:MOST]) if b == example or any(rows[index])]
    return Leak(
        output=output,
        example=example,
        side=lab.subject.side(side),
        slots=tuple(slots[index] for index in kept),
        moved=tuple(tuple(rows[index][first : first + MOST]) for index in kept),
        first=first,
    )
