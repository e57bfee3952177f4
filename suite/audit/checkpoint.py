"""A published checkpoint: audited as it behaves, corrected with the same weights, and both timed side by side."""

import itertools
import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
from variants.published import TRANSFERS, Config, beside

ROUNDS = 21
_DEEPEST_PREFIX = 8
_MOST_PREFIXES = 400
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What wrappers of torch's put into the names of what they wrap."""
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


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What of a file's weights is the source's."""

    named: Mapping[str, Tensor]
    """By the names that the source gives them."""
    prefix: str = ""
    """That was taken from those names."""
    unwrapped: bool = False
    """Whether names of wrappers were taken out of their middle, too."""
    left_out: tuple[str, ...] = ()
    """Beginnings of names beside them, of modules that the source has no part for."""
    alike: tuple[str, ...] = ()
    """Prefixes of other layers of the same network that fit as well."""


def fitted(source: str, found: Mapping[str, Tensor], config: Config, *, file: object = "weights") -> Fitted:
    """What of the weights is the source's: all of them, or a part of a whole network's.

    A wrapper puts its own name before all others: ``module.``, ``_orig_mod.``, ``model.`` or whatever; a network puts
    the name of the part. Tried are the names as they are, and then what stands under each prefix, as long as it takes
    to find the one that fits. Modules beside it that the source does not know are left out. Of several layers in one
    list the first is taken.

    Args:
        source: whose they are to be.
        found: as they were read.
        config: what no weight tells.
        file: that they are from, as the user named it.

    Raises:
        UserError: nothing fits, or weights in several places do; or some are not finite, or whole numbers.
    """
    check(source)
    first: ValueError | None = None
    inner = _unwrapped(found)
    for names in (found, inner) if inner.keys() != found.keys() else (found,):
        fitting, error = _places(source, names, config)
        first = first or error
        if not fitting:
            continue
        chosen, *others = sorted(fitting, key=_in_order)
        if len({_NUMBER.sub("", prefix) for prefix in fitting}) > 1:
            raise UserError(f"{file}: weights of {source} stand under {' and '.join(fitting)}: choose with --prefix")
        under, left_out = fitting[chosen]
        _check_floating(under, file)
        _check_finite(under, file)
        return Fitted(named=under, prefix=chosen, unwrapped=names is inner, left_out=left_out, alike=tuple(others))
    options = "--ignore NAME leaves out what starts so, --prefix NAME keeps what starts so, without it"
    said = visible(str(first))
    way_out = f"of {source} they are not as they stand" if " has shape " in said else options
    raise UserError(f"{file}: {said}; {way_out}") from first


def _places(
    source: str, found: Mapping[str, Tensor], config: Config
) -> tuple[dict[str, tuple[dict[str, Tensor], tuple[str, ...]]], ValueError | None]:
    """By prefix, what fits there and what beside it is left out; and what is said where nothing fits.

    Where weights stand by themselves, those beside other modules are passed over.
    """
    alone: dict[str, tuple[dict[str, Tensor], tuple[str, ...]]] = {}
    among = alone.copy()
    first: ValueError | None = None
    shared = _shared(found)
    for prefix in _prefixes(found):
        under = {name.removeprefix(prefix): weight for name, weight in found.items() if name.startswith(prefix)}
        try:
            left_out = beside(source, under, config=config)
            own = {name: weight for name, weight in under.items() if not name.startswith(left_out or ("\0",))}
            load_published(source, own, config=config)
        except ValueError as error:
            first = error if first is None or prefix == shared else first
        else:
            (among if left_out else alone)[prefix] = (own, left_out)
            if not prefix and not left_out:
                break
    return alone or among, first


def _unwrapped(found: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights by names without those of wrappers, wherever these stand; as they are where two would then be one."""
    named = {".".join(part for part in name.split(".") if part not in _WRAPPERS): found[name] for name in found}
    return named if len(named) == len(found) else found


def _prefixes(found: Mapping[str, Tensor]) -> list[str]:
    """Nothing, and every beginning of a name that ends in a dot, those that most names share first."""
    counts: Counter[str] = Counter()
    for name in found:
        parts = name.split(".")
        counts.update(".".join(parts[:depth]) + "." for depth in range(1, min(len(parts), _DEEPEST_PREFIX + 1)))
    return ["", *(prefix for prefix, _ in counts.most_common(_MOST_PREFIXES))]


def _in_order(prefix: str) -> list[int]:
    return [int(number) for number in _NUMBER.findall(prefix)]


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
