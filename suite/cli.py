"""The command line, behind ``python run_all.py`` and ``coattention``: what may be asked, and how it ends."""

import itertools
import shlex
import sys
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import suite
from suite.bench.probes import CHOICES
from suite.core import errors, exits, interrupts, process, streams
from suite.core.errors import UserError

if TYPE_CHECKING:
    from suite.core.answer import Manner

_OF_THE_PROGRAM = ("--help", "-h", "--version", "--install-completion", "--show-completion")
"""Options that stand without a command; any other belongs to ``run``."""
_NAMES = {"help_option_names": ["--help", "-h"]}
# what may be wrong with a command line, as typer sees it: it exports this one kind, whose base is all of them
_WrongCommand: type[Any] = typer.BadParameter.__bases__[0]


class _RunByDefault(TyperGroup):
    """No command means ``run``, so that ``python run_all.py --out DIR`` works."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing and (not args or (args[0].startswith("-") and args[0] not in _OF_THE_PROGRAM)):
            args = ["run", *args]
        return super().parse_args(ctx, args)


class _Command(TyperCommand):
    """A command to which every argument has to say something."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for before, given in zip(["", *args], args, strict=False):
            name, equals, value = given.partition("=")
            if name.startswith("--") and equals and not value.strip():
                raise UserError(f"{name}: expected a value, found none")
            if not given.strip():
                raise UserError(f"{before if before.startswith('-') else self.name}: expected a value, found none")
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_RunByDefault, pretty_exceptions_enable=False, context_settings=_NAMES)
_command = partial(app.command, cls=_Command, context_settings=_NAMES)
Json = Annotated[bool, typer.Option("--json", help="The answer alone, as one JSON object on standard output.")]
Executor = Annotated[str, typer.Option(help="Where jobs run: local, or ray or slurm for a cluster.")]
At = Annotated[str | None, typer.Option(help="Address of the cluster's head; the one that runs here if left out.")]
Cluster = Annotated[
    Path | None, typer.Option(help="A TOML file with what else a cluster has to be told; suite/execution/README.md.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing but errors, and the path or verdict at the end.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            torch = version("torch")
        except PackageNotFoundError:
            torch = "is missing"
        print(f"coattention {suite.__version__} (Python {sys.version.split()[0]}, torch {torch})")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Benchmarks, masking audit and ablations of co-attention. Without a command: run."""


@_command()
def run(
    ctx: typer.Context,
    variants: Annotated[
        list[str] | None, typer.Argument(metavar="VARIANT", help="Such as parallel+bf16; the preset's if left out.")
    ] = None,
    workload: Annotated[list[str] | None, typer.Option(help="A workload by name; may be repeated.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="A choice of variants and workloads; fits the device if left out.")
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Your own case: batch=8,regions=100,words=20,image_width=2048,fill=0.6")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Sweep an axis of the workloads: batch=1,8,32; may be repeated.")
    ] = None,
    phase: Annotated[list[str] | None, typer.Option(help="forward or forward+backward; both if left out.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; the best there is if left out.")] = None,
    threads: Annotated[str, typer.Option(help="Threads on the CPU; 1,2,4 measures each.")] = "1",
    probe: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(CHOICES[:-1])} or {CHOICES[-1]}; all if left out."),
    ] = None,
    with_: Annotated[
        list[Path] | None, typer.Option("--with", help="A file that registers mechanisms of your own; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; results/<stamp>-<device> if left out.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Continue the run in this folder, with its own arguments.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Seconds until the last page; what does not fit is put off. 0 measures all.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which a task counts as hung.")] = None,
    largest_batch: Annotated[
        bool, typer.Option("--largest-batch", help="Also find the largest batch that fits in memory.")
    ] = False,
    executor: Executor = "local",
    at: At = None,
    cluster: Cluster = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure latency, memory, cost, agreement and masking, and leave a run folder with the report."""
    from suite.execution import guest

    # beside the same for this process, which takes as long
    guest.warm_up(compiler=not variants or any("compile" in name for name in variants))
    from suite.bench import run as session
    from suite.bench.request import Request
    from suite.bench.where import Where
    from suite.core.answer import Manner

    request = Request(
        variants=tuple(variants or ()),
        workloads=tuple(workload or ()),
        preset=preset,
        shape=shape,
        sets=tuple(sets or ()),
        phases=tuple(phase or ()),
        device=device,
        threads=threads,
        probes=tuple(probe or ()),
        files=tuple(str(path) for path in with_ or ()),
        budget_s=budget,
        timeout_s=timeout,
        largest_batch=largest_batch,
    )
    manner = Manner(json=json, quiet=quiet)
    where = Where(executor=executor, at=at, file=cluster)
    raise typer.Exit(session.start(request, out=out, resume=resume, manner=manner, began=ctx.obj, where=where))


@_command("list")
def list_(
    with_: Annotated[
        list[Path] | None, typer.Option("--with", help="A file that registers mechanisms of your own; may be repeated.")
    ] = None,
    json: Json = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="The names of the mechanisms alone, each on a line.")
    ] = False,
) -> None:
    """Show mechanisms, options, parts, transforms, workloads and presets, each with a line."""
    from suite import catalogue
    from suite.bench import request
    from suite.core.answer import Answer, Manner, give

    if with_:
        request.introduce([str(path) for path in with_])
    found = catalogue.sections()
    names = "\n".join(found["mechanisms"]) if quiet else ""
    answer = Answer(code=exits.DONE, words=catalogue.words(found), last=names, data=found)
    raise typer.Exit(give(answer, Manner(json=json, quiet=quiet)))


@_command("gpu-slot")
def gpu_slot(
    seconds: Annotated[float, typer.Option(help="For all of it: what a device is lent for.")] = 540.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the archive and its summary; results/<stamp>-slot if left out.")
    ] = None,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Without a GPU, over the tests' double of one: does every step run?")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Everything that some minutes on a GPU can tell: numbers, tests, tuning, ratios, traces, in one archive."""
    from dataclasses import asdict
    from datetime import UTC, datetime

    from suite.core.answer import Answer, Manner, give
    from suite.slot import session

    manner = Manner(json=json, quiet=quiet)
    folder = out or Path("results") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-slot"
    code, ended = session.start(seconds=seconds, out=folder, rehearse=rehearse, say=manner.console().print)
    path = folder / session.ARCHIVE
    found = Answer(
        code=code,
        words=[f"python run_all.py report {shlex.quote(str(path))} makes its pages, here or anywhere"],
        last=str(path),
        data={"archive": path, "steps": [asdict(one) for one in ended]},
    )
    raise typer.Exit(give(found, manner))


@_command()
def report(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Run folder, such as results/<stamp>-<device>, or a gpu-slot's archive; not needed with --readme."
        ),
    ] = None,
    readme: Annotated[
        Path | None, typer.Option(help="Also write the tables of results/reference into this file, between its marks.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make report.html, REPORT.md, tables and plots of a run again, from its records alone."""
    from suite.core import store
    from suite.core.answer import Answer, Manner, give
    from suite.report import outcome, page, slot
    from suite.report import readme as front

    if folder is None and readme is None:
        raise UserError("report: expected a run folder, --readme README.md, or both")
    found = Answer(code=exits.DONE, last=str(readme), data={"readme": readme})
    if readme is not None:
        front.write(readme, front.REFERENCES)
    if folder is not None and slot.holds(folder):
        path = slot.write(slot.unpacked(folder))
        found = Answer(code=exits.DONE, last=str(path), data={"page": path})
    elif folder is not None:
        records = store.read(folder)
        made = page.made_of(records)
        path = page.write(folder, records, made)
        found = outcome.answer(records, folder, path, code=exits.DONE, made=made)
    raise typer.Exit(give(found, Manner(json=json, quiet=quiet)))


@_command()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="OLD NEW ...",
            help="Run folders: the baseline and the one to judge; or many, oldest first, to see how each time moved.",
        ),
    ],
    across_machines: Annotated[
        bool, typer.Option("--across-machines", help="Compare runs of different machines all the same.")
    ] = False,
    fail_above: Annotated[
        str, typer.Option(help="Exit 3 where the whole interval of new over old lies beyond this, 6 where it may.")
    ] = "5%",
    remeasure: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="OLD_TREE NEW_TREE",
            help="Time suspects of two source trees again, interleaved, in fresh processes; what recurs counts.",
        ),
    ] = None,
    with_: Annotated[
        list[Path] | None, typer.Option("--with", help="For --remeasure: the files of your own that the runs used.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="For --remeasure: seconds for each suspect and pair; 10 if left out.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="For --remeasure: seconds after which a call counts as hung; 120 if left out.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where the page goes; NEW/against-<name of OLD> if left out, LAST/history for many."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare two runs: a verdict per cell, a table, a plot, exit 3 on a regression and 6 on a mere suspect.

    Of more than two runs: how each time moved, and its changes told from noise; exit 3 where one ends slower.
    """
    from suite.core import compare as comparing
    from suite.core import store
    from suite.core.answer import Answer, Manner, give
    from suite.report import changes
    from suite.report.html import compared

    manner = Manner(json=json, quiet=quiet)
    if remeasure is None:
        given = {"--with": bool(with_), "--budget": budget is not None, "--timeout": timeout is not None}
        _refuse("compare measures nothing without --remeasure", given)
    errors.check_seconds("--budget", budget)
    errors.check_seconds("--timeout", timeout)
    if len(runs) < 2:
        raise UserError(f"compare {runs[0]}: expected two run folders or more, the oldest first")
    if not across_machines:
        for earlier, later in itertools.pairwise(runs):
            comparing.check_machines(earlier, later)
    limit = comparing.share(fail_above)
    if len(runs) > 2:
        _refuse("of more than two runs nothing is measured again", {"--remeasure": remeasure is not None})
        raise typer.Exit(_history(runs, limit, out, manner))
    old, new = runs
    if remeasure is not None:
        comparing.check_measured_here(old, new)
    sides = store.read(old), store.read(new)
    comparison = comparing.compare(*sides, fail_above=limit, settings=comparing.changed_settings(old, new))
    interrupted = False
    if remeasure is not None:
        from suite.bench import remeasure as again

        budget, timeout = 10.0 if budget is None else budget, 120.0 if timeout is None else timeout
        steps = again.suspects(comparison, *remeasure, budget_s=budget, timeout_s=timeout, files=tuple(with_ or ()))
        comparison, interrupted = changes.watch(steps, suspect_s=again.PAIRS * budget, console=manner.console())
    names = old.resolve().name, new.resolve().name
    page = changes.write(comparison, out or new / f"against-{names[0]}", old=names[0], new=names[1])
    page = compared.write(comparison, page.parent, sides, old=names[0], new=names[1])
    found = Answer(
        code=exits.INTERRUPTED if interrupted else comparison.exit_code(),
        words=changes.words(comparison),
        last=str(page),
        data={"page": page, "interrupted": interrupted} | changes.data(comparison),
    )
    raise typer.Exit(give(found, manner))


def _history(runs: list[Path], limit: float, out: Path | None, manner: "Manner") -> int:
    """What many runs say together, told and left as a page; the exit code."""
    from suite.core import folders, store
    from suite.core.answer import Answer, give
    from suite.core.history import Run, history
    from suite.report import movements
    from suite.report.html import moved

    if len({folder.resolve() for folder in runs}) < len(runs):
        raise UserError("compare: one run is named twice; expected different ones, the oldest first")
    read = []
    for folder in runs:
        about = folders.environment_or_nothing(folder)
        commit, started = (str(about.get(name, "")) for name in ("commit", "started"))
        read.append((Run(folder.resolve().name, commit, started), store.read(folder)))
    found = history(read, fail_above=limit)
    page = moved.write(found, folders.made(out, ".") if out else folders.made(runs[-1], "history"))
    code = exits.REGRESSION if found.slower else exits.DONE if found.series else exits.NOTHING_MEASURED
    answer = Answer(
        code=code, words=movements.words(found), last=str(page), data={"page": page} | movements.data(found)
    )
    return give(answer, manner)


@_command()
def ablate(
    studies: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STUDY",
            help="core, levels, masking, deployment, precision, mechanism, parts, depth, generalise; core if left out.",
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Every study, without a budget.")] = False,
    seeds: Annotated[int, typer.Option(help="Trainings per row, paired: the same seed, the same batches.")] = 5,
    first_seed: Annotated[
        int, typer.Option(help="Where they begin. The recipe was chosen with some below 5, which flatter.")
    ] = 5,
    epochs: Annotated[int | None, typer.Option(help="Another length of training than the data's own.")] = None,
    budget: Annotated[
        float | None,
        typer.Option(help="Seconds after which no training starts; 0 trains all. 840 if no study is named."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; results/<stamp>-ablation if left out.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Continue the ablation in this folder from its last finished epochs.")
    ] = None,
    data: Annotated[str, typer.Option(help="scenes (generated), digits (handwritten), vqa2 (from disk).")] = "scenes",
    root: Annotated[Path | None, typer.Option(help="Folder of the files, for data that has any, such as vqa2.")] = None,
    device: Annotated[str, typer.Option(help="Where to train: cpu or cuda.")] = "cpu",
    executor: Executor = "local",
    at: At = None,
    cluster: Cluster = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train mechanisms with and without their parts over seeds: what each part earns, and what a leaking mask costs."""
    from suite.ablation import session
    from suite.bench.where import Where
    from suite.core.answer import Manner

    request = session.Request(
        studies=tuple(studies or ()),
        full=full,
        seeds=seeds,
        first_seed=first_seed,
        epochs=epochs,
        budget_s=budget,
        data=data,
        root=None if root is None else str(root),
        device=device,
    )
    where = Where(executor=executor, at=at, file=cluster)
    manner = Manner(json=json, quiet=quiet)
    raise typer.Exit(session.start(request, out=out, resume=resume, manner=manner, where=where))


@_command()
def selfcheck(
    topics: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TOPIC", help="Such as timing or memory; all if left out but masking, which runs alone."
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="The trials that the README's figures stand on, instead of ten minutes.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; the best there is if left out.")] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            help="So many trials of what is tried several times, to try the checks themselves; not with --full."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Results folder; results/<stamp>-selfcheck-<device> if left out.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Of masking: go on with this folder's trials.", metavar="FOLDER")
    ] = None,
    write: Annotated[
        bool,
        typer.Option("--write", help="Of masking: only the matrix of planted defects, and keep their signatures."),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Examine this program on this machine: planted differences, planted faults, known answers."""
    if trials is not None and trials < 1:
        raise UserError(f"--trials {trials}: expected at least 1")
    _refuse(f"--trials {trials} says how many", {"--full": full and trials is not None and not write})
    if topics == ["masking"]:
        from suite.core.answer import Manner
        from suite.selfcheck import masking

        _refuse("selfcheck masking runs on the CPU", {"--device": device is not None})
        if write:
            given = {"--full": full, "--trials": trials is not None, "--out": out is not None}
            given |= {"--json": json, "--quiet": quiet}
            _refuse("the matrix is of one seed and has no folder", given | {"--resume": resume is not None})
            raise typer.Exit(masking.matrix(write=True))
        _refuse(f"--resume {resume} goes on in that folder", {"--out": out is not None and resume is not None})
        seeds = trials or (100 if full else 20)
        raise typer.Exit(masking.start(seeds=seeds, out=out, resume=resume, manner=Manner(json=json, quiet=quiet)))
    from suite.core.answer import Manner
    from suite.selfcheck import session

    _refuse("that belongs to selfcheck masking alone", {"--write": write, "--resume": resume is not None})
    manner = Manner(json=json, quiet=quiet)
    raise typer.Exit(
        session.start(tuple(topics or ()), device=device, full=full, trials=trials, out=out, manner=manner)
    )


@_command()
def pareto(
    ablation: Annotated[Path, typer.Argument(help="Folder of an ablation; the plots and the table go there.")],
    run: Annotated[Path, typer.Argument(help="Folder of a timing run of the same variants.")],
    study: Annotated[str, typer.Option(help="Whose accuracies.")] = "core",
    workload: Annotated[str | None, typer.Option(help="Whose costs; the run's first if left out.")] = None,
    phase: Annotated[str | None, typer.Option(help="forward or forward+backward; the run's first if left out.")] = None,
    device: Annotated[str | None, typer.Option(help="The run's first if left out.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Set accuracy beside latency and memory, and name the variants that nothing dominates."""
    from suite.core import store
    from suite.core.answer import Answer, Manner, give
    from suite.report import pareto as front

    timed = store.read(run)
    place = front.choose(timed, workload=workload, phase=phase, device=device)
    found = front.join(store.read(ablation), timed, study=study, place=place)
    page = front.write(found, ablation, study=study, place=place)
    answer = Answer(
        code=exits.DONE,
        words=front.words(found, place, study=study),
        last=str(page),
        data={"page": page} | front.data(found, place, study=study),
    )
    raise typer.Exit(give(answer, Manner(json=json, quiet=quiet)))


@_command()
def checkpoint(
    source: Annotated[str, typer.Argument(help="Whose weights: dcn/stack, mcan/net, hiecoatt/parallel and so on.")],
    file: Annotated[Path, typer.Argument(help="What torch.save wrote, or safetensors.")],
    config: Annotated[str, typer.Option(help='What no weight tells, as JSON: {"MULTI_HEAD": 8}.')] = "{}",
    key: Annotated[
        str, typer.Option(help="Under which name in the file the weights stand, where there are several.")
    ] = "",
    prefix: Annotated[
        str, typer.Option(help="Keep the names that start so, without it; such as module. Found if left out.")
    ] = "",
    ignore: Annotated[
        list[str] | None, typer.Option(help="Leave out the names that start so, such as an encoder's; may be repeated.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Audit published weights, correct them, and show what that changes and what it gains."""
    from json import JSONDecodeError, loads

    from suite.audit import checkpoint as inspection
    from suite.core.answer import Answer, Manner, give
    from suite.report import checkpoint as page

    inspection.check(source)
    try:
        stated = loads(config)
    except (JSONDecodeError, RecursionError) as error:
        raise UserError(f"--config {config}: not JSON: {error}") from error
    if not isinstance(stated, dict):
        raise UserError(f'--config {config}: expected a JSON object, such as {{"MULTI_HEAD": 8}}')
    found = inspection.read(file, key=key, prefix=prefix, ignore=tuple(ignore or ()))
    fitted = inspection.fitted(source, found, stated, file=file)
    records = list(inspection.inspect(source, fitted.named, stated))
    answer = Answer(
        code=exits.code(records),
        words=page.words(
            records,
            wrapper=fitted.prefix,
            unwrapped=fitted.unwrapped,
            left_out=fitted.left_out,
            alike=fitted.alike,
        ),
        last=page.speed(records),
        data={
            "source": source,
            "file": file,
            "wrapper": fitted.prefix,
            "unwrapped": fitted.unwrapped,
            "left_out": fitted.left_out,
            "alike": fitted.alike,
        }
        | page.data(records),
    )
    raise typer.Exit(give(answer, Manner(json=json, quiet=quiet)))


@_command()
def audit(
    target: Annotated[
        str, typer.Argument(metavar="FILE.py:NAME", help="A class or factory of a module; or a variant's name.")
    ],
    strict: Annotated[bool, typer.Option("--strict", help="What is fragile counts as wrong.")] = False,
    seed: Annotated[int, typer.Option(help="Of the batches.")] = 0,
    mask: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=KIND", help="What a mask means: valid, padding, additive or lengths."),
    ] = None,
    inputs: Annotated[
        list[str] | None, typer.Option(metavar="NAME=SIDE", help="A feature input, and the side whose slots it has.")
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(metavar="NAME", help="An argument to leave out.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="PATH", help="Write a page of the audit there.")] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="After which it counts as hung.")] = 600.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Is it masked correctly? Any module, of yours too: what is broken, by how much, where, and what to change."""
    from suite.audit import command
    from suite.core.answer import Manner

    raise typer.Exit(
        command.start(
            target,
            strict=strict,
            seed=seed,
            stated=command.told(mask or (), inputs or (), ignore or ()),
            html=html,
            timeout_s=timeout,
            manner=Manner(json=json, quiet=quiet),
        )
    )


def _refuse(since: str, given: Mapping[str, bool]) -> None:
    """Refuse options that would change nothing."""
    for option, is_given in given.items():
        if is_given:
            raise UserError(f"{option} has no effect here: {since}")


def main() -> None:
    """Run a command; what the user got wrong is one line, what we got wrong is a traceback."""
    arguments = sys.argv[1:]
    wants_json = "--json" in arguments and not {"--help", "-h"}.intersection(arguments)
    streams.prepare(keep_stdout=wants_json)
    interrupts.install(lambda: _fail("interrupted", exits.INTERRUPTED, wants_json))
    code = _code(arguments, wants_json)
    if streams.lost():  # help, or the version
        code = code or exits.WRONG_COMMAND
    interrupts.ignore()
    sys.exit(code)


def _code(arguments: Sequence[str], wants_json: bool) -> int:
    """The exit code; the one place where whatever was raised ends."""
    try:
        code: int = app(args=arguments, standalone_mode=False, obj=process.began()) or exits.DONE
        if code == exits.INTERRUPTED and wants_json and not streams.answered:  # typer takes the interrupt for its own
            return _fail("interrupted", code, wants_json)
        return code
    except UserError as error:
        return _fail(str(error), exits.WRONG_COMMAND, wants_json)
    except _WrongCommand as error:
        where = f"; {error.ctx.command_path} --help says what there is" if error.ctx is not None else ""
        return _fail(f"{error.format_message().rstrip('.')}{where}", exits.WRONG_COMMAND, wants_json)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", exits.INTERRUPTED, wants_json)
    except OSError as error:
        refused = errors.of_the_system(error)
        if refused is not None:
            return _fail(refused, exits.WRONG_COMMAND, wants_json)
        return _ours(error, wants_json)
    except ModuleNotFoundError as error:
        missing = errors.not_installed(error)
        if missing is not None:
            return _fail(missing, exits.WRONG_COMMAND, wants_json)
        return _ours(error, wants_json)
    except Exception as error:  # anything unforeseen is a mistake of ours
        return _ours(error, wants_json)


def _ours(error: Exception, wants_json: bool) -> int:
    traceback.print_exception(error)
    message = f"{type(error).__name__}: {error}: a mistake in this program, and not in what was asked; please report it"
    return _fail(f"{message} with the lines above", exits.INTERNAL_ERROR, wants_json)


def _fail(message: str, code: int, wants_json: bool) -> int:
    streams.error(message)
    if wants_json:
        import json

        streams.answer(json.dumps({"exit_code": code, "error": message}))
    return code


if __name__ == "__main__":
    main()
