"""What is done in a slot, most valuable first, each step a command of its own that may fail without harm."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
GOAL = "parallel+bf16+fused"
RATIOS = (
    *("parallel", "published_csdn+bf16", "parallel+bf16", "parallel+bf16+compile", "parallel+bf16+fused"),
    "parallel+bf16+fused+cudagraph",
)
"""Published, eager, compiled, fused and captured: what a reader asks for first."""
_RUN = ("scipy", "rich", "typer", "psutil", "pandas", "seaborn", "jinja2")
"""What the program's own commands need, beside torch: a machine that lacks one skips these steps, and says so."""
_PYTHON, _PROGRAM = "{python}", "{root}/run_all.py"


@dataclass(frozen=True, kw_only=True)
class SlotStep:
    """A command. ``{python}``, ``{root}``, ``{folder}`` (its own, to be kept) and ``{seconds}`` stand for theirs."""

    name: str
    says: str
    """What it finds out, in a few words."""
    command: tuple[str, ...]
    share: float
    """Of the time: as it is to that of the steps after it, so much of what is left."""
    needs: tuple[str, ...] = ()
    """Modules without which it is skipped."""
    keeps: tuple[str, ...] = ()
    """Files of the program's own folder that it changes, as patterns: copies are kept with its results."""
    environment: Mapping[str, str] = field(default_factory=dict)
    skipped: str = ""
    """Why it is not done at all."""


def steps(*, rehearse: bool = False) -> tuple[SlotStep, ...]:
    """Everything that a slot is for.

    Args:
        rehearse: on tiny shapes, and without what needs a real device.
    """
    chosen = ("--workload", "tiny", "--set", "batch=2") if rehearse else ("--workload", "vqa-grid")
    workload = "tiny[batch=2]" if rehearse else "vqa-grid"
    numbers = (_PYTHON, "-m", "suite.slot.numbers", "{folder}", "--workload", workload, "--seconds", "{seconds}")
    run = (_PYTHON, _PROGRAM, "run", "--device", "cuda")
    tests = (_PYTHON, "-m", "suite.slot.gpu_tests", "{folder}", *(("--collect-only",) if rehearse else ()))
    return (
        SlotStep(
            name="look",
            says="which device, driver and libraries are there",
            command=(_PYTHON, "-m", "suite.slot.look", "{folder}"),
            share=20,
        ),
        SlotStep(
            name="numbers",
            says="device, launch and waiting times and memory of what matters most, with torch alone",
            command=numbers,
            share=80,
        ),
        SlotStep(
            name="selfcheck",
            says="each path of a GPU once",
            command=(_PYTHON, _PROGRAM, "selfcheck", "device", "--out", "{folder}"),
            share=70,
            needs=_RUN,
        ),
        SlotStep(
            name="ratios",
            says="published, eager, compiled, fused and captured in the same rounds",
            command=(*run, *RATIOS, *chosen, "--probe", "timing", "--budget", "{seconds}", "--out", "{folder}"),
            share=75,
            needs=_RUN,
        ),
        SlotStep(
            name="tests",
            says="the tests that need a GPU, in processes side by side",
            command=(*tests, "--seconds", "{seconds}"),
            share=105,
            needs=("pytest",),
        ),
        SlotStep(
            name="tune",
            says="block sizes of the kernels by time",
            command=(_PYTHON, "-m", "variants.tune", "--budget", "{seconds}"),
            share=80,
            needs=("triton",),
            keeps=("variants/kernels/configurations.json", "variants/kernels/tuning-*.jsonl"),
            skipped="it needs Triton's compiler and a device" if rehearse else "",
        ),
        SlotStep(
            name="tuned",
            says="the numbers again, with these block sizes",
            command=(*numbers, "--only", "fused"),
            share=35,
        ),
        SlotStep(
            name="preset",
            says="the gpu preset, as far as the time goes",
            command=(
                *(*run, "--preset", "gpu", *(chosen if rehearse else ())),
                *("--budget", "{seconds}", "--out", "{folder}"),
            ),
            share=65,
            needs=_RUN,
        ),
        SlotStep(
            name="traces",
            says="a trace of the fused and of the compiled form",
            command=(
                *(*run, "parallel+bf16+fused", "parallel+bf16+compile", *chosen, "--phase", "forward+backward"),
                *("--probe", "trace", "--budget", "{seconds}", "--out", "{folder}"),
            ),
            share=20,
            needs=_RUN,
        ),
    )  # fmt: skip


def double() -> dict[str, str]:
    """The environment in which a process believes in a GPU: the one that the tests use, where they are there."""
    return {
        "GPU_DOUBLE": "h100",
        "NVML_DOUBLE": "ok",
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": f"{ROOT / 'tests' / 'doubles'}",
    }
