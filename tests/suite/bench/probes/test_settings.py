"""What one variant changes in the process is seen, said and undone; what breaks the contract is broken."""

import builtins
import functools
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from suite.bench.probes import clocks, conditions, contract, functions, honesty, timing
from suite.bench.probes.conditions import Mark, process_doubts
from suite.bench.probes.settings import Watch
from suite.bench.probes.step import make_inputs, prepare
from suite.bench.tasks import About
from suite.core.records import Finding, Measurement, Record
from suite.core.workloads import WORKLOADS, Phase
from tests.lanes import one_in
from variants import Attended, Batch, CoAttention, mechanisms, parallel, register, registry
from variants.masking import masked_mean
from variants.parallel import Parallel

TINY = WORKLOADS["tiny"]
ABOUT = About(task="t", variant="own", workload="tiny", phase="forward", device="cpu")


class Through(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return func(*args, **(kwargs or {}))


class Below(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda: torch.set_num_threads(torch.get_num_threads() + 1), "the number of threads"),
        (lambda: torch.set_default_dtype(torch.float64), "the default dtype (torch.float32 to torch.float64)"),
        (lambda: torch.set_default_device("meta"), "the default device (cpu to meta)"),
        (lambda: torch.set_grad_enabled(False), "whether gradients are recorded (True to False)"),
        (lambda: torch.set_autocast_enabled("cpu", True), "autocast"),
        pytest.param(
            lambda: torch.use_deterministic_algorithms(True),
            "deterministic algorithms",
            marks=pytest.mark.slow,  # torch loads its compiler to say so there, too
        ),
        (lambda: torch.set_float32_matmul_precision("medium"), "the precision of products"),
        (lambda: torch.autograd.set_detect_anomaly(True), "anomaly detection"),
        (lambda: setattr(torch.backends.mkldnn, "enabled", False), "oneDNN"),
        (lambda: torch.set_flush_denormal(True), "whether the smallest numbers count as zero"),
        (lambda: setattr(time, "perf_counter", lambda: 0.0), "the clocks"),
        (lambda: sys.setprofile(lambda *_: None), "what traces calls"),
        (lambda: os.environ.update(OWN_SETTING="1"), "the environment"),
        (lambda: os.environ.pop("PATH"), "the environment"),
        (lambda: os.chdir("/"), "the working directory"),
        (lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN), "what signals do"),
        (lambda: sys.setrecursionlimit(500), "the limit on recursion"),
        (lambda: setattr(sys, "stderr", None), "the standard streams"),
        (lambda: warnings.filterwarnings("error", "a word"), "which warnings are errors"),
        (lambda: Through().__enter__(), "the modes that every call of torch goes through"),
        (lambda: Below().__enter__(), "the modes that every call of torch goes through"),
        (lambda: register_module_forward_hook(lambda *_: None), "the hooks of every module"),
        (lambda: setattr(torch, "softmax", torch.sigmoid), "functions that others call (torch.softmax)"),
        (lambda: setattr(torch.Tensor, "softmax", None), "functions that others call (torch.Tensor.softmax)"),
        (lambda: setattr(torch.nn.Linear, "forward", None), "functions that others call (torch.nn.Linear.forward)"),
        (lambda: setattr(Parallel, "forward", None), "functions that others call (variants.parallel.Parallel.forward)"),
        (lambda: setattr(parallel, "masked_softmax", None), "functions that others call (variants.parallel.masked_s"),
        (lambda: setattr(clocks, "perf_counter", lambda: 0.0), "functions that others call (suite.bench.probes.clocks"),
        (lambda: setattr(builtins, "isinstance", None), "Python's own functions (isinstance)"),
        (lambda: delattr(builtins, "len"), "Python's own functions (len)"),
    ],
    ids=range(30),
)
def test_a_change_is_said_and_undone(change: Callable[[], object], said: str) -> None:
    watch = Watch()
    change()
    changed = watch.undo()
    assert len(changed) == 1
    assert changed[0].startswith(said)
    assert Watch().undo() == watch.undo() == ()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no process is bound to CPUs here")
def test_being_bound_to_a_cpu_is_said_and_undone() -> None:
    watch, cpus = Watch(), os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    assert watch.undo() == (() if len(cpus) == 1 else ("the CPUs that it may use",))
    assert os.sched_getaffinity(0) == cpus


def test_what_torch_puts_around_a_function_of_its_own_is_no_change_and_what_a_user_puts_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch, seeds = Watch(), torch.manual_seed
    # as its compiler does when it is loaded
    monkeypatch.setattr(torch, "manual_seed", torch._disable_dynamo(seeds))
    monkeypatch.setattr(torch.nn, "Own", Own, raising=False)  # nobody calls what was not there before
    assert watch.undo() == ()
    monkeypatch.setattr(torch, "manual_seed", functools.wraps(seeds)(lambda seed: seeds(0)))
    assert watch.undo() == ("functions that others call (torch.manual_seed)",)
    assert torch.manual_seed is seeds


def test_drawing_numbers_changes_nothing() -> None:
    watch = Watch()
    torch.rand(3)
    assert watch.undo() == ()


def test_a_thread_that_was_left_running_is_counted() -> None:
    watch, ended = Watch(), threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    assert watch.threads() == 1
    ended.set()
    thread.join()
    assert watch.threads() == 0


def test_other_threads_and_another_clock_are_doubts() -> None:
    quiet = Mark(waited_s=None, stolen_s=None, own_s=1.0, thread_s=1.0, clock_s=5.0, steady_s=100.0)
    after = Mark(waited_s=None, stolen_s=None, own_s=2.0, thread_s=2.0, clock_s=6.0, steady_s=101.0)
    assert process_doubts(quiet, after, 1.0, threads=1) == ()
    busy = Mark(waited_s=None, stolen_s=None, own_s=2.5, thread_s=1.5, clock_s=6.0, steady_s=101.0)
    (reason,) = process_doubts(quiet, busy, 1.0, threads=1)
    assert reason == "other threads of its process had a CPU for 100% of the time"
    assert process_doubts(quiet, busy, 1.0, threads=2) == (), "its own threads cannot be told from others"
    (reason,) = process_doubts(quiet, replace(after, clock_s=5.1), 1.0, threads=1)
    assert reason == "its clock counted 0.1 s while another clock counted 1 s"


def test_clocks_read_by_a_process_that_is_put_off_the_cpu_do_not_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    if conditions.mark().steady_s is None:
        pytest.skip("there is one clock alone")
    put_off, clock = iter([0.0, 0.0, 0.0, 0.5]), time.perf_counter

    def read_late() -> float:
        time.sleep(next(put_off, 0.0))
        return clock()

    monkeypatch.setattr(conditions, "perf_counter", read_late)
    before, after = conditions.mark(), conditions.mark()
    assert process_doubts(before, after, 0.1, threads=1) == ()


def test_the_machine_has_two_clocks_that_agree() -> None:
    before, started = conditions.mark(), time.perf_counter()
    time.sleep(0.05)
    wall_s, after = time.perf_counter() - started, conditions.mark()
    assert process_doubts(before, after, wall_s, threads=1) == ()


class Own(CoAttention):
    """Masked means; what is planted happens before them, or to them."""

    source = "planted"

    def forward(self, batch: Batch) -> Attended:
        self.before()
        image, image_weights = masked_mean(batch.image, batch.image_valid)
        question, question_weights = masked_mean(batch.question, batch.question_valid)
        return self.after(
            Attended(image[:, None], question[:, None], image_weights[:, None], question_weights[:, None])
        )

    def before(self) -> None:
        """Nothing, in the sound one."""

    def after(self, attended: Attended) -> Attended:
        return attended


BREAKS: dict[str, tuple[Callable[[Attended], object], str]] = {
    "plain": (lambda it: it, ""),
    "tuple": (tuple, "returns tuple, expected Attended"),
    "nothing": (lambda it: None, "returns NoneType"),
    "mapping": (lambda it: it._asdict(), "returns dict"),
    "list": (list, "returns list"),
    "text": (lambda it: it._replace(image="x"), "image is str, expected a tensor"),
    "flat": (lambda it: it._replace(image=it.image[:, 0]), "image has shape [4, 64], expected [4, glimpses, width]"),
    "short": (lambda it: it._replace(question=it.question[:3]), "question has shape [3, 1, 64]"),
    "glimpses": (lambda it: it._replace(image_weights=it.image_weights.expand(-1, 2, -1)), "image_weights has shape"),
    "slots": (lambda it: it._replace(question_weights=it.question_weights[..., :2]), "question_weights has shape"),
    "whole": (lambda it: it._replace(image=it.image.long()), "image has dtype torch.int64"),
    "nan": (lambda it: it._replace(image=it.image * float("nan")), "image is not finite on inputs that are"),
    "negative": (lambda it: it._replace(image_weights=it.image_weights - 0.5), "image_weights has -0.5"),
    "sums": (lambda it: it._replace(question_weights=it.question_weights * 2), "a row of question_weights sums to 2"),
    "detached": (lambda it: Attended(*(one.detach() for one in it)), "no output has a gradient"),
}


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_MECHANISMS", mechanisms())


@pytest.mark.parametrize("name", BREAKS)
def test_what_breaks_the_contract_is_broken_and_says_in_what(name: str) -> None:
    broken, said = BREAKS[name]
    register("own")(type("Broken", (Own,), {"after": lambda self, attended: broken(attended)}))
    phase: Phase = "forward+backward" if name == "detached" else "forward"
    step = prepare("own", TINY, phase, "cpu")
    step.inputs = make_inputs(TINY, phase, "cpu", torch.float32)
    finding = contract.examine(step, ABOUT)
    assert finding.verdict == ("broken" if said else "holds")
    assert said in finding.summary
    if phase == "forward":  # what it returns ends no comparison, in which that would be lost
        assert honesty.examine(step, ABOUT).quantity == "honesty"


@pytest.mark.parametrize("name", one_in(5, sorted(mechanisms())))
def test_nothing_that_is_built_in_breaks_the_contract(name: str) -> None:
    for variant in (name, f"{name}+bf16"):
        if variant == "published_allennlp+bf16":  # raises, as published
            continue
        finding = contract.examine(prepare(variant, TINY, "forward", "cpu"), ABOUT)
        # its weights are scores, and declared so
        expected = "known" if name == "published_drugban" else "holds"
        assert finding.verdict == expected, (variant, finding.summary)


def test_functions_that_one_puts_in_the_place_of_others_are_not_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "tanh", torch.tanh)

    class Patches(Own):
        def before(self) -> None:
            torch.tanh = lambda *_: 1 / 0  # type: ignore[assignment,return-value]

    register("patches")(Patches)
    records = compared("patches", "alternating")
    assert "it changes functions that others call (torch.tanh); undone after each call" in " ".join(
        latency(records, "patches").trust
    )
    for neighbour in ("parallel", "alternating"):
        assert not [reason for reason in latency(records, neighbour).trust if "change" in reason]


def test_what_the_compiler_puts_in_the_place_of_torchs_functions_and_what_is_added_is_no_change() -> None:
    from torch._dynamo.mutation_guard import install_generation_tagging_init

    before = functions.Functions()
    install_generation_tagging_init()  # as the first compilation of a module with submodules does
    parallel.added_later = len  # type: ignore[attr-defined]
    try:
        now = functions.Functions()
        assert now == before
        assert before == now
        assert not before.changed(now)
    finally:
        del parallel.added_later  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_compiled_form_of_a_users_mechanism_changes_nothing() -> None:
    register("own")(Own)
    for name in ("own", "own+compile", "parallel"):
        assert not [why for why in latency(compared("own", "own+compile"), name).trust if "change" in why]


def compared(*names: str, phase: Phase = "forward") -> list[Record]:
    return list(timing.compare(names, TINY, phase, "cpu", task="t", budget_s=0.2, required=names))


def latency(records: list[Record], variant: str) -> Measurement:
    (found,) = [
        it for it in records if isinstance(it, Measurement) and it.quantity == "latency" and it.variant == variant
    ]
    return found


def test_a_meddler_is_flagged_its_neighbours_are_not_and_both_are_timed() -> None:
    threads = torch.get_num_threads()

    class Meddler(Own):
        def before(self) -> None:
            torch.set_num_threads(2)
            torch.set_default_dtype(torch.float64)
            time.perf_counter = lambda: 0.0

    register("meddler")(Meddler)
    records = compared("meddler")
    assert torch.get_num_threads() == threads
    assert torch.get_default_dtype() == torch.float32
    flags = " ".join(latency(records, "meddler").trust)
    for said in ("the number of threads (1 to 2)", "the default dtype", "the clocks"):
        assert f"it changes {said}" in flags
    assert not [reason for reason in latency(records, "parallel").trust if "change" in reason]
    assert min(latency(records, "meddler").samples) > 0, "timed by the clock that was there before"


def test_one_that_returns_nonsense_is_broken_and_one_that_turns_gradients_off_too() -> None:
    class Forgetful(Own):
        def before(self) -> None:
            torch.set_grad_enabled(False)

    register("forgetful")(Forgetful)
    records = compared("forgetful", phase="forward+backward")
    promised = {it.variant: it for it in records if isinstance(it, Finding) and it.quantity == "contract"}
    assert promised["forgetful"].verdict == "broken"
    assert promised["forgetful"].summary == "no output has a gradient, so that there is no backward pass"
    assert promised["parallel"].verdict == "holds"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, BaseException])
def test_whatever_a_variant_raises_its_neighbours_are_timed(error: type[BaseException]) -> None:
    class Raises(Own):
        def before(self) -> None:
            raise error(0)

    register("raises")(Raises)
    assert latency(compared("raises"), "parallel").samples
