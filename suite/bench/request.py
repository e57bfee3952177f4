"""What a user asks for, checked before any work starts."""

import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from suite.bench import outline
from suite.bench.probes import CHOICES
from suite.core import devices, user_files
from suite.core.devices import Device
from suite.core.errors import UserError, as_users, check_seconds, words
from suite.core.records import ANCHOR
from suite.core.workloads import CLASSIC, PHASES, PRESETS, TODAY, WORKLOADS, Phase, Preset, Workload, custom, override
from suite.execution import guest
from variants import canonical, mechanisms
from variants.registry import is_ours, published_names
from variants.spec import Spec

T = TypeVar("T")
_LONGEST_LOAD_S = 60.0
"""For which the files of a user's own may load, unless ``--timeout`` allows more."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for, as typed; an empty field leaves the choice to the program."""

    variants: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    preset: str | None = None
    shape: str | None = None
    sets: tuple[str, ...] = ()
    phases: tuple[str, ...] = ()
    device: str | None = None
    threads: str = "1"
    probes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    """Files that register mechanisms of the user's own."""
    budget_s: float | None = None
    """Seconds from the start of the process to the last page; 0 measures all."""
    timeout_s: float | None = None
    largest_batch: bool = False
    elsewhere: bool = False
    """Whether it is measured on other machines: whether this one has such a device says nothing then."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A variant, and whether it is measured whatever the budget."""

    spec: Spec
    required: bool
    chosen: bool = False
    """Named by the user, who may want it although it is slow here."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request with every choice made and every name checked."""

    variants: tuple[Wanted, ...]
    """Most important first."""
    audited: tuple[Spec, ...]
    """Examined for masking alone."""
    workloads: tuple[Workload, ...]
    phases: tuple[Phase, ...]
    devices: tuple[Device, ...]
    probes: tuple[str, ...]
    budget_s: float | None
    spends_budget: bool
    """Whether comparisons sample until it is spent, since somebody asked for so much; a preset's is a limit."""
    timeout_s: float | None
    preset: str
    """Empty where the user chose for himself."""
    largest_batch: bool
    files: tuple[str, ...]

    def on_models(self, models: Iterable[str]) -> "Asked":
        """The same on each of these models of its device; an empty one is the only one, and is not named."""
        return replace(self, devices=tuple(replace(device, model=model) for model in models for device in self.devices))


def kind_of(device: str | None, *, elsewhere: bool = False) -> Literal["cpu", "cuda"]:
    """The kind of device that was asked for, or the best there is.

    Args:
        device: as typed.
        elsewhere: whether it is one of other machines, which are not looked at.

    Raises:
        UserError: it is of another kind, or not there.
    """
    match device or ("cuda" if torch.cuda.is_available() else "cpu"):
        case "cpu":
            return "cpu"
        case "cuda" if elsewhere or torch.cuda.is_available():
            return "cuda"
        case "cuda":
            raise UserError(
                "--device cuda: torch sees no CUDA device here; expected one, and a build of torch for it "
                "(python -m torch.utils.collect_env says what there is), or --device cpu"
            )
        case other:
            raise UserError(f"--device {other}: expected cpu or cuda")


def device_of(device: str | None, *, elsewhere: bool = False) -> Device:
    """The device that was asked for, or the best there is: a GPU that CUDA or ROCm knows, else the CPU.

    Args:
        device: as typed; without the CPU's threads, which have an option of their own.
        elsewhere: whether it is one of other machines, which are not looked at.

    Raises:
        UserError: there is no such device, or it is not there.
    """
    kind, colon, index = (device or "").partition(":")
    if kind == "cuda" and colon:
        if not re.fullmatch(r"[0-9]{1,3}", index):
            raise UserError(f"--device {device}: expected a number, such as cuda:1")
        kind_of("cuda", elsewhere=elsewhere)
        if not elsewhere and int(index) >= torch.cuda.device_count():
            last = torch.cuda.device_count() - 1
            raise UserError(f"--device {device}: torch sees {last + 1} CUDA devices here: expected at most cuda:{last}")
        return devices.parse(f"cuda:{int(index)}")
    if device in ("mps", "xpu"):
        if not elsewhere and accelerator() != device:
            raise UserError(f"--device {device}: torch sees none here; expected cpu, or {accelerator() or 'a GPU'}")
        return devices.parse(device)
    if device not in (None, "cpu", "cuda"):
        raise UserError(f"--device {device}: expected cpu, cuda, cuda:1, mps or xpu")
    return devices.parse(kind_of(device, elsewhere=elsewhere))


def accelerator() -> str:
    """The kind of accelerator that torch sees here, whether or not anything of this program knows it; or empty."""
    if torch.cuda.is_available():
        return "cuda"
    try:
        found = torch.accelerator.current_accelerator(check_available=True)
    except (AttributeError, RuntimeError, TypeError):  # of an older torch, or of a driver that is half there
        return ""
    return found.type if found is not None else ""


def understand(request: Request) -> Asked:
    """Check a request and make the choices that it leaves open.

    Raises:
        UserError: something in it is unknown or cannot be; one line says what, and what is known.
    """
    if request.files:
        _introduce(request)
    return _understand(request)


def introduce(files: Sequence[str], *, timeout_s: float | None = None) -> None:
    """Make known what files of the user's own register; they run in a process of their own.

    Raises:
        UserError: one cannot be loaded, or registers nothing; says which, and what is wrong with it.
    """
    _hear(Request(files=tuple(files), timeout_s=timeout_s), user_files.describe, tuple(files))


def _introduce(request: Request) -> None:
    """As `introduce`, and what the mechanisms that are asked for say of themselves on the workloads."""
    outlines = _hear(request, _introductions, request)
    try:
        asked = _understand(request)
    except UserError:  # which is said in its turn
        return
    outline.hear(_theirs(asked), asked.workloads, outlines)


def _hear(
    request: Request, function: Callable[..., Iterator[Mapping[str, Any]]], *arguments: object
) -> list[Mapping[str, Any]]:
    """Listen to a process that loads the files; the outlines that it sent."""
    outlines: list[Mapping[str, Any]] = []
    at = request.files[0]
    twice = [path for path, count in Counter(map(os.path.abspath, request.files)).items() if count > 1]
    if twice:
        raise UserError(f"--with {user_files.shown(Path(twice[0]))} is given twice")
    for path in request.files:
        user_files.check(Path(path))
    try:
        for told in guest.stream(function, *arguments, timeout_s=max(request.timeout_s or 0.0, _LONGEST_LOAD_S)):
            match told:
                case {"file": str(path)}:
                    at = path
                case {"mechanism": dict(description)}:
                    _introduce_told(at, description)
                case {"outline": dict(made)}:
                    outlines.append(made)
    except guest.Lost as lost:
        raise UserError(f"--with {user_files.shown(Path(at))}: {lost}") from lost
    return outlines


def _introduce_told(path: str, description: user_files.Description) -> None:
    try:
        user_files.introduce(description)
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # a file may write what it likes
        where = user_files.shown(Path(path))
        raise UserError(f"--with {where}: it wrote into the pipe of its answers, {words(error)}") from error


def _introductions(request: Request) -> Iterator[Mapping[str, Any]]:
    """Descriptions, then outlines: what a process tells of the files that it has loaded."""
    yield from user_files.describe(request.files)
    try:
        asked = _understand(request)
    except UserError:
        return
    yield from outline.tell(_theirs(asked), asked.workloads)


def _theirs(asked: Asked) -> list[Spec]:
    """The mechanisms of the user's own among what is asked for, each as it is without transforms."""
    own = set(_users_own(asked.files))
    return list(dict.fromkeys(wanted.spec.plain for wanted in asked.variants if wanted.spec.mechanism in own))


def _understand(request: Request) -> Asked:
    device = device_of(request.device, elsewhere=request.elsewhere)
    check_seconds("--budget", request.budget_s, zero=True)
    check_seconds("--timeout", request.timeout_s)
    _check_effect(request, device)
    preset = _known("--preset", request.preset or ("gpu" if device.kind in ("cuda", "xpu") else "cpu"), PRESETS)
    chosen = bool(request.variants or request.workloads or request.shape or request.sets or request.files)
    # what somebody chose is measured whole, unless a budget was asked for too
    budget_s = preset.budget_s if request.preset or not chosen else None
    if request.budget_s is not None:
        budget_s = request.budget_s or None
    with as_users():
        specs = [canonical(name) for name in request.variants]
    _once("the variant", map(str, specs))
    variants = dict.fromkeys(specs, True) or dict(_variants_of(preset))
    if request.files and not request.variants:
        variants = {Spec(name): True for name in _users_own(request.files)} | variants
    return Asked(
        variants=tuple(
            Wanted(spec=spec, required=required, chosen=spec in specs) for spec, required in variants.items()
        ),
        audited=() if chosen else tuple(spec for spec in map(Spec, published_names()) if spec not in variants),
        workloads=tuple(_workloads(request, preset)),
        phases=tuple(_known("--phase", name, dict(zip(PHASES, PHASES, strict=True))) for name in request.phases)
        or PHASES,
        devices=tuple(_devices(device, request.threads, elsewhere=request.elsewhere)),
        probes=tuple(_known("--probe", name, dict(zip(CHOICES, CHOICES, strict=True))) for name in request.probes)
        or CHOICES,
        budget_s=budget_s,
        spends_budget=bool(request.budget_s),
        timeout_s=request.timeout_s,
        preset=request.preset or ("" if chosen else preset.name),
        largest_batch=request.largest_batch,
        files=request.files,
    )


def _known(option: str, word: str, known: Mapping[str, T]) -> T:
    if word not in known:
        raise UserError(f"{option} {word}: expected one of {', '.join(known)}")
    return known[word]


def _check_effect(request: Request, device: Device) -> None:
    """Refuse what would change nothing, or contradicts itself."""
    for option, values in (("--phase", request.phases), ("--probe", request.probes)):
        _once(option, values)
    if device.kind != "cpu" and request.threads != "1":
        raise UserError(f"--threads {request.threads} has no effect on --device {device}")
    chosen = request.variants and (request.workloads or request.shape)
    if request.preset and chosen and request.budget_s is not None:
        raise UserError(f"--preset {request.preset} has no effect beside variants, workloads and a budget of your own")


def _once(option: str, values: Iterable[str]) -> None:
    for value, count in Counter(values).items():
        if count > 1:
            raise UserError(f"{option} {value} is given twice")


def _devices(device: Device, threads: str, *, elsewhere: bool) -> Iterator[Device]:
    _once("--threads", (text.strip() for text in threads.split(",")))
    for text in threads.split(","):
        if not re.fullmatch(r"0*[1-9][0-9]{0,5}", text.strip()):
            raise UserError(f"--threads {threads}: expected whole numbers of at least 1, such as 1 or 1,2,4")
        if not elsewhere and int(text) > (os.cpu_count() or 1):
            raise UserError(f"--threads {threads}: this machine has {os.cpu_count()} CPUs")
        yield replace(device, threads=int(text))


def _workloads(request: Request, preset: Preset) -> Iterator[Workload]:
    chosen = [_known("--workload", name, WORKLOADS) for name in request.workloads]
    if request.shape:
        chosen.append(custom(_pairs("--shape", request.shape)))
    axes: list[list[tuple[str, str]]] = []
    for text in request.sets:
        key, equals, values = text.partition("=")
        if not equals or not values:
            raise UserError(f"--set {text}: expected an axis and its values, such as batch=1,8,32")
        axes.append([(key.strip(), value.strip()) for value in values.split(",")])
    _once("--set", (axis[0][0] for axis in axes))
    seen: set[Workload] = set()
    for workload in chosen or preset.workloads():
        for combination in itertools.product(*axes):
            made = override(workload, dict(combination)) if combination else workload
            alike = replace(made, overrides=())  # 8 and 08 are one batch
            if alike in seen:
                raise UserError(f"{made} is asked for twice, by --workload, --shape or --set")
            seen.add(alike)
            yield made


def _pairs(option: str, text: str) -> dict[str, str]:
    pairs = {}
    for pair in text.split(","):
        key, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"{option} {text}: expected key=value pairs, such as batch=8,regions=100,words=20")
        if key.strip() in pairs:
            raise UserError(f"{option} {text} gives {key.strip()} twice")
        pairs[key.strip()] = value.strip()
    return pairs


def _users_own(files: Sequence[str]) -> list[str]:
    """The mechanisms of these files; in a process that has loaded them, all that are not of this program."""
    return [
        name
        for name, mechanism in mechanisms().items()
        if not is_ours(mechanism) and user_files.mechanism_file(name) in (None, *files)
    ]


def _variants_of(preset: Preset) -> Iterator[tuple[Spec, bool]]:
    """Modes in the preset's order: a mode of every mechanism comes before the next mode of any."""
    published = published_names()
    of_the_anchor = preset.modes if preset.anchor is None else preset.anchor
    for number, mode in enumerate(preset.modes):
        for name in published if preset.published else preset.mechanisms:
            # the budget never puts off a mechanism's first modes, nor those of the anchor
            required = number < preset.modes_required or (name == ANCHOR and mode in of_the_anchor)
            yield canonical(f"{name}{mode}"), required
        if number == 0 and not preset.published:
            yield from ((canonical(f"{ANCHOR}{more}"), True) for more in of_the_anchor if more not in preset.modes)
        if number == 0 and not preset.published and "published_csdn" in published:
            yield Spec("published_csdn"), False
    yield from ((canonical(name), False) for name in (*preset.besides, *([] if preset.published else _in_no_list())))


def _in_no_list() -> list[str]:
    """Mechanisms of ours that no preset was told of."""
    known = {*CLASSIC, *TODAY, *published_names()}
    return [name for name, made in mechanisms().items() if name not in known and is_ours(made)]
