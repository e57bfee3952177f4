"""jiasenlu/HieCoAttenVQA (Torch7), the authors' own code, as it behaves."""

from collections.abc import Collection
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from variants.interface import Attended, Batch, CoAttention
from variants.masking import blank
from variants.origin import Origin
from variants.published.checkpoint import Checkpoint
from variants.published.defects import NO_IMAGE_MASK, known
from variants.registry import register

FILL = -9999999.0
"""What its masked softmax writes over the scores of padding."""

EMPTY_QUESTION = known(
    "an empty question attends to its padding, all of it alike", {"P9": (("side emptied", "question"),)}
)
FILL_RAISES = known("its fill does not fit into half precision", {"P10": ("fp16", "autocast to fp16")})
LEFT_ALIGNED = known(
    "words have to stand on the left and without holes",
    {"P5": (("slots moved apart", "question"), ("pads on the left", "question"))},
)
ONE_EXAMPLE_RAISES = known(
    "one example raises: the graph drops a batch of one",
    {"P3": ("alone",), "P8": ("gradients alone",), "P13": ("one example",)},
)


class Level(NamedTuple):
    """What attention on one level found."""

    question: Tensor  # [B, d]
    image: Tensor  # [B, d]
    question_weights: Tensor  # [B, L]
    image_weights: Tensor  # [B, N]


def _masked_softmax(scores: Tensor, padding: Tensor) -> Tensor:
    return torch.softmax(scores.masked_fill(padding, FILL), dim=-1)


class ParallelAtten(nn.Module):
    """``attention.parallel_atten``: biased projections, a tanh on the affinity, a mask on the question's scores alone.

    Args:
        input_size_ques: width of the question.
        input_size_img: width of the image.
        embedding_size: width of the attention.
    """

    def __init__(self, input_size_ques: int, input_size_img: int, embedding_size: int) -> None:
        super().__init__()
        self.img_corr_dim = nn.Linear(input_size_img, input_size_ques)
        self.ques_embed_dim = nn.Linear(input_size_ques, embedding_size)
        self.img_embed_dim = nn.Linear(input_size_img, embedding_size)
        self.ques_atten_embedding = nn.Linear(embedding_size, 1)
        self.img_atten_embedding = nn.Linear(embedding_size, 1)

    def attend(self, question: Tensor, image: Tensor, padding: Tensor) -> Level:
        """Vectors and weights; padded words reach the image through the affinity.

        Args:
            question: ``[B, L, Q]``.
            image: ``[B, N, V]``.
            padding: ``[B, L]`` bool, True on padding.

        Raises:
            ValueError: B is 1.
        """
        if question.shape[0] == 1:
            raise ValueError(
                "one example: the published graph drops a batch of one from its views and then refuses to multiply; "
                "give two or more"
            )
        affinity = torch.tanh(question @ self.img_corr_dim(image).mT)  # [B, L, N]
        question_hidden = self.ques_embed_dim(question)  # [B, L, K]
        image_hidden = self.img_embed_dim(image)  # [B, N, K]
        question_mixed = torch.tanh(question_hidden + affinity @ image_hidden)
        image_mixed = torch.tanh(image_hidden + affinity.mT @ question_hidden)
        question_weights = _masked_softmax(self.ques_atten_embedding(question_mixed).squeeze(2), padding)
        image_weights = torch.softmax(self.img_atten_embedding(image_mixed).squeeze(2), dim=-1)
        return Level(
            (question_weights.unsqueeze(1) @ question).squeeze(1),
            (image_weights.unsqueeze(1) @ image).squeeze(1),
            question_weights,
            image_weights,
        )

    def forward(self, ques_feat: Tensor, img_feat: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """``ques_atten_feat`` ``[B, Q]`` and ``img_atten_feat`` ``[B, V]``; ``mask`` is 1 on padding."""
        level = self.attend(ques_feat, img_feat, mask.bool())
        return {"ques_atten_feat": level.question, "img_atten_feat": level.image}


class AlternatingAtten(nn.Module):
    """``attention.alternating_atten``: question, image, question; each step with weights of its own.

    Args:
        input_size_ques: width of the question.
        input_size_img: width of the image.
        embedding_size: width of the attention.
    """

    def __init__(self, input_size_ques: int, input_size_img: int, embedding_size: int) -> None:
        super().__init__()
        self.ques_embed_dim_1 = nn.Linear(input_size_ques, embedding_size)
        self.h1 = nn.Linear(embedding_size, 1)
        self.ques_embed_img = nn.Linear(input_size_ques, embedding_size)
        self.img_embed_dim = nn.Linear(input_size_img, embedding_size)
        self.h2 = nn.Linear(embedding_size, 1)
        self.img_embed_3 = nn.Linear(input_size_img, embedding_size)
        self.ques_embed_dim_3 = nn.Linear(input_size_ques, embedding_size)
        self.h3 = nn.Linear(embedding_size, 1)

    def attend(self, question: Tensor, image: Tensor, padding: Tensor) -> Level:
        """Vectors and weights of the last attention to each side; arguments as `ParallelAtten.attend`."""
        scores = self.h1(torch.tanh(self.ques_embed_dim_1(question))).squeeze(2)  # [B, L]
        summary = _masked_softmax(scores, padding).unsqueeze(1) @ question  # [B, 1, Q]
        hidden = torch.tanh(self.img_embed_dim(image) + self.ques_embed_img(summary))  # [B, N, K]
        image_weights = torch.softmax(self.h2(hidden).squeeze(2), dim=-1)  # [B, N]
        image_vector = image_weights.unsqueeze(1) @ image  # [B, 1, V]
        hidden = torch.tanh(self.ques_embed_dim_3(question) + self.img_embed_3(image_vector))  # [B, L, K]
        question_weights = _masked_softmax(self.h3(hidden).squeeze(2), padding)  # [B, L]
        question_vector = (question_weights.unsqueeze(1) @ question).squeeze(1)
        return Level(question_vector, image_vector.squeeze(1), question_weights, image_weights)

    def forward(self, ques_feat: Tensor, img_feat: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """``ques_atten_feat`` ``[B, Q]`` and ``img_atten_feat`` ``[B, V]``; ``mask`` is 1 on padding."""
        level = self.attend(ques_feat, img_feat, mask.bool())
        return {"ques_atten_feat": level.question, "img_atten_feat": level.image}


Atten = ParallelAtten | AlternatingAtten
Kind = Literal["Parallel", "Alternating"]


def _atten(kind: Kind, size: int) -> Atten:
    return ParallelAtten(size, size, size) if kind == "Parallel" else AlternatingAtten(size, size, size)


class LanguageEmbedding(nn.Module):
    """Word ids to ``tanh`` of a row, id 0 to zeros."""

    def __init__(self, vocab_size: int, hidden_size: int) -> None:
        super().__init__()
        self.lookup = nn.Embedding(vocab_size + 1, hidden_size)

    def forward(self, seq: Tensor) -> Tensor:
        """``[B, L]`` ids to ``[B, L, d]``."""
        return torch.tanh(blank(self.lookup(seq), seq != 0))


class ImageEmbedding(nn.Module):
    """``tanh`` of a projection of the image."""

    def __init__(self, img_dim: int, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(img_dim, hidden_size)

    def forward(self, img: Tensor) -> Tensor:
        """``[B, N, img_dim]`` to ``[B, N, d]``."""
        return torch.tanh(self.linear(img))


class PhraseConvolutions(nn.Module):
    """One, two and three words to a phrase; the tanh comes after the maximum."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.unigram = nn.Linear(hidden_size, hidden_size)
        self.bigram = nn.Linear(2 * hidden_size, hidden_size)
        self.trigram = nn.Linear(3 * hidden_size, hidden_size)

    def forward(self, words: Tensor) -> Tensor:
        """``[B, L, d]`` to ``[B, L, d]``; a row of a weight is laid out tap by tap, channels inside."""
        before = pad(words, (0, 0, 1, 0))[:, :-1]  # word t-1
        after = pad(words, (0, 0, 0, 1))[:, 1:]  # word t+1
        grams = torch.stack(
            [
                self.unigram(words),
                self.bigram(torch.cat([before, words], dim=-1)),
                self.trigram(torch.cat([before, words, after], dim=-1)),
            ]
        )
        return torch.tanh(grams.max(0).values)


class KeepsGradient(torch.autograd.Function):
    """Zeros on padding whose gradient passes as if nothing had been zeroed."""

    @staticmethod
    def forward(context: Any, state: Tensor, here: Tensor) -> Tensor:
        return state.masked_fill(~here, 0)

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        return gradients[0], None


class Core(nn.Module):
    """A stack of LSTM cells, unrolled by hand, whose state and output are zeroed on padding.

    Args:
        input_size: width of what it reads.
        rnn_size: width of its states.
        rnn_layers: cells on top of each other.
        published_backward: whether padded steps keep their gradient, as in the hand-written backward; it is the
            true gradient otherwise.
    """

    def __init__(self, input_size: int, rnn_size: int, rnn_layers: int, *, published_backward: bool) -> None:
        super().__init__()
        self.published_backward = published_backward
        self.rnn_size = rnn_size
        self.rnn_layers = rnn_layers
        for layer in range(1, rnn_layers + 1):
            self.add_module(f"i2h_{layer}", nn.Linear(input_size if layer == 1 else rnn_size, 4 * rnn_size))
            self.add_module(f"h2h_{layer}", nn.Linear(rnn_size, 4 * rnn_size))

    def forward(self, phrases: Tensor, valid: Tensor) -> Tensor:
        """``[B, L, d]`` and ``[B, L]`` bool to ``[B, L, rnn_size]``."""
        start = phrases.new_zeros(phrases.shape[0], self.rnn_size)
        state = [(start, start)] * self.rnn_layers
        outputs = []
        for step in range(phrases.shape[1]):
            below, here = phrases[:, step], valid[:, step].unsqueeze(1)
            for layer in range(self.rnn_layers):
                cell, hidden = state[layer]
                gates = self.get_submodule(f"i2h_{layer + 1}")(below) + self.get_submodule(f"h2h_{layer + 1}")(hidden)
                entrance, forget, output, transform = gates.chunk(4, dim=1)
                cell = torch.sigmoid(forget) * cell + torch.sigmoid(entrance) * torch.tanh(transform)
                hidden = torch.sigmoid(output) * torch.tanh(cell)
                cell, hidden = self._zeroed(cell, here), self._zeroed(hidden, here)
                state[layer] = (cell, hidden)
                below = hidden
            outputs.append(below)
        return torch.stack(outputs, 1)

    def _zeroed(self, state: Tensor, here: Tensor) -> Tensor:
        if not self.published_backward:
            return state.masked_fill(~here, 0)
        zeroed: Tensor = KeepsGradient.apply(state, here)  # type: ignore[no-untyped-call]  # torch leaves it so
        return zeroed


class WordLevel(nn.Module):
    """Embeddings of both sides, and attention between them."""

    def __init__(self, kind: Kind, hidden_size: int, img_dim: int, vocab_size: int | None) -> None:
        super().__init__()
        self.LE = LanguageEmbedding(vocab_size, hidden_size) if vocab_size is not None else None
        self.cnn = ImageEmbedding(img_dim, hidden_size)
        self.atten = _atten(kind, hidden_size)


class PhraseLevel(nn.Module):
    """Phrases, and attention between them and the image."""

    def __init__(self, kind: Kind, hidden_size: int) -> None:
        super().__init__()
        self.conv = PhraseConvolutions(hidden_size)
        self.atten = _atten(kind, hidden_size)


class QuesLevel(nn.Module):
    """The question up to each word, and attention between it and the image."""

    def __init__(self, kind: Kind, hidden_size: int, rnn_layers: int, *, published_backward: bool) -> None:
        super().__init__()
        self.core = Core(hidden_size, hidden_size, rnn_layers, published_backward=published_backward)
        self.atten = _atten(kind, hidden_size)


class RecursiveAtten(nn.Module):
    """The three levels folded into one vector, and the answer's logits."""

    def __init__(self, hidden_size: int, last_embed_size: int, output_size: int) -> None:
        super().__init__()
        self.hidden1 = nn.Linear(hidden_size, hidden_size)
        self.hidden2 = nn.Linear(2 * hidden_size, hidden_size)
        self.hidden3 = nn.Linear(2 * hidden_size, last_embed_size)
        self.outfeat = nn.Linear(last_embed_size, output_size)

    def forward(self, word: Tensor, phrase: Tensor, question: Tensor) -> Tensor:
        """Three sums of an attended question and image ``[B, d]`` to logits ``[B, output_size]``."""
        hidden = torch.tanh(self.hidden1(word))
        hidden = torch.tanh(self.hidden2(torch.cat([phrase, hidden], dim=1)))
        logits: Tensor = self.outfeat(torch.tanh(self.hidden3(torch.cat([question, hidden], dim=1))))
        return logits


class ThreeLevels(nn.Module):
    """Word, phrase and question level, each with weights of its own.

    Args:
        kind: how each level attends.
        hidden_size: width of words, phrases, states and attention.
        img_dim: width of the image's features.
        rnn_layers: LSTM cells on top of each other.
        vocab_size: words known; None leaves the lookup out, for words that come as features.
        published_backward: as `Core`.
    """

    def __init__(
        self,
        kind: Kind,
        hidden_size: int,
        img_dim: int,
        *,
        rnn_layers: int = 2,
        vocab_size: int | None = None,
        published_backward: bool = False,
    ) -> None:
        super().__init__()
        self.word = WordLevel(kind, hidden_size, img_dim, vocab_size)
        self.phrase = PhraseLevel(kind, hidden_size)
        self.ques = QuesLevel(kind, hidden_size, rnn_layers, published_backward=published_backward)

    def levels(self, img: Tensor, words: Tensor, padding: Tensor, lengths: Tensor) -> tuple[Level, Level, Level]:
        """Attention on the three levels.

        Args:
            img: ``[B, N, img_dim]``.
            words: ``[B, L, d]``, zero on padding.
            padding: ``[B, L]`` bool, True on padding; hides words from the question's softmax alone.
            lengths: ``[B]``; the LSTM stops there.
        """
        image = self.word.cnn(img)  # [B, N, d], the same on every level
        phrases = self.phrase.conv(words)
        steps = torch.arange(words.shape[1], device=words.device)
        sentence = self.ques.core(phrases, steps < lengths.unsqueeze(1))
        return (
            self.word.atten.attend(words, image, padding),
            self.phrase.atten.attend(phrases, image, padding),
            self.ques.atten.attend(sentence, image, padding),
        )


class HieCoAttenNet(ThreeLevels):
    """The whole network, from image features and word ids to logits; dropout left out.

    Args:
        kind: how each level attends.
        vocab_size: words known, besides id 0, which pads.
        hidden_size: width of words, phrases, states and attention.
        img_dim: width of the image's features.
        rnn_layers: LSTM cells on top of each other.
        last_embed_size: width of the last hidden layer.
        output_size: answers known.
    """

    def __init__(
        self,
        kind: Kind,
        *,
        vocab_size: int,
        hidden_size: int,
        img_dim: int,
        rnn_layers: int,
        last_embed_size: int,
        output_size: int,
    ) -> None:
        super().__init__(kind, hidden_size, img_dim, rnn_layers=rnn_layers, vocab_size=vocab_size)
        self.atten = RecursiveAtten(hidden_size, last_embed_size, output_size)

    def forward(self, img: Tensor, seq: Tensor, seq_len: Tensor) -> dict[str, Tensor]:
        """``logits`` ``[B, output_size]``, and each level's attended question and image ``[B, d]``.

        Args:
            img: ``[B, N, img_dim]``.
            seq: ids ``[B, L]``, left-aligned, 0 on padding.
            seq_len: ``[B]``.
        """
        assert self.word.LE is not None  # vocab_size was given
        word, phrase, question = self.levels(img, self.word.LE(seq), seq == 0, seq_len)
        return {
            "logits": self.atten(*(level.question + level.image for level in (word, phrase, question))),
            "w_ques": word.question,
            "w_img": word.image,
            "p_ques": phrase.question,
            "p_img": phrase.image,
            "q_ques": question.question,
            "q_img": question.image,
        }


@register("published_hiecoatt_parallel")
class PublishedHiecoattParallel(CoAttention):
    """The authors' parallel attention on a batch: equations of ``parallel[bias=true]``; regions are never masked.

    Options: ``hidden`` is its embedding_size (the question's width unless given).
    """

    source = "jiasenlu/HieCoAttenVQA, misc/attention.lua, parallel_atten; Lu et al. 2016, section 3.3"
    origin = Origin(
        where="jiasenlu/HieCoAttenVQA, the authors of the paper",
        differs="biases; the mask is on the question's softmax alone",
        ours="parallel[bias=true]",
        source="hiecoatt/parallel",
        beside="parallel",
    )
    known_defects = (
        *NO_IMAGE_MASK,
        *known(
            "the mask is on the question's softmax alone, so padded words reach the image through the affinity",
            {
                "P1": (("pads filled", "question"),),
                "P1n": (("pads not finite", "question"),),
                "P2": (("pads added", "question"),),
                "P8": (("gradient at pads", "question"),),
                "P9r": (("side emptied", "question"),),
                "P13": (("no row full", "question"),),
            },
        ),
        *EMPTY_QUESTION,
        *ONE_EXAMPLE_RAISES,
        *FILL_RAISES,
    )

    def __init__(
        self, *, image_width: int, question_width: int, without: Collection[str] = (), hidden: int | None = None
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.network = ParallelAtten(question_width, image_width, hidden or question_width)

    def forward(self, batch: Batch) -> Attended:
        return _attended(self.network.attend(batch.question, batch.image, ~batch.question_valid))

    def gain(self, parameter: str) -> float:
        return _gain(parameter, self.image_width)


@register("published_hiecoatt_alternating")
class PublishedHiecoattAlternating(CoAttention):
    """The authors' alternating attention on a batch; regions are never masked.

    Its one view that is 512 wide whatever the question's width is left out.

    Options: ``hidden`` is its embedding_size (the question's width unless given).
    """

    source = "jiasenlu/HieCoAttenVQA, misc/attention.lua, alternating_atten; Lu et al. 2016, section 3.3"
    origin = Origin(
        where="jiasenlu/HieCoAttenVQA, the authors of the paper",
        differs="weights of its own for each of the three steps; biases",
        ours="alternating[bias=true]",
        source="hiecoatt/alternating",
        beside="alternating",
    )
    known_defects = (
        *NO_IMAGE_MASK,
        *known("NaN in a padded word reaches everything", {"P1n": (("pads not finite", "question"),)}),
        *EMPTY_QUESTION,
        *known("an empty question attends to its padding, all of it alike", {"P9r": (("side emptied", "question"),)}),
        *FILL_RAISES,
    )

    def __init__(
        self, *, image_width: int, question_width: int, without: Collection[str] = (), hidden: int | None = None
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.network = AlternatingAtten(question_width, image_width, hidden or question_width)

    def forward(self, batch: Batch) -> Attended:
        return _attended(self.network.attend(batch.question, batch.image, ~batch.question_valid))


@register("published_hiecoatt")
class PublishedHiecoatt(CoAttention):
    """The authors' three levels on a batch, the question's features standing for the rows of its lookup.

    Padding is zero there, because the lookup's row 0 is; regions are never masked. Attended vectors are as wide as the
    question.

    Options: ``inner`` is how each level attends.
    """

    source = "jiasenlu/HieCoAttenVQA, misc/{word,phrase,ques}_level.lua; Lu et al. 2016, section 3"
    origin = Origin(
        where="jiasenlu/HieCoAttenVQA, the authors of the paper",
        differs="tanh after the maximum of the phrase level; a hand-written backward that takes gradient from padding",
        ours="hierarchical",
    )
    word_order_matters = True

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        inner: Literal["parallel", "alternating"] = "parallel",
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        kind: Kind = "Parallel" if inner == "parallel" else "Alternating"
        self.network = ThreeLevels(kind, question_width, image_width, published_backward=True)
        self.known_defects = (*NO_IMAGE_MASK, *LEFT_ALIGNED, *EMPTY_QUESTION, *FILL_RAISES)
        if inner == "parallel":
            self.known_defects += (
                *known(
                    "the convolutions' biases fill padded phrases, which reach the image through the affinity",
                    {"P2": (("pads added", "question"),), "P13": (("no row full", "question"),)},
                ),
                *known(
                    "the LSTM's hand-written backward takes in the gradient of padded states, which are zeroed",
                    {"P8": ("gradients alone",)},
                ),
                *ONE_EXAMPLE_RAISES,
            )

    def forward(self, batch: Batch) -> Attended:
        words = torch.tanh(blank(batch.question, batch.question_valid))
        levels = self.network.levels(batch.image, words, ~batch.question_valid, batch.question_valid.sum(-1))
        word, phrase, question = (_attended(level) for level in levels)
        return Attended(*(torch.cat(three, 1) for three in zip(word, phrase, question, strict=True)))

    def gain(self, parameter: str) -> float:
        return _gain(parameter, self.question_width)


def _attended(level: Level) -> Attended:
    return Attended(
        level.image.unsqueeze(1),
        level.question.unsqueeze(1),
        level.image_weights.unsqueeze(1),
        level.question_weights.unsqueeze(1),
    )


def _gain(parameter: str, image_width: int) -> float:
    return 0.1 / image_width**0.5 if ".img_corr_dim." in parameter else 1.0


def parallel_from_checkpoint(checkpoint: Checkpoint) -> ParallelAtten:
    """``parallel_atten`` in the sizes of its weights."""
    return ParallelAtten(
        input_size_ques=checkpoint.size("ques_embed_dim.weight", 1, config="input_size_ques"),
        input_size_img=checkpoint.size("img_embed_dim.weight", 1, config="input_size_img"),
        embedding_size=checkpoint.size("ques_embed_dim.weight", 0, config="embedding_size"),
    )


def alternating_from_checkpoint(checkpoint: Checkpoint) -> AlternatingAtten:
    """``alternating_atten`` in the sizes of its weights."""
    return AlternatingAtten(
        input_size_ques=checkpoint.size("ques_embed_dim_1.weight", 1, config="input_size_ques"),
        input_size_img=checkpoint.size("img_embed_dim.weight", 1, config="input_size_img"),
        embedding_size=checkpoint.size("ques_embed_dim_1.weight", 0, config="embedding_size"),
    )


def net_from_checkpoint(checkpoint: Checkpoint) -> HieCoAttenNet:
    """The whole network in the sizes of its weights; how it attends shows in their names."""
    return HieCoAttenNet(
        "Parallel" if "word.atten.img_corr_dim.weight" in checkpoint.state_dict else "Alternating",
        vocab_size=checkpoint.size("word.LE.lookup.weight", 0) - 1,
        hidden_size=checkpoint.size("word.LE.lookup.weight", 1, config="hidden_size"),
        img_dim=checkpoint.size("word.cnn.linear.weight", 1, config="img_dim"),
        rnn_layers=checkpoint.count(r"ques\.core\.i2h_(\d+)\.") - 1,
        last_embed_size=checkpoint.size("atten.hidden3.weight", 0, config="last_embed_size"),
        output_size=checkpoint.size("atten.outfeat.weight", 0, config="output_size"),
    )
