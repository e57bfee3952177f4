"""The papers written as loops over slots, one example at a time, cut to its valid slots: no masks, no batches.

Each oracle takes a mechanism's parameters by name and two lists of vectors, and returns its glimpses. It shares no
code with what it is held against, and is differentiable, so gradients compare as well.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from variants import Attended, Batch

Vectors = list[Tensor]
Parameters = Mapping[str, Tensor]


class Glimpse(NamedTuple):
    image: Tensor  # [V]
    question: Tensor  # [Q]
    image_weights: list[Tensor]
    question_weights: list[Tensor]


Oracle = Callable[[Parameters, Vectors, Vectors, int, int], list[Glimpse]]


def attend(oracle: Oracle, parameters: Parameters, batch: Batch) -> Attended:
    """Run an oracle on each example's valid slots and put its weights back where the slots stand."""
    examples = []
    for image, question, image_valid, question_valid in zip(*batch, strict=True):
        regions = [region for region, valid in zip(image, image_valid, strict=True) if valid]
        words = [word for word, valid in zip(question, question_valid, strict=True) if valid]
        glimpses = oracle(parameters, regions, words, image.shape[-1], question.shape[-1])
        examples.append(
            (
                torch.stack([glimpse.image for glimpse in glimpses]),
                torch.stack([glimpse.question for glimpse in glimpses]),
                torch.stack([placed(glimpse.image_weights, image_valid, image) for glimpse in glimpses]),
                torch.stack([placed(glimpse.question_weights, question_valid, question) for glimpse in glimpses]),
            )
        )
    return Attended(*(torch.stack(outputs) for outputs in zip(*examples, strict=True)))


def placed(weights: list[Tensor], valid: Tensor, like: Tensor) -> Tensor:
    waiting = iter(weights)
    return torch.stack([next(waiting) if slot else like.new_zeros(()) for slot in valid])


def linear(parameters: Parameters, name: str, vector: Tensor) -> Tensor:
    """``W x``, plus a bias where there is one."""
    result = torch.stack([row @ vector for row in parameters[f"{name}.weight"]])
    bias = parameters.get(f"{name}.bias")
    return result if bias is None else result + bias


def softmax(scores: list[Tensor]) -> list[Tensor]:
    powers = [score.exp() for score in scores]
    return [power / sum(powers) for power in powers]


def weighted_sum(weights: list[Tensor], vectors: Vectors, width: int) -> Tensor:
    total = torch.zeros(width, dtype=torch.float64)
    for weight, vector in zip(weights, vectors, strict=True):
        total = total + weight * vector
    return total


def mean_weights(vectors: Vectors) -> list[Tensor]:
    return [torch.tensor(1 / len(vectors), dtype=torch.float64) for _ in vectors]


def pool(
    parameters: Parameters, image: Vectors, question: Vectors, image_width: int, question_width: int
) -> list[Glimpse]:
    a_v, a_q = mean_weights(image), mean_weights(question)
    return [Glimpse(weighted_sum(a_v, image, image_width), weighted_sum(a_q, question, question_width), a_v, a_q)]


def parallel(
    parameters: Parameters,
    image: Vectors,
    question: Vectors,
    image_width: int,
    question_width: int,
    *,
    tanh_affinity: bool = True,
    without: Collection[str] = (),
) -> list[Glimpse]:
    """Lu et al. 2016, equations 3 to 5."""
    affinity = [[word @ linear(parameters, "affinity", region) for region in image] for word in question]
    if tanh_affinity:
        affinity = [[torch.tanh(entry) for entry in row] for row in affinity]
    image_hidden = [linear(parameters, "image_hidden", region) for region in image]
    question_hidden = [linear(parameters, "question_hidden", word) for word in question]
    image_scores, question_scores = [], []
    for n, mixed in enumerate(image_hidden):
        for t, hidden in enumerate(question_hidden):
            mixed = mixed + affinity[t][n] * hidden
        image_scores.append(linear(parameters, "image_score", torch.tanh(mixed))[0])
    for t, mixed in enumerate(question_hidden):
        for n, hidden in enumerate(image_hidden):
            mixed = mixed + affinity[t][n] * hidden
        question_scores.append(linear(parameters, "question_score", torch.tanh(mixed))[0])
    a_v = mean_weights(image) if "image_attention" in without else softmax(image_scores)
    a_q = mean_weights(question) if "question_attention" in without else softmax(question_scores)
    return [Glimpse(weighted_sum(a_v, image, image_width), weighted_sum(a_q, question, question_width), a_v, a_q)]


def alternating(
    parameters: Parameters,
    image: Vectors,
    question: Vectors,
    image_width: int,
    question_width: int,
    *,
    shared: bool = False,
    without: Collection[str] = (),
) -> list[Glimpse]:
    """Lu et al. 2016, equations 6: x^ = A(X; g), three times."""

    def operation(name: str, vectors: Vectors, guide: Tensor | None, width: int) -> tuple[Tensor, list[Tensor]]:
        name = "summary" if shared else name
        scores = []
        for vector in vectors:
            mixed = linear(parameters, f"{name}.hidden", vector)
            if guide is not None:
                mixed = mixed + linear(parameters, f"{name}.guide", guide)
            scores.append(linear(parameters, f"{name}.score", torch.tanh(mixed))[0])
        weights = softmax(scores)
        return weighted_sum(weights, vectors, width), weights

    plain = pool(parameters, image, question, image_width, question_width)[0]
    if "question_attention" in without:
        summary, a_q = plain.question, plain.question_weights
    else:
        summary, _ = operation("summary", question, None, question_width)
    if "image_attention" in without:
        v, a_v = plain.image, plain.image_weights
    else:
        v, a_v = operation("image_step", image, summary, image_width)
    q = summary
    if "question_attention" not in without:
        q, a_q = operation("question_step", question, v, question_width)
    return [Glimpse(v, q, a_v, a_q)]


def cross(
    parameters: Parameters,
    image: Vectors,
    question: Vectors,
    image_width: int,
    question_width: int,
    *,
    heads: int = 8,
    without: Collection[str] = (),
) -> list[Glimpse]:
    """Scaled dot products from each slot to the other side's, added to the slot, and pooled by a score."""

    def reads(name: str, vectors: Vectors, others: Vectors) -> Vectors:
        keys = [linear(parameters, f"{name}.key", other) for other in others]
        values = [linear(parameters, f"{name}.value", other) for other in others]
        tokens = []
        for vector in vectors:
            query = linear(parameters, f"{name}.query", vector)
            size = len(query) // heads
            parts = []
            for head in range(heads):
                lanes = slice(head * size, (head + 1) * size)
                weights = softmax([query[lanes] @ key[lanes] / size**0.5 for key in keys])
                parts.append(weighted_sum(weights, [value[lanes] for value in values], size))
            tokens.append(vector + linear(parameters, f"{name}.merge", torch.cat(parts)))
        return tokens

    [plain] = pool(parameters, image, question, image_width, question_width)
    v, q, a_v, a_q = plain
    if "image_attention" not in without:
        tokens = reads("image_reads", image, question)
        a_v = softmax([linear(parameters, "image_score", token)[0] for token in tokens])
        v = weighted_sum(a_v, tokens, image_width)
    if "question_attention" not in without:
        tokens = reads("question_reads", question, image)
        a_q = softmax([linear(parameters, "question_score", token)[0] for token in tokens])
        q = weighted_sum(a_q, tokens, question_width)
    return [Glimpse(v, q, a_v, a_q)]


def phrases(parameters: Parameters, words: Vectors) -> Vectors:
    """The largest of a unigram, a bigram and a trigram, each through tanh, with zeros beyond the ends."""
    found = []
    for t, word in enumerate(words):
        before = words[t - 1] if t > 0 else torch.zeros_like(word)
        after = words[t + 1] if t + 1 < len(words) else torch.zeros_like(word)
        unigram = torch.tanh(linear(parameters, "phrases.unigram", word))
        bigram = torch.tanh(linear(parameters, "phrases.bigram", torch.cat((before, word))))
        trigram = torch.tanh(linear(parameters, "phrases.trigram", torch.cat((before, word, after))))
        found.append(torch.stack((unigram, bigram, trigram)).amax(0))
    return found


def recurrence(parameters: Parameters, words: Vectors, layers: int) -> Vectors:
    """An LSTM, one cell at a time."""
    for layer in range(layers):
        state = cell = None
        states = []
        for word in words:
            state = torch.zeros_like(word) if state is None else state
            cell = torch.zeros_like(word) if cell is None else cell
            gates = (
                parameters[f"recurrence.weight_ih_l{layer}"] @ word
                + parameters[f"recurrence.bias_ih_l{layer}"]
                + parameters[f"recurrence.weight_hh_l{layer}"] @ state
                + parameters[f"recurrence.bias_hh_l{layer}"]
            )
            size = len(word)
            enter, keep, candidate, leave = (gates[gate * size : (gate + 1) * size] for gate in range(4))
            cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
            state = torch.sigmoid(leave) * torch.tanh(cell)
            states.append(state)
        words = states
    return words


def hierarchical(
    parameters: Parameters,
    image: Vectors,
    question: Vectors,
    image_width: int,
    question_width: int,
    *,
    inner: Oracle = parallel,
    layers: int = 1,
    shared: bool = False,
    removed: Collection[str] = (),
) -> list[Glimpse]:
    """Lu et al. 2016, sections 3.2 to 3.4."""
    phrase = phrases(parameters, question)
    features = {
        "word_level": question,
        "phrase_level": phrase,
        "question_level": recurrence(parameters, phrase, layers),
    }
    glimpses = []
    for level, words in features.items():
        owner = "word_level" if shared else level
        own = {name.removeprefix(f"{owner}."): value for name, value in parameters.items() if name.startswith(owner)}
        oracle = pool if level in removed else inner
        glimpses += oracle(own, image, words, image_width, question_width)
    return glimpses


def answer(parameters: Parameters, attended: Attended) -> Tensor:
    """Lu et al. 2016, equation 7."""
    answers = []
    for image, question in zip(attended.image, attended.question, strict=True):
        below = None
        for level, (v, q) in enumerate(zip(image, question, strict=True)):
            both = q + v if below is None else torch.cat((q + v, below))
            below = torch.tanh(linear(parameters, f"levels.{level}", both))
        answers.append(below)
    return torch.stack(answers)


IMAGE, QUESTION = "image_attention", "question_attention"
CASES: dict[str, Oracle] = {
    "pool": pool,
    "parallel": parallel,
    "parallel[affinity=linear]": partial(parallel, tanh_affinity=False),
    "parallel[bias=true,hidden=3]": parallel,
    f"parallel-{IMAGE}": partial(parallel, without={IMAGE}),
    f"parallel-{QUESTION}": partial(parallel, without={QUESTION}),
    f"parallel-{IMAGE}-{QUESTION}": pool,
    "alternating": alternating,
    "alternating[bias=true,hidden=3]": alternating,
    f"alternating-{IMAGE}": partial(alternating, without={IMAGE}),
    f"alternating-{QUESTION}": partial(alternating, without={QUESTION}),
    f"alternating-{IMAGE}-{QUESTION}": pool,
    "cross": cross,
    "cross[heads=3,hidden=9]": partial(cross, heads=3),
    f"cross-{IMAGE}": partial(cross, without={IMAGE}),
    f"cross-{QUESTION}": partial(cross, without={QUESTION}),
    f"cross-{IMAGE}-{QUESTION}": pool,
    "hierarchical": hierarchical,
    "hierarchical[inner=alternating]": partial(hierarchical, inner=alternating),
    "hierarchical[bias=true,hidden=3,layers=2]": partial(hierarchical, layers=2),
    "hierarchical[levels=shared]": partial(hierarchical, shared=True),
    "hierarchical-word_level": partial(hierarchical, removed={"word_level"}),
    "hierarchical-phrase_level": partial(hierarchical, removed={"phrase_level"}),
    "hierarchical[inner=alternating]-question_level": partial(
        hierarchical, inner=alternating, removed={"question_level"}
    ),
    f"hierarchical-{IMAGE}": partial(hierarchical, inner=partial(parallel, without={IMAGE})),
    f"hierarchical[inner=alternating]-{QUESTION}": partial(
        hierarchical, inner=partial(alternating, without={QUESTION})
    ),
}
"""Every mechanism of the paper's family, with its options and parts, by name."""
EQUAL_WIDTHS: dict[str, Oracle] = {
    "alternating[weights=shared]": partial(alternating, shared=True),
    "alternating[bias=true,weights=shared]": partial(alternating, shared=True),
}
"""The same for what takes equal widths alone."""
