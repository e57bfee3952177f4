"""Runs of any make: ties, one mechanism, missing phases, doubts, hidden forms, few rounds, missing numbers."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from suite.core.records import Finding, Measurement, Record, Skip
from suite.core.workloads import PHASES

OURS = ("alternating", "hierarchical", "dense", "mine")
CONTROLS = ("pool", "cross")
PUBLISHED = ("published_csdn", "published_skyol5")
TRANSFORMS = ("+bf16", "+fp16", "+compile", "+bf16+compile")
TIMES = (5e-3, 5e-3, 5.2e-3, 7e-3, 0.2)
"""Few, so that ties are common."""


@dataclass(kw_only=True)
class Run:
    """Records, and beside them what they were made from."""

    records: list[Record] = field(default_factory=list)
    samples: dict[tuple[str, str, str, str, str], tuple[float, ...]] = field(default_factory=dict)
    """By task, workload, phase, device and variant."""
    doubted: set[tuple[str, str, str, str]] = field(default_factory=set)
    """Workload, phase, device and variant."""
    hidden: set[tuple[str, str, str, str]] = field(default_factory=set)


def run(seed: int) -> Run:
    """A run of the kind that a seed draws."""
    generator = np.random.default_rng(seed)
    made = Run()
    made.records += _peaks(generator)
    mechanisms = [name for name in ("parallel", *OURS, *CONTROLS) if generator.random() < 0.45] or ["parallel"]
    phases = PHASES if generator.random() < 0.7 else PHASES[:1] if generator.random() < 0.5 else PHASES[1:]
    full = ("", "fill=1")[seed % 2]  # where slots are padding, no time is evidence of what the machine can do
    axis = ("",) if generator.random() < 0.7 else ("", "regions=16", "regions=64")
    changes = (",".join(filter(None, (full, at))) for at in axis)
    workloads = [f"tiny[{change}]" if change else "tiny" for change in changes]
    devices = ("cpu",) if generator.random() < 0.8 else ("cpu", "cpu[threads=2]")
    rounds = int(generator.choice([1, 5, 6, 12, 15, 30]))
    spread = float(generator.choice([0.0, 0.01, 0.2]))
    doubt, hidden = generator.choice([0.0, 0.3, 1.0], p=(0.5, 0.4, 0.1)), generator.choice([0.0, 0.2, 0.9])
    anchored = generator.random() < 0.9
    for workload in workloads:
        for phase in phases:
            for device in devices:
                for mechanism in mechanisms:
                    where = {"workload": workload, "phase": phase, "device": device}
                    forms = [mechanism, *(mechanism + word for word in TRANSFORMS if generator.random() < 0.4)]
                    if mechanism == "parallel":
                        forms += [name for name in PUBLISHED if generator.random() < 0.5]
                    elif anchored:
                        forms.insert(0, "parallel")
                    _comparison(made, generator, mechanism, forms, where, rounds, spread, doubt, hidden)
    return made


def _comparison(
    made: Run,
    generator: np.random.Generator,
    mechanism: str,
    forms: list[str],
    where: dict[str, str],
    rounds: int,
    spread: float,
    doubt: float,
    hidden: float,
) -> None:
    task = f"{mechanism}|{'|'.join(where.values())}"
    weather = np.exp(generator.normal(0, 0.1, rounds))
    for name in forms:
        key = (*where.values(), name)
        cell = {"task": task, "variant": name} | where
        if name != mechanism and name != "parallel" and generator.random() < 0.1:
            made.records.append(Skip(**cell, quantity="latency", cause="budget", reason="too slow here"))
            continue
        is_beside = name == "parallel" and mechanism != "parallel"
        trust = ("it spread",) if generator.random() < doubt and not is_beside else ()
        # the anchor's is the same in every comparison, as far as the weather lets it
        times = (
            float(TIMES[1] if name == "parallel" else generator.choice(TIMES))
            * weather
            * np.exp(generator.normal(0, spread, rounds))
        )
        samples = tuple(map(float, times))
        made.samples[task, *key] = samples
        made.records.append(
            Measurement(
                **cell, quantity="latency", unit="s", samples=samples, rounds=tuple(range(rounds)), trust=trust,
                details={"stopped": "budget"},
            )
        )  # fmt: skip
        if is_beside:
            continue
        if trust:
            made.doubted.add(key)
        if generator.random() < hidden:
            made.hidden.add(key)
            made.records.append(
                Finding(
                    task=task, variant=name, quantity="agreement", verdict="broken", summary="off by 2",
                    workload=where["workload"], phase=where["phase"], device=where["device"],
                )
            )  # fmt: skip
        for quantity, unit, values in (
            ("peak_memory", "B", (None, 0.0, 2.0**20, 2.0**20, 3.5 * 2**20, 2.0**24)),
            ("saved_for_backward", "B", (None, 0.0, 2.0**19, 2.0**21)),
            ("matmul_flops", "1", (None, 1e6, 1e8, 1e8)),
            ("least_bytes", "B", (None, 1e5, 1e8)),
            ("agreement_error", "1", (None, 0.0, 2e-7, 3e-7, 5e-2)),
        ):
            value = values[int(generator.integers(len(values)))]
            if value is not None:
                made.records.append(Measurement(**cell, quantity=quantity, unit=unit, value=value))  # type: ignore[arg-type]
        for quantity in ("P1", "P9"):
            verdict = str(generator.choice(["holds", "holds", "unclear", "not applicable", "known", ""]))
            if verdict:
                found = Finding(task=task, variant=name, quantity=quantity, verdict=verdict)  # type: ignore[arg-type]
                made.records.append(found)


def _peaks(generator: np.random.Generator) -> Iterator[Record]:
    for device in ("cpu", "cpu[threads=2]"):
        for dtype, rates in (("float32", (1e9, 1e12)), ("bfloat16", (1e8, 1e13)), ("float16", (1e7, 1e12))):
            if generator.random() < 0.8:
                time_s = 1e9 / float(generator.choice(rates))
                yield Measurement(
                    task="peaks", device=device, quantity="gemm_time", unit="s", value=time_s,
                    details={"flops": 1e9, "dtype": dtype},
                )  # fmt: skip
        if generator.random() < 0.8:
            yield Measurement(
                task="peaks", device=device, quantity="copy_time", unit="s", value=float(generator.choice([1.0, 1e-3])),
                details={"bytes": 2**28},
            )  # fmt: skip
