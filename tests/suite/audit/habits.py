"""Correct modules, each with a habit of public code in how it takes features and masks, and what it returns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attend(query: Tensor, memory: Tensor, hidden: Tensor) -> Tensor:
    """Attention of one set over another without weights; ``hidden`` broadcasts to ``[B, T, N]``, True where padding."""
    width = min(query.shape[-1], memory.shape[-1])
    scores = query[..., :width] @ memory[..., :width].mT / width**0.5
    return scores.masked_fill(hidden, -1e9).softmax(-1) @ memory


class Habit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(20, 16), nn.Linear(12, 16)
        self.torch = nn.MultiheadAttention(16, 4, batch_first=True)


class UnnamedMasks(Habit):
    """No name says that the last two are masks."""

    def forward(self, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.one(a), self.two(b)
        return attend(x, y, ~d[:, None]), attend(y, x, ~c[:, None])


class MasksBefore(Habit):
    """Each mask stands before what it is of, one True where padding."""

    def forward(self, seq_pad: Tensor, seq: Tensor, map_valid: Tensor, map_: Tensor) -> Tensor:
        x, y = self.one(seq), self.two(map_)
        x = x.masked_fill(seq_pad[..., None], 0)
        return attend(y, x, seq_pad[:, None]) + attend(y, y, ~map_valid[:, None])


class CrossedNames(Habit):
    """The mask named after one side is of the other."""

    def forward(self, left: Tensor, right: Tensor, left_mask: Tensor) -> Tensor:
        return attend(self.one(left), self.two(right), ~left_mask[:, None])


class FloatHeads(Habit):
    """Floats [B, 1, 1, L], 1.0 where real, as the callers of BERT make them before they are turned round."""

    def forward(self, hidden: Tensor, context: Tensor, context_mask: Tensor) -> Tensor:
        scores = (self.one(hidden) @ self.two(context).mT)[:, None] / 4
        scores = scores + (1.0 - context_mask) * -10000.0
        return (scores.softmax(-1) @ self.two(context)[:, None]).squeeze(1)


class AdditivePairs(Habit):
    """An additive mask [B, 1, T, S] that may be left out."""

    def forward(self, states: Tensor, memory: Tensor, bias: Tensor | None = None) -> Tensor:
        q, k = self.one(states)[:, None], self.two(memory)[:, None]
        return F.scaled_dot_product_attention(q, k, k, bias if bias is None else bias.expand(-1, 1, q.shape[2], -1))[
            :, 0
        ]


class Pairs(Habit):
    """One boolean mask [B, T, N] for both sides, which each attend the other."""

    def forward(self, u: Tensor, v: Tensor, uv_mask: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.one(u), self.two(v)
        scores = (x @ y.mT / 4).masked_fill(~uv_mask, -1e9)
        return scores.softmax(-1) @ y, scores.softmax(-2).mT @ x


class HeadPairs(nn.Module):
    """``attn_mask`` [B heads, T, S] of torch's own attention."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 4
        self.inner = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, query: Tensor, memory: Tensor, attn_mask: Tensor) -> Tensor:
        assert attn_mask.dim() == 3
        out: Tensor = self.inner(query, memory, memory, attn_mask=attn_mask)[0]
        return out


class Counts(Habit):
    """Numbers of slots, named like anything."""

    def forward(self, frames: Tensor, tokens: Tensor, frames_n: Tensor, tokens_n: Tensor) -> Tensor:
        hidden = [torch.arange(x.shape[1]) >= n[:, None] for x, n in ((frames, frames_n), (tokens, tokens_n))]
        x, y = self.one(frames), self.two(tokens)
        mean = x.masked_fill(hidden[0][..., None], 0).sum(1, keepdim=True) / frames_n[:, None, None].clamp(min=1)
        return attend(y, y, hidden[1][:, None]) + mean


class LengthsBesideMask(Habit):
    """Lengths for one side and a mask for the other."""

    def forward(self, audio: Tensor, audio_lengths: Tensor, text: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.one(audio), self.two(text)
        hidden = torch.arange(x.shape[1]) >= audio_lengths[:, None]
        return attend(y, x, hidden[:, None]), attend(x, y, ~text_mask[:, None])


class SlotsFirst(nn.Module):
    """[L, B, D] with one input, where only examples that keep to themselves tell the axes."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(16, 2)

    def forward(self, src: Tensor, src_padding: Tensor) -> Tensor:
        out: Tensor = self.inner(src, src, src, key_padding_mask=src_padding, need_weights=False)[0]
        return out


class ChannelsFirst(nn.Module):
    """[B, D, L], as convolutions of width one have it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv1d(20, 16, 1), nn.Conv1d(12, 16, 1)

    def forward(self, x: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        return attend(self.one(x).mT, self.two(y).mT, ~y_mask[:, None]).mT


class Map(nn.Module):
    """A map [B, C, H, W] that is never padded beside words that are."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce, self.word = nn.Conv2d(24, 16, 1), nn.Linear(12, 16)

    def forward(self, feature_map: Tensor, words: Tensor, word_mask: Tensor) -> Tensor:
        x = self.reduce(feature_map).flatten(2).mT
        return attend(x, self.word(words), ~word_mask[:, None]).mean(1)


class Boxes(nn.Module):
    """Positions [B, N, 4] beside features of the same slots."""

    def __init__(self) -> None:
        super().__init__()
        self.feature, self.box, self.word = nn.Linear(20, 16), nn.Linear(4, 16), nn.Linear(12, 16)

    def forward(self, feats: Tensor, boxes: Tensor, words: Tensor, feats_mask: Tensor) -> Tensor:
        return attend(self.word(words), self.feature(feats) + self.box(boxes), ~feats_mask[:, None])


class Vector(Habit):
    """The guide is one vector per example."""

    def forward(self, guide: Tensor, regions: Tensor, region_mask: Tensor) -> tuple[Tensor, Tensor]:
        scores = (self.two(regions) * self.one(guide)[:, None]).sum(-1).masked_fill(region_mask == 0, -1e9)
        weights = scores.softmax(-1)
        return (weights[..., None] * regions).sum(1), weights


class ThreeSides(nn.Module):
    """Three modalities with a mask each, all in one stream."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.audio, self.video = nn.Linear(20, 16), nn.Linear(12, 16), nn.Linear(10, 16)

    def forward(self, t: Tensor, a: Tensor, v: Tensor, t_mask: Tensor, a_mask: Tensor, v_mask: Tensor) -> Tensor:
        x = torch.cat([self.text(t), self.audio(a), self.video(v)], 1)
        return attend(x, x, ~torch.cat([t_mask, a_mask, v_mask], 1)[:, None])


class MemoryMasks(nn.Module):
    """Three masks for two sides, as torch's own decoder takes them, all of which may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.TransformerDecoderLayer(16, 2, 32, batch_first=True)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
    ) -> Tensor:
        out: Tensor = self.inner(
            tgt,
            memory,
            tgt_mask,
            memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal,
        )
        return out


class OptionalSecond(Habit):
    """The second input may be left out by its signature, and the module does not run without."""

    def forward(
        self, x: Tensor, *, y: Tensor | None = None, y_mask: Tensor | None = None, scale: float = 0.25
    ) -> Tensor:
        assert y is not None
        hidden = torch.zeros(y.shape[:2], dtype=torch.bool) if y_mask is None else ~y_mask
        return attend(self.one(x) * scale, self.two(y), hidden[:, None])


class BothOrNone(Habit):
    """One mask alone is not looked at."""

    def forward(self, p: Tensor, q: Tensor, p_mask: Tensor | None = None, q_mask: Tensor | None = None) -> Tensor:
        x, y = self.one(p), self.two(q)
        hidden = torch.zeros(x.shape[0], x.shape[1], y.shape[1], dtype=torch.bool)
        if p_mask is not None and q_mask is not None:
            hidden = hidden | ~(p_mask[..., None] & q_mask[:, None])
        return attend(x, y, hidden)


@dataclass
class Answer:
    fused: Tensor
    extras: dict[str, Any]


class Nested(Habit):
    """A dataclass that holds a mapping of tuples, and a loss of no examples."""

    def forward(self, image: Tensor, text: Tensor, text_mask: Tensor, return_dict: bool = True) -> Answer:
        x, y = self.one(image), self.two(text)
        scores = (x @ y.mT).masked_fill(~text_mask[:, None], -1e4)
        return Answer(scores.softmax(-1) @ y, {"scores": (scores, scores.softmax(-1)), "loss": scores.new_zeros(())})


class ClassToken(Habit):
    """Queries of its own, as many at any size."""

    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(5, 16))

    def forward(self, media: Tensor, media_mask: Tensor) -> Tensor:
        queries = self.latents.expand(len(media), -1, -1)
        return attend(queries, self.one(media), ~media_mask[:, None])


class FoldedHeads(nn.Module):
    """Weights [B heads, T, S]."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(20, 16), nn.Linear(12, 16)

    def forward(self, drug: Tensor, protein: Tensor, protein_mask: Tensor) -> Tensor:
        q, k = (x.unflatten(-1, (4, 4)).transpose(1, 2).flatten(0, 1) for x in (self.q(drug), self.k(protein)))
        hidden = ~protein_mask.repeat_interleave(4, 0)
        return (q @ k.mT).masked_fill(hidden[:, None], -1e9).softmax(-1)


class Normed(nn.Module):
    """LayerNorm first; learned positions fix the length of one side."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.place, self.word = nn.LayerNorm(24), nn.Parameter(torch.randn(1, 9, 24)), nn.Linear(12, 24)

    def forward(self, grid: Tensor, words: Tensor, words_mask: Tensor) -> Tensor:
        return attend(self.norm(grid) + self.place, self.word(words), ~words_mask[:, None])


@dataclass(frozen=True)
class Right:
    """What is right of a habit."""

    make: Callable[[], nn.Module]
    sides: dict[str, int]
    """Each side and its width."""
    masks: dict[str, str]
    """Each mask, and what its line in the account has to hold: whose padding it tells of, and how."""
    outputs: tuple[str, ...]
    """The kinds of the outputs."""


REAL, PADDING = "a boolean mask [B, L], True where real", "a boolean mask [B, L], True where padding"
HABITS = (
    Right(
        UnnamedMasks,
        {"a": 20, "b": 12},
        {"c": f"of a: it takes {REAL}", "d": f"of b: it takes {REAL}"},
        ("tokens",) * 2,
    ),
    Right(
        MasksBefore,
        {"seq": 20, "map_": 12},
        {"seq_pad": f"of seq: it takes {PADDING}", "map_valid": f"of map_: it takes {REAL}"},
        ("tokens",),
    ),
    Right(CrossedNames, {"left": 20, "right": 12}, {"left_mask": f"of right: it takes {REAL}"}, ("tokens",)),
    Right(
        FloatHeads,
        {"hidden": 20, "context": 12},
        {"context_mask": "of context: it takes floats 0 and 1, [B, 1, 1, L], 1 where real"},
        ("tokens",),
    ),
    Right(AdditivePairs, {"states": 20, "memory": 12}, {"bias": "of memory: it takes a"}, ("tokens",)),
    Right(Pairs, {"u": 20, "v": 12}, {"uv_mask": "a boolean mask [B, L1, L2], True where real"}, ("tokens",) * 2),
    Right(
        HeadPairs,
        {"query": 16, "memory": 16},
        {"attn_mask": "of memory: it takes a boolean mask [B H, L1, L2], True where padding"},
        ("tokens",),
    ),
    Right(
        Counts,
        {"frames": 20, "tokens": 12},
        {"frames_n": "of frames: it takes lengths", "tokens_n": "of tokens: it takes lengths"},
        ("tokens",),
    ),
    Right(
        LengthsBesideMask,
        {"audio": 20, "text": 12},
        {"audio_lengths": "of audio: it takes lengths", "text_mask": f"of text: it takes {REAL}"},
        ("tokens",) * 2,
    ),
    Right(SlotsFirst, {"src": 16}, {"src_padding": f"of src: it takes {PADDING}"}, ("tokens",)),
    Right(ChannelsFirst, {"x": 20, "y": 12}, {"y_mask": f"of y: it takes {REAL}"}, ("tokens",)),
    Right(Map, {"feature_map": 24, "words": 12}, {"word_mask": f"of words: it takes {REAL}"}, ("vectors",)),
    Right(Boxes, {"feats": 20, "words": 12}, {"feats_mask": f"of feats: it takes {REAL}"}, ("tokens",)),
    Right(
        Vector, {"guide": 20, "regions": 12}, {"region_mask": f"of regions: it takes {REAL}"}, ("vectors", "weights")
    ),
    Right(
        ThreeSides, {"t": 20, "a": 12, "v": 10}, {f"{s}_mask": f"of {s}: it takes {REAL}" for s in "tav"}, ("joined",)
    ),
    Right(
        MemoryMasks,
        {"tgt": 16, "memory": 16},
        {f"{s}_key_padding_mask": f"of {s}: it takes {PADDING}" for s in ("tgt", "memory")},
        ("tokens",),
    ),
    Right(OptionalSecond, {"x": 20, "y": 12}, {"y_mask": f"of y: it takes {REAL}"}, ("tokens",)),
    Right(
        BothOrNone,
        {"p": 20, "q": 12},
        {"p_mask": f"of p: it takes {REAL}", "q_mask": f"of q: it takes {REAL}"},
        ("tokens",),
    ),
    Right(
        Nested,
        {"image": 20, "text": 12},
        {"text_mask": f"of text: it takes {REAL}"},
        ("tokens", "similarities", "weights", "unknown"),
    ),
    Right(ClassToken, {"media": 20}, {"media_mask": f"of media: it takes {REAL}"}, ("fixed",)),
    Right(FoldedHeads, {"drug": 20, "protein": 12}, {"protein_mask": f"of protein: it takes {REAL}"}, ("weights",)),
    Right(Normed, {"grid": 24, "words": 12}, {"words_mask": f"of words: it takes {REAL}"}, ("tokens",)),
)
