"""The fused kernels in Triton's interpreter; run by test_fused.py in a process of its own.

The whole masking audit of a mechanism takes a minute or two, and three to eleven where it goes over several blocks; the
tests audit `parallel` in one. For all of them, half an hour::

    TRITON_INTERPRET=1 python -m pytest tests/kernels/check_fused.py -k audit
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from triton.runtime.errors import OutOfResources
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder, TensorHandle

from suite.bench.probes.agreement import norm_error
from suite.bench.probes.masking import audit
from suite.core.records import Finding
from tests.kernels import interpreted
from tests.kernels.ragged import hard_batch, largest_error, outputs_and_gradients
from variants import Batch, Skip, Variant, build
from variants.kernels import fused, launch, programs
from variants.kernels.configurations import FORMED, Configuration, configuration, safe, trying
from variants.kernels.launch import Affinity, Pulls, Scored
from variants.kernels.shortlist import ARCHITECTURES, PROGRAMS, Shape, block, demand, fits
from variants.transforms import kernel
from variants.tune import Case, works

interpreted.quicken()

# numpy warns of what a GPU does silently, such as -inf less -inf
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")

SMALLEST = Configuration(rows=16, outer=16, inner=16, words=16, warps=4, stages=1)
STANDING = SMALLEST._replace(standing=True)
MECHANISMS = ["parallel", "parallel[affinity=linear]", "alternating", "alternating[weights=shared]", "hierarchical"]
OVER_ONE_IMAGE = {"hierarchical": "parallel", "hierarchical[inner=alternating]": "alternating"}
"""Mechanisms with three levels, and what each of these is."""


@pytest.fixture
def smallest_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that reach every loop's second turn at sizes that the interpreter can do."""
    monkeypatch.setattr(launch, "configuration", lambda *_: SMALLEST)


def pair(name: str, dtype: torch.dtype, **widths: int) -> tuple[Variant, Variant]:
    """A mechanism and its fused form with the same weights, an affinity that its tanh bends."""
    plain, kernel = build(name, **widths), build(f"{name}+fused", **widths)
    for variant in (plain, kernel):
        with torch.no_grad():
            for parameter, weight in variant.module.named_parameters():
                if parameter.endswith("affinity.weight"):
                    weight *= 1 if "linear" in name else 20
        variant.module.to(dtype)
    return replace(plain, dtype=dtype), replace(kernel, dtype=dtype)


@contextmanager
def poisoned() -> Iterator[None]:
    """Every buffer that is made meanwhile holds NaN until it is written, and so does what is computed from the rest."""
    torch.use_deterministic_algorithms(True)  # fills what torch.empty gives
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_buffer_that_is_not_written_holds_nan_meanwhile() -> None:
    with poisoned():
        assert torch.empty(3).isnan().all()


@pytest.mark.parametrize("name", [*MECHANISMS, "hierarchical[inner=alternating,levels=shared]"])
@pytest.mark.usefixtures("smallest_blocks")
def test_fused_agrees_with_the_mechanism_in_float64_and_writes_every_element_that_it_reads(name: str) -> None:
    plain, kernel = pair(name, torch.float64, width=20)
    batch = hard_batch(4, 21, 18, 20, 20)
    with poisoned():
        found = outputs_and_gradients(kernel, batch)
    assert largest_error(found, outputs_and_gradients(plain, batch)) < 1e-11


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[programs.Form]:
    """Forms of the programs that were launched."""
    found: list[programs.Form] = []
    form = launch._form
    monkeypatch.setattr(launch, "_form", lambda *given, **named: found.append(form(*given, **named)) or found[-1])
    return found


@pytest.mark.parametrize(("regions", "words"), [(1, 1), (17, 1), (23, 16), (16, 33)])
@pytest.mark.usefixtures("smallest_blocks")
def test_odd_sizes_and_unequal_widths(regions: int, words: int, launched: list[programs.Form]) -> None:
    plain, kernel = pair("parallel[hidden=21]", torch.float64, image_width=19, question_width=35)
    batch = hard_batch(4, regions, words, 19, 35)
    with poisoned():
        found = outputs_and_gradients(kernel, batch)
    assert largest_error(found, outputs_and_gradients(plain, batch)) < 1e-11
    of_the_affinity = [form.formed.value for form in launched if form.guide.value == "affinity"]
    assert of_the_affinity == [words <= SMALLEST.words] * 6, "written once in each pass, or formed by each program"


def all_programs(entry: Configuration) -> dict[str, Configuration]:
    return {f"{program}/{bits}": entry for program in PROGRAMS for bits in (16, 32)}


@pytest.mark.parametrize(
    ("name", "regions", "words", "image_width", "question_width"),
    [
        ("parallel", 21, 9, 20, 20),
        ("parallel[hidden=21]", 17, 16, 11, 35),
        ("parallel[affinity=linear]", 1, 1, 33, 16),
        ("hierarchical", 7, 5, 12, 12),
    ],
)
def test_a_tile_that_stands_gives_what_blocks_of_it_do_in_buffers_that_were_poisoned(
    name: str, regions: int, words: int, image_width: int, question_width: int, launched: list[programs.Form]
) -> None:
    plain, kernel = pair(name, torch.float64, image_width=image_width, question_width=question_width)
    batch = hard_batch(4, regions, words, image_width, question_width)
    with poisoned(), trying(all_programs(STANDING)):
        found = outputs_and_gradients(kernel, batch)
    assert largest_error(found, outputs_and_gradients(plain, batch)) < 1e-11
    assert any(form.standing.value for form in launched)


@pytest.mark.parametrize(
    ("name", "words", "widest"),
    [("parallel", 17, 512), ("parallel[dropout=0.3]", 9, 512), ("parallel", 9, 19), ("alternating", 9, 512)],
    ids=["more words than a block", "draws", "wide features", "no affinity"],
)
def test_where_a_tile_cannot_stand_the_safe_entry_is_launched(
    name: str, words: int, widest: int, launched: list[programs.Form], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "WIDEST", widest)
    _, kernel = pair(name, torch.float64, width=20)
    batch = hard_batch(4, 21, words, 20, 20)
    with trying(all_programs(STANDING)):
        outputs_and_gradients(kernel, batch)
    scoring = [form for form in launched if form.pool.value]
    assert scoring
    assert not any(form.standing.value for form in scoring)
    assert min(form.outer.value for form in scoring) > STANDING.outer


@pytest.mark.parametrize("name", ["parallel", "parallel[affinity=linear]", "alternating"])
def test_float32_is_good_to_its_rounding(name: str) -> None:
    plain, kernel = pair(name, torch.float32, width=24)
    batch = hard_batch(5, 37, 19, 24, 24, dtype=torch.float32)
    found, expected = outputs_and_gradients(kernel, batch), outputs_and_gradients(plain, batch)
    assert largest_error(found, expected) < 2.4e-5


# each program in both types: the programs of three levels are those of one, and a type is a width and a rounding
@pytest.mark.parametrize(
    ("name", "entries", "dtype"),
    [
        ("parallel", {}, torch.float16),
        ("parallel", all_programs(Configuration(64, 32, 64, 32, 4, 1, standing=True)), torch.bfloat16),
        ("alternating", {}, torch.bfloat16),
        ("hierarchical", {}, torch.bfloat16),
        ("hierarchical[inner=alternating]", {}, torch.float16),
    ],
)
def test_narrow_types_err_no_more_than_the_mechanism_does(
    name: str, entries: dict[str, Configuration], dtype: torch.dtype
) -> None:
    own: list[float] = []
    fused_errors: list[float] = []
    # one draw's roundings scatter by a factor of two either way; three levels are three draws
    for seed in range(1 if name in OVER_ONE_IMAGE else 3):
        plain, kernel = pair(name, dtype, width=64, seed=seed)
        exact = build(name, width=64)
        exact.module.load_state_dict({key: value.float() for key, value in plain.module.state_dict().items()})
        exact.module.double()
        batch = hard_batch(8, 40, 12, 64, 64, dtype=dtype)
        wide = batch._replace(image=batch.image.double(), question=batch.question.double())
        expected = outputs_and_gradients(exact, wide)
        for errors, variant in ((own, plain), (fused_errors, kernel)):
            with trying(entries):
                found = outputs_and_gradients(variant, batch)
            errors += [norm_error(found[key], want, floor=1e-3) for key, want in expected.items()]
    assert math.hypot(*fused_errors) < 1.5 * math.hypot(*own)


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape)))


def parallel_arguments(levels: int, *, saturating: bool, dropout: float) -> tuple[object, ...]:
    batch = hard_batch(4, 5, 3, 4, 6, pad=0.0)
    batch = batch._replace(question=torch.stack([batch.question * (1 + level) for level in range(levels)]))
    shapes = ((6, 4), (5, 4), (5, 6), (5,), (5,))
    tensors = (*batch, *(numbers(levels, *shape) for shape in shapes))
    seeds = torch.arange(2 * levels).view(2, levels) if dropout else None
    return (*(tensor.requires_grad_(tensor.is_floating_point()) for tensor in tensors), saturating, dropout, seeds)


def guided_arguments(sources: int, levels: int, *, guided: bool, dropout: float) -> tuple[object, ...]:
    batch = hard_batch(4, 5, 3, 4, 6, pad=0.0)
    features = torch.stack([batch.image * (1 + source) for source in range(sources)]).requires_grad_()
    hidden, score = numbers(levels, 5, 4).requires_grad_(), numbers(levels, 5).requires_grad_()
    guide = numbers(levels, 4, 5).requires_grad_() if guided else None
    return (features, batch.image_valid, hidden, guide, score, dropout, torch.arange(levels) if dropout else None)


OPERATORS: list[tuple[Callable[..., tuple[Tensor, ...]], int, tuple[object, ...]]] = [
    (fused.fused_parallel, 4, parallel_arguments(1, saturating=True, dropout=0.0)),
    (fused.fused_parallel, 4, parallel_arguments(2, saturating=False, dropout=0.3)),
    (fused.fused_guided, 2, guided_arguments(1, 1, guided=False, dropout=0.0)),
    (fused.fused_guided, 2, guided_arguments(1, 2, guided=True, dropout=0.3)),
    (fused.fused_guided, 2, guided_arguments(2, 2, guided=True, dropout=0.0)),
]


@pytest.mark.parametrize(("operator", "outputs", "arguments"), OPERATORS)
def test_each_backward_is_the_derivative_of_its_forward(
    operator: Callable[..., tuple[Tensor, ...]], outputs: int, arguments: tuple[object, ...]
) -> None:
    assert torch.autograd.gradcheck(lambda *given: operator(*given)[:outputs], arguments, fast_mode=True)


@pytest.mark.parametrize(("operator", "outputs", "arguments"), OPERATORS)
def test_each_operator_is_registered_for_every_way_of_running(
    operator: Callable[..., tuple[Tensor, ...]], outputs: int, arguments: tuple[object, ...]
) -> None:
    torch.library.opcheck(operator, arguments)


def largest_allocation_bytes(variant: Variant, batch: Batch) -> int:
    """In a forward and a backward pass, as the profiler saw it."""
    outputs_and_gradients(variant, batch)
    with torch.profiler.profile(profile_memory=True) as profile:
        outputs_and_gradients(variant, batch)
    events = profile.profiler.kineto_results.events()
    return max(event.nbytes() for event in events if event.name() == "[memory]")


@pytest.mark.parametrize("name", ["parallel", "alternating", *OVER_ONE_IMAGE])
def test_no_allocation_reaches_the_elements_of_one_affinity(name: str) -> None:
    regions, words, width = 400, 140, 16  # regions enough that an LSTM's workspace, of T alone, is less than a map
    plain, kernel = pair(name, torch.float32, width=width)
    batch = hard_batch(4, regions, words, width, width, dtype=torch.float32)
    only = Batch(*(tensor[:1] for tensor in batch))
    map_bytes = regions * words * 4
    if "alternating" not in name:  # which has no map, fused or not
        assert largest_allocation_bytes(plain, only) >= map_bytes  # the test can see one
    assert largest_allocation_bytes(kernel, only) < map_bytes


def readers_of_the_image(monkeypatch: pytest.MonkeyPatch, name: str) -> Counter[str]:
    """Launches and torch's operators that take the image or its blank copy, in a forward and a backward pass."""
    variant = build(f"{name}+fused", width=18)
    batch = hard_batch(4, 23, 5, 18, 18, dtype=torch.float32)
    elements = batch.image.numel()
    found: Counter[str] = Counter()
    launch_itself = GridExecutor.__call__

    def counted(grid: GridExecutor, *arguments: object, **options: object) -> None:
        sizes = [argument.numel() for argument in arguments if isinstance(argument, Tensor)]
        found[grid.fn.__name__] += elements in sizes
        launch_itself(grid, *arguments, **options)

    monkeypatch.setattr(GridExecutor, "__call__", counted)
    with torch.profiler.profile(record_shapes=True) as profile:
        outputs_and_gradients(variant, batch)
    for event in profile.events():
        if event.name in ("aten::bmm", "aten::masked_fill"):
            found[event.name] += any(math.prod(shape) == elements for shape in event.input_shapes)
    return +found


@pytest.mark.parametrize("name", OVER_ONE_IMAGE)
def test_three_levels_read_the_image_as_often_as_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    three = readers_of_the_image(monkeypatch, name)
    monkeypatch.undo()
    assert three["scored"] == three["scored_backward"] == three["features_gradient"] == three["aten::bmm"] == 1
    assert three == readers_of_the_image(monkeypatch, OVER_ONE_IMAGE[name])


def test_three_levels_apart_would_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def apart(levels: tuple[nn.Module, ...], batch: Batch, questions: list[Tensor]) -> object:
        found = [one([level], batch, [features]) for level, features in zip(levels, questions, strict=True)]
        return type(found[0])(*(torch.cat(glimpses, dim=1) for glimpses in zip(*found, strict=True)))

    one = fused._parallel
    monkeypatch.setattr(fused, "_parallel", apart)
    assert readers_of_the_image(monkeypatch, "hierarchical")["scored"] == 3


SHAPE = Shape(examples=1, regions=256, words=32, width=512, hidden=256)


def moved_bytes(monkeypatch: pytest.MonkeyPatch, program: str, entry: Configuration, shape: Shape) -> int:
    """What the programs of one launch load and store, as the interpreter runs them."""
    image, mixed = (torch.randn(1, 1, shape.regions, width).bfloat16() for width in (shape.width, shape.hidden))
    queries, keys_slope = (torch.randn(1, 1, shape.words, shape.width).bfloat16() for _ in range(2))
    projected = torch.randn(1, 1, shape.words, shape.hidden).bfloat16()
    affinity = Affinity(queries, projected, torch.tensor([shape.words], dtype=torch.int32), saturating=True)
    weight, score = torch.randn(1, shape.hidden, shape.width).bfloat16(), torch.randn(1, shape.hidden).bfloat16()
    scored = Scored(image, torch.ones(1, shape.regions, dtype=torch.bool), weight, score, affinity)
    formed = torch.randn(1, 1, shape.regions, block(shape.words)).bfloat16() if shape.words <= FORMED else None
    weights, vectors = torch.rand(1, 1, shape.regions).bfloat16(), torch.randn(1, 1, shape.width)
    pulls = Pulls(vectors.bfloat16(), weights)
    moved = 0

    def counting(sound: Callable[..., object], mask: int) -> Callable[..., object]:
        def counted(builder: InterpreterBuilder, pointers: TensorHandle, *given: object) -> object:
            nonlocal moved
            moved += int(given[mask].data.sum()) * pointers.get_element_ty().primitive_bitwidth // 8
            return sound(builder, pointers, *given)

        return counted

    for name, mask in (("create_masked_load", 0), ("create_masked_store", 1)):
        monkeypatch.setattr(InterpreterBuilder, name, counting(getattr(InterpreterBuilder, name), mask))
    with trying({f"{program}/16": entry}):
        match program:
            case "scored":
                launch._scores(scored, launch._Parts(*(torch.empty(1, 1, 8, n) for n in (1, 1, shape.width))))
            case "scored_backward":
                launch.attend_gradients(scored, weights, vectors, pulls)
            case "sum_over_regions":
                used = torch.tensor([shape.regions], dtype=torch.int32)
                launch.sum_over_regions(scored, affinity, used, scored.features, formed=formed)
            case "features_gradient":
                into = torch.empty_like(image)
                launch.features_gradient(
                    scored, mixed.unsqueeze(3), weights, pulls.vectors, keys_slope=keys_slope, formed=formed, into=into
                )
    monkeypatch.undo()
    return moved


@pytest.mark.parametrize("form", ["in blocks", "standing", "of many words"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_model_counts_the_bytes_that_programs_move(
    program: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Configuration(128, 32, 64, 32, 8, 2, True) if form == "standing" else safe(program, 2)
    shape = SHAPE._replace(words=64, width=256) if form == "of many words" else SHAPE
    if fits(program, entry, shape):
        asked = demand(program, entry, 2, shape)
        # left out of the model: validity, scores and the like, one number for each row or column
        assert moved_bytes(monkeypatch, program, entry, shape) == pytest.approx(asked.blocks * asked.bytes, rel=0.03)


@triton.jit
def write_kept(seed, written, rows, columns, example, form: tl.constexpr):
    row, column = tl.program_id(0) * form.rows + tl.arange(0, form.rows), tl.arange(0, form.outer)
    found = programs.kept(seed, tl.full([], example, dtype=tl.int64), row, column, form)
    place = written + row[:, None] * columns + column[None, :]
    tl.store(place, found, mask=(row < rows)[:, None] & (column < columns)[None, :])


def kept(share: float, seed: Tensor, examples: int, rows: int, hidden: int) -> Tensor:
    """What a hidden map ``[examples, rows, hidden]`` is multiplied by, as the kernels draw it."""
    found = torch.full((examples, rows, hidden), float("nan"), dtype=torch.float64)
    outer = triton.next_power_of_2(hidden)
    form = programs.Form(acc=tl.float64, widen=False, approximate=False, dropout=share, outer=outer)
    for example in range(examples):
        write_kept[(triton.cdiv(rows, 16),)](int(seed), found[example], rows, hidden, example, form=form)
    return found


class Replayed(nn.Module):
    """Dropout that multiplies by what is given, one after another."""

    def __init__(self, factors: Iterator[Tensor]) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden * next(self.factors)


def replayed(name: str, share: float, batch: Batch, hidden: int) -> Iterator[Tensor]:
    """The factors of every hidden map, in the order in which the eager mechanism asks for them.

    The fused form takes a seed for each map from torch's generator: sides by levels, or levels for each step.
    """
    examples, regions = batch.image_valid.shape
    words = batch.question_valid.shape[1]
    levels = 3 if "hierarchical" in name else 1
    drawn: list[list[Tensor]] = []
    if "alternating" in name:
        for rows in (words, regions, words):
            seeds = torch.randint(2**63 - 1, (levels,))
            drawn.append([kept(share, seed, examples, rows, hidden) for seed in seeds])
    else:
        of_image, of_question = torch.randint(2**63 - 1, (2, levels))
        # all words are the rows of one example
        flat = [kept(share, seed, 1, examples * words, hidden) for seed in of_question]
        drawn.append([factors.view(examples, words, hidden) for factors in flat])
        drawn.append([kept(share, seed, examples, regions, hidden) for seed in of_image])
    return iter([maps[level] for level in range(levels) for maps in drawn])


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("parallel[dropout=0.3]", (21, 18, 20)),
        ("alternating[dropout=0.3]", (21, 18, 20)),
        ("hierarchical[dropout=0.3]", (7, 5, 12)),
        ("hierarchical[dropout=0.3,inner=alternating]", (7, 5, 12)),
    ],
)
@pytest.mark.usefixtures("smallest_blocks")
def test_dropout_and_its_gradient_are_those_of_the_mechanism_under_the_same_draw(
    name: str, sizes: tuple[int, int, int]
) -> None:
    share, hidden = 0.3, sizes[2]
    plain, kernel = pair(name, torch.float64, width=hidden)
    batch = hard_batch(4, *sizes, hidden)
    torch.manual_seed(5)
    factors = Replayed(replayed(name, share, batch, hidden))
    for module in plain.module.modules():
        if isinstance(getattr(module, "dropout", None), nn.Dropout):
            module.dropout = factors
    torch.manual_seed(5)
    with poisoned():
        found = outputs_and_gradients(kernel, batch)
    assert largest_error(found, outputs_and_gradients(plain, batch)) < 1e-11
    with torch.no_grad():
        torch.manual_seed(5)
        again = kernel.call(batch)
        assert all(torch.equal(field, found[name]) for name, field in again._asdict().items())
        assert not torch.equal(kernel.call(batch).image, found["image"])  # drawn anew


def test_in_eval_mode_nothing_is_dropped() -> None:
    plain, dropped = build("alternating", width=12), build("alternating[dropout=0.5]+fused", width=12)
    batch = hard_batch(4, 7, 5, 12, 12, dtype=torch.float32)
    dropped.module.eval()
    assert largest_error(outputs_and_gradients(dropped, batch), outputs_and_gradients(plain, batch)) < 2.4e-5


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dropout_keeps_what_it_should_and_the_mean(share: float) -> None:
    draws = torch.stack([kept(share, torch.tensor(seed), 2, 64, 128) for seed in (1, 2**40 + 1)])
    assert torch.allclose(draws.unique(), torch.tensor([0, 1 / (1 - share)], dtype=torch.float64), rtol=1e-12)
    # five standard deviations of a binomial share over 32768 draws
    assert abs(float((draws == 0).double().mean()) - share) < 5 * (share * (1 - share) / draws.numel()) ** 0.5
    zero = (draws == 0).double().flatten(0, 1).flatten(1)
    agreement = torch.corrcoef(zero).fill_diagonal_(0)  # between seeds and between examples
    assert agreement.abs().max() < 5 / zero.shape[1] ** 0.5


AUDITED = ["parallel", "alternating", *OVER_ONE_IMAGE]


def assert_the_audit_passes(name: str, **shape: int) -> None:
    findings = [record for record in audit(name, "cpu", task="test", **shape) if isinstance(record, Finding)]
    assert len(findings) > 20
    assert [found.summary for found in findings if found.verdict not in ("holds", "not applicable")] == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", AUDITED)
def test_the_whole_masking_audit_passes(name: str) -> None:
    assert_the_audit_passes(f"{name}+fused")


@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("smallest_blocks")
@pytest.mark.parametrize("name", AUDITED)
def test_the_whole_masking_audit_passes_over_several_blocks(name: str) -> None:
    assert_the_audit_passes(f"{name}+fused", width=40, stretch=2)  # 24 regions and 18 words in blocks of 16


@pytest.mark.parametrize("name", ["parallel[dropout=0.2]", "hierarchical[inner=alternating]"])
def test_the_graph_is_whole(name: str) -> None:
    _, kernel = pair(name, torch.float64, width=16)
    batch = hard_batch(4, 9, 5, 16, 16)
    kernel.module.eval()
    compiled = replace(kernel, run=torch.compile(kernel.run, fullgraph=True, dynamic=False))
    torch._dynamo.utils.counters.clear()
    found, expected = outputs_and_gradients(compiled, batch), outputs_and_gradients(kernel, batch)
    assert largest_error(found, expected) < 1e-11
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    kernel.module.train()
    again = outputs_and_gradients(compiled, batch)
    assert ("dropout" in name) is not torch.equal(again["image"], found["image"])


def test_tuning_holds_an_entry_against_float64_and_survives_one_that_does_not_launch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = Case("hierarchical", torch.bfloat16, examples=4, regions=20, words=6, width=16, device="cpu")
    assert case.expect()
    with trying({"scored/16": SMALLEST}):
        assert case.right()
    sound = launch.sum_over_regions

    def slightly_wrong(*given: object, **options: object) -> Tensor:
        return sound(*given, **options).mul_(1.05)

    monkeypatch.setattr(launch, "sum_over_regions", slightly_wrong)
    assert not case.right()

    def too_large(*_given: object, **_options: object) -> Tensor:
        raise OutOfResources(300_000, 232_448, "shared memory")

    monkeypatch.setattr(launch, "sum_over_regions", too_large)
    assert not works(case)
    assert "shared memory" in capsys.readouterr().out


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_blocks_that_are_predicted_for_a_family_are_right(family: str) -> None:
    case = Case("parallel", torch.bfloat16, examples=2, regions=150, words=19, width=80, device="cpu")
    assert case.expect()
    with trying({f"{program}/16": configuration(program, 2, "", family) for program in PROGRAMS}):
        assert case.right()


def test_what_has_no_kernel_says_so() -> None:
    for name in ("cross+fused", "parallel[bias=true]+fused", "alternating-image_attention+fused"):
        with pytest.raises(Skip, match="fused kernels"):
            build(name, width=8)


@pytest.mark.parametrize(("words", "fused_calls"), [(4, 1), (5, 0)])
def test_the_rule_of_a_device_picks_by_the_length_of_questions(
    words: int, fused_calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    attend = fused.parallel
    monkeypatch.setattr(fused, "parallel", lambda module, batch: calls.append(1) or attend(module, batch))
    plain = build("parallel", width=16)
    quick = kernel._fast_on_cuda(plain)
    assert "fused where T is at most D / 4, else chunked" in quick.notes[-1]
    batch = hard_batch(5, 9, words, 16, 16, dtype=torch.float32)
    for found, expected in zip(quick.call(batch), plain.call(batch), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert len(calls) == fused_calls


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cross", "fast: sdpa"),
        ("modular[layers=1]", "fast: sdpa"),
        ("dense", "fast: as it is, since there is no other: dense+fused"),
        ("parallel[bias=true]", "fast: as it is"),
        ("parallel[dropout=0.1]", "fast: fused where T is at most D / 4, else as it is"),
    ],
)
def test_the_rule_of_a_device_has_an_answer_for_every_mechanism(name: str, said: str) -> None:
    quick = kernel._fast_on_cuda(build(name, width=16))
    assert quick.notes[-1].startswith(said)
    assert str(quick.spec).endswith("+fast")
    batch = hard_batch(5, 9, 8, 16, 16, dtype=torch.float32)
    assert all(field.isfinite().all() for field in quick.call(batch)[:2])


def test_an_unmeasured_device_is_told_of() -> None:
    assert build("parallel+fused", width=8).notes == ("in Triton's interpreter: right, and slow",)
