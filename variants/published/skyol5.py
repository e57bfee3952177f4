"""SkyOL5/VQA-CoAttention as it behaves: unmasked parallel co-attention on three levels with one set of weights."""

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from variants.interface import Attended, Batch, CoAttention, one_width
from variants.origin import Origin
from variants.published.checkpoint import Checkpoint
from variants.published.defects import NO_IMAGE_MASK, NO_WORD_MATTERS, WORDS_NOT_MASKED, known
from variants.registry import register


class Level(NamedTuple):
    """What attention on one level found; the vectors lose the batch at B = 1."""

    image: Tensor  # [B, d]
    question: Tensor  # [B, d]
    image_weights: Tensor  # [B, 1, N]
    question_weights: Tensor  # [B, 1, L]


class ParallelCoAttention(nn.Module):
    """``CoattentionNet.parallel_co_attention``: no mask, and both projections formed twice.

    Args:
        embed_dim: width of both sides, d.
        k: width of the attention.
    """

    def __init__(self, embed_dim: int, k: int) -> None:
        super().__init__()
        self.W_b = nn.Parameter(torch.randn(embed_dim, embed_dim))
        self.W_v = nn.Parameter(torch.randn(k, embed_dim))
        self.W_q = nn.Parameter(torch.randn(k, embed_dim))
        self.w_hv = nn.Parameter(torch.randn(k, 1))
        self.w_hq = nn.Parameter(torch.randn(k, 1))

    def attend(self, image: Tensor, question: Tensor) -> Level:
        """The vectors and the weights behind them.

        Args:
            image: channels first, ``[B, d, N]``.
            question: ``[B, L, d]``.
        """
        affinity = question @ (self.W_b @ image)  # [B, L, N]
        image_mixed = torch.tanh(self.W_v @ image + (self.W_q @ question.permute(0, 2, 1)) @ affinity)  # [B, k, N]
        question_mixed = torch.tanh(
            self.W_q @ question.permute(0, 2, 1) + (self.W_v @ image) @ affinity.permute(0, 2, 1)
        )  # [B, k, L]
        image_weights = torch.softmax(self.w_hv.t() @ image_mixed, dim=2)  # [B, 1, N]
        question_weights = torch.softmax(self.w_hq.t() @ question_mixed, dim=2)  # [B, 1, L]
        return Level(
            (image_weights @ image.permute(0, 2, 1)).squeeze(),
            (question_weights @ question).squeeze(),
            image_weights,
            question_weights,
        )

    def forward(self, V: Tensor, Q: Tensor) -> dict[str, Tensor]:
        """``v`` and ``q``, ``[B, d]`` or ``[d]`` at B = 1; arguments as `attend`."""
        level = self.attend(V, Q)
        return {"v": level.image, "q": level.question}


class ThreeLevels(ParallelCoAttention):
    """Words, phrases and the sentence, each attended with the same five weights."""

    def __init__(self, embed_dim: int, k: int) -> None:
        super().__init__(embed_dim, k)
        self.unigram_conv = nn.Conv1d(embed_dim, embed_dim, 1)
        # the dilation makes the taps t-1, t+1 and t-2, t, t+2: no tap sees a neighbouring pair
        self.bigram_conv = nn.Conv1d(embed_dim, embed_dim, 2, padding=1, dilation=2)
        self.trigram_conv = nn.Conv1d(embed_dim, embed_dim, 3, padding=2, dilation=2)
        self.lstm = nn.LSTM(embed_dim, embed_dim, num_layers=3)

    def levels(self, image: Tensor, words: Tensor, lengths: Tensor) -> tuple[Level, Level, Level]:
        """Attention on words, phrases and sentence.

        Args:
            image: channels first, ``[B, d, N]``.
            words: ``[B, L, d]`` with L the longest length.
            lengths: ``[B]`` in descending order, on the CPU.

        Raises:
            RuntimeError: B or L is 1, or the lengths are not in descending order.
        """
        channels = words.permute(0, 2, 1)  # [B, d, L]
        grams = torch.stack(
            [torch.tanh(conv(channels)) for conv in (self.unigram_conv, self.bigram_conv, self.trigram_conv)], dim=2
        )  # [B, d, 3, L]
        # squeezing every axis of size 1 is what makes B = 1 and L = 1 raise
        phrase = grams.max(2, keepdim=True).values.squeeze().permute(0, 2, 1)  # [B, L, d]
        packed, _ = self.lstm(pack_padded_sequence(phrase.transpose(0, 1), lengths))
        sentence = pad_packed_sequence(packed)[0].transpose(0, 1)  # [B, L, d]
        return self.attend(image, words), self.attend(image, phrase), self.attend(image, sentence)


class CoattentionNet(ThreeLevels):
    """The whole network, from word ids to logits; dropout left out.

    Args:
        num_embeddings: words known; id 0 pads, and has an ordinary row.
        num_classes: answers known.
        embed_dim: width of both sides, d.
        k: width of the attention.
    """

    def __init__(self, num_embeddings: int, num_classes: int, embed_dim: int = 512, k: int = 30) -> None:
        super().__init__(embed_dim, k)
        self.embed = nn.Embedding(num_embeddings, embed_dim)
        self.W_w = nn.Linear(embed_dim, embed_dim)
        self.W_p = nn.Linear(embed_dim * 2, embed_dim)
        self.W_s = nn.Linear(embed_dim * 2, embed_dim)
        self.fc = nn.Linear(embed_dim, num_classes)

    def forward(self, image: Tensor, question: Tensor, lengths: Tensor) -> dict[str, Tensor]:  # type: ignore[override]  # the net takes ids where its attention takes features
        """``logits`` ``[B, num_classes]``.

        Args:
            image: channels first, ``[B, d, N]``.
            question: ids ``[B, L]``, cut to the longest length.
            lengths: ``[B]`` in descending order.

        Raises:
            RuntimeError: B or the longest length is 1, or the lengths are not in descending order.
        """
        lengths = lengths.cpu()
        words = self.embed(question[:, : int(lengths.max())])  # [B, L, d]
        word, phrase, sentence = self.levels(image, words, lengths)
        hidden = torch.tanh(self.W_w(word.question + word.image))
        hidden = torch.tanh(self.W_p(torch.cat([phrase.question + phrase.image, hidden], dim=1)))
        hidden = torch.tanh(self.W_s(torch.cat([sentence.question + sentence.image, hidden], dim=1)))
        return {"logits": self.fc(hidden)}


@register("published_skyol5")
class PublishedSkyol5(CoAttention):
    """SkyOL5's parallel co-attention on a batch: equations of `Parallel` without the affinity's tanh, and no mask.

    Options: ``hidden`` is k, 30 as published.
    """

    source = (
        "SkyOL5/VQA-CoAttention, coatt/coattention_net.py, parallel_co_attention; after Lu et al. 2016, section 3.3"
    )
    origin = Origin(
        where="SkyOL5/VQA-CoAttention",
        differs="no tanh on the affinity; 30 hidden units; no mask on either side",
        ours="parallel[affinity=linear]",
        source="skyol5/parallel",
        beside="parallel",
    )
    known_defects = (
        *NO_IMAGE_MASK,
        *WORDS_NOT_MASKED,
        *NO_WORD_MATTERS,
        *known("one example loses its batch", {"P3": ("alone",), "P13": ("one example",)}, output="image"),
        *known("one example loses its batch", {"P3": ("alone",), "P13": ("one example",)}, output="question"),
    )

    def __init__(
        self, *, image_width: int, question_width: int, without: Collection[str] = (), hidden: int = 30
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.network = ParallelCoAttention(
            one_width("published_skyol5", image_width=image_width, question_width=question_width), hidden
        )

    def forward(self, batch: Batch) -> Attended:
        level = self.network.attend(batch.image.permute(0, 2, 1), batch.question)
        return Attended(
            level.image.unsqueeze(1), level.question.unsqueeze(1), level.image_weights, level.question_weights
        )

    def gain(self, parameter: str) -> float:
        return 0.1 / self.image_width**0.5 if parameter == "network.W_b" else 1.0


@register("published_skyol5_net")
class PublishedSkyol5Net(CoAttention):
    """SkyOL5's three levels on a batch, the question's features standing for its word embeddings.

    What is in a padded slot stands for the ordinary embedding of id 0. Examples are sorted by length, as its loader
    does, and brought back into order.

    Options: ``hidden`` is k, 30 as published.
    """

    source = "SkyOL5/VQA-CoAttention, coatt/coattention_net.py, CoattentionNet; after Lu et al. 2016, section 3"
    origin = Origin(
        where="SkyOL5/VQA-CoAttention, the whole network",
        differs="no tanh on the affinity; a dilated bigram that skips the neighbour; examples sorted by length",
        ours="hierarchical",
    )
    known_defects = (
        *NO_IMAGE_MASK,
        *known(
            "padded words are attended on each level, up to the longest question of the batch",
            {
                "P1": (("pads filled", "question"),),
                "P1n": (("pads not finite", "question"),),
                "P4": (("weight on pads", "question"), ("sum of weights", "question")),
                "P8": (("gradient at pads", "question"),),
            },
        ),
        *known(
            "it takes lengths, so words have to stand on the left",
            {"P5": (("slots moved apart", "question"), ("pads on the left", "question"))},
        ),
        *known(
            "an empty question raises",
            {
                "P9": (("side emptied", "question"),),
                "P9b": (("side emptied", "question"),),
                "P9r": ("the scene itself",),
            },
        ),
        *known(
            "one example raises, and so does a batch of single words",
            {
                "P3": ("alone",),
                "P8": ("gradients alone",),
                "P11": ("sides of one width",),
                "P13": ("one example", ("one slot", "question")),
            },
        ),
    )
    word_order_matters = True

    def __init__(
        self, *, image_width: int, question_width: int, without: Collection[str] = (), hidden: int = 30
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.network = ThreeLevels(
            one_width("published_skyol5_net", image_width=image_width, question_width=question_width), hidden
        )

    def forward(self, batch: Batch) -> Attended:
        lengths, order = batch.question_valid.sum(-1).cpu().sort(descending=True, stable=True)
        longest = int(lengths[0])
        order = order.to(batch.question.device)
        levels = self.network.levels(batch.image[order].permute(0, 2, 1), batch.question[order, :longest], lengths)
        back = order.argsort()
        cut = batch.question.shape[1] - longest
        return Attended(
            torch.stack([level.image for level in levels], 1)[back],  # [B, 3, d]
            torch.stack([level.question for level in levels], 1)[back],  # [B, 3, d]
            torch.cat([level.image_weights for level in levels], 1)[back],  # [B, 3, N]
            pad(torch.cat([level.question_weights for level in levels], 1)[back], (0, cut)),  # [B, 3, T]
        )

    def gain(self, parameter: str) -> float:
        return 0.1 / self.image_width**0.5 if parameter == "network.W_b" else 1.0


def parallel_from_checkpoint(checkpoint: Checkpoint) -> ParallelCoAttention:
    """The attention in the sizes of its weights."""
    return ParallelCoAttention(
        embed_dim=checkpoint.size("W_b", 0, config="embed_dim"), k=checkpoint.size("W_v", 0, config="k")
    )


def net_from_checkpoint(checkpoint: Checkpoint) -> CoattentionNet:
    """The network in the sizes of its weights."""
    return CoattentionNet(
        num_embeddings=checkpoint.size("embed.weight", 0, config="num_embeddings"),
        num_classes=checkpoint.size("fc.weight", 0, config="num_classes"),
        embed_dim=checkpoint.size("W_b", 0, config="embed_dim"),
        k=checkpoint.size("W_v", 0, config="k"),
    )
