"""A profiler trace per variant, for TensorBoard and Perfetto, and where its time goes, for the page."""

from collections.abc import Iterator
from contextlib import nullcontext

from torch.profiler import profile, schedule, tensorboard_trace_handler

from suite.bench.probes import accelerators, regions
from suite.bench.probes.step import prepared, running_on
from suite.bench.tasks import Target
from suite.core.records import Artifact, Measurement, Scalar
from variants.transforms import compiles

FOLDER = "traces"


def record(target: Target) -> Iterator[Artifact | Measurement]:
    """Trace a warm step into ``traces/<variant>/<workload>-<phase>-<device>.<time>.pt.trace.json.gz``.

    One directory per variant makes each a run of its own in TensorBoard. The step's time on the host is a measurement,
    whose ``regions`` say where it went, and where that of the device did; the profiler itself is in both.
    """
    about, folder = target.about, target.folder
    with running_on(target.device) as parsed:
        step = prepared(*target.place)
        directory = folder / FOLDER / plain_words(target.variant)
        directory.mkdir(parents=True, exist_ok=True)
        before = set(directory.iterdir())
        handler = tensorboard_trace_handler(
            str(directory), worker_name=plain_words(f"{target.workload}-{target.phase}-{target.device}"), use_gzip=True
        )
        found: list[regions.Row] = []

        def ready(profiler: profile) -> None:
            handler(profiler)
            found.extend(regions.regions(profiler.events()))  # type: ignore[no-untyped-call]  # a list of events

        if not step.calls:
            step(0)
            step.clear()
        parts = nullcontext() if compiles(step.variant.spec) else regions.parts_named(step.variant.module)
        with (
            parts,
            profile(
                activities=accelerators.activities(parsed.kind),
                schedule=schedule(
                    wait=0, warmup=1, active=1, repeat=1
                ),  # a step, which TensorBoard's overview asks for
                on_trace_ready=ready,
                record_shapes=True,
                profile_memory=True,
            ) as profiler,
        ):
            for _ in ("warm-up", "traced"):
                step(0)
                accelerators.synchronize(parsed.kind)
                step.clear()
                profiler.step()
    for path in sorted(set(directory.iterdir()) - before):
        yield Artifact(quantity="trace", path=str(path.relative_to(folder)), **about)
    if found:
        rows: list[list[Scalar]] = [list(row) for row in found]
        yield Measurement(
            quantity="traced_step",
            unit="s",
            value=sum(row[1] for row in found),
            details={"regions": rows},
            **about,
        )


def plain_words(name: str) -> str:
    """A name as part of a path: without brackets, which shells and globs read as patterns."""
    return name.replace("[", ".").replace("]", "")
