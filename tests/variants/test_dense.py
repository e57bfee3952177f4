"""Dense co-attention against the paper written as loops, and against the authors' numbers by way of `published_dcn`."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.variants.oracles import Glimpse, Parameters, Vectors, linear, softmax, weighted_sum
from tests.variants.ragged import assert_follows, ragged, smallest
from variants import Batch, build


def look(queries: Vectors, keys: Vectors, heads: int) -> list[Vectors]:
    """Each query's weights over the keys, one list a head."""
    size = len(queries[0]) // heads if queries else 0
    maps = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        maps.append(
            [softmax([query[part] @ key[part] / size**0.5 for key in keys]) if keys else [] for query in queries]
        )
    return maps


def found(queries: Vectors, keys: Vectors, values: Vectors, heads: int, width: int) -> Vectors:
    """As the authors' code has it: each head's weighted sum, then their mean."""
    maps = look(queries, keys, heads)
    return [
        sum((weighted_sum(maps[head][row], values, width) for head in range(heads)), torch.zeros(width).double())
        / heads
        for row in range(len(queries))
    ]


def summary(parameters: Parameters, side: str, slots: Vectors, heads: int, width: int) -> tuple[Tensor, list[Tensor]]:
    if not slots:
        return torch.zeros(width, dtype=torch.float64), []
    name = f"{side}_summary"
    scores = [linear(parameters, f"{name}.score", linear(parameters, f"{name}.hidden", slot).relu()) for slot in slots]
    maps = [softmax([score[head] for score in scores]) for head in range(heads)]
    weights = [sum(column, torch.zeros(()).double()) / heads for column in zip(*maps, strict=True)]
    return weighted_sum(weights, slots, width), weights


def dense(
    parameters: Parameters,
    image: Vectors,
    question: Vectors,
    image_width: int,
    question_width: int,
    *,
    layers: int = 3,
    heads: int = 4,
    nowhere: int = 3,
    without: tuple[str, ...] = (),
) -> list[Glimpse]:
    for layer in range(layers):
        name = f"layers.{layer}"
        image_keys = [*(parameters[f"{name}.image_nowhere"] if nowhere else []), *image]
        question_keys = [*(parameters[f"{name}.question_nowhere"] if nowhere else []), *question]
        image_projected = [linear(parameters, f"{name}.image_projection", slot) for slot in image_keys]
        question_projected = [linear(parameters, f"{name}.question_projection", slot) for slot in question_keys]
        in_image = found(question_projected[nowhere:], image_projected, image_keys, heads, image_width)
        in_question = found(image_projected[nowhere:], question_projected, question_keys, heads, question_width)
        if "image_to_question" in without:
            in_image = [torch.zeros(image_width, dtype=torch.float64) for _ in question]
        if "question_to_image" in without:
            in_question = [torch.zeros(question_width, dtype=torch.float64) for _ in image]
        image, question = (
            [
                slot + linear(parameters, f"{name}.{side}_fusion", torch.cat((slot, other))).relu()
                for slot, other in zip(slots, others, strict=True)
            ]
            for side, slots, others in (("image", image, in_question), ("question", question, in_image))
        )
    v, a_v = summary(parameters, "image", image, heads, image_width)
    q, a_q = summary(parameters, "question", question, heads, question_width)
    return [Glimpse(v, q, a_v, a_q)]


CASES = {
    "dense": dense,
    "dense[layers=1,heads=1,nowhere=1]": partial(dense, layers=1, heads=1, nowhere=1),
    "dense[heads=3]": partial(dense, heads=3),
    "dense[nowhere=0]": partial(dense, nowhere=0),
    "dense-nowhere": partial(dense, nowhere=0),
    "dense-image_to_question": partial(dense, without=("image_to_question",)),
    "dense-question_to_image": partial(dense, without=("question_to_image",)),
    "dense-image_to_question-question_to_image": partial(dense, without=("image_to_question", "question_to_image")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_mechanism_is_its_paper_on_ragged_rows(name: str) -> None:
    assert_follows(CASES[name], name, ragged(6, 5))


@pytest.mark.parametrize("name", CASES)
def test_a_mechanism_is_its_paper_on_one_region_and_one_word(name: str) -> None:
    assert_follows(CASES[name], name, smallest(6, 5))


def test_a_mechanism_is_its_paper_with_the_wider_question_and_more_words_than_regions() -> None:
    image, question, image_valid, question_valid = ragged(3, 9)
    assert_follows(dense, "dense", Batch(image[:, :4], question, image_valid[:, :4], question_valid))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CASES, "dense-nowhere-question_to_image"])
@pytest.mark.parametrize(("regions", "words"), [(7, 5), (4, 9)])
def test_flops_are_those_that_torch_counts(name: str, regions: int, words: int) -> None:
    module = build(name, image_width=6, question_width=5).module
    generator = torch.Generator().manual_seed(0)
    batch = Batch(
        torch.randn(3, regions, 6, generator=generator),
        torch.randn(3, words, 5, generator=generator),
        torch.ones(3, regions, dtype=torch.bool),
        torch.ones(3, words, dtype=torch.bool),
    )
    with FlopCounterMode(display=False) as counter:
        module(batch)
    assert counter.get_total_flops() == module.matmul_flops(3, regions, words)


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"dense\[heads=0\]: expected at least 1"):
        build("dense[heads=0]", width=8)
