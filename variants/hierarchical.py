"""Hierarchical co-attention: words, phrases and the question, each attended together with the image."""

import copy
from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from variants.alternating import Alternating
from variants.elementwise import tanh_of_own
from variants.interface import Attended, Batch, CoAttention
from variants.masking import blank, compact
from variants.parallel import Parallel
from variants.pooling import Pool
from variants.recurrence import Recurrence, WrittenOut
from variants.regions import region
from variants.registry import register

LEVELS = ("word_level", "phrase_level", "question_level")


class Phrases(nn.Module):
    """The strongest of a unigram, a bigram and a trigram at each position.

    Linear maps over windows of neighbours, ``[tap][channel]``: the word; the word before and the word; the word
    before, the word and the word after. Beyond a row's ends there are zeros.
    """

    def __init__(self, width: int, *, bias: bool) -> None:
        super().__init__()
        self.unigram = nn.Linear(width, width, bias=bias)
        self.bigram = nn.Linear(2 * width, width, bias=bias)
        self.trigram = nn.Linear(3 * width, width, bias=bias)

    def forward(self, words: Tensor) -> Tensor:
        """Phrases ``[B, T, D]`` from words that are left-aligned and blank on padding."""
        before = pad(words[:, :-1], (0, 0, 1, 0))
        after = pad(words[:, 1:], (0, 0, 0, 1))
        window = torch.cat((before, words, after), dim=-1)  # [B, T, 3 D]
        grams = torch.maximum(self.unigram(words), self.bigram(window[..., : 2 * words.shape[-1]]))
        grams = torch.maximum(grams, self.trigram(window))
        return tanh_of_own(grams)  # once, after the maximum: tanh is monotone


@register("hierarchical")
class Hierarchical(CoAttention):
    """Lu et al. 2016, sections 3.2 to 3.4: co-attention at three levels of the question, G = 3.

    With ``Q^w`` the words and ``A`` the co-attention ``inner``::

        p_s,t = tanh(W_s [the s words around t])    [D]          s = 1, 2, 3
        Q^p_t = max(p_1,t, p_2,t, p_3,t)            [B, T, D]    elementwise
        Q^s   = LSTM(Q^p)                           [B, T, D]
        (v^w, q^w) = A(V, Q^w),  (v^p, q^p) = A(V, Q^p),  (v^s, q^s) = A(V, Q^s)

    Glimpses stand in the order word, phrase, question; `AnswerEncoder` is equation 7. The order of words matters, so
    holes in the validity are closed first, and hiding a word equals removing it. Windows reach over the ends into
    zeros, never into padding, and the states after a row's last word are blank.

    The paper's windows start at t and are "appropriately 0-padded"; as in the authors' code a bigram here is the word
    before and the word, and a trigram has the word in its middle.

    Options: ``inner`` is the co-attention at each level; ``hidden`` is its K; ``levels=shared`` gives the three levels
    one set of attention weights; ``layers`` of the LSTM; ``bias`` adds biases to the attention and the n-grams as the
    authors' code does (the LSTM always has its own); ``dropout`` is that of the attention's hidden maps. A removed
    level keeps its place, with plain means for attention, as in the paper's table 3; ``-image_attention`` and
    ``-question_attention`` do so for one side of all levels.
    """

    source = "Lu et al. 2016, arXiv:1606.00061, sections 3.2 to 3.4, table 3"
    parts = (*LEVELS, "image_attention", "question_attention")
    word_order_matters = True

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        inner: Literal["parallel", "alternating"] = "parallel",
        hidden: int | None = None,
        levels: Literal["separate", "shared"] = "separate",
        layers: int = 1,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        if layers < 1:
            raise ValueError(f"hierarchical[layers={layers}]: expected at least one layer")
        self.phrases = Phrases(question_width, bias=bias)
        self.recurrence = Recurrence(question_width, layers)

        def level() -> Parallel | Alternating:
            mechanism = Parallel if inner == "parallel" else Alternating
            return mechanism(
                image_width=image_width,
                question_width=question_width,
                without=self.without.difference(LEVELS),
                hidden=hidden,
                bias=bias,
                dropout=dropout,
            )

        shared = level()
        for name in LEVELS:
            attention: Parallel | Alternating | Pool = shared if levels == "shared" else level()
            if name in self.without:
                attention = Pool(image_width=image_width, question_width=question_width)
            self.add_module(name, attention)

    def forward(self, batch: Batch) -> Attended:
        image = blank(batch.image, batch.image_valid)  # [B, N, V]
        words, valid, position = compact(batch.question, batch.question_valid)  # [B, T, Q]
        with region("encoder"):
            phrases = blank(self.phrases(words), valid)  # [B, T, Q]
            question = blank(self.recurrence(phrases), valid)  # [B, T, Q]
        levels = [
            level.attend(Batch(image, features, batch.image_valid, valid))
            for level, features in zip(self.attentions(), (words, phrases, question), strict=True)
        ]
        image_vectors, question_vectors, image_weights, question_weights = (
            torch.cat(glimpses, dim=1) for glimpses in zip(*levels, strict=True)
        )
        position = position.unsqueeze(1).expand_as(question_weights)
        return Attended(image_vectors, question_vectors, image_weights, question_weights.gather(-1, position))

    def attentions(self) -> tuple[Parallel | Alternating | Pool, ...]:
        """The co-attention of each level, in the order of `LEVELS`."""
        return tuple(getattr(self, name) for name in LEVELS)

    def guided_weights(self) -> tuple[str, ...]:
        return super().guided_weights() if set(LEVELS) - self.without else ()

    def gain(self, parameter: str) -> float:
        owner, _, name = parameter.partition(".")
        return getattr(self, owner).gain(name) if owner in LEVELS else 1.0

    def matmul_flops(self, examples: int, regions: int, words: int) -> int:
        grams = 6 * words * self.question_width**2
        recurrence = self.recurrence.layers * 8 * words * self.question_width**2
        levels = sum(level.matmul_flops(examples, regions, words) for level in self.attentions())
        return 2 * examples * (grams + recurrence) + levels

    def written_out(self) -> "Hierarchical":
        twin = copy.copy(self)
        twin._modules = self._modules | {"recurrence": WrittenOut(self.recurrence)}
        return twin


class AnswerEncoder(nn.Module):
    """Lu et al. 2016, equation 7: attended vectors of each level, from words up, folded into one.

    With the sums ``u = q^ + v^`` of each level::

        h_w = tanh(W_w u_w),  h_p = tanh(W_p [u_p ; h_w]),  h_s = tanh(W_s [u_s ; h_p])

    A classifier puts its logits on top. It takes any number of glimpses; one glimpse is the first line alone.
    """

    def __init__(self, width: int, hidden: int, *, glimpses: int = 3, bias: bool = False) -> None:
        """Make the encoder.

        Args:
            width: of the attended vectors, on both sides.
            hidden: width of what it returns; the levels below keep ``width``.
            glimpses: levels.
            bias: as the authors' code has it.
        """
        super().__init__()
        widths = [width] * (glimpses - 1) + [hidden]
        below = [0, *widths[:-1]]
        self.levels = nn.ModuleList(
            nn.Linear(width + lower, upper, bias=bias) for lower, upper in zip(below, widths, strict=True)
        )

    def forward(self, attended: Attended) -> Tensor:
        """One vector per example, ``[B, hidden]``."""
        sums = attended.question + attended.image  # [B, G, D]
        encoded = sums[:, :0, 0]  # [B, 0]
        for level, glimpse in zip(self.levels, sums.unbind(1), strict=True):
            encoded = torch.tanh(level(torch.cat((glimpse, encoded), dim=-1)))
        return encoded
