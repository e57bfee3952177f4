"""The mask arithmetic, which everything else stands on."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from variants import valid_from_lengths
from variants.masking import blank, compact, masked_mean, masked_softmax, pool, restore

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

steady = settings(deadline=None, derandomize=True, max_examples=60)
"""The same cases each time, and no verdict from the clock."""


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[float], list[bool]]:
    """Scores of one row and its validity, empty rows included."""
    length = draw(st.integers(1, 9))
    scores = draw(st.lists(st.floats(-30, 30), min_size=length, max_size=length))
    return scores, draw(st.lists(st.booleans(), min_size=length, max_size=length))


def weights_of(scores: list[float], valid: list[bool]) -> list[float]:
    found = masked_softmax(torch.tensor([scores], dtype=torch.float64), torch.tensor([valid]))
    return found[0].tolist()


@steady
@given(rows())
def test_weights_are_the_softmax_of_the_valid_scores_alone(row: tuple[list[float], list[bool]]) -> None:
    scores, valid = row
    top = max((score for score, real in zip(*row, strict=True) if real), default=0.0)
    powers = [math.exp(score - top) if real else 0.0 for score, real in zip(scores, valid, strict=True)]
    total = sum(powers) or 1.0
    assert weights_of(scores, valid) == pytest.approx([power / total for power in powers], rel=1e-13, abs=1e-300)


@steady
@given(rows(), st.sampled_from([math.nan, math.inf, -math.inf, 1e4, -1e4, 1e300]))
def test_what_stands_in_a_pad_moves_nothing(row: tuple[list[float], list[bool]], filler: float) -> None:
    scores, valid = row
    filled = [score if real else filler for score, real in zip(scores, valid, strict=True)]
    assert weights_of(filled, valid) == weights_of(scores, valid)


@steady
@given(rows(), st.sampled_from([-1e3, -16.0, 16.0, 1e3]))
def test_shifting_every_score_moves_nothing(row: tuple[list[float], list[bool]], shift: float) -> None:
    scores, valid = row
    shifted = weights_of([score + shift for score in scores], valid)
    # the sum itself rounds, by 1e-13 at a thousand
    assert shifted == pytest.approx(weights_of(scores, valid), rel=1e-11, abs=1e-300)


@steady
@given(rows())
def test_the_gradient_is_that_of_the_compacted_row(row: tuple[list[float], list[bool]]) -> None:
    scores = torch.tensor(row[0], dtype=torch.float64, requires_grad=True)
    valid = torch.tensor(row[1])
    cotangent = torch.linspace(-1, 2, len(scores), dtype=torch.float64)
    (found,) = torch.autograd.grad((masked_softmax(scores, valid) * cotangent).sum(), scores)
    short = scores.detach()[valid].requires_grad_()
    expected = torch.zeros_like(scores)
    if short.numel():
        loss = (torch.softmax(short, 0) * cotangent[valid]).sum()
        expected[valid] = torch.autograd.grad(loss, short)[0]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert torch.equal(found[~valid], torch.zeros_like(found[~valid]))


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_narrow_softmax_is_as_good_as_its_dtype(dtype: torch.dtype) -> None:
    scores = torch.randn(5, 3000, generator=torch.Generator().manual_seed(0)).to(dtype)
    valid = valid_from_lengths(torch.tensor([3000, 1, 0, 17, 2999]), 3000)
    found = masked_softmax(scores, valid)
    assert found.dtype == dtype
    exact = torch.softmax(scores.double().masked_fill(~valid, -math.inf), -1).nan_to_num()
    # one rounding of each weight; below fp16's normal range of 6e-5 an absolute one
    torch.testing.assert_close(found.double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=6e-8)
    assert (found[~valid] == 0).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_an_empty_row_is_zero_with_zero_gradient(dtype: torch.dtype) -> None:
    scores = torch.tensor([[1.0, 2.0], [3.0, math.nan]], dtype=dtype, requires_grad=True)
    found = masked_softmax(scores, torch.tensor([[True, True], [False, False]]))
    assert torch.equal(found[1], torch.zeros(2, dtype=dtype))
    found.sum().backward()
    assert scores.grad is not None
    assert torch.equal(scores.grad[1], torch.zeros(2, dtype=dtype))
    assert scores.grad.isfinite().all()


def test_nan_in_a_valid_slot_surfaces() -> None:
    found = masked_softmax(torch.tensor([[math.nan, 1.0, 2.0]]), torch.tensor([[True, True, False]]))
    assert found[0, :2].isnan().all()


def test_validity_broadcasts_over_heads() -> None:
    scores = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    valid = valid_from_lengths(torch.tensor([2, 5]), 5)
    found = masked_softmax(scores, valid[:, None, None, :])
    assert torch.equal(found[0, ..., 2:], torch.zeros(3, 4, 3))
    torch.testing.assert_close(found[1], torch.softmax(scores[1], -1))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8])
def test_lengths_of_any_integer_dtype_say_the_same(dtype: torch.dtype) -> None:
    found = valid_from_lengths(torch.tensor([0, 2, 3], dtype=dtype), 3)
    assert found.tolist() == [[False] * 3, [True, True, False], [True] * 3]


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (torch.tensor([1.0]), "dtype torch.float32: expected .B. of integers"),
        (torch.tensor([[1]]), r"shape \[1, 1\]"),
        (torch.tensor([True]), "a boolean mask is already a validity"),
        (torch.tensor([1, 4]), "run from 1 to 4, but width is 3"),
        (torch.tensor([-1, 2]), "run from -1 to 2"),
    ],
)
def test_lengths_that_cannot_be_are_refused(lengths: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        valid_from_lengths(lengths, 3)


@pytest.mark.parametrize("filler", [math.nan, math.inf, -math.inf, 3.0])
def test_blank_stops_whatever_stands_in_a_pad_in_both_directions(filler: float) -> None:
    features = torch.full((1, 2, 3), filler)
    features[0, 0] = 1.0
    features.requires_grad_()
    blanked = blank(features, torch.tensor([[True, False]]))
    assert blanked.tolist() == [[[1.0] * 3, [0.0] * 3]]
    (blanked * torch.tensor([[[1.0], [math.nan]]])).sum().backward()
    assert features.grad is not None
    assert features.grad.tolist() == [[[1.0] * 3, [0.0] * 3]]


def test_the_masked_mean_is_the_mean_of_what_is_there() -> None:
    features = torch.tensor([[[1.0], [math.nan], [5.0]], [[math.nan], [math.inf], [2.0]]])
    mean, weights = masked_mean(features, torch.tensor([[True, False, True], [False, False, False]]))
    assert mean.tolist() == [[3.0], [0.0]]
    assert weights.tolist() == [[0.5, 0.0, 0.5], [0.0, 0.0, 0.0]]


def test_pool_sums_by_weight() -> None:
    weights = torch.tensor([[0.25, 0.75], [0.0, 0.0]])
    assert pool(weights, torch.tensor([[[4.0, 0.0], [8.0, 4.0]]] * 2)).tolist() == [[7.0, 3.0], [0.0, 0.0]]


@steady
@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=4))
def test_compacting_keeps_order_and_can_be_undone(validity: list[list[bool]]) -> None:
    valid = torch.tensor(validity)
    features = torch.arange(valid.numel() * 2.0).reshape(*valid.shape, 2)
    features[~valid] = math.nan
    compacted = compact(features, valid)
    for row, moved, front, original in zip(valid, compacted.features, compacted.valid, features, strict=True):
        count = int(row.sum())
        assert front.tolist() == [True] * count + [False] * (len(row) - count)
        assert torch.equal(moved[:count], original[row])
        assert torch.equal(moved[count:], torch.zeros_like(moved[count:]))
    assert torch.equal(restore(compacted.features, compacted)[valid], features[valid])
