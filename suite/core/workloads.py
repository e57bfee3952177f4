"""Workloads and presets: named shapes with honest ragged lengths.

Lengths are drawn with a fixed seed by numpy, so a workload is the same on every machine, and listing workloads needs
no torch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from suite.core.errors import UserError

Phase = Literal["forward", "forward+backward"]
PHASES: tuple[Phase, ...] = ("forward", "forward+backward")


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A shape, and how full its rows are."""

    name: str
    summary: str
    batch: int
    regions: int
    """N, the padded number of image regions."""
    words: int
    """T, the padded number of question words."""
    image_width: int
    question_width: int
    image_fill: float = 1.0
    """Mean share of valid regions per example; the longest row is always full."""
    question_fill: float = 0.5
    """Mean share of valid words per example."""
    overrides: tuple[tuple[str, str], ...] = ()
    """What differs from the workload of that name, as written."""

    def __str__(self) -> str:
        changes = ",".join(f"{key}={value}" for key, value in self.overrides)
        return self.name + (f"[{changes}]" if changes else "")

    @property
    def valid_share(self) -> float:
        """Mean share of the slots that are valid, of both sides together."""
        slots = self.regions + self.words
        return (self.regions * self.image_fill + self.words * self.question_fill) / slots

    def lengths(self, side: Literal["image", "question"]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Valid slots per example, ``[batch]``: uniform around the mean fill, at least 1, the first row full."""
        width, fill = (self.regions, self.image_fill) if side == "image" else (self.words, self.question_fill)
        generator = np.random.default_rng((2016, 0 if side == "image" else 1, self.batch, width))
        spread = min(fill, 1 - fill)
        shares = generator.uniform(fill - spread, fill + spread, self.batch)
        lengths = np.clip(np.rint(shares * width), 1, width).astype(np.int64)
        if fill < 1 and self.batch > 1:
            lengths[0] = width  # a batch is padded to its longest row
        return lengths


def _workload(
    name: str, summary: str, batch: int, regions: int, words: int, width: int, image_fill: float, question_fill: float
) -> Workload:
    return Workload(
        name=name,
        summary=summary,
        batch=batch,
        regions=regions,
        words=words,
        image_width=width,
        question_width=width,
        image_fill=image_fill,
        question_fill=question_fill,
    )


WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        _workload("tiny", "seconds anywhere; for trying things out", 4, 20, 8, 64, 0.7, 0.6),
        _workload(
            "vqa-grid", "the paper's: a 14 x 14 grid of regions and a padded question", 300, 196, 26, 512, 1.0, 0.3
        ),
        _workload("bottom-up", "10 to 100 detected regions and a short question", 256, 100, 14, 512, 0.55, 0.6),
        _workload("long-text", "a grid of regions and a long text", 64, 196, 512, 512, 1.0, 0.5),
        _workload("high-res", "a 64 x 64 grid of regions", 32, 4096, 26, 512, 1.0, 0.3),
        _workload("pathology", "patches of a slide and groups of genes", 4, 15_000, 6, 256, 0.6, 1.0),
        _workload("binding", "atoms of a drug and residues of a protein", 64, 290, 1200, 128, 0.3, 0.45),
    )
}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A choice of workloads with batch sizes, and whether it is cut to a budget."""

    name: str
    summary: str
    batches: tuple[tuple[str, int], ...]
    """Workload and batch size."""
    modes: tuple[str, ...] = ("", "+bf16", "+compile", "+fp16")
    """Transforms that each mechanism is measured in, in the order in which a budget is spent on them."""
    modes_required: int = 2
    """How many of these modes come before everything that a budget may put off."""
    anchor: tuple[str, ...] | None = None
    """Transforms of the anchor that come before it too, whatever stands among the modes; all the modes if left out."""
    mechanisms: tuple[str, ...] = ()
    """Of our own, those that are measured in these modes."""
    besides: tuple[str, ...] = ()
    """Of our own, those that follow in eager float32 where the budget allows."""
    published: bool = False
    """Whether the mechanisms are the published implementations instead of our own."""
    budget_s: float | None = None
    """Seconds from the start of the process to the last page; None measures all."""

    def workloads(self) -> Iterator[Workload]:
        for name, batch in self.batches:
            yield override(WORKLOADS[name], {"batch": str(batch)})


CLASSIC = ("parallel", "alternating", "hierarchical", "cross", "pool", "dense", "modular")
"""Lu et al. 2016 and what followed until 2019, with the two that any of them has to beat."""
TODAY = ("bidirectional", "bilinear", "bags", "dynamic", "flow", "queries", "transformer")
"""What people pair two sets with today."""

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="cpu",
            summary="the paper's shape at batch 2, every mechanism, in three minutes",
            batches=(("vqa-grid", 2),),
            mechanisms=CLASSIC,
            besides=TODAY,
            modes_required=1,
            budget_s=170.0,
        ),
        Preset(
            name="gpu",
            summary="the paper's shape and detected regions at their own batch sizes, in five minutes",
            batches=(("vqa-grid", 300), ("bottom-up", 256)),
            mechanisms=CLASSIC,
            besides=TODAY,
            modes=("", "+fp16", "+bf16", "+compile", "+bf16+compile", "+fp16+compile", "+cudagraph", "+tf32"),
            modes_required=4,
            anchor=("", "+bf16", "+fp16", "+tf32", "+cudagraph", "+compile", "+bf16+compile", "+bf16+fused"),
            budget_s=285.0,
        ),
        Preset(
            name="today",
            summary="what people pair two sets with today beside parallel and cross, in three minutes",
            batches=(("vqa-grid", 2),),
            mechanisms=("parallel", "cross", *TODAY),
            modes_required=1,
            budget_s=170.0,
        ),
        Preset(
            name="published",
            summary="the published implementations on the paper's shape, without a budget",
            batches=(("vqa-grid", 8),),
            modes=("", "+bf16", "+fp16"),
            published=True,
        ),
        Preset(
            name="full",
            summary="every workload at its own batch size, without a budget",
            mechanisms=CLASSIC + TODAY,
            batches=tuple((name, workload.batch) for name, workload in WORKLOADS.items()),
        ),
    )
}

LONGEST_AXIS = 10**9
"""No machine holds more, and every number that is made of a few of them is finite."""
AXES: Mapping[str, tuple[type[int] | type[float], tuple[str, ...]]] = {
    "batch": (int, ("batch",)),
    "regions": (int, ("regions",)),
    "words": (int, ("words",)),
    "width": (int, ("image_width", "question_width")),
    "image_width": (int, ("image_width",)),
    "question_width": (int, ("question_width",)),
    "fill": (float, ("image_fill", "question_fill")),
    "image_fill": (float, ("image_fill",)),
    "question_fill": (float, ("question_fill",)),
}
"""What may be set or swept: the type of its numbers, and the fields of a workload that move with it."""


def override(workload: Workload, changes: dict[str, str]) -> Workload:
    """The workload with some of its numbers changed, and its name saying so.

    Raises:
        UserError: an unknown key, or a value that is no positive number (a share up to 1 for a fill) or too large.
    """
    values: dict[str, float] = {}
    by: dict[str, str] = {}
    for key, text in changes.items():
        if key not in AXES:
            raise UserError(f"{key}={text} sets {key!r}: expected one of {', '.join(AXES)}")
        kind, targets = AXES[key]
        for target in targets:
            if target in by:
                raise UserError(f"{by[target]} and {key} both set {target}: expected one of them")
            by[target] = key
        try:
            value = kind(text)
        except ValueError:
            value = -1
        if not 0 < value <= (1 if kind is float else LONGEST_AXIS):
            expected = "a share above 0, up to 1" if kind is float else f"a whole number from 1 to {LONGEST_AXIS}"
            raise UserError(f"{key}={text}: expected {expected}")
        values |= dict.fromkeys(targets, value)
    written = dict(workload.overrides) | changes
    kept = tuple((key, text) for key, text in written.items() if _differs(workload.name, key, text))
    return replace(workload, **values, overrides=kept)  # type: ignore[arg-type]  # keys come from AXES


def custom(changes: dict[str, str]) -> Workload:
    """A workload of the user's own numbers; what is left out is taken from ``vqa-grid``.

    Raises:
        UserError: as `override`.
    """
    start = replace(WORKLOADS["vqa-grid"], name="shape", summary="your own shape", image_fill=1.0, question_fill=1.0)
    return override(start, changes)


@lru_cache(maxsize=1024)
def named(text: str) -> Workload:
    """The workload that writes itself so: ``vqa-grid`` or ``vqa-grid[batch=8]``, the inverse of ``str``.

    Raises:
        UserError: the name of no workload, or as `override`.
    """
    name, bracket, rest = text.partition("[")
    if (name not in WORKLOADS and name != "shape") or (bracket and not rest.endswith("]")):
        raise UserError(f"{text!r} is no workload: known are {', '.join(WORKLOADS)}, and shape[key=value,...]")
    pairs = (pair.partition("=") for pair in rest[:-1].split(",") if pair)
    changes = {key.strip(): value.strip() for key, _, value in pairs}
    return custom(changes) if name == "shape" else override(WORKLOADS[name], changes)


def _differs(name: str, key: str, text: str) -> bool:
    base = WORKLOADS.get(name)
    return base is None or any(getattr(base, target) != AXES[key][0](text) for target in AXES[key][1])
