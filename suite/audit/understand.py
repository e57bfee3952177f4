"""What a foreign module's arguments and outputs mean, found from its signature and by trial."""

import inspect
import itertools
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from suite.audit.lab import RAISES, Lab, mode, reorder, reorder_outputs
from suite.audit.subject import (
    Call,
    Order,
    Output,
    Scene,
    Side,
    Subject,
    as_batch,
    from_module,
    image_and_question,
    make_scene,
    slots_of,
    with_side,
)
from variants import Batch, CoAttention

SIDES: tuple[Side, Side] = ("image", "question")


def other(side: Side) -> Side:
    return "question" if side == "image" else "image"


Layout = Literal["examples, slots, features", "slots, examples, features", "examples, features, slots"]
Encoding = Literal["True where valid", "True where padding", "lengths"]
LAYOUTS: tuple[Layout, ...] = (
    "examples, slots, features",
    "slots, examples, features",
    "examples, features, slots",
)

_SIDE_WORDS: dict[Side, frozenset[str]] = {
    "question": frozenset(
        {
            "question",
            "questions",
            "ques",
            "q",
            "qs",
            "text",
            "txt",
            "word",
            "words",
            "query",
            "queries",
            "tgt",
            "target",
            "lang",
            "language",
        }
    ),
    "image": frozenset(
        {
            "image",
            "images",
            "img",
            "im",
            "vis",
            "visual",
            "visn",
            "v",
            "region",
            "regions",
            "key",
            "keys",
            "value",
            "values",
            "memory",
            "mem",
            "context",
            "src",
            "source",
            "kv",
            "obj",
            "objects",
        }
    ),
}
_MASK_WORDS = re.compile(r"mask|valid|pad|len|length|lengths|lens")
_NOT_PADDING = frozenset({"attn_mask", "tgt_mask", "memory_mask", "src_mask", "attention_bias"})
_EXAMPLES, _REGIONS, _WORDS = 3, 11, 7
"""Of trial calls: all different, so that an axis is known by its length."""

ADAPTER = """\
from suite.audit import Adapter

def {name}():
    module = {module}

    def call(batch):  # image [B, N, V], question [B, T, Q], image_valid [B, N], question_valid [B, T]: True where real
        pooled, weights = module(batch.image, batch.question, batch.question_valid)
        return {{"image": pooled, "image_weights": weights}}

    return Adapter(module, call, image_width=..., question_width=...)
"""


class NotUnderstood(ValueError):
    """A signature that means nothing here; the message says why, and holds the adapter to write."""


class Adapter(NamedTuple):
    """A user's word for what a module takes and gives, where its signature does not say it."""

    module: nn.Module
    call: Callable[[Batch], object]
    """From a `Batch` to a tensor, a tuple or a dict of tensors, batch first."""
    image_width: int
    question_width: int
    masked: tuple[Side, ...] = SIDES
    """The sides whose validity the call makes use of."""


@dataclass(frozen=True, kw_only=True)
class Understood:
    """A subject, and in words what was made of its signature."""

    subject: Subject
    account: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """One way to read a signature."""

    features: Mapping[str, Side]
    masks: Mapping[str, tuple[Side, Encoding]] = field(default_factory=dict)
    layouts: Mapping[Side, Layout] = field(default_factory=dict)

    def arguments(self, batch: Scene, *, masked: bool = True) -> dict[str, Tensor]:
        given = {}
        for name, side in self.features.items():
            given[name] = _laid_out(slots_of(batch, side)[0], self.layouts[side])
        for name, (side, encoding) in self.masks.items() if masked else ():
            given[name] = _encoded(slots_of(batch, side)[1], encoding)
        return given


def understand(target: object, *, name: str = "") -> Understood:
    """Make a subject of a module, a class or factory of one, or an adapter.

    Raises:
        NotUnderstood: its signature is none of the usual forms; the message holds the adapter to write.
    """
    name = name or getattr(target, "__name__", type(target).__name__)
    if isinstance(target, type) or (callable(target) and not isinstance(target, nn.Module | Adapter)):
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # whatever weights it starts with, they are the same in every audit
                target = target()
        except TypeError as error:
            raise _lost(name, f"{name} cannot be called without arguments: {error}") from error
    if isinstance(target, Subject):
        return Understood(subject=target)
    if isinstance(target, CoAttention):
        return Understood(subject=from_module(target.eval(), name=name), account=("it follows the contract",))
    if isinstance(target, Adapter):
        return _adapted(target, name)
    if not isinstance(target, nn.Module):
        raise _lost(name, f"{name} gives a {type(target).__name__}: expected a torch.nn.Module")
    return _read(target, name)


def _adapted(adapter: Adapter, name: str) -> Understood:
    def bind(module: nn.Module) -> Call:
        if module is not adapter.module:
            # the call is closed over the original: a copy runs in its place
            return lambda scene: _named(_swapped(adapter, module, as_batch(scene)))
        return lambda scene: _named(adapter.call(as_batch(scene)))

    subject = _subject(adapter.module, name, bind, adapter.image_width, adapter.question_width)
    subject = replace(_masked(subject, adapter.masked), takes_encodings=False)
    return _with_outputs(subject, ("read through its adapter",))


def _swapped(adapter: Adapter, copy: nn.Module, batch: Batch) -> object:
    """The adapter's call with a copy in the place of the module that it is closed over."""
    pairs = list(zip(adapter.module.modules(), copy.modules(), strict=True))
    kept = [dict(part.__dict__) for part, _ in pairs]
    try:
        for part, twin in pairs:  # everything but the tree itself: parameters, buffers, hooks, modes
            part.__dict__.update({key: value for key, value in twin.__dict__.items() if key != "_modules"})
        return adapter.call(batch)
    finally:
        for (part, _), state in zip(pairs, kept, strict=True):
            part.__dict__.update(state)


def _read(module: nn.Module, name: str) -> Understood:
    module = module.eval()
    parameters = [
        parameter
        for parameter in inspect.signature(module.forward).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    maskish = [p for p in parameters if _MASK_WORDS.search(p.name) and p.name not in _NOT_PADDING]
    required = [p.name for p in parameters if p.default is p.empty and p not in maskish]
    features = _sides_of(required)
    if features is None:
        shown = ", ".join(parameter.name for parameter in parameters)
        raise _lost(name, f"{name}.forward({shown}) does not take two feature tensors", module)
    reading, widths = _fitting(module, name, _Reading(features=features), maskish)
    account = [
        f"{argument} is the {side}, [{reading.layouts[side]}], {widths[side]} features wide"
        for argument, side in reading.features.items()
    ]
    reading, how = _polarised(module, reading, widths)
    for argument, (side, encoding) in reading.masks.items():
        account.append(f"{argument} is the validity of the {side}, {encoding} ({how[argument]})")
    account += [
        f"the {side} has no mask, so it is never padded here"
        for side in SIDES
        if side not in {owner for owner, _ in reading.masks.values()}
    ]
    optional = all(p.default is not p.empty for p in maskish)

    def bind(copy: nn.Module, *, masked: bool = True) -> Call:
        return lambda batch: _named(copy(**reading.arguments(batch, masked=masked)))

    subject = _subject(module, name, bind, widths["image"], widths["question"])
    sides = {owner for owner, _ in reading.masks.values()}
    subject = replace(
        _masked(subject, sides),
        unmasked=bind(module, masked=False) if optional and reading.masks else None,
    )
    understood = _with_outputs(subject, tuple(account), reading.layouts["question"] == LAYOUTS[1])
    counted = {side for side, encoding in reading.masks.values() if encoding == "lengths"}
    sides_of = [
        replace(side, order="position" if side.name in counted else side.order) for side in understood.subject.sides
    ]
    return replace(understood, subject=replace(understood.subject, sides=tuple(sides_of)))  # a count has no holes


def _masked(subject: Subject, masked: Collection[Side]) -> Subject:
    return replace(subject, sides=tuple(replace(side, masked=side.name in masked) for side in subject.sides))


def _subject(module: nn.Module, name: str, bind: Callable[[nn.Module], Call], image: int, question: int) -> Subject:
    some = next(iter(module.parameters()), torch.empty(0))
    return Subject(
        name=name,
        module=module,
        call=bind(module),
        bind=bind,
        sides=image_and_question(image, question),
        dtype=some.dtype,
        computes_in=some.dtype,
        device=some.device,
        outputs=(),
        guided=(),
        zeros_when_empty=False,
    )


def _sides_of(names: list[str]) -> dict[str, Side] | None:
    """Which side each feature argument is; None where there are not two sides."""
    if len(names) < 2:
        return None
    found = {name: _side_named(name) for name in names}
    if len(names) == 2 and None in found.values():
        first, second = names
        known = next(((name, side) for name, side in found.items() if side is not None), None)
        if known is None:
            return {first: "image", second: "question"}
        return {name: known[1] if name == known[0] else other(known[1]) for name in names}
    sides = {name: side for name, side in found.items() if side is not None}
    return sides if len(sides) == len(names) and set(sides.values()) == set(SIDES) else None


def _side_named(name: str) -> Side | None:
    for word in re.split(r"[_\d]+", name.lower()):
        for side, words in _SIDE_WORDS.items():
            if word in words:
                return side
    return None


def _fitting(
    module: nn.Module, name: str, reading: _Reading, maskish: list[inspect.Parameter]
) -> tuple[_Reading, dict[Side, int]]:
    """The first layout, widths and assignment of masks with which the module runs."""
    problem: Exception | None = None
    needed = {p.name for p in maskish if p.default is p.empty}
    for image_layout, question_layout in sorted(
        itertools.product(LAYOUTS, LAYOUTS), key=lambda pair: pair[0] != pair[1]
    ):
        layouts: dict[Side, Layout] = {"image": image_layout, "question": question_layout}
        for widths in _widths(module):
            for masks in _assignments(maskish, reading.features):
                tried = replace(reading, layouts=layouts, masks=masks)
                try:
                    with torch.no_grad():
                        _named(module(**tried.arguments(_trial(module, widths))))
                    return tried, widths
                except RAISES as error:
                    problem = error
            if not needed and maskish:
                continue
    if maskish and not needed:
        # it runs with none of its masks as we would pass them: perhaps it runs without
        tried, widths = _fitting(module, name, reading, [])
        return tried, widths
    raise _lost(
        name, f"no widths, layouts and masks were found with which {name} runs; the last error: {problem}", module
    )


def _widths(module: nn.Module) -> Iterator[dict[Side, int]]:
    """Pairs of feature widths to try, equal ones first, from the shapes of the parameters."""
    sizes: dict[int, None] = {}
    for parameter in module.parameters():
        if parameter.dim() >= 2:
            sizes |= dict.fromkeys(reversed(parameter.shape))
        elif parameter.dim() == 1:
            sizes |= dict.fromkeys(parameter.shape)
    tried = [size for size in sizes if size > 1][:8] or [32]
    for size in tried:
        yield {"image": size, "question": size}
    for image, question in itertools.permutations(tried, 2):
        yield {"image": image, "question": question}


def _assignments(
    maskish: list[inspect.Parameter], features: Mapping[str, Side]
) -> Iterator[dict[str, tuple[Side, Encoding]]]:
    """Ways to give each mask argument a side and an encoding."""
    choices = []
    for parameter in maskish:
        side = _side_named(parameter.name) or next(
            (owner for feature, owner in features.items() if parameter.name.startswith(feature)), None
        )
        encodings: tuple[Encoding, ...] = ("True where valid", "lengths")
        if re.search(r"len", parameter.name):
            encodings = ("lengths", "True where valid")
        sides: tuple[Side, ...] = (side,) if side else ("question", "image")
        choices.append([(parameter.name, (owner, encoding)) for encoding in encodings for owner in sides])
    for combination in itertools.product(*choices):
        owners = [owner for _, (owner, _) in combination]
        if len(set(owners)) == len(owners):  # one mask a side
            yield dict(combination)


def _polarised(module: nn.Module, reading: _Reading, widths: Mapping[Side, int]) -> tuple[_Reading, dict[str, str]]:
    """The reading with the polarity of each mask: by its name, else by which slots it makes matter less."""
    how: dict[str, str] = {}
    for argument, (side, encoding) in reading.masks.items():
        if encoding == "lengths":
            how[argument] = "whole numbers, one per example"
            continue
        if "valid" in argument:
            how[argument] = "by its name"
        elif "pad" in argument:
            reading = replace(reading, masks={**reading.masks, argument: (side, "True where padding")})
            how[argument] = "by its name"
        else:
            options: tuple[Encoding, Encoding] = ("True where valid", "True where padding")
            leaks = {}
            for option in options:
                tried = replace(reading, masks={**reading.masks, argument: (side, option)})
                leaks[option] = _moved_by_padding(module, tried, widths, side)
            best = min(options, key=lambda option: leaks[option])
            reading = replace(reading, masks={**reading.masks, argument: (side, best)})
            apart = max(leaks.values()) > 1.01 * min(leaks.values())
            how[argument] = "found by trial" if apart else "assumed: it makes no difference"
    return reading, how


def _moved_by_padding(module: nn.Module, reading: _Reading, widths: Mapping[Side, int], side: Side) -> float:
    """How far outputs move when one side's padding changes, where they do not stand on that padding themselves."""
    batch = _trial(module, widths)
    features, valid = slots_of(batch, side)
    changed = with_side(batch, side, features=torch.where(valid.unsqueeze(-1), features, features.flip(0) * 3))
    try:
        with torch.no_grad():
            before, after = (_named(module(**reading.arguments(given))) for given in (batch, changed))
    except RAISES:
        return float("inf")
    total = 0.0
    for name, value in before.items():
        moved = torch.nan_to_num((after[name] - value).double().abs(), nan=1.0)
        for axis, size in enumerate(value.shape):
            if size == valid.shape[1]:  # by slot: only valid ones are read
                keep = valid.any(0).nonzero().squeeze(-1)
                moved = moved.index_select(axis, keep[: int(valid.sum(-1).min())])
        total += float(moved.mean()) if moved.numel() else 0.0
    return total


def _trial(module: nn.Module, widths: Mapping[Side, int]) -> Scene:
    some = next(iter(module.parameters()), torch.empty(0))
    generator = torch.Generator().manual_seed(0)

    def features(slots: int, width: int) -> Tensor:
        return torch.randn(_EXAMPLES, slots, width, generator=generator).to(some.device, some.dtype)

    def valid(slots: int) -> Tensor:
        lengths = torch.tensor([slots, slots - 3, 2])
        return (torch.arange(slots) < lengths[:, None]).to(some.device)

    return make_scene(
        {
            "image": (features(_REGIONS, widths["image"]), valid(_REGIONS)),
            "question": (features(_WORDS, widths["question"]), valid(_WORDS)),
        }
    )


def _laid_out(features: Tensor, layout: Layout) -> Tensor:
    if layout == LAYOUTS[1]:
        return features.transpose(0, 1)
    return features if layout == LAYOUTS[0] else features.transpose(1, 2)


def _encoded(valid: Tensor, encoding: Encoding) -> Tensor:
    additive = valid.dtype != torch.bool and bool(torch.isinf(valid.double()).any())
    if encoding == "lengths":
        return (valid == 0 if additive else valid != 0).sum(-1)
    if additive:
        return valid  # it says for itself what it hides
    if encoding == "True where valid":
        return valid
    return ~valid if valid.dtype == torch.bool else 1 - valid


def _named(result: object) -> dict[str, Tensor]:
    """The tensors in whatever a module returned, by name."""
    if isinstance(result, Tensor):
        return {"output": result}
    if isinstance(result, Mapping):
        return {str(key): value for key, value in result.items() if isinstance(value, Tensor)}
    if isinstance(result, tuple | list):
        names = getattr(result, "_fields", None) or [f"output {index}" for index in range(len(result))]
        return {name: value for name, value in zip(names, result, strict=True) if isinstance(value, Tensor)}
    return {}


def _with_outputs(subject: Subject, account: tuple[str, ...], slots_first: bool = False) -> Understood:
    """Find out what each output is, on a batch without padding, and whether the order of slots matters."""
    batch = _trial(subject.module, {side.name: side.width for side in subject.sides})
    full = batch.map(lambda _, features, valid: (features, torch.ones_like(valid)))
    with mode(subject.module, train=False), torch.no_grad():
        raw = subject.call(full)
    outputs: list[Output] = []
    turned, lines = set(), list(account)
    for name, value in raw.items():
        if slots_first and value.dim() == 3 and value.shape[1] == _EXAMPLES and value.shape[0] in (_REGIONS, _WORDS):
            turned.add(name)
            value = value.transpose(0, 1)
        output = _output(name, value)
        if output is None:
            lines.append(f"{name}, {list(value.shape)}, is not judged: its axes mean nothing known")
        else:
            outputs.append(output)
    outputs = [_pooled_side(output, outputs, raw, full) for output in outputs]
    lines += [f"{output.name} is {_in_words(output)}" for output in outputs]
    if not outputs:
        raise _lost(subject.name, f"{subject.name} returns nothing whose first axis is the batch", subject.module)

    def batch_first(call: Call) -> Call:
        def run(scene: Scene) -> Mapping[str, Tensor]:
            result = call(scene)
            return {n: result[n].transpose(0, 1) if n in turned else result[n] for n in kept}

        return run

    kept = [output.name for output in outputs]
    bind = subject.bind
    subject = replace(
        subject,
        outputs=tuple(outputs),
        call=batch_first(subject.call),
        bind=lambda module: batch_first(bind(module)),
        unmasked=batch_first(subject.unmasked) if subject.unmasked is not None else None,
        guided=tuple((o.name, o.rows or other(o.side)) for o in outputs if o.kind == "weights" and o.rows != o.side),
    )
    orders: list[tuple[Side, Order]] = [(side, _order(subject, side)) for side in SIDES]
    lines += [f"where a slot of the {side} stands matters" for side, order in orders if order == "position"]
    ordered = tuple(replace(subject.side(side), order=order) for side, order in orders)
    return Understood(subject=replace(subject, sides=ordered), account=tuple(lines))


def _output(name: str, value: Tensor) -> Output | None:
    if not value.is_floating_point() or value.dim() < 2 or value.shape[0] != _EXAMPLES:
        return None
    sides: dict[int, Side] = {_REGIONS: "image", _WORDS: "question"}
    last = sides.get(value.shape[-1])
    sums = value.double().sum(-1)
    if last is not None and bool((value >= 0).all()) and bool(((sums - 1).abs() < 1e-2).all()):
        rows = sides.get(value.shape[-2]) if value.dim() > 2 else None
        return Output(name=name, kind="weights", side=last, rows=rows)
    if value.dim() == 3 and value.shape[1] in sides:
        return Output(name=name, kind="tokens", side=sides[value.shape[1]]) if last is None else None
    if any(size in sides for size in value.shape[1:]):
        return None
    return Output(name=name, kind="vectors", side=_side_named(name) or "question")


def _pooled_side(output: Output, outputs: Sequence[Output], raw: Mapping[str, Tensor], batch: Scene) -> Output:
    """The output; where it is a side's features weighted by weights that are returned too, as that side's."""
    if output.kind != "vectors" or _side_named(output.name):
        return output
    vector = raw[output.name].flatten(1)
    for weights in outputs:
        if weights.kind != "weights" or weights.rows is not None:
            continue
        features = slots_of(batch, weights.side)[0]
        rows = raw[weights.name].view(len(vector), -1, features.shape[1])  # [B, G, L]
        pooled = (rows @ features).flatten(1)  # [B, G V]
        if pooled.shape == vector.shape and torch.allclose(pooled, vector, rtol=1e-3, atol=1e-4):
            return replace(output, side=weights.side)
    return output


def _in_words(output: Output) -> str:
    slots = {"image": "regions", "question": "words"}[output.side]
    if output.kind == "tokens":
        return f"one vector per slot of the {output.side}, judged on valid {slots}"
    if output.kind == "weights":
        return f"weights over {slots}" + (f", one row per slot of the {output.rows}" if output.rows else "")
    return "one vector or more per example"


def _order(subject: Subject, side: Side) -> Order:
    """Whether permuting one side's slots, without any padding, does nothing but permute."""
    lab = Lab(subject)
    try:
        reference = lab.forward(lab.full)
        order = lab.shuffle(lab.full, side)
        expected = reorder_outputs(subject, reference, lab.full, side, order)
        moved = lab.forward(reorder(lab.full, side, order))
    except RAISES:
        return "position"
    found = lab.compare("slots permuted", expected, moved, "exact")
    return "free" if all(one.leak <= 16 * lab.floor for one in found) else "position"


def _lost(name: str, why: str, module: nn.Module | None = None) -> NotUnderstood:
    made = f"{type(module).__name__}()" if module is not None else "..."
    return NotUnderstood(
        f"{why}\n\nWrite an adapter and audit that instead:\n\n{ADAPTER.format(name=name.lower(), module=made)}"
    )
