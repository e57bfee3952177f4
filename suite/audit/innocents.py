"""Correct modules of every convention that masks come in, planted so that the audit is seen not to accuse them.

They take their arguments as other people's modules do, and go through the whole of the audit: signature, trials,
properties. Each hides what it is told to hide; some are fragile (a NaN in padding, an empty row), none is wrong.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

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


class SmallestAdded(Attends):
    """The smallest number that there is, times one less the mask, as many language models have it."""

    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        hidden = (1.0 - y_mask.to(x)[:, None, None]) * torch.finfo(x.dtype).min
        return self.mixed(x, y, self.scores(x, y) + hidden)


class SmallestFilled(Attends):
    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        smallest = torch.finfo(x.dtype).min
        return self.mixed(x, y, self.scores(x, y).masked_fill(~y_mask[:, None, None], smallest))


class AddedFourAxes(Attends):
    """``[B, 1, 1, L]``, 0 where real and a large negative number where padding."""

    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        assert y_mask.dim() == 4
        return self.mixed(x, y, self.scores(x, y) + y_mask)


class Pairs(Attends):
    """``[B, M, L]``, True where a pair is real."""

    def forward(self, x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        assert mask.shape[1:] == (x.shape[1], y.shape[1])
        return self.mixed(x, y, self.scores(x, y).masked_fill(~mask[:, None], -1e9))


class HeadsFolded(Attends):
    """Heads and examples share one axis, the mask repeated in the same order."""

    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        scores = self.scores(x, y).flatten(0, 1)  # [B H, M, L]
        scores = scores.masked_fill(~y_mask.repeat_interleave(HEADS, 0)[:, None], -1e9)
        return self.mixed(x, y, scores.view(len(x), HEADS, x.shape[1], y.shape[1]))


class SlotsFirst(nn.Module):
    """Features ``[L, B, D]``, as torch's own attention takes them unless told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS)

    def forward(self, query: Tensor, memory: Tensor, memory_key_padding_mask: Tensor) -> Tensor:
        made: Tensor = self.attention(query, memory, memory, key_padding_mask=memory_key_padding_mask)[0]
        return query + made


class ChannelsFirst(Attends):
    """Features ``[B, D, L]``, as convolutions leave them."""

    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        x, y = x.mT, y.mT
        return self.mixed(x, y, self.scores(x, y).masked_fill(~y_mask[:, None, None], -1e9)).mT


class KeyAndValue(Attends):
    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        scores = self.heads(self.query, query) @ self.heads(self.key, key).mT / math.sqrt(WIDTH / HEADS)
        weights = scores.masked_fill(~mask[:, None, None], -1e9).softmax(-1)
        return (weights @ self.heads(self.value, value)).transpose(1, 2).flatten(2)


class BoxesBeside(Attends):
    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Linear(4, WIDTH)

    def forward(self, x: Tensor, regions: Tensor, boxes: Tensor, regions_mask: Tensor) -> Tensor:
        y = regions + self.place(boxes)
        return self.mixed(x, y, self.scores(x, y).masked_fill(~regions_mask[:, None, None], -1e9))


class GuidedByVector(nn.Module):
    """One vector an example chooses among padded slots; weights beside the vector that they give."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.score = nn.Linear(WIDTH, 20), nn.Linear(32, 20), nn.Linear(20, 1)

    def forward(self, regions: Tensor, question: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.score(torch.tanh(self.one(regions) + self.two(question)[:, None])).squeeze(-1)
        weights = scores.masked_fill(~mask, -1e9).softmax(-1)
        return (weights[..., None] * regions).sum(1), weights


class ThreeSides(Attends):
    def forward(
        self, text: Tensor, audio: Tensor, video: Tensor, text_mask: Tensor, audio_mask: Tensor, video_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        def hears(x: Tensor, y: Tensor, real: Tensor) -> Tensor:
            return self.mixed(x, y, self.scores(x, y).masked_fill(~real[:, None, None], -1e9))

        return hears(text, audio, audio_mask), hears(audio, video, video_mask), hears(video, text, text_mask)


class OppositePolarities(Attends):
    """True is real on one side, and padding on the other."""

    def forward(self, x: Tensor, y: Tensor, x_mask: Tensor, y_padding: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.scores(x, y)
        one = self.mixed(x, y, scores.masked_fill(y_padding[:, None, None], -1e9))
        two = self.mixed(y, x, scores.mT.masked_fill(~x_mask[:, None, None], -1e9))
        return one, two


class OneStream(nn.Module):
    """Both sides in one stream, and one after the other in what comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(WIDTH, HEADS, dim_feedforward=WIDTH, batch_first=True)

    def forward(self, x: Tensor, y: Tensor, x_mask: Tensor, y_mask: Tensor) -> Tensor:
        padding = ~torch.cat([x_mask, y_mask], 1)
        made: Tensor = self.layer(torch.cat([x, y], 1), src_key_padding_mask=padding)
        return made


class LearnedQueries(Attends):
    """A fixed number of learned queries looks at a padded set."""

    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(5, WIDTH))

    def forward(self, y: Tensor, y_mask: Tensor) -> Tensor:
        x = self.latents.expand(len(y), -1, -1)
        return self.mixed(x, y, self.scores(x, y).masked_fill(~y_mask[:, None, None], -1e9))


class Bilinear(nn.Module):
    """Weights over all pairs of slots at once, and the vector that they pool."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(WIDTH, 20), nn.Linear(WIDTH, 20)

    def forward(self, x: Tensor, y: Tensor, x_mask: Tensor, y_mask: Tensor) -> tuple[Tensor, Tensor]:
        one, two = self.one(x), self.two(y)
        pairs = (x_mask[:, :, None] & y_mask[:, None]).flatten(1)
        weights = (one @ two.mT).flatten(1).masked_fill(~pairs, -1e9).softmax(-1)
        weights = weights.view(len(x), x.shape[1], y.shape[1])
        return torch.einsum("bnt,bnd,btd->bd", weights, one, two), weights


class CutToTheLongest(Attends):
    """What comes back is as long as the longest row, and not as the input."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrence = nn.LSTM(WIDTH, WIDTH // 2, batch_first=True, bidirectional=True)

    def forward(self, y: Tensor, y_lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(y, y_lengths.cpu(), batch_first=True, enforce_sorted=False)
        states: Tensor = pad_packed_sequence(self.recurrence(packed)[0], batch_first=True)[0]
        return states


class NormalisedByTheReal(Attends):
    """Statistics of the batch are taken over valid slots alone."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        normal = torch.zeros_like(y)
        normal[y_mask] = self.norm(y[y_mask])
        return self.mixed(x, normal, self.scores(x, normal).masked_fill(~y_mask[:, None, None], -1e9))


class Convolved(Attends):
    """Padding is zeroed before each convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(WIDTH, WIDTH, 3, padding=1), nn.Conv1d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        real = y_mask[:, None]
        y = torch.relu(self.first(y.mT.masked_fill(~real, 0))).masked_fill(~real, 0)
        y = self.second(y).mT
        return self.mixed(x, y, self.scores(x, y).masked_fill(~y_mask[:, None, None], -1e9))


class MaximumAndMean(nn.Module):
    """Pooled twice, each over valid slots alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        hidden, real = torch.tanh(self.layer(tokens)), mask[..., None]
        mean = (hidden * real).sum(1) / real.sum(1).clamp(min=1)
        return hidden.masked_fill(~real, -1e4).amax(1), mean


class Sigmoids(Attends):
    """Weights by a sigmoid: no softmax, and a gate that is zero on padding."""

    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        gates = torch.sigmoid(self.scores(x, y)) * y_mask[:, None, None]
        return x + (gates @ self.heads(self.value, y)).transpose(1, 2).flatten(2)


class AsDict(Attends):
    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> dict[str, Tensor]:
        weights = self.scores(x, y).masked_fill(~y_mask[:, None, None], -1e9).softmax(-1)
        attended = (weights @ self.heads(self.value, y)).transpose(1, 2).flatten(2)
        return {"last_hidden_state": x + attended, "attentions": weights}


@dataclass
class Output:
    hidden: Tensor
    pooled: Tensor | None = None


class AsDataclass(Attends):
    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Output:
        hidden = self.mixed(x, y, self.scores(x, y).masked_fill(~y_mask[:, None, None], -1e9))
        return Output(hidden)


class Named(NamedTuple):
    hidden: Tensor
    weights: Tensor


class AsNamedTuple(Attends):
    def forward(self, x: Tensor, y: Tensor, *, y_mask: Tensor, need_weights: bool = True) -> Named:
        weights = self.scores(x, y).masked_fill(~y_mask[:, None, None], -1e9).softmax(-1)
        hidden = x + (weights @ self.heads(self.value, y)).transpose(1, 2).flatten(2)
        return Named(hidden, weights.mean(1))


class Positions(Attends):
    """Where a slot stands matters: sines by place, and a bias by distance."""

    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        places = torch.arange(y.shape[1], device=y.device, dtype=y.dtype)
        y = y + torch.sin(places[:, None] / 100 ** (torch.arange(WIDTH, device=y.device) / WIDTH))
        apart = torch.arange(x.shape[1], device=x.device, dtype=x.dtype)[:, None] - places
        return self.mixed(x, y, (self.scores(x, y) - 0.1 * apart.abs()).masked_fill(~y_mask[:, None, None], -1e9))


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
    "finfo.min, made additive inside": SmallestAdded,
    "finfo.min as a fill": SmallestFilled,
    "numbers added to the scores, [B, 1, 1, L]": AddedFourAxes,
    "boolean [B, M, L] of pairs": Pairs,
    "heads folded into the batch": HeadsFolded,
    "slots before examples": SlotsFirst,
    "channels first": ChannelsFirst,
    "query, key and value apart": KeyAndValue,
    "boxes beside features": BoxesBeside,
    "a vector as the other side": GuidedByVector,
    "three sides": ThreeSides,
    "polarity that differs between sides": OppositePolarities,
    "both sides in one stream": OneStream,
    "learned queries": LearnedQueries,
    "weights over pairs": Bilinear,
    "cut to the longest row": CutToTheLongest,
    "BatchNorm over valid slots": NormalisedByTheReal,
    "convolutions over blanked padding": Convolved,
    "masked maximum and mean": MaximumAndMean,
    "sigmoid gates": Sigmoids,
    "a dictionary of outputs": AsDict,
    "a dataclass of outputs": AsDataclass,
    "a named tuple, keywords and a flag": AsNamedTuple,
    "positions and distances": Positions,
}
"""By what each stands for."""


def innocent(name: str, *, seed: int = 0) -> nn.Module:
    """A correct module of that name, its weights seeded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return INNOCENTS[name]().eval()
