"""Correct modules of every convention that masks come in, planted so that the audit is seen not to accuse them.

They take their arguments as other people's modules do, and go through the whole of the audit: signature, trials,
properties. Each hides what it is told to hide; some are fragile (a NaN in padding, an empty row), none is wrong.
"""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

WIDTH, HEADS = 24, 2


class Attends(nn.Module):
    """From ``x`` [B, M, D] to ``y`` [B, L, D], whose mask a subclass adds to the scores in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def heads(self, layer: nn.Module, features: Tensor) -> Tensor:
        """``[B, H, L, D / H]``."""
        made: Tensor = layer(features)
        return made.view(*made.shape[:2], HEADS, -1).transpose(1, 2)

    def scores(self, x: Tensor, y: Tensor) -> Tensor:
        """``[B, H, M, L]``."""
        made: Tensor = self.heads(self.query, x) @ self.heads(self.key, y).mT
        return made / math.sqrt(WIDTH / HEADS)

    def mixed(self, x: Tensor, y: Tensor, scores: Tensor) -> Tensor:
        return x + (scores.softmax(-1) @ self.heads(self.value, y)).transpose(1, 2).flatten(2)


class TrueIsReal(Attends):
    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        return self.mixed(x, y, self.scores(x, y).masked_fill(~y_mask[:, None, None], -1e9))


class TrueIsPadding(Attends):
    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        return self.mixed(x, y, self.scores(x, y).masked_fill(y_mask[:, None, None], -1e9))


class OneIsReal(Attends):
    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        return self.mixed(x, y, self.scores(x, y).masked_fill(y_mask[:, None, None] == 0, -1e9))


class OneIsPadding(Attends):
    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        return self.mixed(x, y, self.scores(x, y).masked_fill(y_mask[:, None, None] == 1, -1e9))


class FloatsMadeAdditive(Attends):
    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        return self.mixed(x, y, self.scores(x, y) + (1.0 - y_mask.to(x)[:, None, None]) * -1e4)


class FloatsOfPadding(Attends):
    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        return self.mixed(x, y, self.scores(x, y) - 1e4 * y_mask.to(x)[:, None, None])


class Added(Attends):
    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor | None = None) -> Tensor:
        scores = self.scores(x, y)
        return self.mixed(x, y, scores if y_mask is None else scores + y_mask)


class WithHeadAxis(Attends):
    """``[B, 1, 1, L]``, True where padding."""

    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        assert y_mask.dim() == 4
        return self.mixed(x, y, self.scores(x, y).masked_fill(y_mask, -1e9))


class WithRowAxis(Attends):
    """``[B, 1, L]``, True where real."""

    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        assert y_mask.dim() == 3
        assert y_mask.shape[1] == 1
        return self.mixed(x, y, self.scores(x, y).masked_fill(~y_mask.unsqueeze(1), -1e9))


class AsColumn(Attends):
    """``[B, L, 1]``, True where real."""

    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        assert y_mask.shape[1:] == (y.shape[1], 1)
        return self.mixed(x, y, self.scores(x, y).masked_fill(~y_mask.mT.unsqueeze(1), -1e9))


class Lengths(Attends):
    def forward(self, x: Tensor, y: Tensor, y_lengths: Tensor) -> Tensor:
        real = torch.arange(y.shape[1], device=y.device) < y_lengths[:, None]
        return self.mixed(x, y, self.scores(x, y).masked_fill(~real[:, None, None], -1e9))


class Optional(Attends):
    def forward(self, x: Tensor, context: Tensor | None = None, context_mask: Tensor | None = None) -> Tensor:
        y = x if context is None else context
        scores = self.scores(x, y)
        if context_mask is not None:
            scores = scores.masked_fill(~context_mask[:, None, None], -1e9)
        return self.mixed(x, y, scores)


class Fused(Attends):
    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        query, key, value = self.heads(self.query, x), self.heads(self.key, y), self.heads(self.value, y)
        rate = 0.1 if self.training else 0.0
        attended = functional.scaled_dot_product_attention(query, key, value, y_mask[:, None, None], dropout_p=rate)
        return x + attended.transpose(1, 2).flatten(2)


class StochasticDepth(Attends):
    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        change = self.mixed(x, y, self.scores(x, y).masked_fill(~y_mask[:, None, None], -1e9)) - x
        if self.training:
            change = change * change.new_empty(len(x), 1, 1).bernoulli_(0.8) / 0.8
        return x + functional.dropout(change, 0.1, self.training)


class ZeroToken(Attends):
    """A learned token that starts at zero is normalised with a tiny epsilon, and is never padding."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.norm = nn.Parameter(torch.zeros(1, 1, WIDTH)), nn.LayerNorm(WIDTH, eps=1e-12)

    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        y = self.norm(torch.cat([self.token.expand(len(y), -1, -1), y], 1))
        pad = torch.cat([y_mask.new_zeros(len(y), 1), y_mask], 1)
        return self.mixed(x, y, self.scores(x, y).masked_fill(pad[:, None, None], -1e9))


class FrozenRow(Attends):
    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Embedding(512, WIDTH, padding_idx=0)

    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        x = x + self.positions(torch.arange(x.shape[1], device=x.device))
        return self.mixed(x, y, self.scores(x, y).masked_fill(~y_mask[:, None, None], -1e9))


class NormalisedWeights(Attends):
    """Weights that are kept as direction and length, in the form that cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.utils.parametrizations.weight_norm(self.query)
        self.kept: Tensor | None = None

    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        self.kept = self.scores(x, y).masked_fill(~y_mask[:, None, None], -1e9)  # a result with a history
        return self.mixed(x, y, self.kept)


class Packed(Attends):
    def __init__(self) -> None:
        super().__init__()
        self.recurrence = nn.GRU(WIDTH, WIDTH // 2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, y: Tensor, y_lengths: Tensor) -> Tensor:
        counts = y_lengths.clamp(min=1).cpu()
        packed = self.recurrence(pack_padded_sequence(y, counts, batch_first=True, enforce_sorted=False))[0]
        states, _ = pad_packed_sequence(packed, batch_first=True, total_length=y.shape[1])
        real = torch.arange(y.shape[1], device=y.device) < y_lengths[:, None]
        return self.mixed(x, states, self.scores(x, states).masked_fill(~real[:, None, None], -1e9))


class SharedMaximum(Attends):
    """The batch's maximum is taken off the scores: last bits depend on batch mates, and no value does."""

    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        scores = self.scores(x, y)
        return self.mixed(x, y, (scores - scores.max()).masked_fill(~y_mask[:, None, None], -5e4))


class InFloat32(Attends):
    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        weights = self.scores(x, y).masked_fill(~y_mask[:, None, None], -1e9).float().softmax(-1).to(x.dtype)
        return x + (weights @ self.heads(self.value, y)).transpose(1, 2).flatten(2)


class OneSide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(WIDTH, HEADS, dim_feedforward=WIDTH, batch_first=True)

    def forward(self, x: Tensor, padding_mask: Tensor) -> Tensor:
        made: Tensor = self.layer(x, src_key_padding_mask=padding_mask)
        return made


class BothSides(nn.Module):
    """Each side attends to the other, through one affinity; a nested tuple of tokens and pooled vectors."""

    POOLED: ClassVar[int] = 1

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(
        self, v1: Tensor, v2: Tensor, v1_mask: Tensor, v2_mask: Tensor
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        affinity = self.one(v1) @ self.two(v2).mT / WIDTH**0.5
        first = affinity.masked_fill(~v2_mask[:, None], -1e9).softmax(-1) @ v2
        second = affinity.masked_fill(~v1_mask[..., None], -1e9).softmax(1).mT @ v1
        return (first, self.mean(first, v1_mask)), (second, self.mean(second, v2_mask))

    def mean(self, tokens: Tensor, real: Tensor) -> Tensor:
        return tokens.masked_fill(~real[..., None], 0).sum(1) / real.sum(1, keepdim=True).clamp(min=1)


INNOCENTS: Mapping[str, Callable[[], nn.Module]] = {
    "boolean [B, L], True is real": TrueIsReal,
    "boolean [B, L], True is padding": TrueIsPadding,
    "boolean [B, 1, 1, L], True is padding": WithHeadAxis,
    "boolean [B, 1, L], True is real": WithRowAxis,
    "boolean [B, L, 1], True is real": AsColumn,
    "integers, 1 is real": OneIsReal,
    "integers, 1 is padding": OneIsPadding,
    "floats, 1 is real, made additive inside": FloatsMadeAdditive,
    "floats, 1 is padding, made additive inside": FloatsOfPadding,
    "numbers added to the scores": Added,
    "lengths": Lengths,
    "lengths, packed": Packed,
    "a context that may be left out": Optional,
    "one side alone": OneSide,
    "both sides, nested outputs": BothSides,
    "fused attention with dropout of its own": Fused,
    "stochastic depth and functional dropout": StochasticDepth,
    "LayerNorm over a zero token": ZeroToken,
    "embedding with a frozen row": FrozenRow,
    "normalised weights, a result kept": NormalisedWeights,
    "maximum of the batch": SharedMaximum,
    "softmax in float32": InFloat32,
}
"""By what each stands for."""


def innocent(name: str, *, seed: int = 0) -> nn.Module:
    """A correct module of that name, its weights seeded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return INNOCENTS[name]().eval()
