"""Which arguments are feature inputs, in which layout and how wide: found from what runs.

Every axis of a trial's tensors has a size of its own. Where a call fails, the operation that failed says which two
sizes had to be equal, and so how wide an argument has to be; no error message is read.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.overrides import TorchFunctionMode

from suite.audit.reading.arguments import Argument, kinship
from suite.audit.reading.forms import COUNTS, JOINED, Feature, Form, Layout, Shape, Values, forms
from suite.audit.reading.trial import EXAMPLES, LENGTHS, Reading, Trials
from suite.audit.subject import Side

MARKERS = (37, 41, 43, 47, 53, 59, 61, 67)
"""Widths of arguments whose width is not known yet."""
USUAL = 32
"""The width of an argument that takes any."""
TRIES = 12
"""How often one candidate is mended."""
CANDIDATES = 48
MOST_JOINED = 8
"""How many parts of one width a joined vector may have."""
COMMON = 12
"""How many forms of masks are tried with every layout before the rarer ones are."""
MIXED = 0
"""In place of how many: masks of different forms."""
MOST_MIXED = 100
PLAINEST = 4
"""Of how many candidates, the plainest first, masks of different forms are tried."""
_MIXED: tuple[tuple[Values, Shape], ...] = (
    ("booleans", "[B, L]"),
    ("floats", "[B, 1, 1, L]"),
    ("floats", "[B, L, 1]"),
    ("floats", "[B, L]"),
    ("lengths", "[B]"),
    ("booleans", "[B, 1, 1, L]"),
    ("booleans", "[B, L, 1]"),
    ("booleans", "[B, 1, L]"),
    ("floats", "[B, 1, L]"),
)
_USUAL_MASKS = frozenset(
    {
        ("booleans", "[B, L]"),
        ("floats", "[B, L]"),
        ("booleans", "[B, 1, 1, L]"),
        ("floats", "[B, 1, 1, L]"),
        ("booleans", "[B, L, 1]"),
        ("lengths", "[B]"),
        ("lengths", "[B, 1]"),
        ("booleans", "[B, 1, L]"),
        ("integers", "[B, L]"),
        ("floats", "[B, L, 1]"),
    }
)
_WIDTHS = frozenset({"embed_dim", "d_model", "hidden_size", "hidden_dim", "input_size", "in_features", "dim", "width"})


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What a user said of arguments; it is not searched for."""

    masks: Mapping[str, str] = field(default_factory=dict)
    """An argument, and ``valid``, ``padding``, ``additive`` or ``lengths``."""
    inputs: Mapping[str, Side] = field(default_factory=dict)
    """A feature input, and the name of its side."""
    ignore: frozenset[str] = frozenset()
    """Arguments that are left at their defaults."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A reading under which the module runs, masks that have to be passed included."""

    reading: Reading
    masks: tuple[Argument, ...]
    """The arguments that were read as masks, placed or not."""


def fits(trials: Trials, arguments: Sequence[Argument], stated: Stated) -> Iterator[Fit]:
    """Readings of the feature inputs under which the module runs, the likeliest first."""
    fixed: dict[str, object] = {a.name: a.value for a in arguments if a.guess == "flag" and a.required}
    open_ = [a for a in arguments if a.guess != "flag" and a.name not in stated.ignore]
    roles = list(_roles(open_, stated))
    # the usual forms of masks before the rarer ones, any number of slots before a fixed one, names before the rest
    plan = [(roles[:1], COMMON, False), (roles[:1], COMMON, True), (roles[1:], COMMON, False), (roles, None, True)]
    if not any(a.required and a.guess != "features" for a in open_):  # no name speaks of masks: perhaps some are
        plan[1], plan[2] = plan[2], plan[1]
    for some, most, fixable in plan:
        for features, masks in some:
            found = False
            required = [m for m in masks if m.required]
            # a mask that may be left out by its signature may be needed all the same
            for needed in [required] + ([masks] if len(required) < len(masks) else []):
                for index, candidate in enumerate(_candidates(features, stated)):
                    tried = replace(candidate, fixed=fixed)
                    reading = _mended(trials, tried, needed, stated, most, fixable=fixable)
                    if index < PLAINEST and len(needed) > 1 and (reading is None or spread(trials, reading)):
                        # before a rarer layout is believed
                        mixed = _mended(trials, tried, needed, stated, MIXED, fixable=fixable)
                        # so many forms are tried that one may run by letting examples meet
                        reading = mixed if mixed is not None and independent(trials, mixed) else reading
                    if reading is None:
                        continue
                    found |= not spread(trials, reading)
                    asked = tuple(replace(m, required=m.required or m in needed) for m in masks)
                    for wider in _extended(trials, reading, open_, asked, stated):
                        yield Fit(reading=wider, masks=tuple(m for m in asked if m.name not in wider.features))
                if found:
                    return


def spread(trials: Trials, reading: Reading) -> bool:
    """Whether a table of an output runs over the examples twice: arguments met that do not belong together."""
    one = trials.outputs(reading, trials.scene(reading)) or {}
    if all(value.dim() < 3 or list(value.shape).count(EXAMPLES) < 2 for value in one.values()):
        return False
    two = trials.outputs(reading, trials.scene(reading, examples=EXAMPLES - 1)) or {}
    return any(
        sum(pair == (EXAMPLES, EXAMPLES - 1) for pair in zip(value.shape, two[name].shape, strict=False)) > 1
        for name, value in one.items()
        if name in two and value.dim() > 2
    )


def independent(trials: Trials, reading: Reading) -> bool:
    """Whether examples keep to themselves: what tells the axis of examples from that of slots."""
    scene = trials.scene(reading)
    features = {side: tensor.clone() for side, tensor in scene.features.items()}
    for tensor in features.values():
        tensor[0] = 2 * tensor[0].flip(-1) + 1
    before, after = trials.outputs(reading, scene), trials.outputs(reading, replace(scene, features=features))
    if before is None or after is None:
        return False
    for name, value in before.items():
        other = after.get(name)
        if other is None or other.shape != value.shape or not value.is_floating_point():
            continue
        axes = [axis for axis, size in enumerate(value.shape) if size == EXAMPLES]
        if not axes:
            # one number for the batch is a loss; a table without an axis over examples has mixed them
            folded = any(size % EXAMPLES == 0 for size in value.shape)
            if value.dim() > 1 and not folded and not torch.equal(value, other):
                return False
            continue
        rest = torch.arange(1, EXAMPLES, device=value.device)
        still = []
        for axis in axes:
            one, two = value.index_select(axis, rest).double(), other.index_select(axis, rest).double()
            if not one.numel():
                continue
            scale = float(one.nan_to_num().square().mean().sqrt()) or 1.0
            still.append(float((one - two).nan_to_num().abs().max()) <= 1e-4 * scale)
        if still and not any(still):
            return False
    return True


def _roles(arguments: Sequence[Argument], stated: Stated) -> Iterator[tuple[list[Argument], list[Argument]]]:
    """Ways to part the arguments into features that are passed and masks; what names suggest comes first."""
    features = [a for a in arguments if a.name in stated.inputs or (a.guess == "features" and a.required)]
    masks = [a for a in arguments if a.name in stated.masks or a.guess in ("mask", "structure")]
    features = [a for a in features if a.name not in stated.masks]
    masks = [a for a in masks if a.name not in stated.inputs]
    seen = set()

    def fresh(features: list[Argument], masks: list[Argument]) -> bool:
        key = (tuple(a.name for a in features), tuple(a.name for a in masks))
        new = bool(features) and key not in seen
        seen.add(key)
        return new

    if fresh(features, masks):
        yield features, masks
    optional = [a for a in arguments if not a.required and a.guess == "features" and a.name not in stated.masks]
    for count in (1, 2):  # what may be left out by its signature may be needed all the same
        for chosen in itertools.combinations(optional[:5], count):
            inputs = [a for a in arguments if a in features or a in chosen]
            if fresh(inputs, masks):
                yield inputs, masks
    told = set(stated.inputs) | set(stated.masks)
    required = [a for a in arguments if a.required]
    # the last ones are masks, or what is named as a mask is none; fewest changes first
    half = len(required) // 2
    changes = [
        chosen
        for count in range(1, len(required) + 1)
        for chosen in itertools.combinations(reversed(required), count)
        if not any(a.name in told for a in chosen)
    ]
    # what is named like lengths is hardly ever features
    changes.sort(key=lambda some: (sum(a.counts and a not in features for a in some), len(some) != half, len(some)))
    for chosen in changes:
        names = {a.name for a in chosen}
        inputs = [a for a in required if (a in features) != (a.name in names)]
        others = [a for a in arguments if a not in inputs and (a in masks or a.name in names)]
        if len(inputs) <= 5 and fresh(inputs, others):
            yield inputs, others


def _candidates(features: Sequence[Argument], stated: Stated) -> Iterator[Reading]:
    """Groups of arguments that share their slots, and layouts, the plainest first."""
    ranked = []
    for order, groups in enumerate(_groups([a.name for a in features])):
        if not _as_stated(groups, stated):
            continue
        merges = len(features) - len(groups)
        for cost, layouts in _layouts(groups):
            total = cost + 0.9 * merges
            slots = sum(layouts[group[0]] != "[B, D]" for group in groups)
            if slots and slots <= 3 and len(groups) <= 5:
                ranked.append((total, order, groups, layouts))
    ranked.sort(key=lambda item: item[:2])
    for _, _, groups, layouts in ranked[: CANDIDATES if len(features) < 4 else CANDIDATES // 3]:
        read, lengths, count = {}, {}, 0
        for group in groups:
            side = stated.inputs.get(group[0], group[0])
            for index, name in enumerate(group):
                read[name] = Feature(side=side, layout=layouts[name], width=MARKERS[count % 8], first=index == 0)
                count += 1
            if layouts[group[0]] == "[B, D]":
                lengths[side] = 1
            elif layouts[group[0]] in ("[B, D, H, W]", "[B, H, W, D]"):
                lengths[side] = 12
        yield Reading(features={a.name: read[a.name] for a in features}, lengths=lengths)


def _as_stated(groups: Sequence[tuple[str, ...]], stated: Stated) -> bool:
    """Whether arguments share slots just where the user gave them the same side."""
    for one, two in itertools.combinations([name for group in groups for name in group if name in stated.inputs], 2):
        together = any(one in group and two in group for group in groups)
        if together != (stated.inputs[one] == stated.inputs[two]):
            return False
    return True


def _groups(names: Sequence[str]) -> list[tuple[tuple[str, ...], ...]]:
    """Every partition of the arguments, those with the most groups and those of neighbours first."""
    if not names:
        return [()]
    *before, last = names
    found = []
    for groups in _groups(before):
        found.append((*groups, (last,)))
        found += [
            (*groups[:index], (*groups[index], last), *groups[index + 1 :]) for index in reversed(range(len(groups)))
        ]
    return sorted(found, key=lambda groups: -len(groups))


def _layouts(groups: Sequence[tuple[str, ...]]) -> Iterator[tuple[float, dict[str, Layout]]]:
    """Layouts of every argument, with what they cost: those that are rarer cost more."""
    costs: dict[Layout, float] = {
        "[B, L, D]": 0.0,
        "[B, D]": 1.0,
        "[L, B, D]": 1.2,
        "[B, D, L]": 1.3,
        "[B, D, H, W]": 1.5,
        "[B, H, W, D]": 1.8,
    }
    for chosen in itertools.product(costs, repeat=len(groups)):
        if any(layout == "[B, D]" and len(group) > 1 for layout, group in zip(chosen, groups, strict=True)):
            continue
        kinds = set(chosen)
        cost = sum(costs[layout] for layout in chosen)
        if len(kinds) == 1:  # one habit for all arguments is likelier than several
            cost = costs[chosen[0]] if chosen[0] != "[B, D]" else cost
        yield cost, {name: layout for layout, group in zip(chosen, groups, strict=True) for name in group}


def _extended(
    trials: Trials, reading: Reading, arguments: Sequence[Argument], masks: Sequence[Argument], stated: Stated
) -> Iterator[Reading]:
    """The reading with optional feature inputs that make sides of their own, then the reading itself."""
    free = [a for a in arguments if not a.required and a.name not in reading.features and a not in masks]
    grown = reading
    needed = [m for m in masks if m.required]
    for size in (1, 2):
        for chosen in itertools.combinations(free, size):
            names = [a.name for a in chosen]
            if any(name in grown.features for name in names) or len(grown.sides) >= 3:
                continue
            side = stated.inputs.get(names[0], names[0])
            taken = len(grown.features)
            added = {
                name: Feature(side=side, layout=_usual(grown), width=MARKERS[(taken + index) % 8], first=index == 0)
                for index, name in enumerate(names)
            }
            wider = replace(grown, features={**grown.features, **added})
            tried = _mended(trials, wider, needed, stated) or _mended(trials, _reopened(wider), needed, stated)
            if tried is not None and seen(trials, tried, side):
                grown = tried
    if grown is not reading:
        yield grown
    yield reading


def _reopened(reading: Reading) -> Reading:
    """The reading with every width to be found anew: what takes any by itself may not beside another input."""
    return _with_widths(reading, {name: MARKERS[at % 8] for at, name in enumerate(reading.features)})


def _usual(reading: Reading) -> Layout:
    return next(iter(reading.features.values())).layout


def seen(trials: Trials, reading: Reading, side: Side) -> bool:
    """Whether an output depends on the features of a side."""
    scene = trials.scene(reading)
    other = {**scene.features, side: scene.features[side].flip(1) * 2 + 1}
    before, after = trials.outputs(reading, scene), trials.outputs(reading, replace(scene, features=other))
    if before is None or after is None or before.keys() != after.keys():
        return False
    return any(not torch.equal(value, after[name]) for name, value in before.items())


def _mended(
    trials: Trials,
    reading: Reading,
    required: Sequence[Argument],
    stated: Stated,
    most: int | None = None,
    *,
    fixable: bool = True,
) -> Reading | None:
    """The candidate with the widths, fixed lengths and forms of required masks with which it runs; None where none."""
    widths: dict[str, int] = {}
    first: Reading | None = None
    for masks in base_masks(required, reading, trials.module, stated, most):
        tried = replace(reading, masks=masks)
        tried = _with_widths(tried, widths)
        ran, tried = _run(trials, tried, fixable=fixable)
        if ran:
            settled = _settled(trials, tried)
            if not spread(trials, settled):
                return settled
            first = first or settled  # another form of a mask may spread nothing
        widths = {name: feature.width for name, feature in tried.features.items() if feature.width not in MARKERS}
    if first is not None:
        return first
    plain = all(feature.layout in ("[B, L, D]", "[B, D]") for feature in reading.features.values())
    for equal in _equal_widths(trials.module, reading) if plain else ():
        for masks in itertools.islice(base_masks(required, reading, trials.module, stated, most), 6):
            tried = _with_widths(replace(reading, masks=masks), equal)
            if _failure(trials, tried) is None:
                return tried
    return None


def _with_widths(reading: Reading, widths: Mapping[str, int]) -> Reading:
    features = {
        name: replace(feature, width=widths.get(name, feature.width)) for name, feature in reading.features.items()
    }
    return replace(reading, features=features)


def base_masks(
    required: Sequence[Argument], reading: Reading, module: nn.Module, stated: Stated, most: int | None = None
) -> Iterator[dict[str, Form]]:
    """Ways to pass the masks that have to be passed, all of one form; each tells of the side that its name is near.

    Where ``most`` is `MIXED`, no two of them are of one form.

    Args:
        required: those masks.
        reading: of the features.
        module: whose heads a mask may have to be repeated for.
        stated: what the user says of them.
        most: how many forms to try; all of them unless given.
    """
    sides = [side for side in reading.sides if reading.lengths.get(side) != 1]
    if not required or not sides:
        yield {}
        return
    choices = [sorted(sides, key=lambda side: -kinship(a.name, side)) for a in required]
    owners = sorted(itertools.product(*choices), key=lambda chosen: len(set(chosen)) < min(len(required), len(sides)))
    if most == MIXED:
        yield from _mixed(required, owners[0], stated)
        return
    heads = heads_of(module)
    counts = all(a.counts for a in required)
    slots_first = all(feature.layout == "[L, B, D]" for feature in reading.features.values())

    def rare(form: Form) -> bool:
        usual = (form.values, form.shape) in _USUAL_MASKS or (counts and form.values in COUNTS)
        return not usual and not (slots_first and form.shape == "[L, B]")

    patterns = sorted(forms(sides[0], sides[:1], counts=counts, heads=heads), key=rare)[:most]
    paired = len(sides) > 1
    if len(required) > 1 and not counts and any(a.counts for a in required):
        for chosen in owners[:4]:  # lengths of one kind, masks of another
            yield {
                a.name: Form(side=side, values="lengths", shape="[B]")
                if a.counts
                else Form(side=side, real=not a.says_padding)
                for a, side in zip(required, chosen, strict=True)
            }
    usual = [pattern for pattern in patterns if not rare(pattern)]
    # whose slots a mask tells of, names suggest: the usual forms of the likeliest before the others
    if len(required) == 1 and len(sides) > 1:
        kinds: tuple[Values, ...] = ("booleans", "integers")
        for shape, values in itertools.product(JOINED, kinds):
            made = {required[0].name: Form(side=sides[0], values=values, shape=shape, joined=tuple(sides))}
            if all(allowed(form, stated.masks.get(name)) for name, form in made.items()):
                yield made
    order = [(pattern, owners[0]) for pattern in usual]
    order += [(pattern, chosen) for pattern in usual for chosen in owners[1:6]]
    order += [(pattern, chosen) for pattern in patterns if pattern not in usual for chosen in owners[:6]]
    for pattern, chosen in order:
        made = {}
        for argument, side in zip(required, chosen, strict=True):
            rows = pattern.rows and (next((s for s in sides if s != side), side) if paired else side)
            real = not argument.says_padding
            made[argument.name] = replace(pattern, side=side, rows=rows, real=real)
        if all(allowed(form, stated.masks.get(name)) for name, form in made.items()):
            yield made
        if pattern.rows is not None and paired:
            yield {name: replace(form, rows=form.side) for name, form in made.items()}


def _mixed(required: Sequence[Argument], owners: Sequence[Side], stated: Stated) -> Iterator[dict[str, Form]]:
    """Masks of different forms, the usual ones first: where one is flat and another has axes for heads, no one fits."""
    chosen = itertools.product(range(len(_MIXED)), repeat=len(required))
    apart = [some for some in chosen if len({_MIXED[one][1] for one in some}) > 1]
    for some in sorted(apart, key=sum)[:MOST_MIXED]:
        made = {
            argument.name: Form(side=side, values=_MIXED[one][0], shape=_MIXED[one][1], real=not argument.says_padding)
            for argument, side, one in zip(required, owners, some, strict=True)
        }
        if all(allowed(form, stated.masks.get(name)) for name, form in made.items()):
            yield made


def allowed(form: Form, stated: str | None) -> bool:
    """Whether a form is what the user said of a mask."""
    match stated:
        case "lengths":
            return form.values in COUNTS
        case "additive":
            return form.values == stated
        case "valid" | "padding":
            return form.values not in (*COUNTS, "additive")
        case _:
            return True


def heads_of(module: nn.Module) -> tuple[int, ...]:
    """Numbers of heads that its parts name."""
    found: dict[int, None] = {}
    for part in module.modules():
        for name, value in vars(part).items():
            counted = "head" in name and "dim" not in name and "size" not in name
            if counted and isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 64:
                found[value] = None
    return tuple(found) or (1,)


def _settled(trials: Trials, reading: Reading) -> Reading:
    """The reading with an ordinary width where any width will do."""
    for name, feature in reading.features.items():
        if feature.width in MARKERS:
            for width in (USUAL, *_sizes(trials.module)[:3]):
                tried = _with_widths(reading, {name: width})
                if trials.outputs(tried, trials.scene(tried)) is not None:
                    reading = tried
                    break
    markers = {name for name, feature in reading.features.items() if feature.width in MARKERS}
    tried = _with_widths(reading, dict.fromkeys(markers, USUAL))
    if markers and trials.outputs(tried, trials.scene(tried)) is not None:
        return tried
    return reading


def _sizes(module: nn.Module) -> list[int]:
    """Sizes that a feature axis may have, from parameters and from what parts call their widths."""
    sizes: dict[int, None] = {}
    for part in module.modules():
        sizes |= dict.fromkeys(v for k, v in vars(part).items() if k in _WIDTHS and isinstance(v, int) and v > 1)
    for parameter in module.parameters():
        sizes |= dict.fromkeys(size for size in reversed(parameter.shape) if size > 1)
    return list(sizes) or [USUAL]


def _equal_widths(module: nn.Module, reading: Reading) -> Iterator[dict[str, int]]:
    """Widths to try where no failing operation told them: all equal, then pairs."""
    names, sizes = list(reading.features), _sizes(module)[:6]
    for size in sizes:
        yield dict.fromkeys(names, size)
    if len(names) == 2:
        for pair in itertools.permutations(sizes, 2):
            yield dict(zip(names, pair, strict=True))


def _run(trials: Trials, reading: Reading, *, fixable: bool) -> tuple[bool, Reading]:
    """Run a candidate, mending what its failures tell; whether it ran, and what was learnt."""
    for _ in range(TRIES):
        failure = _failure(trials, reading)
        if failure is None:
            return True, reading
        mended = _mend(reading, failure, fixable=fixable)
        if mended is None:
            return False, reading
        reading = mended
    return False, reading


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Where a call broke off."""

    function: str
    """The operation that raised; empty where none did."""
    tensors: tuple[Tensor, ...]
    own: tuple[bool, ...]
    """For each, whether it is a parameter or buffer of the module."""
    raw: tuple[object, ...]
    given: Mapping[str, object]
    part: nn.Module | None
    """The innermost part that did not return."""
    inputs: tuple[tuple[str, Tensor], ...]
    """What that part was called with."""


class _Watch(TorchFunctionMode):
    """Keeps the first operation that raises."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: tuple[str, tuple[object, ...], dict[str, object]] | None = None

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        try:
            if getattr(func, "__name__", "") == "scaled_dot_product_attention":
                _, key, value = [tensor for tensor in (*args, *(kwargs or {}).values()) if isinstance(tensor, Tensor)][
                    :3
                ]
                if key.shape[-2] != value.shape[-2]:  # torch does not check it, and reads past the end
                    raise ValueError("as many keys as values")
            return func(*args, **(kwargs or {}))
        except Exception:
            if self.failed is None:
                self.failed = (getattr(func, "__name__", ""), args, kwargs or {})
            raise


@contextmanager
def _entered(module: nn.Module) -> Iterator[list[tuple[nn.Module, tuple[object, ...], dict[str, object]]]]:
    """The parts that were called and have not returned, the innermost last."""
    stack: list[tuple[nn.Module, tuple[object, ...], dict[str, object]]] = []

    def enter(part: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        args = tuple(value.data if isinstance(value, PackedSequence) else value for value in args)
        stack.append((part, args, kwargs))
        first = args[0] if args else None
        # of a packed sequence torch does not check it, and reads past the end
        if isinstance(part, nn.RNNBase) and isinstance(first, Tensor) and first.shape[-1] != part.input_size:
            raise ValueError("another width")

    def leave(*_: object) -> None:
        stack.pop()

    handles = []
    for part in module.modules():
        handles.append(part.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(part.register_forward_hook(leave))
    try:
        yield stack
    finally:
        for handle in handles:
            handle.remove()


def _failure(trials: Trials, reading: Reading) -> Failure | None:
    """Where a call under a reading breaks off; None where it returns."""
    given = reading.arguments(trials.scene(reading), trials.dtype)
    watch = _Watch()
    with _entered(trials.module) as stack:
        try:
            with watch:
                trials.call(given)
            return None
        except Exception:  # a candidate that does not fit may raise anything
            function, args, kwargs = watch.failed or ("", (), {})
            part, inputs, named = stack[-1] if stack else (None, (), {})
    raw = (*args, *kwargs.values())
    tensors = tuple(_tensors(raw))
    storages = {
        tensor.untyped_storage().data_ptr() for tensor in (*trials.module.parameters(), *trials.module.buffers())
    }
    return Failure(
        function=function,
        tensors=tensors,
        own=tuple(tensor.untyped_storage().data_ptr() in storages for tensor in tensors),
        raw=raw,
        given=given,
        part=part,
        inputs=tuple(
            (str(name), value) for name, value in (*enumerate(inputs), *named.items()) if isinstance(value, Tensor)
        ),
    )


def _tensors(values: Sequence[object]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)


def _mend(reading: Reading, failure: Failure, *, fixable: bool) -> Reading | None:
    """The reading with what a failure tells, fixed numbers of slots only where asked; None where it tells nothing."""
    if failure.function in ("embedding", "embedding_bag", "one_hot"):
        return _whole_numbers(reading, failure)
    sizes = {feature.width: name for name, feature in reading.features.items() if feature.width in MARKERS}
    lengths = {LENGTHS[i]: side for i, side in enumerate(reading.sides) if side not in reading.lengths}
    pairs = [*_apart(failure), *_of_part(failure)]
    both = pairs + [(two, one, own) for one, two, own in pairs]
    for one, two, _ in both:
        if one in sizes and two not in lengths and two not in (EXAMPLES, 1, 0):
            return _with_widths(reading, {sizes[one]: two})
    for one, two, own in both if fixable else []:
        if own and one in lengths and two not in lengths and two not in sizes and two > 1:
            return replace(reading, lengths={**reading.lengths, lengths[one]: two})
    for one, two, own in pairs:
        if own and (widths := _parts(one, two, sizes)):
            return _with_widths(reading, widths)
    return None


def _parts(joined: int, wanted: int, sizes: Mapping[int, str]) -> dict[str, int]:
    """Widths of arguments that are joined, themselves or what is made of them, before they meet a parameter.

    Args:
        joined: the size that did not fit, such as four times a width where ``[x; y; x - y; x * y]`` is taken.
        wanted: the parameter's size.
        sizes: arguments by the widths they have in this trial.
    """
    for size, name in sizes.items():
        count, rest = divmod(joined, size)
        if rest == 0 and 2 <= count <= MOST_JOINED and wanted % count == 0:
            return {name: wanted // count}
    for (one, first), (two, second) in itertools.combinations(sizes.items(), 2):
        for of_one, of_two in itertools.product(range(1, MOST_JOINED), repeat=2):
            count = of_one + of_two
            if of_one * one + of_two * two == joined and count <= MOST_JOINED and wanted % count == 0:
                return dict.fromkeys((first, second), wanted // count)
    return {}


def _whole_numbers(reading: Reading, failure: Failure) -> Reading | None:
    """The reading in which an argument that is looked up in a table takes whole numbers."""
    for name, value in failure.given.items():
        looked_up = isinstance(value, Tensor) and any(tensor is value for tensor in failure.tensors)
        if looked_up and name in reading.features and not reading.features[name].integers:
            table = next((t for t, own in zip(failure.tensors, failure.own, strict=True) if own), None)
            count = len(table) if table is not None else 2
            feature = replace(reading.features[name], integers=True, width=count)
            return replace(reading, features={**reading.features, name: feature})
    return None


def _apart(failure: Failure) -> list[tuple[int, int, bool]]:
    """Sizes that the failing operation needed to be equal, and whether one of them is a parameter's."""
    function, tensors, raw = failure.function.strip("_"), failure.tensors, failure.raw
    if not tensors:
        return []
    shapes = [tuple(tensor.shape) for tensor in tensors]
    own = any(failure.own)
    first = shapes[0]
    if function in ("linear", "addmm") and len(shapes) > 1 and first:
        return [(first[-1], shapes[1][-1], own)]
    if function in ("layer_norm", "rms_norm") and len(raw) > 1 and isinstance(raw[1], tuple | list):
        return [(a, int(b), True) for a, b in zip(first[-len(raw[1]) :], raw[1], strict=False)]
    if function in ("batch_norm", "group_norm", "instance_norm") and len(shapes) > 1 and len(first) > 1:
        return [(first[1], shapes[1][0], True)]
    if function.startswith("conv") and len(shapes) > 1 and len(first) == len(shapes[1]):
        groups = next((value for value in reversed(raw) if isinstance(value, int)), 1)
        return [(first[1], shapes[1][1] * max(groups, 1), True)]
    if function in ("matmul", "bmm", "rmatmul", "mm", "mv", "baddbmm") and len(shapes) > 1:
        one, two = shapes[-2:] if function == "baddbmm" else shapes[:2]
        if function == "rmatmul":
            one, two = two, one
        inner = two[-2] if len(two) > 1 else two[-1]
        return [(one[-1], inner, own)] if one[-1] != inner else _broadcast(one[:-2], two[:-2], own)
    if function == "einsum":
        return _einsum(raw, shapes, own)
    if function in ("view", "reshape", "unflatten", "view_as", "reshape_as"):
        return _whole_split(raw, first) or _split(raw, first)
    if function == "scaled_dot_product_attention" and len(shapes) > 2:
        return [(first[-1], shapes[1][-1], own), (shapes[1][-2], shapes[2][-2], own)]
    if function == "multi_head_attention_forward" and len(shapes) > 2:
        width = next((value for value in raw if isinstance(value, int)), 0)
        return [(shape[-1], width, True) for shape in shapes[:3]]
    found = []
    for (one, mine), (two, theirs) in itertools.combinations(zip(shapes, failure.own, strict=True), 2):
        found += _broadcast(one, two, mine or theirs)
    return found


def _broadcast(one: Sequence[int], two: Sequence[int], own: bool) -> list[tuple[int, int, bool]]:
    return [(a, b, own) for a, b in zip(reversed(one), reversed(two), strict=False) if a != b and 1 not in (a, b)]


def _einsum(raw: Sequence[object], shapes: Sequence[tuple[int, ...]], own: bool) -> list[tuple[int, int, bool]]:
    equation = next((value for value in raw if isinstance(value, str)), "")
    labels: dict[str, int] = {}
    found = []
    for term, shape in zip(equation.replace(" ", "").partition("->")[0].split(","), shapes, strict=False):
        for label, size in zip(term, shape, strict=False) if "." not in term else ():
            if labels.setdefault(label, size) != size:
                found.append((labels[label], size, own))
    return found


def _whole_split(raw: Sequence[object], shape: tuple[int, ...]) -> list[tuple[int, int, bool]]:
    """Of a view with all its sizes: the last size before it, and what that has to be to hold as much."""
    sizes = _sizes_in(raw)
    if not sizes or min(sizes) < 1 or not shape or min(shape) < 1:
        return []
    wanted, rest = divmod(math.prod(sizes), math.prod(shape[:-1]))
    return [(shape[-1], wanted, True)] if rest == 0 and wanted not in (0, shape[-1]) else []


def _sizes_in(raw: Sequence[object]) -> list[int]:
    """The sizes that a view was asked for."""
    return [
        int(v)
        for value in raw[1:]
        for v in (value if isinstance(value, tuple | list) else (value,))
        if isinstance(v, int)
    ]


def _split(raw: Sequence[object], shape: tuple[int, ...]) -> list[tuple[int, int, bool]]:
    """Of a view that cuts the last axis: its size, and the product of what it was to be cut into."""
    sizes = _sizes_in(raw)
    product = 1
    found = []
    for size in reversed(sizes):
        if size < 1:
            break
        product *= size
        if product > 1 and product != shape[-1]:
            found.append((shape[-1], product, True))
    return found[1:2] or found[:1] if shape else []


def _of_part(failure: Failure) -> list[tuple[int, int, bool]]:
    """Widths that the part names which did not return: what a recurrent or an attention layer checks by itself."""
    part, inputs = failure.part, failure.inputs
    if part is None:
        return []
    if isinstance(part, nn.MultiheadAttention):
        wanted = {"0": part.embed_dim, "1": part.kdim, "2": part.vdim}
        wanted |= {"query": part.embed_dim, "key": part.kdim, "value": part.vdim}
        return [(value.shape[-1], int(wanted[name] or 0), True) for name, value in inputs if name in wanted]
    if isinstance(part, nn.RNNBase):
        return [(value.shape[-1], part.input_size, True) for _, value in inputs[:1]]
    if isinstance(part, nn.Bilinear):
        return [
            (value.shape[-1], size, True)
            for (_, value), size in zip(inputs, (part.in1_features, part.in2_features), strict=False)
        ]
    widths = [value for name, value in vars(part).items() if name in _WIDTHS and isinstance(value, int)]
    return [(value.shape[-1], width, True) for _, value in inputs if value.dim() for width in widths[:1]]
