"""Batches that are hard on kernels: holes, empty rows, NaN in every padded slot."""

import torch
from torch import Tensor

from variants import Attended, Batch, Variant


def hard_batch(
    examples: int,
    regions: int,
    words: int,
    image_width: int,
    question_width: int,
    *,
    dtype: torch.dtype = torch.float64,
    pad: float = float("nan"),
    seed: int = 0,
) -> Batch:
    """Random holes; the first example full, the next without words, then one without regions, then without either."""
    generator = torch.Generator().manual_seed(seed)
    image_valid = torch.rand(examples, regions, generator=generator) > 0.3
    question_valid = torch.rand(examples, words, generator=generator) > 0.4
    image_valid[0] = question_valid[0] = True
    question_valid[1] = False
    image_valid[2] = False
    image_valid[3] = question_valid[3] = False
    image = torch.randn(examples, regions, image_width, generator=generator, dtype=torch.float64)
    question = torch.randn(examples, words, question_width, generator=generator, dtype=torch.float64)
    image[~image_valid] = pad
    question[~question_valid] = pad
    return Batch(image.to(dtype), question.to(dtype), image_valid, question_valid)


def cotangents(found: Attended) -> list[Tensor]:
    """Fixed random gradients for the outputs, the same in every dtype."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(field.shape, generator=generator, dtype=torch.float64).to(field) for field in found]


def outputs_and_gradients(variant: Variant, batch: Batch) -> dict[str, Tensor]:
    """Every output, and the gradient of every input and parameter, by name."""
    image = batch.image.detach().clone().requires_grad_()
    question = batch.question.detach().clone().requires_grad_()
    found = variant.call(batch._replace(image=image, question=question))
    parameters = dict(variant.module.named_parameters())
    sources = {"image gradient": image, "question gradient": question} | parameters
    # plain means have weights that nothing learns
    ends = [(field, pull) for field, pull in zip(found, cotangents(found), strict=True) if field.requires_grad]
    roots, pulls = zip(*ends, strict=True)
    gradients = torch.autograd.grad(roots, list(sources.values()), pulls)
    return {name: field.detach() for name, field in found._asdict().items()} | dict(
        zip(sources, gradients, strict=True)
    )


def largest_error(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Over all tensors, the largest difference relative to the root mean square of what was expected.

    What is zero but for rounding, such as the gradient through a softmax over one slot, is measured against 1e-3.
    """
    errors = []
    for name, want in expected.items():
        assert torch.isfinite(found[name]).all(), name
        if name.endswith("score.bias"):  # softmax does not see it: its gradient is rounding error and nothing else
            continue
        scale = want.double().square().mean().sqrt().clamp(min=1e-3)
        errors.append(float((found[name].double() - want.double()).abs().max() / scale))
    return max(errors)
