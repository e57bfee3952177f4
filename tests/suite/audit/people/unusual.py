"""Masks in unusual forms and places, sides that go together, and layers that their authors keep to themselves."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from people.truths import case


class Reads(nn.Module):
    def __init__(self, own=16, other=16):
        super().__init__()
        self.w = nn.Linear(own, other)

    def scores(self, x, y):
        return self.w(x) @ y.transpose(1, 2) / 4


@case(
    sides=(20, 16),
    call=lambda m, a, am, b, bm: [(m(a, am.sum(1) / am.shape[1], b, bm.sum(1) / bm.shape[1]), None)],
    says="shares of the padded row",
)
class ShareLens(nn.Module):
    """Lengths are shares of the padded row, as in a well-known speech library."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(20, 12), nn.Linear(16, 12)

    def pool(self, x, lens):
        live = torch.arange(x.shape[1])[None] < torch.round(lens * x.shape[1])[:, None]
        m = live.unsqueeze(-1).to(x.dtype)
        return (x * m).sum(1) / m.sum(1).clamp(min=1)

    def forward(self, mix, mix_lens, ref, ref_lens):
        return self.pool(torch.tanh(self.a(mix)), mix_lens) * self.pool(torch.tanh(self.b(ref)), ref_lens)


@case(
    sides=(24, 16),
    call=lambda m, a, am, b, bm: [(m(a, b, am[..., None].float(), (~bm)[:, None, None].float() * -1e4), 0)],
)
class MixedShapes(nn.Module):
    """Floats [B, L, 1] for one side, an additive mask [B, 1, 1, L] for the other, both required: no form fits both."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(24, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, nodes, tokens, node_mask, token_bias):
        def heads(x):
            return x.view(x.shape[0], -1, 4, 4).transpose(1, 2)

        s = heads(self.q(nodes * node_mask)) @ heads(self.k(tokens)).transpose(2, 3) / 2 + token_bias
        return (s.softmax(-1) @ heads(self.v(tokens))).transpose(1, 2).flatten(2) * node_mask


@case(
    sides=(16, 16),
    call=lambda m, v, vm, q, qm: list(zip(m(v, q, (~vm)[:, None, None].float() * -65504, ~qm), (0, 1), strict=True)),
    says="additive",
)
class AdditiveAndBool(Reads):
    """An additive mask with axes for heads, a boolean one without: a wrong form would spread examples over an axis."""

    def __init__(self):
        super().__init__()
        self.b = nn.Linear(16, 16)

    def forward(self, img, txt, img_mask, txt_pad):
        t = (self.scores(txt, img)[:, None] + img_mask).softmax(-1)[:, 0] @ img
        r = self.b(img) @ txt.transpose(1, 2) / 4
        return r.masked_fill(txt_pad[:, None, :], -65504.0).softmax(-1) @ txt, t


@case(
    sides=(16, 16),
    exit="1",
    broken="P1",
    says="does not see the mask",
    call=lambda m, v, vm, q, qm: list(zip(m(v, q, vm, qm), (0, 1), strict=True)),
)
class MaskOnTheRows(Reads):
    """Each mask stands on the rows of its own queries: what it hides is deaf, and no less heard."""

    def forward(self, image, question, image_mask, question_mask):
        s = self.scores(image, question)
        a = s.masked_fill(~image_mask.unsqueeze(2), -1e9).softmax(-1)
        b = s.transpose(1, 2).masked_fill(~question_mask.unsqueeze(2), -1e9).softmax(-1)
        return a @ question, b @ image


@case(sides=(16, 16), call=lambda m, a, am, b, bm: [(m(a, b, am, bm)[0], 0)])
class LogOfTheMask(Reads):
    """log(mask + 1e-45) is added: weights of e^-100 are left on padding, which is no weight."""

    def forward(self, src, ctx, src_mask, ctx_mask):
        s = self.scores(src, ctx) + (ctx_mask[:, None].to(src.dtype) + 1e-45).log()
        p = s.softmax(-1)
        return (p @ ctx) * src_mask[..., None], p


@case(sides=(16,), sound="P1,P2,P3,P6,P16", call=lambda m, x, xm: [(m(x, xm), 0)])
class KeepsTheTriangle(nn.Module):
    """Causal self-attention: the last slots reach no others, and are not all hidden for that. The triangle is kept."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.kept = {}

    def forward(self, seq, seq_mask):
        n = seq.shape[1]
        if n not in self.kept:
            self.kept[n] = torch.ones(n, n, dtype=torch.bool).tril()
        q, k, v = self.qkv(seq).chunk(3, -1)
        s = (q @ k.transpose(1, 2) / 4).masked_fill(~(self.kept[n] & seq_mask[:, None]), -1e9)
        return s.softmax(-1) @ v


class Fall(Reads):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.GRU(16, 12, batch_first=True), nn.GRU(16, 12, batch_first=True)

    def both(self, x, x_len, y, y_len):
        h = self.a(pack_padded_sequence(x, x_len.cpu(), batch_first=True))[1][-1]
        return h * self.b(pack_padded_sequence(y, y_len.cpu(), batch_first=True))[1][-1]


FALLING = [(9, 7, 4), (8, 6, 5)]


@case(
    sides=(16, 16),
    lens=FALLING,
    sound="P1,P2,P3,P6,P10,P11",
    says="text_len and audio_len have to fall",
    call=lambda m, a, am, b, bm: [(m(a, am.sum(1), b, bm.sum(1)), None)],
)
class BothFall(Fall):
    """Lengths of both sides have to fall, as packing has it by default."""

    def forward(self, text, text_len, audio, audio_len):
        return self.both(text, text_len, audio, audio_len)


@case(
    sides=(16, 16),
    lens=FALLING,
    exit="1",
    broken="P1",
    call=lambda m, a, am, b, bm: [(m(a, b, am.sum(1), bm.sum(1)), None)],
)
class BothFallAndLeak(Fall):
    """The same, with attention beside it that no mask reaches."""

    def forward(self, x1, x2, len1, len2):
        w = self.scores(x1, x2).amax(2).softmax(1)
        return torch.cat([self.both(x1, len1, x2, len2), (w[..., None] * x1).sum(1)], -1)


@case(sides=(16, 16), says="where gradients are wanted", call=lambda m, a, am, b, bm: [(m(a, b, bm), 0)])
class NoBackward(Reads):
    """What it calls has no backward pass here, padded or not: that is the device's fault."""

    def forward(self, x, y, y_mask):
        p = self.scores(x, y).masked_fill(~y_mask[:, None], -1e9).softmax(-1)
        return torch.bmm(p, y, out=torch.empty(0, dtype=x.dtype))


def to_one_length(m, a, am, b, bm):
    n = max(a.shape[1], b.shape[1])
    given = [F.pad(x, (0, 0, 0, n - x.shape[1])) for x in (a, b)]
    one, two = m(*given, *(F.pad(x, (0, n - x.shape[1])) for x in (am, bm)))
    return [(one[:, : a.shape[1]], 0), (two[:, : b.shape[1]], 1)]


class Siamese(Reads):
    def both(self, left, right, left_mask, right_mask):
        a, b = torch.tanh(torch.cat([left, right], 0)).chunk(2, 0)  # one batch, so one length
        one = self.scores(a, b).masked_fill(~right_mask[:, None], -1e9).softmax(-1) @ b
        return a + one, b + self.scores(b, a).masked_fill(~left_mask[:, None], -1e9).softmax(-1) @ a


@case(sides=(16, 16), call=to_one_length)
class Twins(Siamese):
    """Two sides that are padded to one length."""

    def forward(self, left, right, left_mask, right_mask):
        return self.both(left, right, left_mask, right_mask)


@case(exit="2", says="have to be equally long, and left_mask does not hide slots of left")
class TwinsSwapped(Siamese):
    """The same, each with the other's mask: read as one side it would pass."""

    def forward(self, left, right, left_mask, right_mask):
        return self.both(left, right, right_mask, left_mask)


@case(
    sides=(16,),
    exit="1",
    broken="P1",
    says="softmax at unusual.py",
    never="the operation cat",
    call=lambda m, x, xm: [(m(x, xm), None)],
)
class MaskBeforeLatents(nn.Module):
    """The mask is made longer in front, while the latents stand behind."""

    def __init__(self):
        super().__init__()
        self.latents, self.kv = nn.Parameter(torch.randn(5, 16)), nn.Linear(16, 32)

    def forward(self, x, mask):
        q = self.latents.expand(len(x), -1, -1)
        k, v = self.kv(torch.cat([x, q], 1)).chunk(2, -1)
        s = (q @ k.transpose(1, 2) / 4).masked_fill(~F.pad(mask, (5, 0), value=True)[:, None], -1e9)
        return s.softmax(-1) @ v


@case(
    sides=(16, 16),
    exit="1",
    broken="P2|P3",
    says="the maximum at unusual.py:[0-9]+ is taken over what stands in padding too",
    call=lambda m, a, am, b, bm: [(m(a, b, am, bm), None)],
)
class ZeroedMax(nn.Module):
    """Features may be below zero, so zeroed padding wins the maximum."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(16, 12), nn.Linear(16, 12)

    def forward(self, left, right, left_mask, right_mask):
        x = (torch.tanh(self.a(left)) * left_mask.unsqueeze(-1)).amax(1)
        return x + (torch.tanh(self.b(right)) * right_mask.unsqueeze(-1)).amax(1)


@case(
    sides=(24, 48),
    exit="1",
    broken="P2|P3",
    says="operation div at unusual.py",
    call=lambda m, a, am, b, bm: [(m(a, b, bm[:, None, None]), 0)],
)
class TwelveHeads(nn.Module):
    """As many heads as the audit's scene has slots; scores are scaled by the number of keys, padding included."""

    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(24, 48), nn.Linear(48, 48)

    def forward(self, states, memory, memory_mask):
        def heads(x):
            return x.unflatten(-1, (12, 4)).transpose(1, 2)

        s = heads(self.q(states)) @ heads(self.k(memory)).transpose(2, 3) / math.sqrt(memory.shape[1])
        p = s.masked_fill(~memory_mask, torch.finfo(s.dtype).min).softmax(-1)
        return (p @ heads(memory)).transpose(1, 2).flatten(2)


@case(exit="0|2", never="WRONG")
class MaskPerHead(nn.Module):
    """A mask for each head, [B, H, T, N]; the keys are not to be taken for channels first instead."""

    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x, y, attn_keep):
        rows, count, _ = x.shape

        def heads(t):
            return t.view(rows, -1, 2, 8).transpose(1, 2).reshape(rows * 2, -1, 8)

        s = torch.bmm(heads(self.q(x)), heads(self.k(y)).transpose(1, 2)) / 3
        s = s.masked_fill(~attn_keep.reshape(rows * 2, count, -1), -1e9)
        return torch.bmm(s.softmax(-1), heads(y)).view(rows, 2, count, 8).transpose(1, 2).flatten(2)


@case(exit="0|2", never="WRONG", says="it takes a boolean mask")
class ScoresOfTheLargestNumber(nn.Module):
    """Scores with the mask added as one less it, times the least number there is: a length there makes +inf of all."""

    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, phrases, regions, attention_mask):
        told = (1.0 - attention_mask.to(phrases.dtype).unsqueeze(1)) * torch.finfo(phrases.dtype).min
        return self.q(phrases) @ self.k(regions).mT / 4 + told


@case(exit="0|2", never="WRONG")
class WordsInSentences(nn.Module):
    """A document is sentences of words, [B, S, W, D], and so is its mask; an image beside it reads the sentences."""

    def __init__(self):
        super().__init__()
        self.word, self.key = nn.Linear(16, 1), nn.Linear(16, 16)

    def forward(self, picture, document, picture_mask, document_mask):
        weights = self.word(document.tanh()).squeeze(-1).masked_fill(~document_mask, -1e9).softmax(-1)
        sentences = (weights[..., None] * document).sum(2)
        real = document_mask.any(-1)
        scores = (self.key(picture) @ sentences.mT / 4).masked_fill(~real[:, None], -1e9)
        return (picture + scores.softmax(-1) @ sentences) * picture_mask[..., None]
