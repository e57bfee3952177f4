"""Which block sizes are worth compiling on an architecture: a model of resources and traffic, and no measurement.

What it says is an estimate and serves to order entries: which of them fit, and which should be tried first. It counts
bytes that thread blocks read through the L2 cache and, once, from memory, products, steps that a block takes one after
another, and how many waves of blocks the multiprocessors take. It leaves out the clock, bank conflicts and how fast
shared memory is, narrow products, the issue slots of tanh and of sums beside the products, latencies that too few warps
do not hide, what the cache still holds of an earlier launch, and whether a loop is really pipelined.
Registers and shared memory follow from block sizes and constants that were read off compiled programs.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from variants.kernels.configurations import CHOICES, FORMED, WIDEST, Configuration


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What a family of GPUs has, by its data sheets; rates are what well-written kernels reach of them, about."""

    processors: int
    shared_b: int
    """Shared memory that one thread block may have."""
    shared_of_all_b: int
    """Of a multiprocessor."""
    threads: int
    """That a multiprocessor holds."""
    flops_per_s: float
    """Of products of 16-bit numbers."""
    l2_b_per_s: float
    memory_b_per_s: float
    from_shared: bool
    """Whether products take their right operand from shared memory, and leave the registers to the left one."""


ARCHITECTURES: dict[str, Architecture] = {
    "sm_80": Architecture(
        processors=108,
        shared_b=166_912,
        shared_of_all_b=167_936,
        threads=2048,
        flops_per_s=2.0e14,
        l2_b_per_s=3.5e12,
        memory_b_per_s=1.4e12,
        from_shared=False,
    ),
    "sm_86": Architecture(
        processors=72,
        shared_b=101_376,
        shared_of_all_b=102_400,
        threads=1536,
        flops_per_s=8.0e13,
        l2_b_per_s=1.8e12,
        memory_b_per_s=5.0e11,
        from_shared=False,
    ),
    "sm_90": Architecture(
        processors=132,
        shared_b=232_448,
        shared_of_all_b=233_472,
        threads=2048,
        flops_per_s=5.0e14,
        l2_b_per_s=5.5e12,
        memory_b_per_s=3.0e12,
        from_shared=True,
    ),
}


class Shape(NamedTuple):
    """A problem: examples, regions, words, width and hidden width."""

    examples: int = 300
    regions: int = 196
    words: int = 26
    width: int = 512
    hidden: int = 512


class Demand(NamedTuple):
    """What a launch asks for."""

    blocks: int
    bytes: float
    """That one thread block reads and writes."""
    flops: float
    """Of one thread block."""
    sums: int
    """Accumulators that a thread block holds at once."""
    staged: int
    """Numbers of a loop's step, which each stage of its pipeline keeps in shared memory."""
    kept: int
    """Numbers that stand in shared memory beside them."""
    held: int
    """Numbers of a tile that stands in the registers of a thread block."""
    steps: int
    """Products that a thread block waits for one after another, all its warps each time."""


PROGRAMS = ("scored", "scored_backward", "sum_over_regions", "features_gradient")
"""Those that are tuned."""
IN_REGISTERS = ("scored", "scored_backward")
"""Those whose tile stands in registers, as the left operand of every product."""
_BESIDE = {"scored": 96, "scored_backward": 112, "sum_over_regions": 72, "features_gradient": 144}
"""Registers of a thread beside its accumulators, of programs that were compiled for sm_90."""
_MAPS = {"scored": 1, "scored_backward": 2, "sum_over_regions": 1, "features_gradient": 3}
"""Maps of the features' size that are read or written at least once, from and to memory."""
_BESIDE_STANDING = {"scored": 88, "scored_backward": 94}
"""The same beside a tile in registers too."""
_STEP_S = 1e-7
"""What a step costs by itself: a barrier, and the wait for a product and for what was loaded; about 200 cycles."""
_MOST_REGISTERS, _ALL_REGISTERS = 255, 65_536


def architecture(major: int, minor: int) -> str:
    """The family of a compute capability, such as ``sm_86`` for 8.9; empty where none is known."""
    if (major, minor) == (8, 0):
        return "sm_80"
    if major == 8:
        return "sm_86"
    return "sm_90" if major == 9 else ""


def block(length: int) -> int:
    """The least size of a block that holds a length."""
    return max(16, 1 << (length - 1).bit_length())


def demand(program: str, entry: Configuration, itemsize: int, shape: Shape) -> Demand:
    """What a program's launch asks for with an entry.

    Args:
        program: one of the four that are tuned.
        entry: block sizes.
        itemsize: bytes of a number.
        shape: of the problem.
    """
    examples, regions, count, width, hidden = shape
    rows, outer, inner, standing = entry.rows, entry.outer, entry.inner, entry.standing
    words = outer if standing and program in IN_REGISTERS else min(entry.words, block(count))
    pieces = math.ceil(count / words)
    tiles = math.ceil(regions / rows)
    formed = block(count) <= FORMED  # by the program that scores, if one block of its words holds them
    affinity = pieces * (rows * width + words * width)
    depth = 1 if standing else math.ceil(width / inner)
    match program:
        case "scored" | "scored_backward":
            steps = math.ceil(hidden / outer)
            again = steps if pieces > 1 else 1  # more words than one block holds: C' is made for each block of columns
            moved = again * affinity + steps * (outer * width + pieces * words * outer) + rows * width
            moved += 0 if standing else steps * rows * width
            moved += rows * words if pieces == 1 and words <= FORMED else 0
            moved += rows * hidden if program == "scored_backward" else 2 * width
            flops = 2.0 * rows * (width * hidden + again * pieces * words * width + pieces * words * hidden)
            return Demand(
                blocks=examples * tiles,
                bytes=itemsize * moved,
                flops=flops,
                sums=rows * outer * (2 if program == "scored_backward" else 1),
                staged=outer * (block(width) + words) if standing else (rows + outer) * inner,
                kept=rows * words if program == "scored_backward" or not standing else 0,
                held=rows * block(width) if standing else 0,
                steps=again * pieces * depth + steps * (depth + pieces) + math.ceil(width / inner),
            )
        case "sum_over_regions" if formed:
            words = block(count)
            return Demand(
                blocks=examples * math.ceil(width / outer),
                bytes=itemsize * (tiles * rows * (words + outer) + words * outer),
                flops=2.0 * tiles * rows * words * outer,
                sums=outer * words,
                staged=rows * (words + outer),
                kept=0,
                held=0,
                steps=tiles,
            )
        case "sum_over_regions":
            return Demand(
                blocks=examples * math.ceil(width / outer) * pieces,
                bytes=itemsize * (tiles * (rows * (width + outer) + words * width) + words * outer),
                flops=2.0 * tiles * rows * words * (width + outer),
                sums=outer * words + rows * words,
                staged=(rows + words) * inner,
                kept=rows * outer,
                held=0,
                steps=tiles * (depth + 1),
            )
        case "features_gradient":
            formed = formed and pieces == 1
            steps = math.ceil(width / outer)
            again = steps if pieces > 1 else 1
            # of C' and of the gradient before its tanh: the former is read and the latter written where C' is formed
            maps = 1 if formed else 2
            moved = again * pieces * (rows * (width + hidden) + words * (maps * width + hidden))
            moved += 2 * rows * words if formed else 0
            moved += steps * (rows * hidden + hidden * outer + 2 * pieces * words * outer + rows * outer)
            flops = 2.0 * rows * (hidden * width + pieces * words * (again * (maps * width + hidden) + 2 * width))
            once = math.ceil(hidden / inner)
            return Demand(
                blocks=examples * tiles,
                bytes=itemsize * moved,
                flops=flops,
                sums=rows * outer,
                staged=(rows + outer) * inner,
                kept=2 * rows * words,
                held=0,
                steps=again * pieces * (depth + once) + steps * (once + 2 * pieces),
            )
    raise ValueError(f"{program!r} is not tuned: expected one of {', '.join(PROGRAMS)}")


def fits(program: str, entry: Configuration, shape: Shape = Shape()) -> bool:  # noqa: B008
    """Whether an entry is launched as it stands, and not in another form; see `launch`."""
    if not entry.standing:
        return True
    return program in IN_REGISTERS and shape.width <= WIDEST and shape.words <= entry.outer


def registers(program: str, entry: Configuration, itemsize: int, shape: Shape = Shape()) -> int:  # noqa: B008
    """Of a thread, by estimate; the compiler spills where it is more than 255."""
    asked, threads = demand(program, entry, itemsize, shape), 32 * entry.warps
    # float32 is multiplied as three products of what is left and right of it
    held = asked.held * (0.5 if itemsize == 2 else 3.0)
    beside = _BESIDE_STANDING.get(program) if entry.standing else None
    return (beside or _BESIDE[program]) + math.ceil((asked.sums + held) / threads)


def shared_b(program: str, entry: Configuration, itemsize: int, shape: Shape = Shape()) -> int:  # noqa: B008
    """Shared memory of a thread block, by estimate."""
    asked = demand(program, entry, itemsize, shape)
    return itemsize * (max(1, entry.stages) * asked.staged + asked.kept)


class Resources(NamedTuple):
    """What a program takes."""

    registers: int
    """Of a thread."""
    shared_b: int
    """Of a thread block."""


def estimated_s(
    program: str,
    entry: Configuration,
    itemsize: int,
    family: str,
    shape: Shape = Shape(),  # noqa: B008
    *,
    compiled: Resources | None = None,
) -> float:
    """Seconds of a launch, by estimate; infinite where it would not fit or would spill.

    Args:
        program: one of the four that are tuned.
        entry: block sizes.
        itemsize: bytes of a number.
        family: such as ``sm_90``.
        shape: of the problem.
        compiled: what the compiled program takes, where that is known; an estimate of it if left out.
    """
    have, asked = ARCHITECTURES[family], demand(program, entry, itemsize, shape)
    own_registers, own_b = compiled or (
        registers(program, entry, itemsize, shape),
        shared_b(program, entry, itemsize, shape),
    )
    threads = 32 * entry.warps
    if not fits(program, entry, shape) or (asked.held and not have.from_shared):
        return math.inf
    if own_registers > _MOST_REGISTERS or own_b > have.shared_b:
        return math.inf
    resident = min(
        _ALL_REGISTERS // (own_registers * threads), have.shared_of_all_b // max(own_b, 1), have.threads // threads
    )
    if not resident:
        return math.inf
    at_once = have.processors * resident
    waves = asked.blocks / at_once
    idle = math.ceil(waves) / waves
    # eight warps hide what fewer do not
    hidden = min(1.0, resident * entry.warps / 8)
    # tensor cores that read shared memory take 64 rows at a time; fewer go to the instructions before them
    rate = have.flops_per_s * (1.0 if itemsize == 2 else 0.25) * (0.5 if entry.rows < 64 and have.from_shared else 1.0)
    computing_s = asked.blocks * asked.flops / rate / hidden
    least_b = _MAPS[program] * shape.examples * shape.regions * shape.width * itemsize
    moving_s = max(asked.blocks * asked.bytes / have.l2_b_per_s, least_b / have.memory_b_per_s)
    # what is loaded for one step beside the products of another
    beside = 1 - 1 / max(1, entry.stages)
    overlapped_s = max(computing_s, moving_s) + (1 - beside) * min(computing_s, moving_s)
    return idle * overlapped_s + math.ceil(waves) * asked.steps * _STEP_S


def shortlist(program: str, itemsize: int, family: str, *, most: int = 8) -> list[Configuration]:
    """Entries in the order in which they should be tried: the quickest by estimate of each size of tile.

    Args:
        program: one of the four that are tuned.
        itemsize: bytes of a number.
        family: such as ``sm_90``.
        most: how many.
    """
    quickest: dict[tuple[int, int, bool], tuple[float, float, Configuration]] = {}
    many = Shape(words=80)
    for entry in _all():
        seconds = estimated_s(program, entry, itemsize, family)
        # of equals the one that is quicker where the words are too many for one block
        many_s = estimated_s(program, entry._replace(standing=False), itemsize, family, many)
        key = (entry.rows, entry.outer, entry.standing)
        if math.isfinite(seconds + many_s) and (key not in quickest or (seconds, many_s) < quickest[key][:2]):
            quickest[key] = seconds, many_s, entry
    return [entry for *_, entry in sorted(quickest.values())[:most]]


def _all() -> Iterator[Configuration]:
    for sizes in itertools.product(*CHOICES.values()):
        yield Configuration(*sizes)  # type: ignore[arg-type]  # sizes, and true or false
