"""Zhangtd/Models-reproducing (Keras) as it behaves: masks announced and ignored, and one of them inverted."""

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from variants.interface import Attended, Batch, CoAttention, one_width
from variants.origin import Origin
from variants.published.checkpoint import Checkpoint
from variants.published.defects import NO_IMAGE_MASK, NO_WORD_MATTERS, WORDS_NOT_MASKED, known
from variants.registry import register


class Attention(NamedTuple):
    """One vector a side, and the weights behind it."""

    image: Tensor  # [B, d]
    question: Tensor  # [B, d]
    image_weights: Tensor  # [B, N]
    question_weights: Tensor  # [B, L]


def _weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(*shape)))


class CoAttentionPara(nn.Module):
    """``coAttention_para``: weights applied from the right, no mask.

    Args:
        dim: width of both sides, d.
        dim_k: width of the attention.
    """

    def __init__(self, dim: int, dim_k: int) -> None:
        super().__init__()
        self.Wb = _weight(dim, dim)
        self.Wq = _weight(dim, dim_k)
        self.Wv = _weight(dim, dim_k)
        self.Whv = _weight(dim_k, 1)
        self.Whq = _weight(dim_k, 1)

    def attend(self, text: Tensor, image: Tensor) -> Attention:
        """Vectors and weights of text ``[B, L, d]`` and image ``[B, N, d]``."""
        affinity = text @ self.Wb @ image.mT  # [B, L, N]
        text_hidden, image_hidden = text @ self.Wq, image @ self.Wv  # [B, L, k], [B, N, k]
        image_mixed = torch.tanh(image_hidden + affinity.mT @ text_hidden)
        text_mixed = torch.tanh(text_hidden + affinity @ image_hidden)
        text_weights = torch.softmax(text_mixed @ self.Whq, dim=1)  # [B, L, 1]
        image_weights = torch.softmax(image_mixed @ self.Whv, dim=1)  # [B, N, 1]
        return Attention(
            (image_weights.mT @ image).squeeze(1),
            (text_weights.mT @ text).squeeze(1),
            image_weights.squeeze(2),
            text_weights.squeeze(2),
        )

    def forward(self, tFeature: Tensor, iFeature: Tensor) -> dict[str, Tensor]:
        """``co`` ``[B, d]``, the sum of both vectors; text ``[B, L, d]``, image ``[B, N, d]``."""
        found = self.attend(tFeature, iFeature)
        return {"co": found.question + found.image}


class CoAttentionAlt(nn.Module):
    """``coAttention_alt``: the guide is added as one constant per row, so the softmax cancels it.

    Args:
        dim: width of both sides, d.
        dim_k: width of the attention.
        regions: the one N that the biases per region allow.
        words: the one L that the biases per word allow.
    """

    def __init__(self, dim: int, dim_k: int, regions: int, words: int) -> None:
        super().__init__()
        self.w_Dense_Vi_0 = _weight(dim, dim_k)
        self.w_Dense_Vt_0 = _weight(dim, dim_k)
        self.w_Dense_Pi_0 = _weight(2 * dim_k, 1)
        self.b_Dense_Pi_0 = nn.Parameter(torch.zeros(regions))
        self.w_Dense_Vi_1 = _weight(dim, dim_k)
        self.w_Dense_Vt_1 = _weight(dim, dim_k)
        self.w_Dense_Pi_1 = _weight(2 * dim_k, 1)
        self.b_Dense_Pi_1 = nn.Parameter(torch.zeros(words))

    def attend(self, image: Tensor, text: Tensor, summary: Tensor, image_bias: Tensor, text_bias: Tensor) -> Attention:
        """First the image under the summary, then the text under what the image gave.

        Args:
            image: ``[B, N, d]``.
            text: ``[B, L, d]``.
            summary: of the text, ``[B, d]``.
            image_bias: one per region, ``[N]``.
            text_bias: one per word, ``[L]``.
        """
        guide = (summary @ self.w_Dense_Vt_0).unsqueeze(1).expand(-1, image.shape[1], -1)  # [B, N, k]
        hidden = torch.tanh(torch.cat([image @ self.w_Dense_Vi_0, guide], dim=-1))  # [B, N, 2k]
        image_weights = torch.softmax((hidden @ self.w_Dense_Pi_0).squeeze(2) + image_bias, dim=-1)  # [B, N]
        image_vector = (image_weights.unsqueeze(1) @ image).squeeze(1)  # [B, d]
        guide = (image_vector @ self.w_Dense_Vi_1).unsqueeze(1).expand(-1, text.shape[1], -1)  # [B, L, k]
        hidden = torch.tanh(torch.cat([guide, text @ self.w_Dense_Vt_1], dim=-1))  # [B, L, 2k]
        text_weights = torch.softmax((hidden @ self.w_Dense_Pi_1).squeeze(2) + text_bias, dim=-1)  # [B, L]
        text_vector = (text_weights.unsqueeze(1) @ text).squeeze(1)  # [B, d]
        return Attention(image_vector, text_vector, image_weights, text_weights)

    def forward(self, ifeature: Tensor, tfeature_h: Tensor, tfeature: Tensor) -> dict[str, Tensor]:
        """``co`` ``[B, d]``, the sum of both vectors.

        Args:
            ifeature: image ``[B, N, d]``.
            tfeature_h: text ``[B, L, d]``.
            tfeature: the text's summary ``[B, d]``.
        """
        found = self.attend(ifeature, tfeature_h, tfeature, self.b_Dense_Pi_0, self.b_Dense_Pi_1)
        return {"co": found.image + found.question}


class CoAttentionAltMean(CoAttentionAlt):
    """``coAttention_alt`` of its CoA model: the summary is the text's mean over all positions, pads included."""

    def forward(self, ifeature: Tensor, tfeature_h: Tensor) -> dict[str, Tensor]:  # type: ignore[override]  # the original derives the summary itself
        """``co`` ``[B, d]``; image ``[B, N, d]``, text ``[B, L, d]``."""
        return super().forward(ifeature, tfeature_h, tfeature_h.mean(1))


class TextAttention(nn.Module):
    """``text_attention``: adds +10000 to the scores of padding, which therefore gets all the weight.

    Args:
        dim: width of the text, d.
        units: width of the attention.
    """

    def __init__(self, dim: int, units: int) -> None:
        super().__init__()
        self.w_omega = _weight(dim, units)
        self.b_omega = nn.Parameter(torch.zeros(units))
        self.u_omega = nn.Parameter(nn.init.uniform_(torch.empty(units), -0.1, 0.1))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """``output`` ``[B, d]`` and ``alphas`` ``[B, L]``.

        Args:
            x: text ``[B, L, d]``.
            mask: ``[B, L]`` bool, True on real words.
        """
        scores = torch.tanh(x @ self.w_omega + self.b_omega) @ self.u_omega  # [B, L]
        if mask is not None:
            scores = scores + (mask.to(scores.dtype) - 1) * -10000
        alphas = torch.softmax(scores, dim=-1)
        return {"output": (alphas.unsqueeze(1) @ x).squeeze(1), "alphas": alphas}


class Encoding(nn.Module):
    """``encoding``: three levels folded into one vector, without biases.

    Args:
        dim: width of the three inputs.
        units: width of what is folded.
    """

    def __init__(self, dim: int, units: int) -> None:
        super().__init__()
        self.w_word = _weight(dim, units)
        self.w_phrase = _weight(dim + units, units)
        self.w_text = _weight(dim + units, units)

    def forward(self, word: Tensor, phrase: Tensor, text: Tensor) -> dict[str, Tensor]:
        """``h_t`` ``[B, units]`` of three ``[B, d]``."""
        hidden = torch.tanh(word @ self.w_word)
        hidden = torch.tanh(torch.cat([phrase, hidden], dim=-1) @ self.w_phrase)
        return {"h_t": torch.tanh(torch.cat([text, hidden], dim=-1) @ self.w_text)}


class Convolution(nn.Module):
    """A Keras convolution over words with ``same`` padding, which is one wider on the right where it is uneven."""

    def __init__(self, width: int, dim: int, filters: int) -> None:
        super().__init__()
        self.kernel = _weight(width, dim, filters)
        self.bias = nn.Parameter(torch.zeros(filters))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, L, d]`` to ``[B, L, filters]``."""
        width, words = self.kernel.shape[0], x.shape[1]
        left = (width - 1) // 2
        wide = pad(x, (0, 0, left, width - 1 - left))
        taps = [wide[:, tap : tap + words] @ self.kernel[tap] for tap in range(width)]
        return torch.stack(taps).sum(0) + self.bias


class Phrase(nn.Module):
    """Three convolutions over words, the largest of their tanh; padding enters them.

    Args:
        dim: width of the words, d.
        filters: width of the phrases.
    """

    def __init__(self, dim: int, filters: int) -> None:
        super().__init__()
        self.uni = Convolution(1, dim, filters)
        self.bi = Convolution(2, dim, filters)
        self.tri = Convolution(3, dim, filters)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """``phrase`` ``[B, L, filters]`` of words ``[B, L, d]``."""
        grams = torch.stack([torch.tanh(conv(x)) for conv in (self.uni, self.bi, self.tri)])
        return {"phrase": grams.max(0).values}


@register("published_zhangtd_parallel")
class PublishedZhangtdParallel(CoAttention):
    """Zhangtd's parallel co-attention on a batch, with the two vectors that the original only returns summed.

    Options: ``hidden`` is its dim_k (the feature width unless given).
    """

    source = "Zhangtd/Models-reproducing, NIPS2016/selfDef.py, coAttention_para; after Lu et al. 2016, section 3.3"
    origin = Origin(
        where="Zhangtd/Models-reproducing",
        differs="no tanh on the affinity; the mask is accepted and then ignored",
        ours="parallel[affinity=linear]",
        source="zhangtd/parallel",
        beside="parallel",
    )
    known_defects = (*NO_IMAGE_MASK, *WORDS_NOT_MASKED, *NO_WORD_MATTERS)

    def __init__(
        self, *, image_width: int, question_width: int, without: Collection[str] = (), hidden: int | None = None
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        width = one_width("published_zhangtd_parallel", image_width=image_width, question_width=question_width)
        self.network = CoAttentionPara(width, hidden or width)

    def forward(self, batch: Batch) -> Attended:
        return Attended(*(tensor.unsqueeze(1) for tensor in self.network.attend(batch.question, batch.image)))

    def gain(self, parameter: str) -> float:
        return 0.1 / self.image_width**0.5 if parameter == "network.Wb" else 1.0


@register("published_zhangtd_alternating")
class PublishedZhangtdAlternating(CoAttention):
    """Zhangtd's alternating co-attention on a batch, summary included, with the vectors that it only returns summed.

    The first glimpse holds the question's summary, whose mask is inverted; the image is attended once, and stands in
    both. An original is built for one number of regions and words; the variant holds more biases than that and takes
    the first of them, as the original built for that batch would have.

    Options: ``hidden`` is its dim_k (the feature width unless given); ``regions`` and ``words`` are the longest sides.
    """

    source = "Zhangtd/Models-reproducing, NIPS2016/selfDef.py, text_attention and coAttention_alt; after Lu et al. 2016"
    origin = Origin(
        where="Zhangtd/Models-reproducing",
        differs="biases per position fix the lengths; the guide is one constant per row, which the softmax cancels",
        ours="alternating",
    )
    known_defects = (
        *NO_IMAGE_MASK,
        *WORDS_NOT_MASKED,
        *known(
            "the summary's mask is inverted: it adds 10000 to the scores of padding, which gets all the weight",
            {"P4": (("weight on pads", "question"),), "P7": (("slot zeroed", "question"),)},
            output="question_weights",
        ),
        *known(
            "that offset also eats the scores' last bits",
            {"P10": ("fp16", "autocast to fp16", "bf16", "autocast to bf16")},
        ),
        *known("that offset eats the last bits in float32 too", {"agreement": ("any",)}, output="question_weights"),
        *known(
            "the guide is one constant per row, which the softmax cancels, so neither side sees the other",
            {"P19": (("valid slots changed", "question"), ("valid slots changed", "image"))},
        ),
        *known(
            "a bias per position makes it matter where a slot stands", {"P5": (("any", "question"), ("any", "image"))}
        ),
    )
    word_order_matters = True

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        hidden: int | None = None,
        regions: int = 16_384,
        words: int = 2_048,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        width = one_width("published_zhangtd_alternating", image_width=image_width, question_width=question_width)
        self.summary = TextAttention(width, hidden or width)
        self.network = CoAttentionAlt(width, hidden or width, regions, words)

    def forward(self, batch: Batch) -> Attended:
        summary = self.summary(batch.question, batch.question_valid)
        found = self.network.attend(
            batch.image,
            batch.question,
            summary["output"],
            self.network.b_Dense_Pi_0[: batch.image.shape[1]],
            self.network.b_Dense_Pi_1[: batch.question.shape[1]],
        )
        return Attended(
            torch.stack([found.image, found.image], 1),  # [B, 2, d]
            torch.stack([summary["output"], found.question], 1),  # [B, 2, d]
            torch.stack([found.image_weights, found.image_weights], 1),  # [B, 2, N]
            torch.stack([summary["alphas"], found.question_weights], 1),  # [B, 2, T]
        )


def parallel_from_checkpoint(checkpoint: Checkpoint) -> CoAttentionPara:
    """``coAttention_para`` in the sizes of its weights."""
    return CoAttentionPara(dim=checkpoint.size("Wb", 0), dim_k=checkpoint.size("Wv", 1, config="dim_k"))


def _alternating_sizes(checkpoint: Checkpoint) -> tuple[int, int, int, int]:
    return (
        checkpoint.size("w_Dense_Vi_0", 0),
        checkpoint.size("w_Dense_Vi_0", 1, config="dim_k"),
        checkpoint.size("b_Dense_Pi_0", 0),
        checkpoint.size("b_Dense_Pi_1", 0),
    )


def alternating_from_checkpoint(checkpoint: Checkpoint) -> CoAttentionAlt:
    """``coAttention_alt`` of its NIPS2016 model in the sizes of its weights."""
    return CoAttentionAlt(*_alternating_sizes(checkpoint))


def alternating_coa_from_checkpoint(checkpoint: Checkpoint) -> CoAttentionAltMean:
    """``coAttention_alt`` of its CoA model in the sizes of its weights."""
    return CoAttentionAltMean(*_alternating_sizes(checkpoint))


def text_attention_from_checkpoint(checkpoint: Checkpoint) -> TextAttention:
    """``text_attention`` in the sizes of its weights."""
    return TextAttention(dim=checkpoint.size("w_omega", 0), units=checkpoint.size("w_omega", 1, config="units"))


def encoding_from_checkpoint(checkpoint: Checkpoint) -> Encoding:
    """``encoding`` in the sizes of its weights."""
    return Encoding(dim=checkpoint.size("w_word", 0), units=checkpoint.size("w_word", 1))


def phrase_from_checkpoint(checkpoint: Checkpoint) -> Phrase:
    """The phrase level in the sizes of its weights."""
    return Phrase(dim=checkpoint.size("uni.kernel", 1), filters=checkpoint.size("uni.kernel", 2, config="filters"))
