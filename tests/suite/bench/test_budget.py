"""A budget is a promise: runs of made-up machines, on a clock that is made up too, end when they should."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rich.console import Console

from suite.bench.budget import LEAST_S, Budget, Paces
from suite.bench.estimate import Speed, compiles, dtype_of
from suite.bench.plan import machine_tasks, plan
from suite.bench.request import Asked, Request, understand
from suite.bench.run import Session
from suite.bench.tasks import Audit, Comparison, Examination, Task
from suite.core import store
from suite.core.records import UNITS, Measurement, Record, Skip, encode
from suite.core.workloads import CLASSIC, PHASES
from suite.execution.jobs import Ending, Job, News, Node, Ticket
from tests.lanes import one_in
from variants import canonical


@dataclass(kw_only=True)
class Machine:
    """A made-up machine: how fast it is, what it can do, and how its times scatter; and its clock."""

    pace: float = 1.0
    """Seconds that come for each that a nominal machine takes."""
    slower: dict[str, float] = field(default_factory=lambda: {"bfloat16": 20.0, "float16": 40.0})
    """How many times as long products take as in float32."""
    kinds: dict[str, float] = field(default_factory=dict)
    """What each kind of task takes over what the model says, which nobody knows before."""
    noise: float = 0.2
    busy: float = 1.0
    """How many times as long products take while the machine is measured for the first time."""
    start_s: float = 6.0
    seed: int = 0
    time_s: float = 0.0
    began: list[Task] = field(default_factory=list)
    ended: dict[str, float] = field(default_factory=dict)
    patience_s: float = 300.0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        rates = {"float32": 6e10 / self.pace}
        rates |= {name: rates["float32"] / times for name, times in self.slower.items()}
        self.rates = rates
        self.truth = Speed(flops_per_s=rates)
        self.time_s = self.pace * self.start_s
        self.at_work: dict[Ticket, Simulated] = {}

    def nodes(self) -> Sequence[Node]:
        return [Node(name="", beside=2)]

    def start(self, job: Job, node: Node) -> Ticket:
        self.began.append(job.what)
        self.at_work[str(len(self.began))] = Simulated(self, job.what)
        return str(len(self.began))

    def wait(self, seconds: float) -> Sequence[News]:
        nearest = min(one.end_s for one in self.at_work.values())
        self.time_s = max(self.time_s + 1e-3, min(self.time_s + 4 * seconds, nearest))
        return [self._news(ticket, one) for ticket, one in list(self.at_work.items())]

    def _news(self, ticket: Ticket, one: "Simulated") -> News:
        if self.time_s < one.end_s:
            return News(ticket=ticket, began=True)
        self.ended[one.task.name] = self.time_s
        del self.at_work[ticket]
        lines = tuple(map(encode, one.records))
        return News(ticket=ticket, ending=Ending(way="done"), took_s=self.time_s - one.start_s, lines=lines)

    def cancel(self, ticket: Ticket) -> News:
        del self.at_work[ticket]
        return News(ticket=ticket)

    def now(self) -> float:
        return self.time_s

    def work_s(self, kind: str, seconds: float) -> float:
        """What so much work of a kind takes here."""
        return self.kinds.get(kind, 1.0) * seconds * self.random.lognormvariate(0.0, self.noise)


class Simulated:
    """A job that takes its time without doing anything, and behaves as the real ones do at a deadline."""

    def __init__(self, machine: Machine, task: Task) -> None:
        self.task = task
        self.start_s = machine.time_s
        self.records: list[Record] = []
        self._machine = machine
        self.end_s = self.start_s + self._run()

    def _run(self) -> float:
        machine, task = self._machine, self.task
        specs = [canonical(name) for name in task.variants]
        if task.kind == "machine":
            slower = 1.0 if task.label else machine.busy
            for dtype, rate in machine.rates.items():
                self._add("gemm_time", slower * 2e9 / rate, details={"dtype": dtype, "flops": 2e9})
            return self._end(3.0 * machine.pace)
        what = task.what
        if isinstance(what, Audit):
            compiling = sum(machine.work_s("compiling", 14.0 * machine.pace) for spec in specs if compiles(spec))
            return self._end(machine.work_s("masking", machine.pace * machine.truth.audit_s(specs[0])) + compiling)
        assert isinstance(what, Comparison | Examination)
        if isinstance(what, Examination):
            compile_s = 0.6 * machine.pace * machine.truth.compile_s(specs[0], what.workload, what.phase)
            took = machine.work_s("examination", machine.truth.examine_s(specs[0], what.workload, what.phase))
            call_s = machine.truth.call_s(specs[0], what.workload, what.phase)
            self._add("matmul_flops", 0.7 * machine.rates["float32"] * call_s, variant=str(specs[0]))
            return self._end(took + machine.work_s("compiling", compile_s))
        spent, round_s, calls = 0.3 * machine.pace, 0.0, {}
        thought_s = {it.variant: it for it in what.foreseen}
        for spec in specs:
            plain_name = str(spec).partition("+")[0]
            call_s = machine.work_s("timing", machine.truth.call_s(spec, what.workload, what.phase))
            compile_s = machine.work_s(
                "compiling", machine.pace * machine.truth.compile_s(spec, what.workload, what.phase)
            )
            left_s = (what.deadline_s or 1e9) - spent
            if spec.transforms and str(spec) in thought_s:
                foreseen, eager = thought_s[str(spec)], thought_s[plain_name]
                thought = foreseen.call_s * calls[plain_name] / eager.call_s
                too_late = 11 * (thought + round_s) + foreseen.compile_s > left_s
            else:
                too_late = False
            if too_late:
                self.records.append(
                    Skip(
                        task=task.name,
                        variant=str(spec),
                        workload=str(what.workload),
                        phase=what.phase,
                        device=task.device,
                        quantity="latency",
                        reason="would take long",
                        cause="budget",
                    )
                )
                continue
            calls[str(spec)] = call_s
            round_s += call_s
            spent += 3 * call_s + compile_s + 0.1 * machine.pace
            self._add("first_call", call_s + compile_s, variant=str(spec))
        sampled = max(task.sampling_s, 12 * round_s)
        sampled = min(sampled, max(round_s, (what.deadline_s or 1e9) - spent - 4 * round_s))
        for name, call_s in calls.items():
            self._add("latency", call_s, variant=name)
        self._add("harness_time", 1e-4, details={"sampled_s": sampled})
        return self._end(spent + sampled + 4 * round_s)

    def _add(self, quantity: str, value: float, variant: str = "", details: dict[str, object] | None = None) -> None:
        task = self.task
        self.records.append(
            Measurement(
                task=task.name, variant=variant, workload=str(task.what.workload or ""), phase=task.what.phase or "",
                device=task.device, quantity=quantity, unit=UNITS[quantity],
                value=None if quantity == "latency" else value,
                samples=(value,) * 6 if quantity == "latency" else (), details=details or {},  # type: ignore[arg-type]
                rounds=tuple(range(6)) if quantity == "latency" else (),
            )
        )  # fmt: skip

    def _end(self, took_s: float) -> float:
        self._add("task_time", took_s)
        return took_s


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a simulated run."""

    machine: Machine
    records: Sequence[Record]
    measured_s: float
    """When it had measured all."""
    total_s: float
    """When its last page was written."""

    @property
    def foretold(self) -> tuple[float, float]:
        """What it thought was left, and what was."""
        (it,) = [it for it in self.records if isinstance(it, Measurement) and it.quantity == "time_left"]
        return it.value or 0.0, self.total_s - float(str(it.details["after_s"]))


def simulated(asked: Asked, machine: Machine, folder: Path, *, page: float = 0.02) -> Outcome:
    """Run what was asked on a machine whose pages take half as long as its start, and so much more for each cell."""
    folder.mkdir()
    start_s = machine.time_s
    with store.Writer(folder) as writer:
        session = Session(
            asked, folder, folder, writer, (), Console(quiet=True, stderr=True), began=0.0, executor=machine
        )
        assert not session.run()
        measured_s = session.ended_s
        timed = {
            (it.variant, it.phase) for it in session.records if isinstance(it, Measurement) and it.quantity == "latency"
        }
        cells = len(timed)
        return Outcome(
            machine=machine,
            records=list(session.records),
            measured_s=measured_s,
            total_s=measured_s + (0.5 + page * cells) * start_s,
        )


@pytest.fixture(scope="module")
def default() -> Asked:
    return understand(Request(device="cpu"))


def kinds(seed: int, spread: float) -> dict[str, float]:
    """What each kind of task takes over the model, drawn."""
    draw = random.Random(seed)
    return {kind: draw.lognormvariate(0.0, spread) for kind in ("timing", "masking", "examination", "compiling")}


MACHINES = [
    pytest.param({"pace": pace, "kinds": kinds(seed, spread), "noise": noise, "seed": seed, "slower": slower}, id=name)
    for seed, (name, pace, spread, noise, slower) in enumerate(
        [
            ("nominal", 1.0, 0.0, 0.1, {"bfloat16": 20.0, "float16": 40.0}),
            ("quick", 0.3, 0.3, 0.2, {"bfloat16": 20.0, "float16": 40.0}),
            ("slow", 3.0, 0.3, 0.2, {"bfloat16": 5.0, "float16": 60.0}),
            ("very slow", 5.0, 0.0, 0.3, {"bfloat16": 20.0, "float16": 40.0}),
            ("unlike the model", 1.0, 0.7, 0.3, {"bfloat16": 20.0, "float16": 40.0}),
            ("with instructions", 1.0, 0.3, 0.2, {"bfloat16": 0.3, "float16": 0.4}),
            ("noisy", 1.5, 0.3, 0.6, {"bfloat16": 2.0, "float16": 20.0}),
        ]
    )
]


def required(name: str, machine: Machine) -> bool:
    """Whether the default may not leave a variant out before others."""
    spec = canonical(name)
    if not spec.transforms:
        return name in CLASSIC
    return spec.mechanism == "parallel" and machine.slower.get(dtype_of(spec), 1.0) <= 1


@pytest.mark.parametrize("made", one_in(4, MACHINES))
def test_the_default_ends_with_its_budget_and_knew_it_after_a_tenth(
    made: dict[str, object], default: Asked, tmp_path: Path
) -> None:
    outcome = simulated(default, Machine(**made), tmp_path / "run")  # type: ignore[arg-type]
    assert default.budget_s is not None
    assert outcome.total_s <= 1.1 * default.budget_s
    thought_s, left_s = outcome.foretold
    assert thought_s == pytest.approx(left_s, rel=0.25)


@pytest.mark.parametrize("made", one_in(4, MACHINES))
@pytest.mark.parametrize("budget_s", [60, 1200])
def test_a_budget_that_was_asked_for_is_spent_and_kept(made: dict[str, object], budget_s: int, tmp_path: Path) -> None:
    machine = Machine(**made)  # type: ignore[arg-type]
    names = ("parallel", "parallel+bf16", "alternating", "alternating+bf16", "cross", "pool")
    asked = understand(
        Request(variants=names, workloads=("vqa-grid",), sets=("batch=2",), device="cpu", budget_s=budget_s)
    )
    start_s = machine.time_s
    outcome = simulated(asked, machine, tmp_path / "run")
    if start_s > 0.3 * budget_s:
        return  # the start and the pages alone take most of it
    assert outcome.total_s == pytest.approx(budget_s, rel=0.1)
    thought_s, left_s = outcome.foretold
    assert thought_s == pytest.approx(left_s, rel=0.25)


@pytest.mark.parametrize("made", one_in(4, MACHINES))
@pytest.mark.parametrize("budget_s", [40, 600])
def test_nothing_required_is_left_out_where_something_else_ran(
    made: dict[str, object], budget_s: int, tmp_path: Path
) -> None:
    machine = Machine(**made)  # type: ignore[arg-type]
    outcome = simulated(understand(Request(device="cpu", budget_s=budget_s)), machine, tmp_path / "run")
    begun = {name for task in machine.began for name in task.variants}
    audited = {task.variants[-1] for task in machine.began if isinstance(task.what, Audit)}  # of all, in eager float32
    optional = {name for name in begun if not required(name, machine)} - audited
    optional |= {
        name for task in machine.began if task.what.workload for name in task.variants if not required(name, machine)
    }
    lost = {
        item.variant
        for item in outcome.records
        if isinstance(item, Skip) and item.cause == "budget" and required(item.variant, machine)
    }
    assert not (optional and lost)


def test_what_is_slow_takes_no_time_that_a_required_comparison_after_it_needs(default: Asked, tmp_path: Path) -> None:
    # the slowest mechanism in all its rounds, or the compiled form at all: both do not fit
    machine = Machine(kinds={"timing": 2.5, "compiling": 1.0}, noise=0.0)
    outcome = simulated(default, machine, tmp_path / "run")
    timed = {
        (it.variant, it.phase)
        for it in outcome.records
        if isinstance(it, Measurement) and it.quantity == "latency" and required(it.variant, machine)
    }
    assert timed == {(name, phase) for name in (*CLASSIC, "parallel+compile") for phase in PHASES}


def test_a_run_that_is_cut_short_says_so_with_the_command_for_each_and_is_no_failure(
    default: Asked, tmp_path: Path
) -> None:
    from suite.core import exits

    outcome = simulated(default, Machine(pace=3.0), tmp_path / "run")
    skips = [item for item in outcome.records if isinstance(item, Skip)]
    assert skips
    assert {skip.cause for skip in skips} == {"budget"}
    assert all(skip.remedy.startswith("python run_all.py run ") for skip in skips if skip.quantity != "latency")
    assert exits.code(outcome.records) == exits.DONE


def test_types_without_instructions_are_named_and_come_last(default: Asked, tmp_path: Path) -> None:
    outcome = simulated(default, Machine(slower={"bfloat16": 30.0, "float16": 0.5}), tmp_path / "run")
    late = [item for item in outcome.records if isinstance(item, Skip) and "bf16" in item.variant]
    assert late
    assert all("no instructions for bfloat16 here" in skip.reason for skip in late)
    assert not any("no instructions for float16" in item.reason for item in outcome.records if isinstance(item, Skip))
    order = [name for task in outcome.machine.began if isinstance(task.what, Comparison) for name in task.variants]
    assert "parallel+fp16" in order
    assert "parallel+bf16" not in order[: order.index("parallel+fp16")]


def test_the_first_task_of_a_slow_machine_runs_although_the_start_has_spent_the_budget(tmp_path: Path) -> None:
    asked = understand(Request(variants=("parallel", "pool"), workloads=("tiny",), device="cpu", budget_s=LEAST_S))
    outcome = simulated(asked, Machine(pace=5.0), tmp_path / "run")
    assert any(isinstance(item, Measurement) and item.quantity == "latency" for item in outcome.records)


def test_a_budget_below_the_least_measures_what_is_required_at_its_shortest(tmp_path: Path) -> None:
    asked = understand(Request(variants=("parallel", "pool"), workloads=("tiny",), device="cpu", budget_s=10))
    outcome = simulated(asked, Machine(), tmp_path / "run")
    timed = {item.variant for item in outcome.records if isinstance(item, Measurement) and item.quantity == "latency"}
    assert timed == {"parallel", "pool"}
    assert not any(isinstance(item, Skip) for item in outcome.records)


@pytest.mark.parametrize(("busy", "times"), [(1.0, 1), (2.0, 2)])
def test_what_the_machine_can_do_is_measured_again_where_a_variant_did_more(
    busy: float, times: int, default: Asked, tmp_path: Path
) -> None:
    outcome = simulated(default, Machine(busy=busy, noise=0.0), tmp_path / "run")
    assert [task.kind for task in outcome.machine.began].count("machine") == times


def test_the_first_record_comes_before_anything_long(default: Asked, tmp_path: Path) -> None:
    outcome = simulated(default, Machine(), tmp_path / "run")
    assert min(outcome.machine.ended.values()) < 20


def tasks(asked: Asked) -> Iterator[Task]:
    yield from plan(asked, Speed(flops_per_s={"float32": 6e10, "bfloat16": 1e9, "float16": 1e9})).tasks


def test_what_is_learnt_of_one_kind_does_not_move_another(default: Asked) -> None:
    paces = Paces()
    comparison = next(task for task in tasks(default) if isinstance(task.what, Comparison))
    audit = next(task for task in tasks(default) if isinstance(task.what, Audit))
    for _ in range(50):
        paces.learn(comparison, took_s=comparison.sampling_s + 3 * comparison.work_s, sampled_s=comparison.sampling_s)
        paces.learn(audit, took_s=audit.work_s)
    assert paces.of("timing") == pytest.approx(3, rel=0.15)
    assert paces.of("masking") == pytest.approx(1, rel=0.15)


def test_a_measured_call_corrects_what_is_expected_of_its_other_modes(default: Asked) -> None:
    speed = Speed(flops_per_s={"float32": 6e10, "bfloat16": 1e9, "float16": 1e9})
    workload = default.workloads[0]
    narrow, wide = canonical("cross+bf16"), canonical("cross")
    thought_s = speed.call_s(narrow, workload, "forward")
    speed.learn(
        [
            Measurement(
                task="t", variant="cross", workload=str(workload), phase="forward", device="cpu", quantity="latency",
                unit="s", samples=(4 * speed.call_s(wide, workload, "forward"),),
            )
        ]
    )  # fmt: skip
    assert speed.call_s(narrow, workload, "forward") == pytest.approx(4 * thought_s)


def test_without_a_budget_everything_is_given_its_time(default: Asked) -> None:
    budget = Budget(total_s=None)
    for task in tasks(default):
        assert budget.affords(task, [], elapsed_s=1e6) == task
    assert not budget.over(1e6)
    assert [task.kind for task in machine_tasks(default)] == ["machine"]
