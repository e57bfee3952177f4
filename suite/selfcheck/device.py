"""Every path that only a GPU runs, once each on the device at hand, in a minute: what works here, and what does not.

Paths stand in lanes, a process each and side by side, since what takes long is compilation on the host. A path that
takes its process along (a lost context, a crash) costs itself alone: the others of its lane go on in a new one.
"""

import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from suite.bench.tasks import About, Target
from suite.core.errors import words
from suite.core.records import Artifact, Finding, Measurement, Record
from suite.core.workloads import CLASSIC, TODAY, WORKLOADS, Phase
from suite.execution.guest import LONGEST_START_S, Guest
from suite.selfcheck.bench import Bench
from suite.selfcheck.row import not_here, row

WITHIN_S, PATIENT_S = 60.0, 600.0
"""For all of it, from when the first path begins; and with ``--full``."""
SMALL = replace(WORKLOADS["tiny"], batch=3)
CUDA = "cuda"
_TASK = "selfcheck device"
_EXACT, _ROUNDED = 2e-6, 1e-4
"""A product of float32 errs by less than the first where it is computed as such, and by more than the second where its
factors were rounded to TF32; relative, by norm."""


class Wrong(Exception):
    """What a path gave is not what it ought to give; the message says by how much."""


Look = Callable[[], str]
"""Goes a path, and says in a few words what it met. It raises what goes wrong, and `Skip` for what cannot be had."""


def _agrees(name: str, phase: Phase) -> str:
    from suite.bench.probes import agreement

    said = ""
    for record in agreement.check(Target(name, SMALL, phase, CUDA, task=_TASK)):
        if isinstance(record, Finding) and record.verdict == "broken":
            raise Wrong(record.summary)
        if isinstance(record, Measurement) and record.value is not None:
            said = f"errs by {record.value:.1e}, allowed {record.details['limit']:.1e}"
    return said


def _measured(records: Iterator[Record]) -> dict[str, float]:
    found: dict[str, float] = {}
    for record in records:
        if isinstance(record, Finding) and record.verdict == "broken":
            raise Wrong(record.summary)
        if isinstance(record, Measurement) and record.value is not None:
            found[record.quantity] = record.value
    return found


def _context() -> str:
    import torch

    properties = torch.cuda.get_device_properties()
    if torch.ones(8, device=CUDA).sum().item() != 8:
        raise Wrong("eight ones do not sum to eight")
    return (
        f"{properties.name}, {properties.multi_processor_count} processors, "
        f"{properties.total_memory / 2**30:.1f} GiB, L2 {properties.L2_cache_size / 2**20:.0f} MiB, "
        f"capability {properties.major}.{properties.minor}, CUDA {torch.version.cuda}, torch {torch.__version__}"
    )


def _product_error() -> float:
    import torch

    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(512, 512, generator=generator) for _ in range(2))
    exact = left.double() @ right.double()
    found = (left.to(CUDA) @ right.to(CUDA)).cpu().double()
    return float((found - exact).norm() / exact.norm())


def _float32() -> str:
    from suite.bench.probes.step import running_on

    with running_on(CUDA):
        error = _product_error()
    if not error < _EXACT:
        raise Wrong(f"a product of float32 errs by {error:.1e}: it was rounded on the way")
    return f"a product errs by {error:.1e}"


def _tf32() -> str:
    from variants import Skip, build
    from variants.transforms.precision import rounding_to_tf32

    build("parallel+tf32", width=16, device=CUDA)  # where the device has none, this says so
    with rounding_to_tf32():
        error = _product_error()
    if error < _EXACT:
        raise Skip(f"a product errs by {error:.1e} only: this library did not round it")
    if not error < 100 * _ROUNDED:
        raise Wrong(f"a product rounded to TF32 errs by {error:.1e}")
    return f"a product errs by {error:.1e}"


def _clock() -> str:
    from suite.bench.probes.clocks import clock_of
    from suite.bench.probes.step import prepare, running_on

    with running_on(CUDA):
        step, clock = prepare("parallel", SMALL, "forward+backward", CUDA), clock_of(CUDA)
        clock.wall(step, 0)
        step.clear()
        taken = clock.read(step, 0).seconds
        if not 0 < taken["launch"] <= taken["latency"]:
            raise Wrong(f"the launch took {taken['launch']:.1e} s of {taken['latency']:.1e} s")
        if clock.doubts():
            raise Wrong("; ".join(clock.doubts()))
        if not min(taken["device"], taken["device_cold"]) > 0:
            raise Wrong("the device's events lie on one another")
    return ", ".join(f"{name} {1e6 * seconds:.0f} us" for name, seconds in taken.items())


def _telemetry() -> str:
    from suite.bench.probes.telemetry import Telemetry

    looking = Telemetry()
    looking.look()
    return ", ".join(f"{name} {value}" for name, value in looking.details().items()) or "nothing"


def _memory() -> str:
    from suite.bench.probes import memory

    found = _measured(memory.measure(Target("parallel+cudagraph", SMALL, "forward+backward", CUDA, task=_TASK)))
    lacking = {"peak_memory", "reserved_memory", "graph_pool_memory"} - {
        name for name, value in found.items() if value > 0
    }
    if lacking:
        raise Wrong(f"no {', '.join(sorted(lacking))}")
    return ", ".join(f"{name} {value / 2**10:.0f} KiB" for name, value in found.items())


def _out_of_memory() -> str:
    import torch

    from suite.core.failures import refusal

    free, total = torch.cuda.mem_get_info()
    try:
        torch.empty(2 * total, dtype=torch.int8, device=CUDA)
    except Exception as error:  # which one it is, is what is asked
        sorted_out = refusal(error)
    else:
        raise Wrong(f"{2 * total / 2**30:.0f} GiB were given where there are {total / 2**30:.0f}")
    if sorted_out["cause"] != "memory":
        raise Wrong(f"too much memory was refused as {sorted_out['cause']}: {sorted_out['reason']}")
    if torch.ones(8, device=CUDA).sum().item() != 8:
        raise Wrong("nothing works afterwards")
    return f"{free / 2**30:.1f} GiB free; too much is refused, and what follows works"


def _largest_batch() -> str:
    from suite.bench.probes import capacity

    found = _measured(capacity.largest(Target("parallel", SMALL, "forward", CUDA, task=_TASK)))
    return f"{found['largest_batch']:.0f} examples of the tiny workload"


def _proofs() -> str:
    from suite.bench.probes import honesty, mode, timing
    from suite.bench.probes.clocks import clock_of
    from suite.bench.probes.step import running_on
    from variants import Skip

    about = About(task=_TASK, variant="parallel+bf16", workload=str(SMALL), phase="forward", device=CUDA)
    with running_on(CUDA):
        lane = timing.start("parallel+bf16", SMALL, "forward", CUDA, {}, clock_of(CUDA))
        found = [*mode.prove(lane.step, lane.proof, about), honesty.examine(lane.step, about)]
    _measured(iter(found))
    kernels = next(it.details["kernels"] for it in found if isinstance(it, Finding) and it.quantity == "mode")
    if not isinstance(kernels, list) or not kernels:
        raise Skip("the profiler sees no kernels: what ran is not proven by them here")
    return f"{len(kernels)} kernels seen, such as {kernels[0][:60]}"


def _trace() -> str:
    from suite.bench.probes import trace

    with tempfile.TemporaryDirectory() as folder:
        found = list(trace.record(Target("parallel", SMALL, "forward+backward", CUDA, task=_TASK, folder=Path(folder))))
        sizes = [(Path(folder) / it.path).stat().st_size for it in found if isinstance(it, Artifact)]
        return f"{sum(sizes) / 2**10:.0f} KiB"


def _peaks() -> str:
    from suite.bench.probes import peaks

    said = []
    for record in peaks.measure(CUDA, task=_TASK, budget_s=0.2):
        work = record.details.get("flops") or record.details.get("bytes")
        if isinstance(work, int) and record.value:
            what = str(record.details.get("dtype", "copy"))
            said.append(f"{what} {work / record.value / 1e12:.3g} T{'B' if what == 'copy' else 'FLOP'}/s")
    return ", ".join(said)


def _refused_capture() -> str:
    from suite.bench.probes.step import prepare, running_on
    from variants import Skip

    with running_on(CUDA):
        try:
            prepare("published_csdn+cudagraph", SMALL, "forward", CUDA)(0)
        except Skip as skip:
            said = str(skip)
        else:
            raise Wrong("what waits for the host was captured")
        prepare("parallel+cudagraph", SMALL, "forward", CUDA)(0)
    return f"a neighbour is captured all the same; {said[:100]}"


def _audit(name: str) -> str:
    from suite.bench.probes import masking

    found = [it for it in masking.audit(name, CUDA, task=_TASK) if isinstance(it, Finding)]
    broken = [it for it in found if it.verdict == "broken"]
    if broken:
        raise Wrong("; ".join(f"{it.details.get('property', it.quantity)} {it.summary}" for it in broken[:3]))
    return f"{sum(it.verdict == 'holds' for it in found)} properties hold"


_BOTH: Phase = "forward+backward"
LANES: Mapping[str, Mapping[str, Look]] = {
    "quick": {
        "a context, and a sum": _context,
        "float32 means float32": _float32,
        "products rounded to TF32": _tf32,
        "events, and a stream that is held": _clock,
        "what NVML tells": _telemetry,
        **{f"{name}, both passes": partial(_agrees, name, _BOTH) for name in (*CLASSIC, *TODAY)},
        **{
            f"{name}, both passes": partial(_agrees, name, _BOTH)
            for name in (
                *("parallel+bf16", "parallel+fp16", "parallel+amp_bf16", "parallel+amp_fp16", "parallel+tf32"),
                *("hierarchical+bf16", "hierarchical+tf32", "cross+sdpa", "parallel+chunked"),
                *("parallel+cudagraph", "hierarchical+bf16+cudagraph"),
            )
        },
        "the allocator's counts, and a graph's pool": _memory,
        "proof of mode, and honesty": _proofs,
        "a trace": _trace,
        "what cannot be captured": _refused_capture,
        "the fastest products, and a copy": _peaks,
        "more memory than there is": _out_of_memory,
        "the largest batch": _largest_batch,
    },
    "compiled": {
        "parallel+compile, forward": partial(_agrees, "parallel+compile", "forward"),
        "parallel+bf16+compile, both passes": partial(_agrees, "parallel+bf16+compile", _BOTH),
        "hierarchical+compile, forward": partial(_agrees, "hierarchical+compile", "forward"),
        "parallel+bf16+compile+cudagraph, both passes": partial(_agrees, "parallel+bf16+compile+cudagraph", _BOTH),
    },
    "fused": {
        "parallel+bf16+fused, forward": partial(_agrees, "parallel+bf16+fused", "forward"),
        "parallel+bf16+fused, both passes": partial(_agrees, "parallel+bf16+fused", _BOTH),
        "parallel+fused, both passes": partial(_agrees, "parallel+fused", _BOTH),
        "alternating+bf16+fused, both passes": partial(_agrees, "alternating+bf16+fused", _BOTH),
        "hierarchical+bf16+fused, both passes": partial(_agrees, "hierarchical+bf16+fused", _BOTH),
        "parallel+bf16+fused+cudagraph, both passes": partial(_agrees, "parallel+bf16+fused+cudagraph", _BOTH),
    },
    "audited": {
        "the audit of parallel": partial(_audit, "parallel"),
        "the audit of hierarchical": partial(_audit, "hierarchical"),
    },
}
"""By lane and in order, every path with what goes it."""


def check(bench: Bench) -> Iterator[Finding]:
    """A row for each path."""
    if bench.device != CUDA:
        yield not_here("each path of a GPU, once", "there is no GPU among what was chosen")
        return
    lanes = {lane: list(paths) for lane, paths in LANES.items()}
    yield from walked(lanes, walk, within_s=PATIENT_S if bench.full else WITHIN_S)


def walk(lane: str, names: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    """Go paths of a lane, one after the other; in a process of its own. What is about to be gone is said first."""
    import torch

    from variants import Skip

    for name in names:
        yield {"at": name}
        started = time.perf_counter()
        try:
            said, verdict = LANES[lane][name](), "holds"
        except Skip as skip:
            said, verdict = str(skip), "not applicable"
        except Exception as error:  # whatever a path raises is its row
            said, verdict = words(error), "broken"
        yield {"name": name, "verdict": verdict, "said": said, "took_s": round(time.perf_counter() - started, 3)}
        if verdict == "broken":
            torch.cuda.synchronize()  # a context that is lost ends the process here, and the next begins anew


def walked(
    lanes: Mapping[str, list[str]],
    go: Callable[[str, tuple[str, ...]], Iterator[Mapping[str, Any]]],
    *,
    within_s: float,
) -> Iterator[Finding]:
    """Rows of paths that processes go, lane beside lane.

    Args:
        lanes: the names of the paths in each.
        go: as `walk`.
        within_s: seconds from the first path's beginning, after which what is left was not reached.
    """
    left = {lane: deque(names) for lane, names in lanes.items() if names}
    at_work = {lane: Guest(go, lane, tuple(names)) for lane, names in left.items()}
    at: dict[str, str] = {}
    asked, began = time.monotonic(), 0.0
    try:
        while at_work:
            wait([waitable for guest in at_work.values() for waitable in guest.waitables], 0.25)
            for lane, guest in list(at_work.items()):
                for told in guest.hear():
                    if "at" in told:
                        began = began or time.monotonic()
                        at[lane] = told["at"]
                        continue
                    left[lane].remove(told["name"])
                    at.pop(lane, None)
                    yield _row(told)
                if guest.ending is None:
                    continue
                guest.close()
                del at_work[lane]
                if guest.ending.way != "done" and left[lane]:
                    if lane in at or not began:
                        lost = at.pop(lane, left[lane][0])
                        left[lane].remove(lost)
                        yield row(lost, 0, 1, at_least=1.0, summary=f"its process ended: {guest.ending.reason}")
                    if left[lane]:
                        at_work[lane] = Guest(go, lane, tuple(left[lane]))
            now = time.monotonic()
            if (began and now > began + within_s) or (not began and now > asked + LONGEST_START_S):
                break
    finally:
        for guest in at_work.values():
            guest.close()
    for lane, names in left.items():
        for name in names:
            where = "no end" if at.get(lane) == name else "not reached"
            yield row(name, 0, 0, summary=f"{where} within {within_s:.0f} s; --full waits longer")


def _row(told: Mapping[str, Any]) -> Finding:
    if told["verdict"] == "not applicable":
        return not_here(told["name"], told["said"])
    holds = told["verdict"] == "holds"
    summary = f"{told['said']} ({told['took_s']:.1f} s)"
    return row(told["name"], int(holds), 1, at_least=1.0, summary=summary, details={"took_s": told["took_s"]})
