"""At the edge: what does not fit is refused by name, and all-False masks do what is documented."""

import pytest
import torch
from torch import Tensor

from variants import Batch, build


def a_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    image, question = torch.randn(3, 5, 16, generator=generator), torch.randn(3, 4, 16, generator=generator)
    return Batch(image, question, torch.ones(3, 5, dtype=torch.bool), torch.ones(3, 4, dtype=torch.bool))


@pytest.mark.parametrize("field", ["image_valid", "question_valid"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda valid: valid[:, :-1], r"has shape \[3, \d\], but .* expected \[3, \d\]"),
        (lambda valid: valid[:-1], r"has shape \[2, \d\]"),
        (lambda valid: valid.float(), r"torch.float32: expected torch.bool.*from 0/1 use .bool\(\)"),
        (lambda valid: valid.long(), r"torch.int64: expected torch.bool.*valid_from_lengths"),
        (lambda valid: torch.zeros(valid.shape).masked_fill(~valid, -torch.inf), "additive mask use mask == 0"),
        (lambda valid: valid.to("meta"), "is on meta, but .* is on cpu"),
    ],
    ids=["a slot too few", "an example too few", "floats", "integers", "additive", "device"],
)
def test_a_validity_that_does_not_fit_is_refused_by_name(field: str, change: object, said: str) -> None:
    batch = a_batch()
    assert callable(change)
    with pytest.raises(ValueError, match=f"^{field} .*{said}"):
        build("parallel", width=16).call(batch._replace(**{field: change(getattr(batch, field))}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda features: features[..., :-1], r"question has shape \[3, 4, 15\]: expected \[examples, words, 16\]"),
        (lambda features: features.double(), "question has dtype torch.float64, but image has torch.float32"),
        (lambda features: features.long(), "question has dtype torch.int64: expected a floating-point dtype"),
        (lambda features: features[0], r"question has shape \[4, 16\]"),
    ],
    ids=["width", "dtype", "integers", "axes"],
)
def test_features_that_do_not_fit_are_refused_by_name(change: object, said: str) -> None:
    batch = a_batch()
    assert callable(change)
    with pytest.raises(ValueError, match=said):
        build("parallel", width=16).call(batch._replace(question=change(batch.question)))


@pytest.mark.parametrize("name", ["parallel", "alternating", "hierarchical", "cross", "pool"])
def test_a_batch_without_any_valid_slot_is_all_zeros_forwards_and_backwards(name: str) -> None:
    batch = a_batch()
    none = [torch.zeros_like(valid) for valid in (batch.image_valid, batch.question_valid)]
    image: Tensor = batch.image.requires_grad_()
    outputs = build(name, width=16).call(Batch(image, batch.question, none[0], none[1]))
    assert all(bool((value == 0).all()) for value in outputs)
    if outputs.image.requires_grad:
        torch.stack([value.sum() for value in outputs]).sum().backward()
        assert image.grad is None or bool((image.grad == 0).all())
