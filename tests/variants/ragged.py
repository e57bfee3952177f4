"""Batches with every pattern of validity on odd sizes, and the comparison with an oracle."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tests.variants import oracles
from variants import Attended, Batch, CoAttention, build

# left-aligned, holes, left padding, one slot, full, and rows without a valid slot on one side and on both
IMAGE_VALID = ("1111100", "1011010", "0001111", "0000100", "1111111", "0000000", "1101111", "0000000")
QUESTION_VALID = ("11000", "01101", "00111", "10000", "11111", "10110", "00000", "00000")


def ragged(image_width: int, question_width: int, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> Batch:
    """Eight examples of 7 regions and 5 words; padded slots hold ordinary numbers."""
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        torch.randn(8, 7, image_width, generator=generator, dtype=torch.float64).to(dtype),
        torch.randn(8, 5, question_width, generator=generator, dtype=torch.float64).to(dtype),
        torch.tensor([[slot == "1" for slot in row] for row in IMAGE_VALID]),
        torch.tensor([[slot == "1" for slot in row] for row in QUESTION_VALID]),
    )


def smallest(image_width: int, question_width: int) -> Batch:
    """One example of one region and one word."""
    return Batch(
        torch.randn(1, 1, image_width, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
        torch.randn(1, 1, question_width, generator=torch.Generator().manual_seed(2), dtype=torch.float64),
        torch.ones(1, 1, dtype=torch.bool),
        torch.ones(1, 1, dtype=torch.bool),
    )


def outputs_and_gradients(
    run: Callable[[Batch], Attended], batch: Batch, parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Outputs of a run, and gradients of inputs and parameters under a fixed cotangent, by name."""
    image, question = batch.image.clone().requires_grad_(), batch.question.clone().requires_grad_()
    attended = run(batch._replace(image=image, question=question))
    generator = torch.Generator().manual_seed(7)
    cotangents = [torch.randn(output.shape, generator=generator, dtype=output.dtype) for output in attended]
    loss = sum((output * cotangent).sum() for output, cotangent in zip(attended, cotangents, strict=True))
    leaves = {"image": image, "question": question, **parameters}
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    results = dict(zip(Attended._fields, attended, strict=True))
    for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
        results[f"gradient of {name}"] = torch.zeros_like(leaf) if gradient is None else gradient
    return {name: result.detach() for name, result in results.items()}


def assert_follows(oracle: oracles.Oracle, name: str, batch: Batch) -> None:
    """The variant of that name gives the oracle's outputs and gradients in float64."""
    widths = {"image_width": batch.image.shape[-1], "question_width": batch.question.shape[-1]}
    module: CoAttention = build(name, **widths, seed=3).module.double()
    parameters = dict(module.named_parameters())
    found = outputs_and_gradients(module, batch, parameters)
    expected = outputs_and_gradients(lambda cut: oracles.attend(oracle, parameters, cut), batch, parameters)
    for key, value in expected.items():
        # sums of at most a few hundred terms of size one: some hundred roundings of 2e-16
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-12, msg=lambda text, key=key: f"{key}: {text}")
