"""Arguments under every name and in every order, masks of every make."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from people.truths import case


class Pair(nn.Module):
    def __init__(self, one=16, two=12):
        super().__init__()
        self.one, self.two = nn.Linear(one, 16), nn.Linear(two, 16)


@case(
    sides=(16, 16),
    call=lambda m, a, am, b, bm: [(m(a, b, ~am, ~bm)[0], 0), (m(a, b, ~am, ~bm)[1], 1)],
    what="linear attention, both masks multiplied in and True where padding, under names that say neither",
)
class LinearPadding(Pair):
    def __init__(self):
        super().__init__(16, 16)

    def read(self, x, y, pad):
        k = (F.elu(self.two(y)) + 1) * ~pad[..., None]
        q = F.elu(self.one(x)) + 1
        return (q @ (k.mT @ y)) / (q @ k.sum(1)[..., None] + 1e-6)

    def forward(self, feat0, feat1, mask0=None, mask1=None):
        return feat0 + self.read(feat0, feat1, mask1), feat1 + self.read(feat1, feat0, mask0)


@case(
    sides=(16, 12),
    call=lambda m, a, am, b, bm: [(m(a, b, (~bm).float()), 0)],
    what="floats, 1 where padding, subtracted",
)
class SubtractsPads(Pair):
    def forward(self, src, tgt, m):
        score = self.one(src) @ self.two(tgt).mT / 4
        return (score - 1e9 * m[:, None]).softmax(-1) @ self.two(tgt)


@case(
    sides=(16, 12),
    call=lambda m, a, am, b, bm: [(m(a, am.byte(), b, bm.byte()), None)],
    what="bytes, mask behind each input, numbered names",
)
class Bytes(Pair):
    def forward(self, x1, m1, x2, m2):
        y = self.two(x2)
        score = (self.one(x1) @ y.mT / 4).masked_fill(m2[:, None] == 0, -1e9)
        read = (score.softmax(-1) @ y) * m1[..., None]
        return read.sum(1) / m1.sum(1)[:, None].clamp(min=1)


@case(
    sides=(16, 12),
    call=lambda m, a, am, b, bm: [(m(a, am, b, bm), 0)],
    what="an optional mask before the second input, which is needed all the same",
)
class NeededLast(Pair):
    def forward(self, x, x_mask=None, memory=None, memory_mask=None):
        if memory is None:
            raise TypeError("memory is needed")
        y = self.two(memory)
        score = self.one(x) @ y.mT / 4
        if memory_mask is not None:
            score = score.masked_fill(memory_mask.logical_not()[:, None], torch.finfo(score.dtype).min)
        read = score.softmax(-1) @ y
        return read if x_mask is None else read * x_mask[..., None]


@case(
    sides=(16, 12),
    call=lambda m, a, am, b, bm: [(m(a, b, b, bm.sum(1)), 0)],
    what="queries, keys, values and valid_lens, as a textbook has it",
)
class ValidLens(nn.Module):
    def __init__(self):
        super().__init__()
        self.W_q, self.W_k, self.W_v = nn.Linear(16, 16), nn.Linear(12, 16), nn.Linear(12, 16)
        self.num_heads = 4

    def split(self, x):
        return x.reshape(x.shape[0], x.shape[1], self.num_heads, -1).permute(0, 2, 1, 3).flatten(0, 1)

    def forward(self, queries, keys, values, valid_lens):
        q, k, v = self.split(self.W_q(queries)), self.split(self.W_k(keys)), self.split(self.W_v(values))
        score = torch.bmm(q, k.transpose(1, 2)) / math.sqrt(q.shape[-1])
        if valid_lens is not None:
            lens = torch.repeat_interleave(valid_lens, self.num_heads, dim=0)
            hidden = torch.arange(score.shape[-1])[None] >= lens[:, None]
            score = score.masked_fill(hidden[:, None], -1e6)
        out = torch.bmm(score.softmax(-1), v)
        return out.unflatten(0, (-1, self.num_heads)).permute(0, 2, 1, 3).flatten(2)


@case(
    sides=(16, 12),
    call=lambda m, a, am, b, bm: [(m(a.mT, am.sum(1), b.mT, bm.sum(1)).mT, 0)],
    what="channels first with lengths, as separators and synthesisers of speech have it",
)
class ChannelsAndLengths(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv1d(16, 16, 1), nn.Conv1d(12, 16, 1)

    def forward(self, x, x_lengths, c, c_lengths):
        a, b = self.a(x), self.b(c)
        keep_a = (torch.arange(a.shape[2])[None] < x_lengths[:, None])[:, None].to(a)
        keep_b = (torch.arange(b.shape[2])[None] < c_lengths[:, None])[:, None].to(a)
        score = (a.mT @ b).masked_fill(keep_b == 0, -1e4)
        return (a + (score.softmax(-1) @ b.mT).mT) * keep_a


@case(
    sides=(16, 12),
    exit="1",
    broken="P1",
    call=lambda m, a, am, b, bm: [(m(a.mT, am.sum(1), b.mT, bm.sum(1)).mT, 0)],
    what="the same with a convolution of width three over what is padded",
    says="convol",
)
class ChannelsAndLengthsWide(ChannelsAndLengths):
    def __init__(self):
        super().__init__()
        self.b = nn.Conv1d(12, 16, 3, padding=1)


@dataclass
class Settings:
    width: int = 16
    heads: int = 2
    dropout: float = 0.1


@case(
    sides=(16, 16),
    call=lambda m, a, am, b, bm: [(m(a, b, padding_mask=am, context_padding_mask=bm)[0], 0)],
    what="settings with defaults, a list of states out, masks by keyword, True where real under padding's name",
)
class Configured(nn.Module):
    def __init__(self, settings: Settings | None = None):
        super().__init__()
        settings = settings or Settings()
        self.layers = nn.ModuleList(
            nn.MultiheadAttention(settings.width, settings.heads, dropout=settings.dropout, batch_first=True)
            for _ in range(2)
        )

    def forward(self, hidden, context, *, padding_mask=None, context_padding_mask=None, output_states: bool = False):
        states = [hidden]
        for layer in self.layers:
            seen = None if context_padding_mask is None else ~context_padding_mask.bool()
            hidden = hidden + layer(hidden, context, context, key_padding_mask=seen, need_weights=False)[0]
            if padding_mask is not None:
                hidden = hidden * padding_mask.to(hidden)[..., None]
            states.append(hidden)
        return [hidden, *(states if output_states else [])]


@case(
    sides=(16, 12),
    exit="1",
    broken="P2",
    call=lambda m, a, am, b, bm: [(m(a, b, am, bm), None)],
    what="a mask through a sigmoid gate, and a mean that counts padding",
)
class GateMean(Pair):
    def forward(self, user, item, user_valid, item_valid):
        y = self.two(item) * item_valid[..., None]
        score = (self.one(user) @ y.mT / 4).masked_fill(~item_valid[:, None], -1e9)
        read = torch.sigmoid(score) @ y
        return (read * user_valid[..., None]).mean(1)


@case(
    sides=(16, 12),
    exit="1",
    broken="P6|P1",
    call=lambda m, a, am, b, bm: [(m(a, b, am, bm), 0)],
    what="the second mask takes the place of the first by a slip of the pen, where lengths agree",
)
class SlipOfThePen(Pair):
    def forward(self, a, b, a_mask, b_mask):
        x, y = self.one(a), self.two(b)
        hidden = ~a_mask if a.shape[1] == b.shape[1] else torch.zeros(b.shape[:2], dtype=torch.bool)
        return (x @ y.mT / 4).masked_fill(hidden[:, None], -1e9).softmax(-1) @ y


@case(
    exit="1",
    says="not finite|NaN",
    what="0/1 floats whose logarithm hides rows of queries too: NaN wherever a row is padded",
)
class LogOfPairs(Pair):
    def forward(self, a, b, a_mask, b_mask):
        x, y = self.one(a), self.two(b)
        pairs = a_mask.to(x)[..., None] * b_mask.to(x)[:, None]
        read = (x @ y.mT / 4 + pairs.log()).softmax(-1) @ y
        return read.sum(1)


@case(
    sides=(16, 12),
    call=lambda m, a, am, b, bm: [(m(a, b, (~bm)[:, None, None].float() * -1e9, None)[0], 0)],
    what="additive and a head mask that may be left out",
)
class WithHeadMask(Pair):
    def forward(self, hidden_states, encoder_hidden_states, encoder_attention_mask=None, head_mask=None):
        q, k = self.one(hidden_states)[:, None], self.two(encoder_hidden_states)[:, None]
        score = q @ k.mT / 4
        if encoder_attention_mask is not None:
            score = score + encoder_attention_mask
        weights = score.softmax(-1)
        if head_mask is not None:
            weights = weights * head_mask
        return ((weights @ k)[:, 0],)
