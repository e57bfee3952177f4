"""The mechanisms of today against their papers written as loops, in float64, on ragged rows; and their FLOPs."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.lanes import one_in
from tests.variants.oracles import Glimpse, Parameters, Vectors, linear, mean_weights, softmax, weighted_sum
from tests.variants.ragged import assert_follows, ragged, smallest
from variants import Batch, build, mechanisms
from variants.build import option_types
from variants.spec import parse

ZERO = torch.zeros((), dtype=torch.float64)


def zeros(width: int) -> Tensor:
    return torch.zeros(width, dtype=torch.float64)


def scored(parameters: Parameters, name: str, slots: Vectors, width: int) -> tuple[Tensor, list[Tensor]]:
    """The slots under a softmax of a linear score."""
    weights = softmax([linear(parameters, name, slot)[0] for slot in slots])
    return weighted_sum(weights, slots, width), weights


def averaged(slots: Vectors, width: int) -> tuple[Tensor, list[Tensor]]:
    weights = mean_weights(slots)
    return weighted_sum(weights, slots, width), weights


def heads_read(parameters: Parameters, name: str, slots: Vectors, others: Vectors, heads: int) -> Vectors:
    """What each slot reads, through query, key, value and merge of that name; the last bias where there is nothing."""
    hidden = len(parameters[f"{name}.query.weight"])
    size = hidden // heads
    keys = [linear(parameters, f"{name}.key", other) for other in others]
    values = [linear(parameters, f"{name}.value", other) for other in others]
    read = []
    for slot in slots:
        query = linear(parameters, f"{name}.query", slot)
        parts = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            weights = softmax([query[part] @ key[part] / size**0.5 for key in keys])
            parts.append(weighted_sum(weights, [value[part] for value in values], size))
        read.append(linear(parameters, f"{name}.merge", torch.cat(parts)))
    return read


def norm(parameters: Parameters, name: str, slot: Tensor) -> Tensor:
    centred = slot - slot.mean()
    normed = centred / torch.sqrt(centred.square().mean() + 1e-5)
    return parameters[f"{name}.weight"] * normed + parameters[f"{name}.bias"]


def bidirectional(
    parameters: Parameters,
    image: Vectors,
    question: Vectors,
    image_width: int,
    question_width: int,
    *,
    heads: int = 8,
    without: tuple[str, ...] = (),
) -> list[Glimpse]:
    regions = [linear(parameters, "image_affinity", region) for region in image]
    words = [linear(parameters, "question_affinity", word) for word in question]
    size = len(parameters["image_affinity.weight"]) // heads

    def read(side: str, rows: Vectors, columns: Vectors, values: Vectors) -> Vectors:
        found = []
        for row in rows:
            parts = []
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                weights = softmax([row[part] @ column[part] / size**0.5 for column in columns])
                parts.append(weighted_sum(weights, [value[part] for value in values], size))
            found.append(linear(parameters, f"{side}_merge", torch.cat(parts)))
        return found

    pooled = []
    for side, slots, rows, columns, others, other_side, width in (
        ("image", image, regions, words, question, "question", image_width),
        ("question", question, words, regions, image, "image", question_width),
    ):
        if f"{side}_attention" in without:
            pooled.append(averaged(slots, width))
            continue
        values = [linear(parameters, f"{other_side}_value", other) for other in others]
        found = read(side, rows, columns, values)
        tokens = [slot + more for slot, more in zip(slots, found, strict=True)]
        pooled.append(scored(parameters, f"{side}_score", tokens, width))
    (v, a_v), (q, a_q) = pooled
    return [Glimpse(v, q, a_v, a_q)]


def transformer(
    parameters: Parameters,
    image: Vectors,
    question: Vectors,
    image_width: int,
    question_width: int,
    *,
    layers: int = 2,
    heads: int = 8,
    shared: bool = False,
    without: tuple[str, ...] = (),
) -> list[Glimpse]:
    for layer in range(layers):
        sides = []
        for side, slots, others in (("image", image, question), ("question", question, image)):
            name = f"layers.{layer}.{side}"
            cross = f"layers.{layer}.shared" if shared else f"{name}.other"
            if f"{side}_attention" not in without:
                read = heads_read(parameters, cross, slots, others, heads)
                slots = [slot + more for slot, more in zip(slots, read, strict=True)]
            slots = [norm(parameters, f"{name}.other_norm", slot) for slot in slots]
            if "self_attention" not in without:
                read = heads_read(parameters, f"{name}.own", slots, slots, heads)
                slots = [slot + more for slot, more in zip(slots, read, strict=True)]
            slots = [norm(parameters, f"{name}.own_norm", slot) for slot in slots]
            if "feed_forward" not in without:
                slots = [
                    slot + linear(parameters, f"{name}.contract", linear(parameters, f"{name}.expand", slot).relu())
                    for slot in slots
                ]
            sides.append([norm(parameters, f"{name}.forward_norm", slot) for slot in slots])
        image, question = sides
    v, a_v = scored(parameters, "image_score", image, image_width)
    q, a_q = scored(parameters, "question_score", question, question_width)
    return [Glimpse(v, q, a_v, a_q)]


def bilinear(
    parameters: Parameters,
    image: Vectors,
    question: Vectors,
    image_width: int,
    question_width: int,
    *,
    glimpses: int = 2,
    residual: bool = True,
    without: tuple[str, ...] = (),
) -> list[Glimpse]:
    regions = [linear(parameters, "image_rank", region).relu() for region in image]
    words = [linear(parameters, "question_rank", word).relu() for word in question]
    current, found = question, []
    for glimpse in range(glimpses):
        scores = [(region * parameters["map"][glimpse]) @ word for region in regions for word in words]
        flat = softmax(scores)
        pairs = {(n, t): flat[n * len(words) + t] for n in range(len(regions)) for t in range(len(words))}
        a_v = [sum((pairs[n, t] for t in range(len(words))), ZERO) for n in range(len(regions))]
        a_q = [sum((pairs[n, t] for n in range(len(regions))), ZERO) for t in range(len(words))]
        if not pairs:
            a_v, a_q = mean_weights(image), mean_weights(question)
        told = current
        if "pooling" not in without:
            name = f"poolings.{glimpse}"
            seen = [linear(parameters, f"{name}.image", region).relu() for region in image]
            said = [linear(parameters, f"{name}.question", word).relu() for word in current]
            total = zeros(len(parameters[f"{name}.image.weight"]))
            for (n, t), weight in pairs.items():
                total = total + weight * seen[n] * said[t]
            told = [word + linear(parameters, f"{name}.update", total) for word in current]
        found.append(Glimpse(weighted_sum(a_v, image, image_width), weighted_sum(a_q, told, question_width), a_v, a_q))
        current = told if residual else question
    return found


def flow(
    parameters: Parameters,
    image: Vectors,
    question: Vectors,
    image_width: int,
    question_width: int,
    *,
    projected: bool = True,
    without: tuple[str, ...] = (),
) -> list[Glimpse]:
    regions = [linear(parameters, "image_projection", region) for region in image] if projected else image
    words = [linear(parameters, "question_projection", word) for word in question] if projected else question
    hidden = len(parameters["product_similarity"][0])
    looks, best, merged = [], [], []
    for region in regions:
        row = [
            linear(parameters, "image_similarity", region)[0]
            + linear(parameters, "question_similarity", word)[0]
            + (region * parameters["product_similarity"][0]) @ word
            for word in words
        ]
        looks.append(mean_weights(words) if "question_attention" in without else softmax(row))
        best.append(torch.stack(row).max() if row else ZERO)
    a_v = mean_weights(image) if "image_attention" in without else softmax(best)
    summary = weighted_sum(a_v, regions, hidden)
    for region, weights in zip(regions, looks, strict=True):
        read = weighted_sum(weights, words, hidden)
        merged.append(torch.cat([region, read, region * read, region * summary]))
    a_q = [sum((weight * look[t] for weight, look in zip(a_v, looks, strict=True)), ZERO) for t in range(len(question))]
    if not image:
        a_q = mean_weights(question)
    return [Glimpse(weighted_sum(a_v, merged, 4 * hidden), weighted_sum(a_q, question, question_width), a_v, a_q)]


def dynamic(
    parameters: Parameters,
    image: Vectors,
    question: Vectors,
    image_width: int,
    question_width: int,
    *,
    without: tuple[str, ...] = (),
) -> list[Glimpse]:
    regions = [linear(parameters, "image_projection", region) for region in image]
    words = [linear(parameters, "question_projection", word) for word in question]
    first = 0
    if "sentinels" not in without:
        regions, words = [parameters["image_sentinel"][0], *regions], [parameters["question_sentinel"][0], *words]
        first = 1
    words = [torch.tanh(linear(parameters, "question_hidden", word)) for word in words]
    hidden = len(parameters["image_projection.weight"])
    by_words = [weighted_sum(softmax([region @ word for region in regions]), regions, hidden) for word in words]
    both = [torch.cat(pair) for pair in zip(words, by_words, strict=True)]
    by_regions = [weighted_sum(softmax([region @ word for word in words]), both, 2 * hidden) for region in regions]
    pooled = []
    for side, slots, read, width in (("image", regions, by_regions, 3), ("question", words, by_words, 2)):
        slots, read = slots[first:], read[first:]
        if f"{side}_attention" in without:
            read = [torch.zeros_like(more) for more in read]
        tokens = [torch.cat(pair) for pair in zip(slots, read, strict=True)]
        pooled.append(
            averaged(tokens, width * hidden)
            if f"{side}_attention" in without
            else scored(parameters, f"{side}_score", tokens, width * hidden)
        )
    (v, a_v), (q, a_q) = pooled
    return [Glimpse(v, q, a_v, a_q)]


def queries(
    parameters: Parameters,
    image: Vectors,
    question: Vectors,
    image_width: int,
    question_width: int,
    *,
    layers: int = 2,
    heads: int = 8,
    without: tuple[str, ...] = (),
) -> list[Glimpse]:
    rows = list(parameters["queries"])
    for layer in range(layers):
        name = f"layers.{layer}"
        steps: list[tuple[str, Vectors | None]] = [("image", image), ("question", question)]
        if "self_attention" not in without:
            steps.insert(0, ("own", None))
        for step, others in steps:
            normed = [norm(parameters, f"{name}.{step}_norm", row) for row in rows]
            read = heads_read(parameters, f"{name}.{step}", normed, normed if others is None else others, heads)
            rows = [row + more for row, more in zip(rows, read, strict=True)]
        if "feed_forward" not in without:
            rows = [
                row
                + linear(
                    parameters,
                    f"{name}.contract",
                    linear(parameters, f"{name}.expand", norm(parameters, f"{name}.forward_norm", row)).relu(),
                )
                for row in rows
            ]
    found = []
    for row in rows:
        sides = []
        for side, slots, width in (("image", image, image_width), ("question", question, question_width)):
            query = linear(parameters, f"{side}_query", row)
            scores = [query @ linear(parameters, f"{side}_key", slot) / len(query) ** 0.5 for slot in slots]
            weights = softmax(scores)
            sides.append((weighted_sum(weights, slots, width), weights))
        (v, a_v), (q, a_q) = sides
        found.append(Glimpse(v, q, a_v, a_q))
    return found


def gated(parameters: Parameters, name: str, slots: Vectors, *, gates: bool) -> list[Tensor]:
    scores = []
    for slot in slots:
        hidden = torch.tanh(linear(parameters, f"{name}.hidden", slot))
        if gates:
            hidden = hidden * torch.sigmoid(linear(parameters, f"{name}.gate", slot))
        scores.append(linear(parameters, f"{name}.score", hidden)[0])
    return softmax(scores)


def bags(
    parameters: Parameters,
    image: Vectors,
    question: Vectors,
    image_width: int,
    question_width: int,
    *,
    without: tuple[str, ...] = (),
) -> list[Glimpse]:
    gates = "gates" not in without
    patches = [linear(parameters, "image_encoder", patch).relu() for patch in image]
    tokens = [linear(parameters, "question_encoder", token).relu() for token in question]
    hidden = len(parameters["query.weight"])
    values = [linear(parameters, "value", patch) for patch in patches]
    looks, read = [], []
    for token in tokens:
        query = linear(parameters, "query", token)
        weights = softmax([query @ linear(parameters, "key", patch) / hidden**0.5 for patch in patches])
        looks.append(mean_weights(patches) if "image_attention" in without else weights)
        read.append(linear(parameters, "merge", weighted_sum(looks[-1], values, hidden)))
    by_tokens = gated(parameters, "image_score", read, gates=gates)
    a_v = [
        sum((weight * look[n] for weight, look in zip(by_tokens, looks, strict=True)), ZERO) for n in range(len(image))
    ]
    if not tokens:
        a_v = mean_weights(image)
    a_q = gated(parameters, "question_score", tokens, gates=gates)
    v = linear(parameters, "merge", weighted_sum(a_v, values, hidden))
    return [Glimpse(v, weighted_sum(a_q, tokens, hidden), a_v, a_q)]


CASES = {
    "bidirectional": bidirectional,
    "bidirectional[heads=2,hidden=6]": partial(bidirectional, heads=2),
    "bidirectional-image_attention": partial(bidirectional, without=("image_attention",)),
    "bidirectional-question_attention": partial(bidirectional, without=("question_attention",)),
    "transformer[layers=1,heads=2]": partial(transformer, layers=1, heads=2),
    "transformer[heads=2,expansion=2]": partial(transformer, heads=2),
    **{
        f"transformer[heads=2]-{part}": partial(transformer, heads=2, without=(part,))
        for part in ("image_attention", "question_attention", "self_attention", "feed_forward")
    },
    "bilinear": bilinear,
    "bilinear[glimpses=3,hidden=5]": partial(bilinear, glimpses=3),
    "bilinear[factor=3,hidden=2]": bilinear,
    "bilinear[residual=false]": partial(bilinear, residual=False),
    "bilinear-pooling": partial(bilinear, without=("pooling",)),
    "flow": flow,
    "flow[hidden=3]": flow,
    "flow-image_attention": partial(flow, without=("image_attention",)),
    "flow-question_attention": partial(flow, without=("question_attention",)),
    "dynamic": dynamic,
    "dynamic[hidden=3]": dynamic,
    "dynamic-sentinels": partial(dynamic, without=("sentinels",)),
    "dynamic-image_attention": partial(dynamic, without=("image_attention",)),
    "dynamic-question_attention": partial(dynamic, without=("question_attention",)),
    "queries[count=3,heads=2]": partial(queries, heads=2),
    "queries[count=2,heads=3,hidden=6,layers=1]": partial(queries, heads=3, layers=1),
    "queries[count=2,heads=2]-self_attention": partial(queries, heads=2, without=("self_attention",)),
    "queries[count=2,heads=2]-feed_forward": partial(queries, heads=2, without=("feed_forward",)),
    "bags": bags,
    "bags[hidden=3]": bags,
    "bags-image_attention": partial(bags, without=("image_attention",)),
    "bags-gates": partial(bags, without=("gates",)),
}
NAMES = sorted({parse(case).mechanism for case in CASES})


@pytest.mark.parametrize("name", one_in(6, CASES))
def test_a_mechanism_is_its_paper_on_ragged_rows(name: str) -> None:
    assert_follows(CASES[name], name, ragged(6, 5))


@pytest.mark.parametrize("name", CASES)
def test_a_mechanism_is_its_paper_on_one_region_and_one_word(name: str) -> None:
    assert_follows(CASES[name], name, smallest(6, 5))


@pytest.mark.parametrize("name", NAMES)
def test_a_mechanism_is_its_paper_with_the_wider_question_and_more_words_than_regions(name: str) -> None:
    case = next(case for case in CASES if parse(case).mechanism == name)
    image, question, image_valid, question_valid = ragged(4, 9)
    assert_follows(CASES[case], case, Batch(image[:, :4], question, image_valid[:, :4], question_valid))


ONE_WIDTH = {
    "transformer[heads=2,layers=1,shared=true]": partial(transformer, heads=2, layers=1, shared=True),
    "flow[projected=false]": partial(flow, projected=False),
}


@pytest.mark.parametrize("name", ONE_WIDTH)
def test_what_wants_sides_of_one_width_is_its_paper(name: str) -> None:
    assert_follows(ONE_WIDTH[name], name, ragged(6, 6))


@pytest.mark.parametrize("name", NAMES)
def test_every_option_and_part_has_an_oracle(name: str) -> None:
    covered = [parse(case) for case in CASES if parse(case).mechanism == name]
    options = {key for spec in covered for key, _ in spec.options}
    assert options == set(option_types(mechanisms()[name])) - {"shared", "projected"}
    assert {part for spec in covered for part in spec.without} == set(mechanisms()[name].parts)


@pytest.mark.parametrize("name", one_in(6, [*CASES, *ONE_WIDTH]))
@pytest.mark.parametrize(("regions", "words"), [(7, 5), (4, 9)])
def test_flops_are_those_that_torch_counts(name: str, regions: int, words: int) -> None:
    question_width = 6 if name in ONE_WIDTH else 5
    module = build(name, image_width=6, question_width=question_width).module
    generator = torch.Generator().manual_seed(0)
    batch = Batch(
        torch.randn(3, regions, 6, generator=generator),
        torch.randn(3, words, question_width, generator=generator),
        torch.ones(3, regions, dtype=torch.bool),
        torch.ones(3, words, dtype=torch.bool),
    )
    with FlopCounterMode(display=False) as counter:
        module(batch)
    assert counter.get_total_flops() == module.matmul_flops(3, regions, words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bidirectional[heads=0]", "at least one head"),
        ("bidirectional[heads=4,hidden=6]", "a multiple of heads"),
        ("transformer[layers=0]", r"transformer\[layers=0\]: expected at least 1"),
        ("transformer[shared=true]-image_attention", "one cannot be left out"),
        ("bilinear[glimpses=0]", "at least one glimpse"),
        ("bilinear[factor=0]", r"bilinear\[factor=0\]: expected at least 1"),
        ("flow[hidden=3,projected=false]", "expected one width, or leave projected out"),
        ("queries[count=0]", r"queries\[count=0\]: expected at least 1"),
        ("queries[heads=4,hidden=6]", "a multiple of heads"),
    ],
)
def test_options_out_of_range_are_refused(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build(name, width=8)


def test_one_attention_for_two_widths_is_refused() -> None:
    with pytest.raises(ValueError, match="project them to one width"):
        build("transformer[shared=true]", image_width=6, question_width=4)
