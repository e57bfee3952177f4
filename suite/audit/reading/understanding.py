"""From a user's object to a subject, with an account of what was made of its signature."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from suite.audit.calling import NotJudged
from suite.audit.reading.adapter import Adapter
from suite.audit.reading.arguments import Argument, arguments_of, by_place, called, kinship, takes_any, takes_more
from suite.audit.reading.forms import COUNTS, Form
from suite.audit.reading.inputs import Stated, independent
from suite.audit.reading.masks import Placement
from suite.audit.reading.outputs import Seen, Sizes, classify, in_words, with_cuts
from suite.audit.reading.refusal import NotUnderstood, lost
from suite.audit.reading.search import search, search_awake
from suite.audit.reading.trial import LENGTHS, SECONDS, Outputs, Reading, Spent, Trials, flat, kept, moved
from suite.audit.subject import Call, Order, Scene, Side, SideOf, Subject, from_module, make_scene, with_side
from suite.core.errors import words
from variants import CoAttention

STILL = 1e-4
"""How far outputs may move, relative, and count as the same in a trial."""


@dataclass(frozen=True, kw_only=True)
class Understood:
    """A subject, and in words what was made of its signature."""

    subject: Subject
    account: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    """What a user should know beside the verdict: polarities that differ, or are not what a name says."""
    doubts: tuple[str, ...] = ()
    """Why nothing may be called wrong: masks that were not placed, or whose meaning is assumed."""


def understand(target: object, *, name: str = "", stated: Stated | None = None) -> Understood:
    """Make a subject of a module, a class or factory of one, or an adapter.

    Args:
        target: what to audit.
        name: what the user calls it.
        stated: what the user says of arguments; the rest is found by trial.

    Raises:
        NotUnderstood: no reading of its signature runs; the message says why and holds the adapter to write.
    """
    name = name or getattr(target, "__name__", type(target).__name__)
    if inspect.isfunction(target) and _computes(target):
        return _of_function(target, name, stated or Stated())
    ours = False
    if isinstance(target, type) or (callable(target) and not isinstance(target, nn.Module | Adapter | Subject)):
        target, ours = _made(target, name), True
    if isinstance(target, Subject | CoAttention | Adapter) and stated is not None and stated != Stated():
        raise NotUnderstood(f"{name} says itself what its arguments are: --mask, --inputs and --ignore have no effect")
    if isinstance(target, Subject):
        return Understood(subject=target)
    if isinstance(target, CoAttention):
        return Understood(subject=from_module(target.eval(), name=name), account=("it follows the contract",))
    if isinstance(target, Adapter):
        return _adapted(target, name)
    if not isinstance(target, nn.Module):
        raise lost(f"{name} gives a {type(target).__name__}: expected a torch.nn.Module", name)
    return _read(target.eval(), name, stated or Stated(), ours=ours)


def _computes(function: Callable[..., object]) -> bool:
    """Whether a function has the arguments of an attention, and not those of a factory, which has none to be given."""
    needed = [p for p in _parameters(function) if p.default is p.empty and p.kind in (0, 1, 3)]
    return bool(needed)


def _of_function(function: Callable[..., object], name: str, stated: Stated) -> Understood:
    """A function that is itself what is audited, as the ``forward`` of a module without parameters."""
    module = nn.Module()
    module.forward = function
    try:
        return _read(module.eval(), name, stated)
    except NotUnderstood as error:
        given = ", ".join(
            f"{p.name}=..." for p in _parameters(function) if p.default is p.empty and p.kind in (0, 1, 3)
        )
        raise NotUnderstood(
            f"{name} needs arguments: expected a module, or a function without arguments that returns one; "
            f"and as an attention of tensors by itself it was not understood: {error.why}",
            f"def make_it():\n    return {name}({given})",
        ) from error


def _made(factory: Callable[..., object], name: str) -> object:
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # whatever weights it starts with, they are the same in every audit
            return factory()
    except TypeError as error:
        needed = [p.name for p in _parameters(factory) if p.default is p.empty and p.kind in (0, 1, 3)]
        if needed:
            given = ", ".join(f"{parameter}=..." for parameter in needed)
            raise NotUnderstood(
                f"{name} cannot be called without arguments: it needs {', '.join(needed)}; audit a function without "
                "arguments that gives them",
                f"def make_it():\n    return {name}({given})",
            ) from error
        raise lost(f"{name}() raises {words(error)}", name) from error
    except Exception as error:  # it is the user's, and may raise anything
        raise lost(f"{name}() raises {words(error)}", name) from error


def _parameters(factory: Callable[..., object]) -> Sequence[inspect.Parameter]:
    try:
        return list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):
        return ()


# --- modules


def _read(module: nn.Module, name: str, stated: Stated, *, ours: bool = False) -> Understood:
    """Read a module; where it was made for this audit alone, parameters of it may be given other numbers."""
    try:
        arguments = arguments_of(module)
    except (TypeError, ValueError) as error:
        raise lost(
            f"{name}.forward has no signature that Python can read, as what torch.jit makes has none: audit the module "
            "that it was made from, or write an adapter",
            name,
        ) from error
    try:
        return _tried(module, name, stated, arguments, ours=ours)
    except Spent as error:
        raise lost(f"{name} is too slow to be read by trials: they took over {SECONDS:g} s", name) from error
    except NotUnderstood:
        raise
    except Exception as error:  # whatever a strange module makes of our trials, it is not the module's fault
        raise lost(f"{name} was not read to the end: a trial of the audit broke off ({words(error)})", name) from error


def _tried(
    module: nn.Module, name: str, stated: Stated, arguments: Sequence[Argument], *, ours: bool = False
) -> Understood:
    _check(stated, arguments, name)
    ignored = tuple(a.name for a in arguments if a.name in stated.ignore and a.guess != "flag")
    if not arguments and takes_any(module):
        raise lost(f"{name}.forward takes *arguments, and no signature says what they are", name)
    trials = Trials(module)
    with trials.quietly():
        woken: tuple[str, ...] = ()
        if ours:
            placement, woken = search_awake(trials, arguments, stated)
        else:
            placement = search(trials, arguments, stated)
        if placement is None:
            raise _unread(trials, name, arguments)
        trials.renew()
        reading = placement.reading
        _refuse_ids(name, arguments, reading)
        _refuse_lists(trials, name, arguments, placement)
        _refuse_twins(trials, name, arguments, placement)
        reading, more = _with_unused(trials, placement)
        seen = _seen(trials, reading)
        account = [*_of_inputs(reading, ignored), *_of_masks(arguments, placement, reading, ignored), *more]
        if woken:
            start, were = ("starts", "was") if len(woken) == 1 else ("start", "were")
            account.append(
                f"{_some(woken)} {start} at zero and {were} given other numbers here: with zeros a side reaches nothing"
            )
        account += [f"{one.output.name} is {in_words(one)}" for one in seen]
        if not any(one.output.kind != "unknown" for one in seen):
            why = "; ".join(f"{one.output.name}: {one.why}" for one in seen) or "it returns no tensor"
            raise lost(f"{name} returns nothing that can be judged ({why})", name, arguments=arguments, reading=reading)
        if not independent(trials, reading):
            account.append("its examples are not independent of each other, without any padding")
        told = {side for form in reading.masks.values() for side in form.sides}
        untold = _untold(trials, reading, [side for side in reading.sides if side not in told], seen)
        orders = {side: _order(trials, reading, seen, side) for side in reading.sides}
        counts = {name: form.side for name, form in reading.masks.items() if form.values in COUNTS}
        falling = {name: side for name, side in counts.items() if _has_to_fall(trials, reading, side)}
        sorts = tuple(dict.fromkeys(falling.values()))
    counted = set(counts.values())
    if falling:
        apart = ", and parted where both cannot" if len(sorts) > 1 else ""
        names = " and ".join(falling)
        account.append(
            f"{names} {'has' if len(falling) == 1 else 'have'} to fall from example to example: each batch is sorted "
            f"by {'it' if len(falling) == 1 else 'them'}{apart}, and what comes back is put in order"
        )
    account += [f"where a slot of {side} stands matters" for side, order in orders.items() if order == "position"]
    optional = [a.name for a in arguments if a.name in reading.masks and not a.required]
    bare = replace(reading, masks={n: form for n, form in reading.masks.items() if n not in optional})

    first = by_place(module)

    def bind_as(read: Reading) -> Callable[[nn.Module], Call]:
        def bind(copy: nn.Module) -> Call:
            def call(scene: Scene) -> Mapping[str, Tensor]:
                dtype = next(iter(scene.features.values())).dtype
                return _laid(seen, flat(called(copy, read.arguments(scene, dtype), first)))

            return _sorted_by(sorts, call) if sorts else call

        return bind

    bind = bind_as(reading)
    numbers = {n: replace(f, values="booleans") for n, f in reading.masks.items() if f.values in ("integers", "floats")}
    sides = tuple(
        SideOf(
            name=side,
            width=reading.width(side),
            masked=side in told,
            length=reading.lengths.get(side),
            # a count has no holes
            order="position" if side in counted else orders[side],
        )
        for side in reading.sides
    )
    subject = _subject(name, module, bind, sides, seen)
    able = optional and not bare.masks and _alike(trials, reading, bare)
    subject = replace(
        subject,
        unmasked=bind_as(bare)(module) if able else None,
        by_booleans=bind_as(replace(reading, masks={**reading.masks, **numbers}))(module) if numbers else None,
        ignored=ignored,
    )
    return Understood(
        subject=subject,
        account=tuple(account),
        remarks=_remarks(arguments, placement),
        doubts=(*_doubts(arguments, placement), *_strange(placement, seen), *untold),
    )


def _check(stated: Stated, arguments: Sequence[Argument], name: str) -> None:
    known = {a.name for a in arguments}
    for given in (*stated.masks, *stated.inputs, *stated.ignore):
        if given not in known:
            raise NotUnderstood(f"{name}.forward has no argument {given!r}; it has {', '.join(known) or 'none'}")
    for given in stated.ignore:
        if next(a for a in arguments if a.name == given).required:
            raise NotUnderstood(f"{name}.forward needs {given}, which has no default: it cannot be left out")
        if next(a for a in arguments if a.name == given).guess == "flag":
            raise NotUnderstood(f"--ignore {given} has no effect: it is no tensor, and is left at its default anyway")


def _unread(trials: Trials, name: str, arguments: Sequence[Argument]) -> NotUnderstood:
    """Why no reading was found: lists, one example at a time, or nothing that runs."""
    shown = ", ".join(a.name for a in arguments)
    inputs = [a for a in arguments if a.guess == "features" and a.required]
    return lost(
        f"no reading of {name}.forward({shown}) was found under which it runs, in {trials.made} trials of widths, "
        "layouts and forms of masks; it may want lists, one example at a time, or something other than tensors"
        f"{_raised(trials)}",
        name,
        arguments=arguments,
        lists=tuple(a.name for a in inputs if "list" in str(a.value)),
    )


def _raised(trials: Trials) -> str:
    """What nearly all trials ended with, where that is one thing: it may have nothing to do with how it was called."""
    (said, count), *_ = trials.raised.most_common(1) or [("", 0)]
    if count < 0.9 * trials.made:
        return ""
    return f". {'Every one of them' if count == trials.made else f'{count} of them'} raised {said}"


def _refuse_ids(name: str, arguments: Sequence[Argument], reading: Reading) -> None:
    ids = {n: feature.width for n, feature in reading.features.items() if feature.integers and feature.first}
    if ids:
        verb = "takes token ids, whole numbers," if len(ids) == 1 else "take token ids, whole numbers,"
        raise lost(
            f"{' and '.join(ids)} {verb} and not features: padding cannot hold anything else there. Audit what comes "
            "behind the embedding, or pass whole numbers made from features as below, which leaves to be judged how "
            "much padding there is, and not what it holds",
            name,
            arguments=arguments,
            reading=reading,
            ids=ids,
        )


def _refuse_lists(trials: Trials, name: str, arguments: Sequence[Argument], placement: Placement) -> None:
    """Refuse a module that takes a list of tensors of different lengths where no mask tells of padding."""
    reading = placement.reading
    told = {side for mask in placement.placed.values() for side in mask.form.sides} | set(placement.unused.values())
    scene = trials.scene(reading)
    given = reading.arguments(scene, trials.dtype)
    lists = []
    for argument, feature in reading.features.items():
        if feature.side in told or feature.layout != "[B, L, D]" or feature.side in reading.lengths:
            continue
        whole = given[argument]
        assert isinstance(whole, Tensor)
        bags = [bag[: len(bag) - index] for index, bag in enumerate(whole)]
        try:
            outputs = trials.call({**given, argument: bags})
        except Exception:  # it takes no lists
            continue
        if outputs and all(bool(value.isfinite().all()) for value in outputs.values() if value.is_floating_point()):
            lists.append(argument)
    if lists:
        raise lost(
            f"{' and '.join(lists)} may be a list of tensors of different lengths, and no mask tells of padding: "
            f"{name} is to be given bags cut to their own lengths, which the adapter below does",
            name,
            arguments=arguments,
            reading=reading,
            lists=lists,
        )


def _refuse_twins(trials: Trials, name: str, arguments: Sequence[Argument], placement: Placement) -> None:
    """Refuse two inputs that have to be equally long, each with a mask, where a mask does not hide what it is named of.

    They may be two sides that are padded to one length; read as one side, a mask of the one would pass for the other's.
    """
    reading = placement.reading
    for side in reading.sides:
        twins = [n for n, f in reading.features.items() if f.side == side and f.layout == "[B, L, D]"]
        masks = [n for n, m in placement.placed.items() if m.effect and m.form.sides == (side,)]
        if len(twins) != 2 or len(masks) < 2 or placement.scores.get(side, 0.0) > STILL:  # one side or two, it leaks
            continue
        for mask in masks:
            own, other = sorted(twins, key=lambda twin: -kinship(mask, twin))
            if kinship(mask, own) == kinship(mask, other) or _hides(trials, reading, side, mask, own, twins):
                continue
            apart = replace(reading.features[twins[1]], side=twins[1], first=True)
            raise lost(
                f"{' and '.join(twins)} have to be equally long, and {mask} does not hide slots of {own}: they may be "
                "one side or two. Where they are two, pad both to one length in the call of an adapter",
                name,
                arguments=arguments,
                reading=replace(reading, features={**reading.features, twins[1]: apart}),
            )


def _hides(trials: Trials, reading: Reading, side: Side, mask: str, own: str, twins: Sequence[str]) -> bool:
    """Whether what one of two inputs holds where a mask hides slots moves nothing, the other holding other numbers."""
    full = trials.scene(reading)
    slots = full.features[side].shape[1]
    hidden = range(slots - max(slots // 2, 1), slots)
    padded = trials.scene(reading, hidden={side: len(hidden)})
    given = reading.arguments(full, trials.dtype)
    given[mask] = reading.masks[mask].given(padded, trials.dtype)
    generator = torch.Generator().manual_seed(29)

    def drawn(twin: str, start: int) -> Tensor:
        whole = given[twin]
        assert isinstance(whole, Tensor)
        numbers = torch.randn(whole.shape, generator=generator).to(whole)
        return torch.cat([whole[:, :start], numbers[:, start:]], 1)

    given[twins[1]] = drawn(twins[1], 0)
    try:
        before, after = trials.call(given), trials.call({**given, own: drawn(own, hidden.start)})
    except Exception:  # it wants both masks to say the same
        return True
    return moved(before, after, lambda value: kept(value, [(slots, hidden)])) < STILL


def _with_unused(trials: Trials, placement: Placement) -> tuple[Reading, list[str]]:
    """The reading with unused masks of sides that no other mask tells of: what they promise is held against them."""
    reading, lines = placement.reading, []
    told = {side for n, f in reading.masks.items() if n not in placement.unused for side in f.sides}
    real = next((mask.form.real for mask in placement.placed.values() if mask.effect), True)
    for name, side in placement.unused.items():
        lines.append(f"{name} is never used: nothing changes, whatever it says")
        if name not in reading.masks and side not in told:
            tried = reading.with_mask(name, Form(side=side, real=real))
            if trials.outputs(tried, trials.scene(tried)) is not None:
                reading = tried
    return reading, lines


def _of_inputs(reading: Reading, ignored: Sequence[str]) -> list[str]:
    lines = []
    for argument, feature in reading.features.items():
        what = f"{argument} is " if feature.side == argument else f"{argument} is of {feature.side}: "
        layout = (
            feature.layout.replace("D", str(feature.width), 1)
            if feature.layout != "[B, D]"
            else f"[B, {feature.width}]"
        )
        if feature.layout == "[B, D]":
            lines.append(f"{what}one vector per example, {layout}, and never padded")
            continue
        length = reading.lengths.get(feature.side)
        fixed = f", always with {length} slots" if length is not None else ""
        beside = "" if feature.first else ", made from the same slots"
        lines.append(f"{what}a feature input, {layout}{fixed}{beside}")
    told = {side for form in reading.masks.values() for side in form.sides}
    lines += [
        f"{side} has no mask{' left' if ignored else ''}, so it is never padded here"
        for side in reading.sides
        if side not in told and reading.lengths.get(side) != 1
    ]
    return lines


def _of_masks(
    arguments: Sequence[Argument], placement: Placement, reading: Reading, ignored: Sequence[str]
) -> list[str]:
    lines = []
    for name, mask in placement.placed.items():
        form = reading.masks[name]
        whose = " and ".join(form.sides)
        if mask.effect:
            lines.append(f"{name} tells of the padding of {whose}: it takes {form.encoding} ({mask.how})")
    lines += [f"{name} is left out: {why}" for name, why in placement.left.items()]
    used = {*reading.features, *placement.placed, *placement.left, *placement.unused, *reading.fixed}
    flags = [a.name for a in arguments if a.guess == "flag" and a.name not in used]
    rest = [a.name for a in arguments if a.guess != "flag" and a.name not in (*used, *ignored)]
    if ignored:
        lines.append(f"left out, as asked: {', '.join(ignored)}")
    if flags:
        lines.append(f"left at their defaults: {', '.join(flags)}")
    if rest:
        lines.append(f"left out, since it runs without: {', '.join(rest)}")
    return lines


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{', '.join(names[:2])} and {len(names) - 2} more parameters"


def _remarks(arguments: Sequence[Argument], placement: Placement) -> tuple[str, ...]:
    told = {a.name: a for a in arguments}
    lines = []
    real: dict[bool, list[str]] = {}
    for name, mask in placement.placed.items():
        if not mask.effect or not mask.shown or mask.form.values in (*COUNTS, "additive"):
            continue
        real.setdefault(mask.form.real, []).append(name)
        said = told[name].says_padding
        if said is not None and said == mask.form.real:
            means = "real" if mask.form.real else "padding"
            lines.append(f"{name} is True where {means}, though its name says the opposite: callers may get it wrong")
    if len(real) > 1:
        lines.append(
            f"{', '.join(real[True])} is True where real, and {', '.join(real[False])} is True where padding: "
            "the two are easily mixed up"
        )
    for name, side in placement.unused.items():
        if side not in placement.reaches:
            lines.append(f"{name} is never used; no slot of {side} reaches another output, so none is needed")
    return tuple(lines)


def _strange(placement: Placement, seen: Sequence[Seen]) -> list[str]:
    """Masks that change nothing where an output is longer than any side: they may have to be as long as that."""
    unknown = [one.returned for one in seen if one.output.kind == "unknown" or one.part is not None]
    if not unknown:
        return []
    return [
        f"{name} changes nothing, yet axes of {unknown[0]} are of no side, and it may have to be as long as they are"
        for name in placement.unused
    ]


def _untold(trials: Trials, reading: Reading, sides: Sequence[Side], seen: Sequence[Seen]) -> list[str]:
    """Ways in which a module may be told of padding although no mask of its signature tells it."""
    open_ = [side for side in sides if reading.lengths.get(side) is None]
    if not open_ or reading.masks:
        return []
    more = takes_more(trials.module)
    lines = [f"it takes **{more}, and masks may come that way, which no signature tells"] if more else []
    zeros = [side for side in open_ if _told_by_zeros(trials, reading, side, seen)]
    if zeros:
        lines.append(f"rows of zeros tell of the padding of {' and '.join(zeros)}, and no mask does")
    return lines


def _told_by_zeros(trials: Trials, reading: Reading, side: Side, seen: Sequence[Seen]) -> bool:
    """Whether slots of zeros change nothing, and others in their place do."""

    def run(scene: Scene) -> Outputs:
        return _laid(seen, trials.call(reading.arguments(scene, trials.dtype)))

    def with_last(last: Tensor) -> Scene:
        features, valid = whole[side]
        more = torch.cat([features, last], 1)
        return with_side(whole, side, features=more, valid=valid.new_ones(more.shape[:2]))

    whole = trials.scene(reading)
    features, _ = whole[side]
    kept = [one for one in seen if all(side not in owners for _, owners in one.output.slot_axes())]
    try:
        without, zeros, ones = run(whole), run(with_last(features[:, :3] * 0)), run(with_last(features[:, :3] + 1))
    except NotUnderstood:
        raise
    except Exception:  # another number of slots may be refused
        return False
    names = [one.output.name for one in kept if one.output.kind != "unknown"]
    before = {name: without[name] for name in names}
    return bool(names) and moved(before, zeros, lambda value: value) < STILL < moved(before, ones, lambda value: value)


def _alike(trials: Trials, reading: Reading, bare: Reading) -> bool:
    """Whether leaving masks out says the same as telling that every slot is real: a decoder may turn causal."""
    with trials.quietly():
        scene = trials.scene(reading)
        told, untold = trials.outputs(reading, scene), trials.outputs(bare, scene)
    return bool(told and untold) and moved(told or {}, untold or {}, lambda value: value) < STILL


def _doubts(arguments: Sequence[Argument], placement: Placement) -> tuple[str, ...]:
    """What was not shown; NaN under every reading needs no more showing."""
    if not placement.finite and placement.placed:
        return ()
    lines = list(placement.doubts)
    lines += [
        f"what {name} means is {mask.how.partition(':')[0]}"
        for name, mask in placement.placed.items()
        if mask.effect and not mask.shown
    ]
    told = {side for mask in placement.placed.values() for side in mask.form.sides}
    open_ = [side for side in placement.reading.sides if side not in told and placement.reading.lengths.get(side) != 1]
    guesses = {a.name: a.guess for a in arguments}
    lines += [
        f"{name} was not placed: {why}" for name, why in placement.left.items() if open_ and guesses[name] == "mask"
    ]
    return tuple(lines)


# --- adapters


def _adapted(adapter: Adapter, name: str) -> Understood:
    sides = adapter.sides()
    if not sides:
        raise lost(f"the adapter {name} gives no widths: expected image_width and question_width, or widths", name)
    for side, width in (*sides.items(), *adapter.lengths.items()):
        if not isinstance(width, int) or isinstance(width, bool) or width < 1:
            what = "length" if side in adapter.lengths and adapter.lengths[side] is width else "width"
            raise NotUnderstood(f"the adapter {name} gives {width!r} as the {what} of {side}: expected a whole number")
    masked = tuple(sides) if adapter.masked is None else tuple(adapter.masked)
    for given in (*masked, *adapter.lengths):
        if given not in sides:
            raise NotUnderstood(f"the adapter {name} names {given!r}, which is none of its sides: {', '.join(sides)}")
    trials = Trials(adapter.module)

    def scene(examples: int, more: int, hidden: Mapping[Side, int] | None = None) -> Scene:
        generator = torch.Generator().manual_seed(17)
        made = {}
        for index, (side, width) in enumerate(sides.items()):
            slots = adapter.lengths.get(side, LENGTHS[index] + more)
            features = torch.randn(examples, slots, width, generator=generator).to(trials.device, trials.dtype)
            valid = torch.arange(slots) < slots - (hidden or {}).get(side, 0)
            made[side] = (features, valid.to(trials.device).expand(examples, -1).contiguous())
        return make_scene(made)

    def run(given: Scene) -> Outputs:
        torch.default_generator.manual_seed(0)
        try:
            return flat(adapter.call(adapter.batch(given)))
        except Exception as error:  # the adapter is the user's, and may raise anything
            shapes = ", ".join(f"{side} {list(features.shape)}" for side, features in given.features.items())
            first = next(iter(sides))
            raise NotUnderstood(
                f"the adapter {name} raises {words(error)}; it was called with {shapes}. Where it takes one number "
                f'of slots only, say so: Adapter(..., lengths={{"{first}": 12}})'
            ) from error

    with trials.quietly():
        small, large = scene(3, 0), scene(2, 2)
        seen = classify(
            Sizes(scene=small, outputs=run(small)),
            Sizes(scene=large, outputs=run(large)),
            run,
            stated=adapter.outputs,
        )
        less = {side: max(small.features[side].shape[1] // 3, 1) for side in masked}
        seen = with_cuts(seen, run(small), run(scene(3, 0, less)), less)
        unknown = [kind for kind in adapter.outputs if kind not in {one.returned for one in seen}]
        if unknown:
            names = ", ".join(one.output.name for one in seen)
            raise NotUnderstood(f"the adapter {name} states {unknown[0]!r}, which is none of its outputs: {names}")
        if not any(one.output.kind != "unknown" for one in seen):
            why = "; ".join(f"{one.output.name}: {one.why}" for one in seen) or "it returns no tensor"
            raise NotUnderstood(f"the adapter {name} returns nothing that can be judged: {why}")
        orders = {side: _order_of(run, small, seen, side) for side in sides}

    def bind(copy: nn.Module) -> Call:
        return lambda given: _laid(seen, flat(adapter.swapped(copy, given)))

    nouns = {"image": ("region", "regions"), "question": ("word", "words")} if not adapter.widths else {}
    made = tuple(
        SideOf(
            name=side,
            width=width,
            one=nouns.get(side, ("", ""))[0],
            many=nouns.get(side, ("", ""))[1],
            masked=side in masked,
            length=adapter.lengths.get(side),
            order=orders[side],
        )
        for side, width in sides.items()
    )
    account = ["read through its adapter"]
    account += [f"{side} is never padded here, as the adapter says" for side in sides if side not in masked]
    account += [f"{one.output.name} is {in_words(one)}" for one in seen]
    account += [f"where a slot of {side} stands matters" for side, order in orders.items() if order == "position"]
    subject = replace(_subject(name, adapter.module, bind, made, seen), takes_encodings=False)
    return Understood(subject=subject, account=tuple(account))


# --- both


def _subject(
    name: str, module: nn.Module, bind: Callable[[nn.Module], Call], sides: tuple[SideOf, ...], seen: Sequence[Seen]
) -> Subject:
    some = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    outputs = tuple(one.output for one in seen)
    return Subject(
        name=name,
        module=module,
        call=bind(module),
        bind=bind,
        sides=sides,
        dtype=some.dtype,
        computes_in=some.dtype,
        device=some.device,
        outputs=outputs,
        guided=tuple((o.name, o.rows) for o in outputs if o.kind == "weights" and o.rows not in (None, o.side)),
        zeros_when_empty=False,
    )


def _laid(seen: Sequence[Seen], outputs: Outputs) -> Outputs:
    """The judged outputs, laid for the audit."""
    laid = {}
    for one in seen:
        if one.output.kind == "unknown":
            continue
        if one.returned not in outputs:
            raise RuntimeError(f"it returned no {one.returned} this time")
        laid[one.output.name] = one.laid(outputs[one.returned])
    return laid


def _seen(trials: Trials, reading: Reading) -> tuple[Seen, ...]:
    def run(scene: Scene) -> Outputs:
        return trials.call(reading.arguments(scene, trials.dtype))

    small, large = trials.scene(reading), trials.scene(reading, examples=2, more=2)
    first = run(small)
    second = trials.outputs(reading, large)
    if second is None:  # it runs at one size only
        second = {}
    seen = classify(Sizes(scene=small, outputs=first), Sizes(scene=large, outputs=second), run)
    less = {side: max(small.features[side].shape[1] // 3, 1) for side in reading.masked}
    padded = trials.outputs(reading, trials.scene(reading, hidden=less))
    return with_cuts(seen, first, padded or {}, less)


def _has_to_fall(trials: Trials, reading: Reading, side: Side) -> bool:
    """Whether lengths are refused in the order in which examples come, and taken from the longest to the shortest."""
    scene = trials.scene(reading)
    slots = scene.features[side].shape[1]
    lengths = torch.arange(slots - scene.size, slots, device=scene.device) + 1
    rising = with_side(scene, side, valid=torch.arange(slots, device=scene.device) < lengths[:, None])
    return (
        trials.outputs(reading, rising) is None
        and trials.outputs(reading, rising.take(range(scene.size)[::-1])) is not None
    )


def _sorted_by(sides: Sequence[Side], call: Call) -> Call:
    """The same for batches in any order: they are sorted from the longest to the shortest, and the answers put back.

    A batch in which one side falls where another rises is parted into ones in which no side rises.
    """

    def sorting(scene: Scene) -> Mapping[str, Tensor]:
        valid = [scene.valid[side] for side in sides]
        if any(
            one.dim() != 2 or len(one) != scene.size for one in valid
        ):  # what does not fit is the subject's to refuse
            return call(scene)
        chains = _falling(list(zip(*(one.bool().sum(-1).tolist() for one in valid), strict=True)))
        parts = [call(scene.take(chain)) for chain in chains]
        back = torch.tensor([example for chain in chains for example in chain], device=scene.device).argsort()
        if len(parts) == 1:
            return {
                name: value[back] if value.shape[:1] == (scene.size,) else value for name, value in parts[0].items()
            }
        return {name: _together([part[name] for part in parts], name, chains)[back] for name in parts[0]}

    return sorting


def _falling(lengths: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """The examples from the longest to the shortest, in as few rows as a greedy choice finds in which no side rises."""
    chains: list[list[int]] = []
    for example in sorted(range(len(lengths)), key=lambda one: lengths[one], reverse=True):
        for chain in chains:
            if all(one <= last for one, last in zip(lengths[example], lengths[chain[-1]], strict=True)):
                chain.append(example)
                break
        else:
            chains.append([example])
    return chains


def _together(parts: Sequence[Tensor], name: str, chains: Sequence[Sequence[int]]) -> Tensor:
    """One output of all examples; what was cut to the longest row of a part is filled up with zeros."""
    if any(part.shape[:1] != (len(chain),) for part, chain in zip(parts, chains, strict=True)):
        raise NotJudged(f"{name} has no axis over the examples, and the batch had to be parted: lengths have to fall")
    if len({part.dim() for part in parts}) > 1:
        raise NotJudged(f"{name} has more axes in one part of the batch than in another")
    most = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    filled = []
    for part in parts:
        missing = [wide - own for wide, own in zip(most, part.shape[1:], strict=True)]
        filled.append(nn.functional.pad(part, [count for more in reversed(missing) for count in (0, more)]))
    return torch.cat(filled)


def _order(trials: Trials, reading: Reading, seen: Sequence[Seen], side: Side) -> Order:
    def run(scene: Scene) -> Outputs:
        return trials.call(reading.arguments(scene, trials.dtype))

    return _order_of(run, trials.scene(reading), seen, side)


def _order_of(run: Callable[[Scene], Outputs], scene: Scene, seen: Sequence[Seen], side: Side) -> Order:
    """Whether permuting a side's slots, without any padding, does nothing but permute."""
    slots = scene.features[side].shape[1]
    order = torch.randperm(slots, generator=torch.Generator().manual_seed(3))
    turned = replace(
        scene,
        features={**scene.features, side: scene.features[side][:, order]},
        places={**scene.places, side: scene.places[side][:, order]},
    )
    try:
        before, after = _laid(seen, run(scene)), _laid(seen, run(turned))
    except NotUnderstood:
        raise
    except Exception:  # what cannot be told is taken to matter
        return "position"
    for one in seen:
        if one.output.kind == "unknown":
            continue
        expected = before[one.output.name]
        for axis, owners in one.output.slot_axes():
            start = 0
            index = torch.arange(expected.shape[axis])
            for owner in owners:
                length = scene.features[owner].shape[1]
                if owner == side and start + length <= len(index):
                    index[start : start + length] = start + order
                start += length
            expected = expected.index_select(axis % expected.dim(), index.to(expected.device))
        distance = moved({"": expected}, {"": after[one.output.name]}, lambda value: value)
        if not distance <= STILL or math.isnan(distance):
            return "position"
    return "free"
