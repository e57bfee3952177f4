"""What every mechanism keeps to, in every precision: shapes, simplex, padding, empty rows, and a batch that fits."""

import math

import pytest
import torch
from torch import Tensor

from tests.variants.ragged import outputs_and_gradients, ragged, smallest
from variants import Attended, Batch, Variant, build, mechanisms
from variants.registry import published_names

ONE_LAYER = {"dense": "dense[heads=2,layers=1]", "modular": "modular[heads=2,layers=1]"}
"""A layer holds as much of the contract as a stack does, sooner."""
# published implementations behave as published, and the audit holds them to their known defects
OURS = [ONE_LAYER.get(name, name) for name in sorted(mechanisms()) if name not in published_names()]
OURS.insert(OURS.index("hierarchical") + 1, "hierarchical[inner=alternating]")
# plain pooling sees nobody, and neither a modular encoder of the question nor the tokens of a bag see the image
SEEING = [name for name in OURS if not name.startswith(("pool", "modular", "bags"))]
PRECISIONS = ["", "+fp16", "+bf16", "+amp_fp16", "+amp_bf16"]
LANES = [word if word in ("", "+bf16") else pytest.param(word, marks=pytest.mark.slow) for word in PRECISIONS]
WIDTH = 8


def resolution(variant: Variant) -> float:
    """Relative rounding of the narrowest dtype that the variant computes in."""
    narrow = {"fp16": torch.float16, "amp_fp16": torch.float16, "bf16": torch.bfloat16, "amp_bf16": torch.bfloat16}
    dtypes = [narrow[word] for word in variant.spec.transforms if word in narrow]
    return max([torch.finfo(dtype).eps for dtype in dtypes], default=torch.finfo(variant.dtype).eps)


def refilled(batch: Batch, fillers: tuple[float, ...]) -> Batch:
    """The batch with these numbers, in turn, in its padded slots."""
    fields = {}
    for side in ("image", "question"):
        features: Tensor = getattr(batch, side)
        content = torch.tensor(fillers, dtype=features.dtype).repeat(features.numel())[: features.numel()]
        valid = getattr(batch, f"{side}_valid").unsqueeze(-1)
        fields[side] = torch.where(valid, features, content.view_as(features))
    return batch._replace(**fields)


@pytest.fixture(params=LANES, ids=lambda precision: precision or "float32", scope="module")
def precision(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=OURS, scope="module")
def variant(request: pytest.FixtureRequest, precision: str) -> Variant:
    return build(request.param + precision, width=WIDTH)


@pytest.fixture
def batch(variant: Variant) -> Batch:
    return ragged(WIDTH, WIDTH, dtype=variant.dtype)


def assert_simplex(weights: Tensor, valid: Tensor, tolerance: float) -> None:
    valid = valid.unsqueeze(1)
    assert (weights >= 0).all()
    assert (weights.masked_select(~valid) == 0).all()
    sums = weights.double().sum(-1)
    assert (sums - valid.any(-1).double()).abs().max() <= tolerance


def test_outputs_have_the_contracts_shapes_and_one_dtype(variant: Variant, batch: Batch) -> None:
    attended = variant.call(batch)
    glimpses = attended.image.shape[1]
    assert attended.image.shape[:2] == attended.question.shape[:2] == (8, glimpses)
    assert attended.image_weights.shape == (8, glimpses, 7)
    assert attended.question_weights.shape == (8, glimpses, 5)
    assert {output.dtype for output in attended} == {variant.dtype}


def test_weights_are_a_simplex_over_the_valid_slots(variant: Variant, batch: Batch) -> None:
    attended = variant.call(batch)
    for side in ("image", "question"):
        # a weight rounds once, and there are at most seven of them
        assert_simplex(getattr(attended, f"{side}_weights"), getattr(batch, f"{side}_valid"), 8 * resolution(variant))


def test_a_side_without_a_valid_slot_is_zero(variant: Variant, batch: Batch) -> None:
    attended = variant.call(batch)
    for side in ("image", "question"):
        empty = ~getattr(batch, f"{side}_valid").any(-1)
        assert empty.any()
        assert (getattr(attended, side)[empty] == 0).all()
        assert (getattr(attended, f"{side}_weights")[empty] == 0).all()
    assert all(output.isfinite().all() for output in attended)


def test_padding_is_invisible_bit_for_bit(variant: Variant, batch: Batch) -> None:
    parameters = dict(variant.module.named_parameters())
    expected = outputs_and_gradients(variant.call, batch, parameters)
    for fillers in ((math.nan, math.inf, -math.inf), (1e4, -3.0, 0.0, -1e4, 0.1)):
        found = outputs_and_gradients(variant.call, refilled(batch, fillers), parameters)
        for key, value in expected.items():
            assert value.isfinite().all(), key
            assert torch.equal(found[key], value), (fillers, key)
    for side in ("image", "question"):
        assert (expected[f"gradient of {side}"][~getattr(batch, f"{side}_valid")] == 0).all()


def test_a_loss_on_the_other_rows_has_finite_gradients(variant: Variant, batch: Batch) -> None:
    leaves = [batch.image.requires_grad_(), batch.question.requires_grad_()]
    full = batch.image_valid.any(-1) & batch.question_valid.any(-1)
    loss = sum(output[full].float().square().sum() for output in variant.call(batch))
    gradients = torch.autograd.grad(loss, [*leaves, *variant.module.parameters()], allow_unused=True)
    assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)
    assert gradients[0] is not None
    assert (gradients[0][~full] == 0).all()


def test_one_example_of_one_region_and_one_word(variant: Variant) -> None:
    batch = smallest(WIDTH, WIDTH)
    batch = batch._replace(image=batch.image.to(variant.dtype), question=batch.question.to(variant.dtype))
    attended = variant.call(batch)
    assert attended.image_weights.shape[2] == attended.question_weights.shape[2] == 1
    torch.testing.assert_close(attended.image_weights, torch.ones_like(attended.image_weights))
    torch.testing.assert_close(attended.question_weights, torch.ones_like(attended.question_weights))


def test_a_call_changes_nothing_that_it_was_given_or_gave(variant: Variant, batch: Batch) -> None:
    given = Batch(*(tensor.clone() for tensor in batch))
    first = variant.call(batch)
    kept = Attended(*(output.detach().clone() for output in first))
    variant.call(ragged(WIDTH, WIDTH, dtype=variant.dtype, seed=1))
    again = variant.call(batch)
    for before, after in zip((*given, *kept, *kept), (*batch, *first, *again), strict=True):
        assert torch.equal(before, after)


def test_narrow_results_are_near_float64(variant: Variant, batch: Batch) -> None:
    exact = build(variant.name.partition("+")[0], width=WIDTH).module.double()
    expected = exact(batch._replace(image=batch.image.double(), question=batch.question.double()))
    for found, wanted in zip(variant.call(batch), expected, strict=True):
        scale = wanted.square().mean().sqrt()
        # a few roundings in sequence, each of the dtype's relative size
        assert (found.double() - wanted).abs().max() / scale <= 40 * resolution(variant)


@pytest.mark.parametrize("name", SEEING)
def test_each_side_is_seen_by_the_other(name: str) -> None:
    variant = build(name, width=WIDTH)
    batch = ragged(WIDTH, WIDTH, dtype=torch.float32)
    before = variant.call(batch)
    image, question = batch.image.clone(), batch.question.clone()
    image[4, 0] += 1
    question[4, 0] += 1
    other_image = variant.call(batch._replace(image=image))
    other_question = variant.call(batch._replace(question=question))
    assert (other_image.question_weights[4] - before.question_weights[4]).abs().max() > 1e-6
    assert (other_question.image_weights[4] - before.image_weights[4]).abs().max() > 1e-6
    assert torch.equal(other_image.question_weights[:4], before.question_weights[:4])


@pytest.mark.parametrize("name", OURS)
def test_order_matters_only_where_a_mechanism_says_so(name: str) -> None:
    variant = build(name, width=WIDTH)
    batch = ragged(WIDTH, WIDTH, dtype=torch.float32)
    before = variant.call(batch)
    regions, words = torch.tensor([3, 0, 6, 2, 5, 1, 4]), torch.tensor([4, 2, 0, 3, 1])
    moved = variant.call(
        batch._replace(image=batch.image[:, regions], image_valid=batch.image_valid[:, regions]),
    )
    torch.testing.assert_close(moved.image, before.image, rtol=0, atol=1e-5)
    torch.testing.assert_close(moved.image_weights, before.image_weights[..., regions], rtol=0, atol=1e-6)
    moved = variant.call(
        batch._replace(question=batch.question[:, words], question_valid=batch.question_valid[:, words]),
    )
    difference = (moved.question_weights - before.question_weights[..., words]).abs().max().item()
    assert (difference > 1e-4) == variant.module.word_order_matters, difference


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(("precision", "regions", "words"), [("", 2500, 3), ("+bf16", 3, 600), ("+fp16", 40, 30)])
def test_long_sides_and_loud_features_stay_finite(name: str, precision: str, regions: int, words: int) -> None:
    variant = build(name + precision, width=4)
    generator = torch.Generator().manual_seed(0)
    batch = Batch(
        30 * torch.randn(1, regions, 4, generator=generator).to(variant.dtype),
        30 * torch.randn(1, words, 4, generator=generator).to(variant.dtype),
        torch.rand(1, regions, generator=generator) > 0.3,
        torch.rand(1, words, generator=generator) > 0.3,
    )
    with torch.no_grad():
        attended = variant.call(batch)
    assert all(output.isfinite().all() for output in attended)
    # roundings of weights that differ in size add like a walk, and their sum is one
    assert_simplex(attended.image_weights, batch.image_valid, 8 * resolution(variant))
    assert_simplex(attended.question_weights, batch.question_valid, 8 * resolution(variant))


def changed(**fields: Tensor) -> Batch:
    return ragged(6, 4, dtype=torch.float32)._replace(**fields)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (changed(image=torch.zeros(8, 7, 5)), "image has shape [8, 7, 5]: expected [examples, regions, 6]"),
        (changed(question=torch.zeros(8, 20)), "question has shape [8, 20]: expected [examples, words, 4]"),
        (changed(image=torch.zeros(8, 7, 6, dtype=torch.int64)), "image has dtype torch.int64: expected a floating"),
        (
            changed(question_valid=torch.ones(8, 5)),
            "question_valid has dtype torch.float32: expected torch.bool, True where a slot is real; from lengths",
        ),
        (
            changed(image_valid=torch.ones(8, 9, dtype=torch.bool)),
            "image_valid has shape [8, 9], but image has 8 examples of 7 regions: expected [8, 7]",
        ),
        (
            changed(image_valid=torch.ones(8, 7, dtype=torch.bool, device="meta")),
            "image_valid is on meta, but image is on cpu",
        ),
        (
            changed(question=torch.zeros(3, 5, 4), question_valid=torch.ones(3, 5, dtype=torch.bool)),
            "question has 3 examples, but image has 8",
        ),
        (changed(question=torch.zeros(8, 5, 4, dtype=torch.float64)), "question has dtype torch.float64, but image"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_batch_that_does_not_fit_is_refused_by_name(batch: Batch, message: str) -> None:
    variant = build("parallel", image_width=6, question_width=4)
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the message is compared below, literally
        variant.call(batch)
    assert message in str(error.value)


def test_validity_may_be_expanded_and_not_contiguous() -> None:
    variant = build("hierarchical", width=4)
    valid = torch.tensor([[True, True, False, True, False]])
    question = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)).mT
    batch = Batch(torch.randn(3, 7, 4), question, torch.ones(7, 3, dtype=torch.bool).mT, valid.expand(3, 5))
    plain = Batch(*(tensor.contiguous() for tensor in batch))
    for found, expected in zip(variant.call(batch), variant.call(plain), strict=True):
        torch.testing.assert_close(found, expected)
