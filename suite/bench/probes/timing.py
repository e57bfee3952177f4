"""How long variants take, side by side in rounds."""

import gc
import math
import os
import random
import time
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import torch

from suite.bench.probes import conditions, contract, honesty, mode
from suite.bench.probes.clocks import Clock, clock_of
from suite.bench.probes.settings import Watch
from suite.bench.probes.step import Step, make_inputs, prepare, running_on
from suite.bench.tasks import About
from suite.core import stats
from suite.core.failures import refusal
from suite.core.records import ANCHOR, Detail, Measurement, Record, Skip
from suite.core.workloads import Phase, Workload
from variants import Batch, canonical, mechanisms
from variants.registry import is_ours

LEAST_ROUNDS = stats.FEWEST_ROUNDS
"""A variant that cannot be timed this often, without which there is no interval, is skipped as too slow here."""
ENOUGH_ROUNDS = stats.FEWEST_FOR_A_VERDICT
"""What every variant of a comparison gets, also where its sampling was planned too short, unless a deadline comes."""
WARM_CALLS = 2
"""Untimed calls after the first: a capture or an autotuner may act on the second."""
SLOW_CALL_S = 0.2
"""A call that takes longer fills the caches by itself in a small part of its time, and is not called before."""
MOST_ROUNDS = 20_000
"""Where sampling goes on until its time is spent: more would make no interval narrower, and fill the disk."""
_ALL = ""
"""Stands for all variants of a comparison."""
_PROOFS = 4
"""Calls of each variant after the rounds: the proof of its mode, and of its honesty."""


class Deadline:
    """When a comparison has to be done, and what its variants are thought to take.

    What was foreseen is corrected by what the eager form of the same mechanism took, which is called before it.

    Args:
        left_s: seconds from now; None where it may take as long as it takes.
        foreseen: seconds of a call, and of compiling it, by variant.
    """

    def __init__(self, left_s: float | None, foreseen: Mapping[str, tuple[float, float]]) -> None:
        self._end = None if left_s is None else time.perf_counter() + left_s
        self._foreseen = foreseen

    @property
    def left_s(self) -> float:
        return math.inf if self._end is None else self._end - time.perf_counter()

    def too_late_for(self, name: str, lanes: Sequence["Lane"]) -> float | None:
        """Seconds that a variant would take, its own rounds and those of the others included, if these are too many."""
        if self._end is None or name not in self._foreseen:
            return None
        call_s, compile_s = self._foreseen[name]
        eager = str(canonical(name).plain)
        for lane in lanes:
            if lane.name == eager and lane.name in self._foreseen:
                call_s *= lane.call_s / max(self._foreseen[lane.name][0], 1e-6)
        others_s = sum(lane.turn_s for lane in lanes)
        needed_s = compile_s + call_s + LEAST_ROUNDS * (call_s + others_s) + _PROOFS * (call_s + others_s)
        return needed_s if needed_s > self.left_s else None

    def closing_s(self, lanes: Sequence["Lane"]) -> float:
        """What comes after the rounds."""
        return _PROOFS * sum(lane.call_s for lane in lanes) + 0.1 * len(lanes)


@dataclass(kw_only=True)
class Lane:
    """One variant of a comparison, and what was measured of it so far."""

    name: str
    step: Step
    first_call_s: float
    call_s: float
    """A warm call's, about."""
    proof: mode.Compilation
    every: int = 1
    """Timed in every k-th round."""
    samples: dict[str, list[float]] = field(default_factory=dict)
    """Seconds by quantity."""
    rounds: list[int] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    switched: int = 0
    changed: dict[str, None] = field(default_factory=dict)
    """What it changed in the process, each in words; put back after every call."""

    @property
    def turn_s(self) -> float:
        """What one round costs."""
        return self.call_s * (1 if self.call_s > SLOW_CALL_S else 2)


def ignore(name: str) -> None:
    """Nobody wants to know which variant is at work."""


def compare(
    names: Sequence[str],
    workload: Workload,
    phase: Phase,
    device: str,
    *,
    task: str,
    budget_s: float,
    required: Collection[str] = (),
    announce: Callable[[str], None] = ignore,
    until_spent: bool = False,
    deadline_s: float | None = None,
    foreseen: Mapping[str, tuple[float, float]] = types.MappingProxyType({}),
    seed: int | None = None,
) -> Iterator[Record]:
    """Time variants against each other and against eager float32 ``parallel``.

    Every round times each variant once, in fresh random order, each after one untimed call of its own, on inputs that
    rotate. It ends when every variant's ratio to the anchor is known to within the margin, or with the budget.

    Args:
        names: variants; the anchor is added where it is missing.
        workload: shapes and lengths.
        phase: ``forward`` is eval mode without gradients; ``forward+backward`` is train mode with dropout 0 and
            gradients to inputs and parameters, cleared outside the timed region.
        device: a label.
        task: that the records belong to.
        budget_s: wall time for the rounds, in seconds; building and first calls come on top.
        required: variants that get the fewest rounds even where these take longer than the budget.
        announce: told the name of each variant before it is touched for the first time, and of each in each round.
        until_spent: go on where every ratio is known, for as long as the budget lasts.
        deadline_s: seconds from now when all has to be done: what would not be is left out, and rounds end before it.
        foreseen: seconds that a call and its compilation may take, by variant; for the deadline.
        seed: of the order within rounds; fresh if left out.

    Yields:
        ``first_call`` as soon as it is known; then per variant ``latency`` (on CUDA also ``launch``, ``device`` and
        ``device_cold``), the proof of its mode and of its honesty, and ``harness_time`` of the comparison.
    """
    every_name = list(dict.fromkeys([ANCHOR, *(str(canonical(name)) for name in names)]))
    abouts = {
        name: About(task=task, variant=name, workload=str(workload), phase=phase, device=device)
        for name in (*every_name, _ALL)
    }
    deadline = Deadline(deadline_s, foreseen)
    with running_on(device):
        lanes: list[Lane] = []
        watch = Watch(strangers=not all(is_ours(mechanisms()[canonical(name).mechanism]) for name in every_name))
        shared: dict[torch.dtype, tuple[Batch, ...]] = {}
        clock = clock_of(device)
        for name in every_name:
            announce(name)
            about = abouts[name]
            needed_s = deadline.too_late_for(name, lanes)
            if needed_s is not None and name != ANCHOR:
                reason = (
                    f"would take about {needed_s:.3g} s, and {max(deadline.left_s, 0):.3g} s of the budget are left"
                )
                yield Skip(quantity="latency", reason=reason, cause="budget", **about)
                continue
            try:
                lane = start(name, workload, phase, device, shared, clock)
                promised = contract.examine(lane.step, about)
            except GeneratorExit:
                raise
            except BaseException as error:  # a variant may raise anything; its neighbours are measured all the same
                watch.undo()
                yield Skip(quantity="latency", **refusal(error), **about)
                continue
            lane.changed |= dict.fromkeys(watch.undo())
            lanes.append(lane)
            yield promised
            yield Measurement(
                quantity="first_call", unit="s", value=lane.first_call_s, details=lane.proof.details(), **about
            )
        lanes, slow = _pace(lanes, budget_s, {ANCHOR, *required})
        for lane in slow:
            yield Skip(
                **abouts[lane.name],
                quantity="latency",
                reason=f"too slow here: one call takes {lane.call_s:.3g} s, the comparison has {budget_s:.3g} s",
                cause="budget",
                details={"call_s": lane.call_s},
            )
        if lanes:
            order = random.Random(seed)
            sampled = _sampled(
                lanes, clock, watch, deadline, announce, order, budget_s=budget_s, until_spent=until_spent
            )
            yield from _told(lanes, sampled, clock, watch, abouts, announce)


def start(
    name: str,
    workload: Workload,
    phase: Phase,
    device: str,
    shared: dict[torch.dtype, tuple[Batch, ...]],
    clock: Clock,
) -> Lane:
    """Build a variant and make its first calls.

    Args:
        name: of the variant.
        workload: shapes and lengths.
        phase: of the step.
        device: a label.
        shared: inputs by dtype, which variants of one comparison share; added to where a dtype is new.
        clock: of the device.
    """
    step = prepare(name, workload, phase, device, inputs=())
    dtype = step.variant.dtype
    if dtype not in shared:
        shared[dtype] = make_inputs(workload, phase, step.variant.device.type, dtype)
    step.inputs = shared[dtype]
    before = mode.compilations()
    call_s = first_call_s = clock.wall(step, 0)
    compiled = mode.compilations()
    step.clear()
    for turn in range(WARM_CALLS if first_call_s < SLOW_CALL_S or compiled != before else 0):
        call_s = clock.wall(step, turn)
        step.clear()
    proof = mode.compilation(before, compiled, mode.compilations())
    return Lane(name=name, step=step, first_call_s=first_call_s, call_s=call_s, proof=proof)


def _pace(lanes: list[Lane], budget_s: float, required: Collection[str]) -> tuple[list[Lane], list[Lane]]:
    """How often each lane is timed, so that all fit; and the lanes that do not fit at all."""
    share = budget_s / max(len(lanes), 1)
    slow = [lane for lane in lanes if LEAST_ROUNDS * lane.turn_s > budget_s and lane.name not in required]
    kept = [lane for lane in lanes if lane not in slow]
    quick = [lane for lane in kept if stats.FIRST_LOOK * lane.turn_s <= share]
    round_s = sum(lane.turn_s for lane in quick)
    patient = [lane for lane in kept if lane not in quick]
    for lane in patient:
        affordable = max(ENOUGH_ROUNDS, int(share / lane.turn_s))
        # as many rounds as the quick ones will need at least, spread evenly over them
        wanted = max(stats.FIRST_LOOK, int(0.5 * budget_s / round_s)) if round_s else affordable
        lane.every = max(1, round(min(wanted, 20 * affordable) / affordable))
    for lane in patient:  # in the same rounds, or there would be no ratio between them
        lane.every = max(other.every for other in patient)
    return kept, slow


@dataclass(frozen=True, kw_only=True)
class _Sampled:
    """What is known of the rounds of a comparison beside their samples."""

    before: conditions.Mark
    after: conditions.Mark
    wall_s: float
    rounds: int
    between_s: tuple[float, ...]
    """What the harness took for each sample."""
    stopped: str
    """By the ``interval`` of every ratio, or by the ``budget``."""


def _sampled(
    lanes: list[Lane],
    clock: Clock,
    watch: Watch,
    deadline: Deadline,
    announce: Callable[[str], None],
    order: random.Random,
    *,
    budget_s: float,
    until_spent: bool,
) -> _Sampled:
    """Take the samples, round by round; they stay with their lanes."""
    collecting = gc.isenabled()
    gc.collect()
    gc.freeze()  # what is here stays; only what the samples leave is looked at between them
    gc.disable()  # a collection inside a sample would be somebody else's garbage
    before = conditions.mark()
    started = time.perf_counter()
    between_s: list[float] = []
    stopped = "budget"
    count = 0
    look = stats.next_look(0)
    try:
        with torch.compiler.set_stance("fail_on_recompile"):
            while True:
                for lane in order.sample(lanes, len(lanes)):
                    if count % lane.every:
                        continue
                    announce(lane.name)
                    begun = time.perf_counter()
                    busy_s = sample(lane, clock, count)
                    # whatever the first calls of one have changed, its others may
                    lane.changed |= dict.fromkeys(watch.undo(quickly=not lane.changed))
                    between_s.append(time.perf_counter() - begun - busy_s)
                count += 1
                spent_s = time.perf_counter() - started
                if count >= look:
                    look = stats.next_look(count)
                    if not until_spent and _narrow(lanes):
                        stopped = "interval"
                        break
                    gc.collect()
                if _is_spent(lanes, count, spent_s, budget_s, deadline):
                    break
    finally:
        gc.unfreeze()
        if collecting:
            gc.enable()
    wall_s = time.perf_counter() - started
    return _Sampled(
        before=before,
        after=conditions.mark(),
        wall_s=wall_s,
        rounds=count,
        between_s=tuple(between_s),
        stopped=stopped,
    )


def _is_spent(lanes: list[Lane], count: int, spent_s: float, budget_s: float, deadline: Deadline) -> bool:
    """Whether there is no time for another round."""
    most = max(lane.every for lane in lanes)
    round_s = spent_s / count
    if count >= MOST_ROUNDS:
        return True
    # each has been timed as often as its neighbours allow
    if count % most == 0 and round_s + deadline.closing_s(lanes) > deadline.left_s:
        return True
    return spent_s + round_s > budget_s and count >= ENOUGH_ROUNDS * most


def _told(
    lanes: list[Lane],
    sampled: _Sampled,
    clock: Clock,
    watch: Watch,
    abouts: Mapping[str, About],
    announce: Callable[[str], None],
) -> Iterator[Record]:
    """The samples of each lane with the reasons against them, and the proofs of its mode and of its honesty."""
    left = watch.undo()
    if len(lanes) > 1 and left:  # it shows after the rounds alone, and nobody knows since when
        left = tuple(f"{phrase}, by one of the variants beside it" for phrase in left)
    threads = torch.get_num_threads()
    common = (
        *clock.doubts(),
        *conditions.process_doubts(sampled.before, sampled.after, sampled.wall_s, threads=threads),
        *(f"the process was changed: {phrase}" for phrase in left),
    )
    in_step = stats.shared_spread([(lane.samples["latency"], lane.rounds) for lane in lanes])
    for lane in lanes:
        announce(lane.name)
        about = abouts[lane.name]
        reasons, figures = conditions.doubts(
            lane.samples["latency"],
            lane.cpu_s,
            lane.switched,
            before=sampled.before,
            after=sampled.after,
            wall_s=sampled.wall_s,
            shared_spread=in_step,
        )
        details: dict[str, Detail] = {"stopped": sampled.stopped, "every": lane.every, **figures, **clock.details()}
        if lane.step.variant.device.type == "cpu":
            details |= {"threads": threads, "wait_policy": os.environ.get("OMP_WAIT_POLICY", "")}
        for quantity, samples in lane.samples.items():
            yield Measurement(
                quantity=quantity,
                unit="s",
                samples=tuple(samples),
                rounds=tuple(lane.rounds),
                trust=(*reasons, *common, *(f"it changes {phrase}; undone after each call" for phrase in lane.changed)),
                details=details,
                **about,
            )
        yield from mode.prove(lane.step, lane.proof, about)
        if lane.call_s <= SLOW_CALL_S or not lane.step.learns:  # what cheats does so in either phase
            yield honesty.examine(lane.step, about)
        watch.undo()
    yield Measurement(
        **abouts[_ALL],
        quantity="harness_time",
        unit="s",
        value=median(sampled.between_s),
        details={"per": "sample", "rounds": sampled.rounds, "sampled_s": round(sampled.wall_s, 3)},
    )


def sample(lane: Lane, clock: Clock, turn: int) -> float:
    """One untimed call where it is quick, and one timed call that is kept; the seconds that both took."""
    busy_s = clock.wall(lane.step, turn) if lane.call_s <= SLOW_CALL_S else 0.0
    lane.step.clear()
    switched = conditions.switches()
    started = time.perf_counter()
    reading = clock.read(lane.step, turn)
    busy_s += time.perf_counter() - started
    lane.switched += conditions.switches() - switched
    lane.step.clear()
    for quantity, seconds in reading.seconds.items():
        lane.samples.setdefault(quantity, []).append(seconds)
    if reading.cpu_s is not None:
        lane.cpu_s.append(reading.cpu_s)
    lane.rounds.append(turn)
    return busy_s


def _narrow(lanes: list[Lane]) -> bool:
    anchor = next((lane for lane in lanes if lane.name == ANCHOR), None)
    if anchor is None:
        return False
    return all(
        stats.narrow_enough(stats.ratio(lane.samples["latency"], lane.rounds, anchor.samples["latency"], anchor.rounds))
        for lane in lanes
        if lane is not anchor
    )
