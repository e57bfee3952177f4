"""Modular co-attention against the paper written as loops, with the authors' norm."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.variants.oracles import Glimpse, Parameters, Vectors, linear, softmax, weighted_sum
from tests.variants.ragged import assert_follows, ragged, smallest
from variants import build


def norm(parameters: Parameters, name: str, vector: Tensor) -> Tensor:
    mean = sum(vector) / len(vector)
    variance = sum((entry - mean) ** 2 for entry in vector) / (len(vector) - 1)
    return parameters[f"{name}.scale"] * (vector - mean) / (variance**0.5 + 1e-6) + parameters[f"{name}.shift"]


def reads(parameters: Parameters, name: str, vector: Tensor, others: Vectors, heads: int) -> Tensor:
    query = linear(parameters, f"{name}.query", vector)
    keys = [linear(parameters, f"{name}.key", other) for other in others]
    values = [linear(parameters, f"{name}.value", other) for other in others]
    size = len(query) // heads
    context = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        weights = softmax([query[part] @ key[part] / size**0.5 for key in keys]) if keys else []
        context.append(weighted_sum(weights, [value[part] for value in values], size))
    return linear(parameters, f"{name}.merge", torch.cat(context))


def unit(
    parameters: Parameters, name: str, slots: Vectors, guide: Vectors | None, heads: int, without: tuple[str, ...]
) -> Vectors:
    side = "image" if name.startswith("image") else "question"
    if f"{side}_self_attention" not in without:
        slots = [slot + reads(parameters, f"{name}.own", slot, slots, heads) for slot in slots]
    slots = [norm(parameters, f"{name}.own_norm", slot) for slot in slots]
    if guide is not None:
        if "guided_attention" not in without:
            slots = [slot + reads(parameters, f"{name}.guided", slot, guide, heads) for slot in slots]
        slots = [norm(parameters, f"{name}.guided_norm", slot) for slot in slots]
    expanded = [linear(parameters, f"{name}.expand", slot).relu() for slot in slots]
    contracted = [linear(parameters, f"{name}.contract", slot) for slot in expanded]
    return [norm(parameters, f"{name}.forward_norm", slot + more) for slot, more in zip(slots, contracted, strict=True)]


def flattened(parameters: Parameters, name: str, slots: Vectors, width: int) -> tuple[Tensor, list[Tensor]]:
    if not slots:
        return torch.zeros(2 * width, dtype=torch.float64), []
    hidden = [linear(parameters, f"{name}.hidden", slot).relu() for slot in slots]
    weights = softmax([linear(parameters, f"{name}.score", slot)[0] for slot in hidden])
    return linear(parameters, f"{name}.merge", weighted_sum(weights, slots, width)), weights


def modular(
    parameters: Parameters,
    image: Vectors,
    question: Vectors,
    image_width: int,
    question_width: int,
    *,
    layers: int = 6,
    heads: int = 8,
    arrangement: str = "encdec",
    without: tuple[str, ...] = (),
) -> list[Glimpse]:
    if image_width != question_width:
        image = [linear(parameters, "image_projection", region) for region in image]
    guides = []
    for layer in range(layers):
        question = unit(parameters, f"question_units.{layer}", question, None, heads, without)
        guides.append(question)
    for layer in range(layers):
        guide = guides[layer] if arrangement == "stack" else guides[-1]
        image = unit(parameters, f"image_units.{layer}", image, guide, heads, without)
    v, a_v = flattened(parameters, "image_flattening", image, question_width)
    q, a_q = flattened(parameters, "question_flattening", question, question_width)
    return [Glimpse(v, q, a_v, a_q)]


CASES = {
    "modular[layers=2,heads=2]": partial(modular, layers=2, heads=2),
    "modular[layers=1,heads=3]": partial(modular, layers=1, heads=3),
    "modular[layers=2,heads=2,arrangement=stack]": partial(modular, layers=2, heads=2, arrangement="stack"),
    **{
        f"modular[layers=2,heads=2]-{part}": partial(modular, layers=2, heads=2, without=(part,))
        for part in ("question_self_attention", "image_self_attention", "guided_attention")
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_mechanism_is_its_paper_on_ragged_rows(name: str) -> None:
    assert_follows(CASES[name], name, ragged(4, 6))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_mechanism_is_its_paper_on_equal_widths(name: str) -> None:
    assert_follows(CASES[name], name, ragged(6, 6))


@pytest.mark.parametrize("name", CASES)
def test_a_mechanism_is_its_paper_on_one_region_and_one_word(name: str) -> None:
    assert_follows(CASES[name], name, smallest(4, 6))


def test_the_defaults_are_the_published_ones() -> None:
    assert_follows(modular, "modular", smallest(4, 6))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("image_width", [4, 6])
def test_flops_are_those_that_torch_counts(name: str, image_width: int) -> None:
    module = build(name, image_width=image_width, question_width=6).module
    batch = ragged(image_width, 6, dtype=torch.float32)
    with FlopCounterMode(display=False) as counter:
        module(batch)
    assert counter.get_total_flops() == module.matmul_flops(*batch.image.shape[:2], batch.question.shape[1])


def test_a_row_of_equal_entries_keeps_finite_gradients() -> None:
    # without self-attention a region of zeros reaches the first norm as it is: its deviation is zero
    module = build("modular[layers=1,heads=2]-image_self_attention", width=6).module
    batch = ragged(6, 6, dtype=torch.float32)
    image = torch.zeros_like(batch.image).requires_grad_()
    attended = module(batch._replace(image=image))
    attended.image.sum().backward()
    assert torch.isfinite(attended.image).all()
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"modular\[layers=0\]: expected at least 1"):
        build("modular[layers=0]", width=8)
