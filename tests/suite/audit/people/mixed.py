"""Gates at zero, slots of a module's own, examples that meet, softmaxes over another axis, and other odd habits."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from people.truths import case


def attend(x, y, hidden):
    return (x @ y.mT / x.shape[-1] ** 0.5).masked_fill(hidden, -1e9).softmax(-1) @ y


class Keyed(nn.Module):
    def __init__(self):
        super().__init__()
        self.key = nn.Linear(12, 16)


class Gated(nn.Module):
    forgets = False

    def __init__(self):
        super().__init__()
        self.kv, self.gate = nn.Linear(24, 32), nn.Parameter(torch.zeros(1))

    def forward(self, x, media=None, media_mask=None):
        if media is None:
            return x
        k, v = self.kv(media).chunk(2, -1)
        scores = x @ k.mT / 4
        if media_mask is not None and not self.forgets:
            scores = scores.masked_fill(~media_mask[:, None], -1e4)
        return x + self.gate.tanh() * (scores.softmax(-1) @ v)


@case(
    sides=(16, 24), call=lambda m, x, xm, c, cm: [(m(x, c, cm), 0)], says="gate starts at zero", what="a gate at zero"
)
class GateAtZero(Gated):
    pass


@case(exit="1", broken="P1", says="media_mask is never used", what="a gate at zero, behind which the mask is not used")
class GateAtZeroForgets(Gated):
    forgets = True


class WithClass(nn.Module):
    put = (1, 0)

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.randn(1, 1, 16))
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0)

    def forward(self, a, b, a_pad, b_pad):
        x = torch.cat([self.first.expand(len(a), -1, -1), a, b], 1)
        return self.layer(x, src_key_padding_mask=F.pad(torch.cat([a_pad, b_pad], 1), self.put, value=False))


@case(
    sides=(16, 16),
    call=lambda m, x, xm, c, cm: [(m(x, c, ~xm, ~cm)[:, 0], None)],
    says="slots of its own",
    what="both sides in one stream behind a class token",
)
class ClassToken(WithClass):
    pass


@case(
    exit="1",
    broken="P1",
    sides=(16, 16),
    call=lambda m, x, xm, c, cm: [(m(x, c, ~xm, ~cm)[:, 0], None)],
    never="operation cat",
    what="the class token's place in the mask is at the end",
)
class ClassTokenMisplaced(WithClass):
    put = (0, 1)


@case(
    exit="1",
    broken="P1|P2",
    says="the first padded slot of y of each row is not hidden",
    sides=(16, 12),
    call=lambda m, x, xm, c, cm: [(m(x, xm.sum(1), c, cm.sum(1)), 0)],
    what="<= where < was meant",
)
class OneTooMany(Keyed):
    def forward(self, x, x_len, y, y_len):
        hidden = torch.arange(y.shape[1])[None] > y_len[:, None]
        return attend(x, self.key(y), hidden[:, None]) * (torch.arange(x.shape[1])[None] < x_len[:, None])[..., None]


@case(
    exit="1",
    broken="P3|P3o",
    says="without any padding, an example first depends on its batch mates",
    sides=(16, 12),
    call=lambda m, x, xm, c, cm: [(m(x, c, xm, cm), 0)],
    what="batch_first was forgotten: attention runs over the examples",
)
class ExamplesMeet(Keyed):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4)

    def forward(self, x, y, x_mask, y_mask):
        x = self.attention(x, x, x)[0] * x_mask[..., None]
        return attend(x, self.key(y), ~y_mask[:, None]) * x_mask[..., None]


class Heads(nn.Module):
    axis, views = -1, False

    def __init__(self):
        super().__init__()
        self.q, self.kv = nn.Linear(16, 16), nn.Linear(12, 32)

    def heads(self, t):
        if self.views:
            return t.contiguous().view(t.size(0), 4, t.size(1), 4)
        return t.unflatten(-1, (4, 4)).transpose(1, 2)

    def forward(self, x, y, y_mask):
        q, (k, v) = self.q(x).unflatten(-1, (4, 4)).transpose(1, 2), map(self.heads, self.kv(y).chunk(2, -1))
        scores = (q @ k.mT / 2).masked_fill(~y_mask[:, None, None], -1e9)
        return (scores.softmax(self.axis) @ v).transpose(1, 2).flatten(2)


@case(
    exit="1",
    broken="P1",
    says="does not run over slots of y",
    sides=(16, 12),
    call=lambda m, x, xm, c, cm: [(m(x, c, cm), 0)],
    what="a softmax over heads",
)
class OverHeads(Heads):
    axis = 1


@case(
    exit="1",
    broken="P1",
    says="in the places of valid ones",
    sides=(16, 12),
    call=lambda m, x, xm, c, cm: [(m(x, c, cm), 0)],
    what="a view where a transpose was needed",
)
class ViewForTranspose(Heads):
    views = True


@case(
    exit="1",
    broken="P1",
    says="mask is never used",
    sides=(16, 16),
    call=lambda m, x, xm, c, cm: [(m(x, c, cm), 0)],
    what="masked_fill gives a new tensor, which nobody keeps",
)
class Discarded(nn.Module):
    def forward(self, x, y, mask):
        scores = x @ y.mT / 2
        scores.masked_fill(~mask[:, None], -1e9)
        return scores.softmax(-1) @ y


@case(
    exit="1",
    broken="P1",
    says="a mean over slots",
    never="x_mask is never used",
    sides=(16, 12),
    call=lambda m, x, xm, c, cm: [(m(x, c, xm, cm), 0)],
    what="a gate of the mean over all slots; the mask blanks outputs alone",
)
class SqueezeExcite(Keyed):
    def __init__(self):
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 16), nn.Sigmoid())

    def forward(self, x, y, x_mask, y_mask):
        gate = self.gate(x.mean(dim=1, keepdim=True))
        return (x * gate + attend(x, self.key(y), ~y_mask[:, None])) * x_mask[..., None]


@case(
    sides=(24, 16),
    lens=[(6, 6, 6), (9, 6, 4)],
    call=lambda m, v, vm, q, qm: [(m(v.transpose(1, 2), q, qm.sum(1)), None)],
    what="a control over words by lengths, then a read of a map that is never padded, channels first",
)
class ControlAndRead(nn.Module):
    def __init__(self):
        super().__init__()
        self.read, self.score = nn.Conv1d(24, 16, 1), nn.Linear(16, 1)

    def forward(self, knowledge, words, question_lengths):
        pad = torch.arange(words.size(1), device=words.device)[None] >= question_lengths[:, None]
        weights = self.score(words).squeeze(-1).masked_fill(pad, float("-inf")).softmax(1)
        k = self.read(knowledge)
        return (torch.bmm(torch.bmm(weights.unsqueeze(1), words), k).softmax(-1) * k).sum(-1)


@case(
    sides=(16, 12),
    call=lambda m, x, xm, c, cm: [(m(x, context=c, mask=cm), 0)],
    what="by place alone, and by name alone",
)
class PlacesAndNames(Keyed):
    def forward(self, x, /, *, context, mask: torch.Tensor | None = None, layer: int = 0):
        hidden = ~mask[:, None] if mask is not None else torch.zeros(1, dtype=torch.bool)
        return attend(x, self.key(context), hidden)


@case(
    sides=(16, 12),
    call=lambda m, x, xm, c, cm: [(m(x, c, cm.sum(1, keepdim=True)), 0)],
    what="lengths [B, 1]",
)
class LengthsInAColumn(Keyed):
    def forward(self, x, y, n):
        return attend(x, self.key(y), (torch.arange(y.shape[1]) >= n)[:, None])


@case(
    sides=(16, 12),
    call=lambda m, x, xm, c, cm: [(m(x.transpose(0, 1), c.transpose(0, 1), (~cm).T).transpose(0, 1), 0)],
    what="all of it slots first, the mask too",
)
class MaskSlotsFirst(Keyed):
    def forward(self, tgt, mem, mem_pad):
        k = self.key(mem)
        scores = torch.einsum("tbd,sbd->bts", tgt, k).masked_fill(mem_pad.T[:, None], -1e9)
        return torch.einsum("bts,sbd->tbd", scores.softmax(-1), k)


@case(
    exit="0", sound="P1,P3", says="a check of its own refuses", what="it insists that the longest row fills the width"
)
class WidthIsLongest(Keyed):
    def forward(self, img, txt, txt_len):
        assert int(txt_len.max()) == txt.shape[1], "the longest row has to fill the batch"
        return attend(img, self.key(txt), (torch.arange(txt.shape[1]) >= txt_len[:, None])[:, None])


@case(
    exit="1", broken="P16", says="mean changes with each", never="it is random", what="a running mean in eval mode too"
)
class Drifts(Keyed):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(16))

    def forward(self, img, txt, txt_mask):
        out = attend(img, self.key(txt), ~txt_mask[:, None])
        self.mean = 0.9 * self.mean.to(out) + 0.1 * out.detach().mean((0, 1))
        return out - self.mean


@case(
    sides=(16, 12),
    call=lambda m, x, xm, c, cm: [(m(x, c, cm), 0)],
    says="what is detached at",
    what="one slot is chosen, with the gradient of the softmax",
)
class StraightThrough(Keyed):
    def forward(self, img, txt, txt_mask):
        scores = (img @ self.key(txt).mT / 4).masked_fill(~txt_mask[:, None], -1e9)
        soft = scores.softmax(-1)
        hard = F.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft)
        return (hard - soft.detach() + soft) @ self.key(txt)


@case(
    exit="1",
    broken="P1",
    says="a Fourier transform over slots",
    sides=(16,),
    call=lambda m, x, xm: [(m(x, xm), 0)],
    what="slots are mixed by a Fourier transform",
)
class Fourier(nn.Module):
    def forward(self, x, mask):
        y = torch.fft.fft(x, dim=1).real
        return (x + attend(y, y, ~mask[:, None])) * mask[..., None]


class LongestFirst(nn.Module):
    """What packing asks for unless it is told otherwise: examples from the longest to the shortest."""

    hidden = -1e9

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(16, 16, batch_first=True)

    def forward(self, img, txt, txt_len):
        packed = pack_padded_sequence(txt, txt_len.cpu(), batch_first=True)
        words, _ = pad_packed_sequence(packed, batch_first=True, total_length=txt.shape[1])
        beyond = torch.arange(txt.shape[1]) >= txt_len[:, None]
        return (img @ words.mT / 4).masked_fill(beyond[:, None], self.hidden).softmax(-1) @ words


@case(exit="0", sound="P1,P2,P3,P3o,P6", says="txt_len has to fall from example to example", what="sorted packing")
class SortedPacking(LongestFirst):
    pass


@case(exit="1", broken="P2,P3", says="txt_len has to fall", what="sorted packing, and padding that takes attention")
class SortedAndLeaking(LongestFirst):
    hidden = 0.0


@case(exit="2", says="NOT JUDGED", what="it runs at one number of examples, all as long, alone")
class OneBatchAlone(nn.Module):
    def forward(self, img, txt, txt_len):
        if txt_len.min() != txt_len.max():
            raise RuntimeError("CUDA error: device-side assert triggered")
        return attend(img, txt, (torch.arange(txt.shape[1]) >= txt_len[:, None])[:, None])


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__


@case(
    exit="2",
    says="Every one of them raised Mute: its message cannot be read, RuntimeError at mixed.py:[0-9]+",
    what="it never runs, and cannot say why",
)
class NeverSays(nn.Module):
    def forward(self, img, txt):
        raise Mute


@case(
    exit="0|2",
    says="with empty y, it raises at mixed.py:[0-9]+: Mute",
    call=lambda m, x, xm, y, ym: [(m(x, y, ym), 0)],
    sides=(16, 16),
)
class MuteOnEmptyRows(nn.Module):
    """It refuses rows without a valid slot with an exception that cannot be printed."""

    def __init__(self):
        super().__init__()
        self.w = nn.Linear(16, 16)

    def forward(self, x, y, y_mask):
        if not bool(y_mask.any(1).all()):
            raise Mute
        return (self.w(x) @ y.mT).masked_fill(~y_mask[:, None], -1e9).softmax(-1) @ y


@case(exit="2", says="Every one of them raised RuntimeError: no library at mixed.py:[0-9]+", what="it never runs")
class NeverRuns(nn.Module):
    def forward(self, img, txt):
        raise RuntimeError("no library")
