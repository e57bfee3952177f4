"""Vision-language."""

import math
from collections import OrderedDict, namedtuple

import torch
import torch.nn as nn
import torch.nn.functional as F

from people.truths import case


@case(sides=(36, 20), call=lambda m, v, vm, q, qm: [(m(v, q[:, 0], vm.float()), None)], lens=[(9, 6, 4), (1, 1, 1)])
class BUTDAttention(nn.Module):
    """v [B,K,Dv], q a vector; v_mask float, pooled."""

    def __init__(self, dv=36, dq=20, dh=24):
        super().__init__()
        self.v_proj, self.q_proj, self.lin = (
            nn.Linear(dv, dh),
            nn.Linear(dq, dh),
            nn.utils.weight_norm(nn.Linear(dh, 1), dim=None),
        )

    def logits(self, v, q):
        return self.lin(
            torch.relu(self.v_proj(v)) * torch.relu(self.q_proj(q)).unsqueeze(1).repeat(1, v.size(1), 1)
        ).squeeze(2)

    def forward(self, v, q, v_mask):
        att = self.logits(v, q)
        att = att.masked_fill(v_mask < 0.5, float("-inf"))
        p = F.softmax(att, 1)
        return torch.einsum("bk,bkd->bd", p, v)


@case(sides=(24, 16), call=lambda m, v, vm, q, qm: [(m(v, q, qm.sum(1)), None)], lens=[(9, 9, 9), (6, 4, 9)])
class StackedAttention(nn.Module):
    """Grid features never padded; the question through a packed LSTM by lengths."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(16, 24, batch_first=True)
        self.h = nn.ModuleList([nn.Linear(24, 24) for _ in range(2)])
        self.s = nn.ModuleList([nn.Linear(24, 1) for _ in range(2)])

    def forward(self, grid, ques, ques_len):
        pk = nn.utils.rnn.pack_padded_sequence(
            ques, ques_len.cpu().clamp(min=1), batch_first=True, enforce_sorted=False
        )
        u = self.rnn(pk)[1][0][-1]
        for h, s in zip(self.h, self.s, strict=False):
            p = s(torch.tanh(h(grid) + u[:, None])).softmax(1)
            u = u + (p * grid).sum(1)
        return u


@case(
    sides=(24, 16),
    call=lambda m, v, vm, q, qm: [(m(v, q, qm.sum(1)), None)],
    lens=[(9, 9, 9), (6, 4, 9)],
    exit="1",
    broken="P1",
    says="recurren|LSTM|RNN|packed",
)
class StackedUnpacked(nn.Module):
    """The LSTM's last state after padding."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(16, 24, batch_first=True)
        self.h = nn.Linear(24, 24)
        self.s = nn.Linear(24, 1)

    def forward(self, grid, ques, ques_len):
        out, (hn, _) = self.rnn(ques)
        t = torch.arange(ques.size(1)) < ques_len[:, None]
        mean = (out * t[..., None]).sum(1) / ques_len[:, None].clamp(min=1)
        u = hn[-1] + mean
        p = self.s(torch.tanh(self.h(grid) + u[:, None])).softmax(1)
        return u + (p * grid).sum(1)


@case(sides=(18, 14), call=lambda m, v, vm, q, qm: [(m(v, q, vm, qm)[0], None)])
class BANGlimpse(nn.Module):
    """Bilinear attention maps, softmax over all pairs [B, G, N, T]."""

    def __init__(self, g=2, k=16):
        super().__init__()
        self.v, self.q = nn.Linear(18, k), nn.Linear(14, k)
        self.h = nn.Parameter(torch.randn(g, k) / 4)

    def forward(self, v, q, v_mask, q_mask):
        a, b = torch.relu(self.v(v)), torch.relu(self.q(q))
        s = torch.einsum("gk,bnk,btk->bgnt", self.h, a, b)
        m = (v_mask.unsqueeze(2) & q_mask.unsqueeze(1)).unsqueeze(1)
        s = s.masked_fill(~m, -1e30)
        p = s.flatten(2).softmax(-1).view_as(s)
        return torch.einsum("bgnt,bnk,btk->bgk", p, a, b).flatten(1), p


class MHAtt(nn.Module):
    def __init__(self, d=32, h=4):
        super().__init__()
        self.h, self.d = h, d
        self.v, self.k, self.q, self.o = (nn.Linear(d, d) for _ in range(4))

    def forward(self, v, k, q, mask):
        n = q.size(0)
        v, k, q = (
            f(x).view(n, -1, self.h, self.d // self.h).transpose(1, 2)
            for f, x in ((self.v, v), (self.k, k), (self.q, q))
        )
        s = q @ k.transpose(-2, -1) / math.sqrt(self.d // self.h)
        if mask is not None:
            s = s.masked_fill(mask, -1e9)
        return self.o((s.softmax(-1) @ v).transpose(1, 2).reshape(n, -1, self.d))


class SA(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.n1, self.n2, self.f = (
            MHAtt(),
            nn.LayerNorm(32),
            nn.LayerNorm(32),
            nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32)),
        )

    def forward(self, x, mask):
        x = self.n1(x + self.a(x, x, x, mask))
        return self.n2(x + self.f(x))


class GA(SA):
    def __init__(self):
        super().__init__()
        self.b, self.n3 = MHAtt(), nn.LayerNorm(32)

    def forward(self, x, y, xm, ym):
        x = self.n1(x + self.a(x, x, x, xm))
        x = self.n3(x + self.b(y, y, x, ym))
        return self.n2(x + self.f(x))


def MC(m, x, xm, y, ym):
    return [(t, i) for i, t in enumerate(m(x, y, ~xm[:, None, None], ~ym[:, None, None]))]


@case(sides=(32, 32), call=MC)
class MCAEnc(nn.Module):
    """Encoder-decoder of modular co-attention, 4d masks True = pad."""

    def __init__(self):
        super().__init__()
        self.e, self.d = nn.ModuleList([SA(), SA()]), nn.ModuleList([GA(), GA()])

    def forward(self, x, y, x_mask, y_mask):
        for e in self.e:
            x = e(x, x_mask)
        for d in self.d:
            y = d(y, x, y_mask, x_mask)
        return x, y


@case(sides=(32, 32), call=MC, exit="1", broken="P1", never="recurren|convol|BatchNorm")
class MCAEncSecondLayer(MCAEnc):
    """The second encoder layer is called without the mask."""

    def forward(self, x, y, x_mask, y_mask):
        x = self.e[0](x, x_mask)
        x = self.e[1](x, None)
        for d in self.d:
            y = d(y, x, y_mask, x_mask)
        return x, y


@case(sides=(32, 32), call=MC, exit="1", broken="P1")
class MCAGuideUnmasked(MCAEnc):
    """Guided attention of the second decoder layer without x_mask."""

    def forward(self, x, y, x_mask, y_mask):
        for e in self.e:
            x = e(x, x_mask)
        y = self.d[0](y, x, y_mask, x_mask)
        y = self.d[1](y, x, y_mask, None)
        return x, y


def PC(m, v, vm, q, qm):
    return [(m(v, q, vm, qm)[0], None), (m(v, q, vm, qm)[1], None)]


@case(sides=(20, 28), call=PC, exit="1", broken="P1", says="affinity")
class ParallelCo(nn.Module):
    """The classic: tanh affinity sums over padded words, softmax alone is masked."""

    def __init__(self, k=16):
        super().__init__()
        self.wb, self.wv, self.wq, self.hv, self.hq = (
            nn.Linear(28, 20, bias=False),
            nn.Linear(20, k),
            nn.Linear(28, k),
            nn.Linear(k, 1),
            nn.Linear(k, 1),
        )

    def clean(self, t, m):
        return t

    def forward(self, image, ques, image_mask, ques_mask):
        c = torch.tanh(self.wb(ques) @ image.transpose(1, 2))
        wv, wq = self.clean(self.wv(image), image_mask), self.clean(self.wq(ques), ques_mask)
        hv = torch.tanh(wv + c.transpose(1, 2) @ wq)
        hq = torch.tanh(wq + c @ wv)
        av = self.hv(hv).squeeze(-1).masked_fill(~image_mask, -1e9).softmax(-1)
        aq = self.hq(hq).squeeze(-1).masked_fill(~ques_mask, -1e9).softmax(-1)
        return (av.unsqueeze(1) @ image).squeeze(1), (aq.unsqueeze(1) @ ques).squeeze(1)


@case(sides=(20, 28), call=PC)
class ParallelClean(ParallelCo):
    def clean(self, t, m):
        return t * m.unsqueeze(-1)


class BiAtt(nn.Module):
    def __init__(self, d1=24, d2=32, h=4, a=16):
        super().__init__()
        self.num_attention_heads, self.size = h, a // h
        self.query1, self.key1, self.value1 = (nn.Linear(d1, a) for _ in range(3))
        self.query2, self.key2, self.value2 = (nn.Linear(d2, a) for _ in range(3))

    def t(self, x):
        return x.view(*x.shape[:2], self.num_attention_heads, self.size).permute(0, 2, 1, 3)

    def forward(
        self,
        input_tensor1,
        attention_mask1,
        input_tensor2,
        attention_mask2,
        co_attention_mask=None,
        use_co_attention_mask=False,
    ):
        q1, k1, v1 = (
            self.t(self.query1(input_tensor1)),
            self.t(self.key1(input_tensor1)),
            self.t(self.value1(input_tensor1)),
        )
        q2, k2, v2 = (
            self.t(self.query2(input_tensor2)),
            self.t(self.key2(input_tensor2)),
            self.t(self.value2(input_tensor2)),
        )
        s1 = q2 @ k1.transpose(-1, -2) / math.sqrt(self.size) + attention_mask1
        if use_co_attention_mask:
            s1 = s1 + co_attention_mask.permute(0, 1, 3, 2)
        p1 = s1.softmax(-1)
        s2 = q1 @ k2.transpose(-1, -2) / math.sqrt(self.size) + attention_mask2
        p2 = s2.softmax(-1)
        c1, c2 = (x.permute(0, 2, 1, 3).flatten(2) for x in (p1 @ v1, p2 @ v2))
        return c1, c2, {"attn1": p1, "attn2": p2} if not self.training else None


def add(m):
    return torch.zeros(m.shape).masked_fill(~m, -10000.0)[:, None, None]


@case(
    sides=(24, 32), call=lambda m, a, am, b, bm: [(m(a, add(am), b, add(bm))[0], 1), (m(a, add(am), b, add(bm))[1], 0)]
)
class ViLBiAttention(BiAtt):
    """Additive 4d masks, a flag, tuple with a dict."""


@case(
    sides=(24, 32),
    exit="1",
    broken="P6",
    call=lambda m, a, am, b, bm: [(m(a, add(am), b, add(bm))[0], 1), (m(a, add(am), b, add(bm))[1], 0)],
    says="attention_mask2.*(never used|not used|no effect|ignored)|never",
)
class ViLOneDropped(BiAtt):
    def forward(self, input_tensor1, attention_mask1, input_tensor2, attention_mask2):
        return super().forward(input_tensor1, attention_mask1, input_tensor2, torch.zeros_like(attention_mask2))[:2]


class MAMap(nn.Module):
    def __init__(self, d=24):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(16, d), nn.Conv2d(20, d, 1), nn.Conv2d(20, d, 1)


def grid(f, h=3):
    return f


@case(
    exit="0|2",
    what="Feature map [B,C,H,W] with a mask [B,H,W], True = padding, DETR-like; correct",
    never="takes no mask",
)
class MapWithMask(MAMap):
    def forward(self, src, mask, query):
        k, v = self.k(src).flatten(2), self.v(src).flatten(2)
        s = (self.q(query) @ k / 5).masked_fill(mask.flatten(1)[:, None], float("-inf"))
        return s.softmax(-1) @ v.transpose(1, 2)


@case(exit="1", broken="P1", what="The same, values blanked behind the softmax only")
class MapWithMaskLate(MAMap):
    def forward(self, src, mask, query):
        k, v = self.k(src).flatten(2), self.v(src).flatten(2)
        v = v * (~mask.flatten(1))[:, None].to(v)
        return (self.q(query) @ k / 5).softmax(-1) @ v.transpose(1, 2)


@case(exit="0|2", what="Feature map with mask and position map, as DETR's transformer; correct", never="takes no mask")
class DetrLike(nn.Module):
    def __init__(self):
        super().__init__()
        self.att = nn.MultiheadAttention(16, 2, batch_first=True)
        self.enc = nn.MultiheadAttention(16, 2, batch_first=True)
        self.q = nn.Parameter(torch.randn(5, 16))

    def forward(self, src, mask, pos_embed):
        x, p, m = src.flatten(2).permute(0, 2, 1), pos_embed.flatten(2).permute(0, 2, 1), mask.flatten(1)
        x = x + self.enc(x + p, x + p, x, key_padding_mask=m)[0]
        return self.att(self.q.expand(len(x), -1, -1), x + p, x, key_padding_mask=m)[0]


@case(
    sides=(20, 12),
    call=lambda m, a, am, b, bm: [
        (
            m(
                a,
                torch.rand(*a.shape[:2], 4, generator=torch.Generator().manual_seed(0)) * 0 + 0.5,
                b,
                am.long(),
                bm.long(),
            )["pooled_output"],
            None,
        )
    ],
)
class RegionBoxes(nn.Module):
    """features and boxes, words; 0/1 integers; an ordered dict out; class token pooled."""

    def __init__(self):
        super().__init__()
        self.f, self.b, self.t, self.c, self.l = (
            nn.Linear(20, 24),
            nn.Linear(4, 24),
            nn.Linear(12, 24),
            nn.Parameter(torch.randn(1, 1, 24) * 0.02),
            SA2(),
        )

    def forward(
        self,
        visual_feats,
        visual_pos,
        lang_feats,
        visual_attention_mask=None,
        lang_attention_mask=None,
        output_attentions=False,
    ):
        B = len(visual_feats)
        x = torch.cat([self.c.expand(B, -1, -1), self.t(lang_feats), self.f(visual_feats) + self.b(visual_pos)], 1)

        def ones(t, m):
            return torch.ones(t.shape[:2], dtype=torch.long) if m is None else m

        m = torch.cat(
            [
                torch.ones(B, 1, dtype=torch.long),
                ones(lang_feats, lang_attention_mask),
                ones(visual_feats, visual_attention_mask),
            ],
            1,
        )
        ext = (1.0 - m[:, None, None, :].to(x.dtype)) * -10000.0
        x = self.l(x, ext)
        return OrderedDict(pooled_output=torch.tanh(x[:, 0]))


class SA2(nn.Module):
    def __init__(self, d=24):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(d, d) for _ in range(3))

    def forward(self, x, m):
        q, k, v = (f(x).view(len(x), -1, 2, 12).transpose(1, 2) for f in (self.q, self.k, self.v))
        return x + ((q @ k.mT / 12**0.5 + m).softmax(-1) @ v).transpose(1, 2).flatten(2)


@case(
    exit="0|2",
    what="One mask [B, Lv + Lt] over both streams, as single-stream models take it; correct",
    never="takes no mask",
)
class SingleStream(nn.Module):
    def __init__(self):
        super().__init__()
        self.f, self.t, self.l = nn.Linear(20, 24), nn.Linear(12, 24), SA2()

    def forward(self, img, txt, mask):
        x = torch.cat([self.f(img), self.t(txt)], 1)
        if mask.shape[1] != x.shape[1]:
            raise ValueError(f"mask must cover {x.shape[1]} positions, got {mask.shape[1]}")
        return self.l(x, (~mask[:, None, None]).to(x) * -1e9)


@case(exit="0|2", never="WRONG", what="Padding is told by rows of zeros (as MCAN's make_mask): no argument is a mask")
class ZeroRows(nn.Module):
    def __init__(self):
        super().__init__()
        self.f, self.t = nn.Linear(20, 24), nn.Linear(12, 24)

    def forward(self, img, txt):
        pad = img.abs().sum(-1) == 0
        s = self.t(txt) @ self.f(img).mT / 5
        return s.masked_fill(pad[:, None], -1e9).softmax(-1) @ self.f(img)


Out = namedtuple("Out", "logits attn hidden")


@case(
    sides=(16, 16),
    call=lambda m, a, am, b, bm: [(m(a, b, ~am, ~bm).logits, None)],
    what="NamedTuple; both pads True; return_attn flag",
)
class CoNamed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.MultiheadAttention(16, 4, batch_first=True)
        self.b = nn.MultiheadAttention(16, 4, batch_first=True)
        self.o = nn.Linear(32, 5)

    def forward(self, image_embeds, text_embeds, image_pad, text_pad, return_attn: bool = True):
        x, w = self.a(image_embeds, text_embeds, text_embeds, key_padding_mask=text_pad)
        y, u = self.b(text_embeds, image_embeds, image_embeds, key_padding_mask=image_pad)

        def mean(t, p):
            return t.masked_fill(p[..., None], 0).sum(1) / (~p).sum(1, keepdim=True).clamp(min=1)

        return Out(
            self.o(torch.cat([mean(x, image_pad), mean(y, text_pad)], -1)), (w, u) if return_attn else None, [x, y]
        )


@case(
    sides=(16, 16),
    exit="1",
    broken="P2",
    call=lambda m, a, am, b, bm: [(m(a, b, ~am, ~bm).logits, None)],
    what="mean over the padded length",
)
class CoNamedMean(CoNamed):
    def forward(self, image_embeds, text_embeds, image_pad, text_pad, return_attn: bool = True):
        x, w = self.a(image_embeds, text_embeds, text_embeds, key_padding_mask=text_pad)
        y, u = self.b(text_embeds, image_embeds, image_embeds, key_padding_mask=image_pad)

        def mean(t, p):
            return t.masked_fill(p[..., None], 0).mean(1)

        return Out(
            self.o(torch.cat([mean(x, image_pad), mean(y, text_pad)], -1)), (w, u) if return_attn else None, [x, y]
        )


@case(
    sides=(16, 16),
    exit="1",
    broken="P6",
    call=lambda m, x, xm, y, ym: [(m(x, y, xm, ym), 0)],
    what="Guided layer: image self-attention lacks img_valid",
)
class MissingOneSide(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.MultiheadAttention(16, 4, batch_first=True)
        self.b = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, img, txt, img_valid, txt_valid):
        x = img + self.a(img, img, img)[0]
        return x + self.b(x, txt, txt, key_padding_mask=~txt_valid)[0]
