"""A published checkpoint: audited as it behaves, corrected with the same weights, and both timed side by side."""

import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from suite.audit import weights
from suite.audit.findings import findings
from suite.audit.lab import Lab, relative
from suite.audit.properties import examine
from suite.audit.subject import as_batch, from_module
from suite.core.errors import UserError, as_users
from suite.core.records import Measurement, Record, visible
from variants import CoAttention, load_published
from variants.published import TRANSFERS, Config

ROUNDS = 21
_DEEPEST_PREFIX = 4
_MOST_PREFIXES = 60
_MOST_NAMED = 6
ENCODES = ("hiecoatt/hierarchical",)
"""Sources whose published mechanism encodes its features itself, where ours starts from what comes out of that."""


def check(source: str) -> None:
    """See that a source is known.

    Raises:
        UserError: it is not, or names a component for which there is no mechanism on a batch.
    """
    if source not in TRANSFERS:
        raise UserError(f"{source!r} is no source of a mechanism; known are {', '.join(TRANSFERS)}")


def read(path: Path, *, key: str = "", prefix: str = "", ignore: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The weights in a file, as `suite.audit.weights` finds them.

    Args:
        path: the file.
        key: under which name in it they stand; found where it is left out.
        prefix: kept are the names that start with it, without it; such as ``module.``.
        ignore: left out are the names that then start with one of these, such as an encoder's.

    Raises:
        UserError: the file cannot be read, there are no weights in it or none under that prefix, or a name to leave
            out starts none of theirs.
    """
    found = weights.read(path, key=key).named
    named = {name.removeprefix(prefix): weight for name, weight in found.items() if name.startswith(prefix)}
    there = f"there are {', '.join(visible(name) for name in list(found)[:_MOST_NAMED])}"
    if not named:
        raise UserError(f"{path}: no name starts with {prefix!r}; {there}")
    for start in ignore:
        if not any(name.startswith(start) for name in named):
            without = f", taken without {prefix!r}," if prefix else ""
            raise UserError(f"--ignore {start} leaves nothing out: no name{without} starts so; {there}")
    kept = {name: weight for name, weight in named.items() if not name.startswith(ignore or ("\0",))}
    if not kept:
        raise UserError(f"{path}: --ignore leaves no name; {there}")
    return kept


def fitted(
    source: str, found: Mapping[str, Tensor], config: Config, *, file: object = "weights"
) -> tuple[dict[str, Tensor], str]:
    """The weights by the names that the source gives them, and the prefix that was taken from them.

    A wrapper puts its own name before all others: ``module.``, ``_orig_mod.``, ``model.`` or whatever. Tried are the
    names as they are, and then what stands under each prefix, as long as it takes to find the one that fits.

    Args:
        source: whose they are to be.
        found: as they were read.
        config: what no weight tells.
        file: that they are from, as the user named it.

    Raises:
        UserError: nothing fits, or weights under several prefixes do; or some are not finite, or whole numbers.
    """
    check(source)
    fitting: dict[str, dict[str, Tensor]] = {}
    first: ValueError | None = None
    for prefix in _prefixes(found):
        under = {name.removeprefix(prefix): weight for name, weight in found.items() if name.startswith(prefix)}
        try:
            load_published(source, under, config=config)
        except ValueError as error:
            first = error if first is None or prefix == _shared(found) else first
        else:
            fitting[prefix] = under
            if not prefix:
                break
    if not fitting:
        options = "--ignore NAME leaves out what starts so, --prefix NAME keeps what starts so, without it"
        said = visible(str(first))
        way_out = f"of {source} they are not as they stand" if " has shape " in said else options
        raise UserError(f"{file}: {said}; {way_out}") from first
    if len(fitting) > 1:
        raise UserError(f"{file}: weights of {source} stand under {' and '.join(fitting)}: choose with --prefix")
    ((prefix, under),) = fitting.items()
    _check_floating(under, file)
    _check_finite(under, file)
    return under, prefix


def _prefixes(found: Mapping[str, Tensor]) -> list[str]:
    """Nothing, and every beginning of a name that ends in a dot, those that most names share first."""
    counts: Counter[str] = Counter()
    for name in found:
        parts = name.split(".")
        counts.update(".".join(parts[:depth]) + "." for depth in range(1, min(len(parts), _DEEPEST_PREFIX + 1)))
    return ["", *(prefix for prefix, _ in counts.most_common(_MOST_PREFIXES))]


def _shared(found: Mapping[str, Tensor]) -> str:
    """The longest beginning that all names share and that ends in a dot."""
    parts = [name.split(".")[:-1] for name in found]
    shared = itertools.takewhile(lambda words: len(set(words)) == 1, zip(*parts, strict=False))
    return ".".join(words[0] for words in shared) + "."


def _check_floating(found: Mapping[str, Tensor], file: object) -> None:
    """A number alone may count something; a vector or matrix of whole numbers is a weight that was cut or coded."""
    wrong = {name: weight.dtype for name, weight in found.items() if weight.dim() and not weight.is_floating_point()}
    if wrong:
        named = [f"{visible(name)} ({str(dtype).removeprefix('torch.')})" for name, dtype in wrong.items()]
        more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
        raise UserError(
            f"{file}: weights of whole numbers: {', '.join(named[:_MOST_NAMED])}{more}; expected a "
            "floating-point dtype, as the model computed with"
        )


def _check_finite(found: Mapping[str, Tensor], file: object) -> None:
    wrong = {
        name: int((~torch.isfinite(weight)).sum())
        for name, weight in found.items()
        if weight.is_floating_point() and not torch.isfinite(weight).all()
    }
    if wrong:
        named = ", ".join(
            f"{visible(name)} ({count} of {found[name].numel()})" for name, count in list(wrong.items())[:_MOST_NAMED]
        )
        more = f" and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        raise UserError(
            f"{file}: weights that are NaN or infinite: {named}{more}; whatever is computed with them is so too, and "
            "nothing can be told: take a checkpoint from before the training diverged"
        )


def pair(source: str, named: Mapping[str, Tensor], config: Config) -> dict[str, CoAttention]:
    """The published mechanism and the corrected one with the same weights, by name.

    Raises:
        UserError: the weights do not fit, or there is no mechanism on a batch for that component.
    """
    check(source)
    with as_users():
        return {into: load_published(source, named, config=config, into=into).float() for into in TRANSFERS[source]}


def audit(modules: Mapping[str, CoAttention], *, task: str, seed: int = 0) -> Iterator[Record]:
    """Findings about each, with the weights that it has."""
    for name, module in modules.items():
        subject = from_module(module, name=name)
        yield from findings(subject, examine(subject, seed=seed), task=task, device="cpu")


def changes(modules: Mapping[str, CoAttention], *, task: str, seed: int = 0) -> Iterator[Measurement]:
    """How far the published outputs are from the corrected ones, relative to their RMS, with and without padding.

    Both have to start from the same features.
    """
    (published, module), (corrected, ours) = modules.items()
    lab = Lab(from_module(module, name=published), seed)
    for condition, batch in (("without padding", lab.full), ("padded", lab.batch)):
        with torch.no_grad():
            outputs = zip(module(as_batch(batch))._asdict().items(), ours(as_batch(batch)), strict=True)
        for (output, before), after in outputs:
            if before.shape != after.shape:  # three levels of weights against one mechanism
                continue
            yield Measurement(
                task=task,
                variant=published,
                device="cpu",
                quantity="correction",
                unit="1",
                value=relative(after, before)[0],
                details={"output": output, "condition": condition, "corrected": corrected},
            )


def time_both(
    modules: Mapping[str, CoAttention], *, task: str, examples: int = 8, regions: int = 196, words: int = 26
) -> Iterator[Measurement]:
    """Forward latency of each on a batch of ragged questions, interleaved, each after an untimed call of its own."""
    batches = {}
    for name, module in modules.items():
        lab = Lab(from_module(module, name=name))
        lengths = [words - (words - 1) * example // examples for example in range(examples)]
        batches[name] = as_batch(lab.scene((regions,) * examples, lengths))
    samples: dict[str, list[float]] = {name: [] for name in modules}
    generator = random.Random(0)
    with torch.no_grad():
        for _ in range(ROUNDS):
            for name in generator.sample(sorted(modules), len(modules)):
                modules[name](batches[name])
                start = time.perf_counter()
                modules[name](batches[name])
                samples[name].append(time.perf_counter() - start)
    for name, taken in samples.items():
        yield Measurement(
            task=task,
            variant=name,
            workload=f"batch={examples},regions={regions},words={words}",
            phase="forward",
            device="cpu",
            quantity="latency",
            unit="s",
            samples=tuple(taken),
            rounds=tuple(range(ROUNDS)),
        )


def inspect(source: str, named: Mapping[str, Tensor], config: Config) -> Iterator[Record]:
    """Everything about a checkpoint: audits, what the correction changes, and latencies."""
    modules = pair(source, named, config)
    yield from audit(modules, task=source)
    if source not in ENCODES:
        yield from changes(modules, task=source)
    yield from time_both(modules, task=source)
