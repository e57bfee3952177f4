"""Matching, and language."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from people.truths import case


@case(
    sides=(16, 16),
    call=lambda m, a, am, b, bm: [(m(a.mT, b.mT, am, bm)[0].mT, 0), (m(a.mT, b.mT, am, bm)[1].mT, 1)],
    what="SuperGlue-like, channels first, conv1d, True = real",
)
class GNNLayer(nn.Module):
    def __init__(self, d=16):
        super().__init__()
        self.h = 4
        self.proj = nn.ModuleList([nn.Conv1d(d, d, 1) for _ in range(3)])
        self.merge = nn.Conv1d(d, d, 1)
        self.mlp = nn.Sequential(nn.Conv1d(2 * d, 2 * d, 1), nn.ReLU(), nn.Conv1d(2 * d, d, 1))

    def msg(self, x, s, m):
        b, d, _ = x.shape
        q, k, v = (f(t).view(b, d // 4, 4, -1) for f, t in zip(self.proj, (x, s, s), strict=False))
        w = torch.einsum("bdhn,bdhm->bhnm", q, k) / 2
        w = w.masked_fill(~m[:, None, None], -1e9).softmax(-1)
        return self.mlp(torch.cat([x, self.merge(torch.einsum("bhnm,bdhm->bdhn", w, v).reshape(b, d, -1))], 1))

    def forward(self, desc0, desc1, mask0=None, mask1=None):
        def one(x):
            return torch.ones(x.shape[0], x.shape[2], dtype=torch.bool)

        mask0, mask1 = one(desc0) if mask0 is None else mask0, one(desc1) if mask1 is None else mask1
        return desc0 + self.msg(desc0, desc1, mask1), desc1 + self.msg(desc1, desc0, mask0)


class Lin(nn.Module):
    def __init__(self, d=16):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)

    def lin(self, x, s, qm, sm, kmask=True):
        q, k, v = F.elu(self.q(x)) + 1, F.elu(self.k(s)) + 1, self.v(s)
        if qm is not None:
            q = q * qm[..., None]
        if sm is not None:
            if kmask:
                k = k * sm[..., None]
            v = v * sm[..., None]
        return (q @ (k.mT @ v)) / (q @ k.sum(1)[..., None] + 1e-6)


def LC(m, a, am, b, bm):
    return [(m(a, b, am, bm)[0], 0), (m(a, b, am, bm)[1], 1)]


@case(sides=(16, 16), call=LC, what="linear attention masked in q, k and v")
class LinearMatch(Lin):
    def forward(self, feat0, feat1, mask0=None, mask1=None):
        return feat0 + self.lin(feat0, feat1, mask0, mask1), feat1 + self.lin(feat1, feat0, mask1, mask0)


@case(
    sides=(16, 16),
    exit="1",
    broken="P1",
    call=LC,
    never="softmax only|affinity sums",
    what="linear attention, values masked alone: keys count in the divisor",
)
class LinearMatchV(Lin):
    def forward(self, feat0, feat1, mask0=None, mask1=None):
        return feat0 + self.lin(feat0, feat1, mask0, mask1, False), feat1 + self.lin(feat1, feat0, mask1, mask0, False)


@case(
    sides=(16, 16),
    sound="P1,P6",
    what="dual softmax confidence matrix with outer mask; correct",
    exit="0|2",
)
class DualSoftmax(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.Linear(16, 16)

    def forward(self, feat_c0, feat_c1, mask_c0, mask_c1):
        s = self.p(feat_c0) @ self.p(feat_c1).mT / 1.6
        s = s.masked_fill(~(mask_c0[..., None] & mask_c1[:, None]), -1e9)
        return s.softmax(1) * s.softmax(2)


@case(
    sides=(16, 16),
    exit="1",
    broken="P1",
    call=lambda m, a, am, b, bm: [(m(a, b, am, bm), None)],
    what="dual softmax without mask, pooled over real pairs",
)
class DualSoftmaxRaw(DualSoftmax):
    def forward(self, feat_c0, feat_c1, mask_c0, mask_c1):
        s = self.p(feat_c0) @ self.p(feat_c1).mT / 1.6
        p = s.softmax(1) * s.softmax(2) * (mask_c0[..., None] & mask_c1[:, None])
        return p.sum((1, 2))


@case(exit="0|2", what="Sinkhorn with dustbins: [B, N+1, M+1]; correct", sound="P1,P3")
class Sinkhorn(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.Linear(16, 16)
        self.bin = nn.Parameter(torch.tensor(1.0))

    def forward(self, d0, d1, valid0, valid1):
        s = self.p(d0) @ self.p(d1).mT / 4
        b, n, m = s.shape
        z = torch.cat([torch.cat([s, self.bin.expand(b, n, 1)], 2), self.bin.expand(b, 1, m + 1)], 1)
        v0, v1 = F.pad(valid0, (0, 1), value=True), F.pad(valid1, (0, 1), value=True)
        z = z.masked_fill(~(v0[..., None] & v1[:, None]), -1e9)
        for _ in range(3):
            z = z - z.logsumexp(2, keepdim=True).masked_fill(~v0[..., None], 0)
            z = z - z.logsumexp(1, keepdim=True).masked_fill(~v1[:, None], 0)
        return z.exp()


class Esim(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.Linear(64, 12)

    def pool(self, x, m):
        return torch.cat(
            [
                (x * m[..., None]).sum(1) / m.sum(1, keepdim=True).clamp(min=1),
                x.masked_fill(m[..., None] == 0, -1e7).max(1)[0],
            ],
            -1,
        )


def EC(m, a, am, b, bm):
    return [(m(a, am.float(), b, bm.float()), None)]


@case(sides=(16, 16), call=EC, what="ESIM, masks between the inputs, floats, -1e7 fills")
class EsimRight(Esim):
    def forward(self, premise, premise_mask, hypothesis, hypothesis_mask):
        e = premise @ hypothesis.mT
        a = F.softmax(e + (1 - hypothesis_mask[:, None]) * -1e7, -1) @ hypothesis
        b = F.softmax(e.mT + (1 - premise_mask[:, None]) * -1e7, -1) @ premise
        pr = torch.relu(self.p(torch.cat([premise, a, premise - a, premise * a], -1)))
        hy = torch.relu(self.p(torch.cat([hypothesis, b, hypothesis - b, hypothesis * b], -1)))
        return torch.cat([self.pool(pr, premise_mask), self.pool(hy, hypothesis_mask)], -1)


@case(
    sides=(16, 16),
    call=EC,
    exit="1|2",
    broken="P1",
    what="softmax over the wrong axis, where the mask does nothing but round",
)
class EsimAxis(Esim):
    def forward(self, premise, premise_mask, hypothesis, hypothesis_mask):
        e = premise @ hypothesis.mT + (1 - hypothesis_mask[:, None]) * -1e7
        a = F.softmax(e, 1) @ hypothesis
        pr = torch.relu(self.p(torch.cat([premise, a, premise - a, premise * a], -1)))
        return self.pool(pr, premise_mask)


@case(sides=(16, 16), call=EC, exit="1", broken="P1", what="score times mask: padding keeps exp(0)")
class EsimTimes(Esim):
    def forward(self, premise, premise_mask, hypothesis, hypothesis_mask):
        e = premise @ hypothesis.mT
        a = F.softmax(e * hypothesis_mask[:, None], -1) @ hypothesis
        b = F.softmax(e.mT * premise_mask[:, None], -1) @ premise
        pr = torch.relu(self.p(torch.cat([premise, a, premise - a, premise * a], -1)))
        hy = torch.relu(self.p(torch.cat([hypothesis, b, hypothesis - b, hypothesis * b], -1)))
        return torch.cat([self.pool(pr, premise_mask), self.pool(hy, hypothesis_mask)], -1)


@case(sides=(16, 16), call=EC, exit="0|1", broken="P17", what="softmax(score*mask)*mask/(sum+eps), AllenNLP")
class EsimAllen(Esim):
    def soft(self, s, m):
        r = F.softmax(s * m, -1) * m
        return r / (r.sum(-1, keepdim=True) + 1e-13)

    def forward(self, premise, premise_mask, hypothesis, hypothesis_mask):
        e = premise @ hypothesis.mT
        a = self.soft(e, hypothesis_mask[:, None]) @ hypothesis
        b = self.soft(e.mT, premise_mask[:, None]) @ premise
        pr = torch.relu(self.p(torch.cat([premise, a, premise - a, premise * a], -1)))
        hy = torch.relu(self.p(torch.cat([hypothesis, b, hypothesis - b, hypothesis * b], -1)))
        return torch.cat([self.pool(pr, premise_mask), self.pool(hy, hypothesis_mask)], -1)


@case(
    sides=(16, 16),
    call=EC,
    exit="0|1",
    what="softmax over all, times mask, renormalised: right but for extreme pads",
    sound="P3,P6",
)
class EsimRenorm(EsimAllen):
    def soft(self, s, m):
        r = F.softmax(s, -1) * m
        return r / r.sum(-1, keepdim=True)


@case(sides=(16, 16), call=lambda m, c, cm, q, qm: [(m(c, q, cm, qm), 0)], what="BiDAF, trilinear, both directions")
class Bidaf(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.ModuleList([nn.Linear(16, 1, bias=False) for _ in range(3)])

    def q2c(self, s, cm, qm):
        return s.masked_fill(~qm[:, None], -1e9).amax(2).masked_fill(~cm, -1e9).softmax(-1)

    def forward(self, c, q, c_mask, q_mask):
        s = self.w[0](c) + self.w[1](q).mT + (c * self.w[2].weight) @ q.mT
        a = s.masked_fill(~q_mask[:, None], -1e9).softmax(-1) @ q
        b = self.q2c(s, c_mask, q_mask)[:, None] @ c
        return torch.cat([c, a, c * a, c * b], -1)


@case(
    sides=(16, 16),
    exit="1",
    broken="P1",
    call=lambda m, c, cm, q, qm: [(m(c, q, cm, qm), 0)],
    what="BiDAF, the maximum over padded words",
)
class BidafMax(Bidaf):
    def q2c(self, s, cm, qm):
        return s.amax(2).masked_fill(~cm, -1e9).softmax(-1)


@case(sides=(16, 16), call=lambda m, d, dm, q, qm: [(m(d, q, dm, qm), 0)], what="DCN with sentinels, U [B,N,..]")
class DcnSentinel(nn.Module):
    def __init__(self):
        super().__init__()
        self.s = nn.Parameter(torch.randn(2, 16))
        self.w = nn.Linear(16, 16)

    def forward(self, doc, query, doc_valid, query_valid):
        d = torch.cat([self.s[0].expand(len(doc), 1, -1), doc], 1)
        q = torch.cat([self.s[1].expand(len(doc), 1, -1), torch.tanh(self.w(query))], 1)
        dv, qv = (torch.cat([v.new_ones(len(v), 1), v], 1) for v in (doc_valid, query_valid))
        score = d @ q.mT
        aq = score.masked_fill(~dv[..., None], -1e30).softmax(1)
        ad = score.masked_fill(~qv[:, None], -1e30).softmax(2)
        cq = aq.mT @ d
        return (ad @ torch.cat([q, cq], -1))[:, 1:]


@case(
    sides=(16, 16),
    call=lambda m, a, am, b, bm: [(m(a.transpose(0, 1), b.transpose(0, 1), ~am, ~bm, ~am).transpose(0, 1), 1)],
    what="nn.Transformer, sequence first, own names, required",
)
class Seq2Seq(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Transformer(16, 2, 1, 1, 32)

    def forward(self, src, tgt, src_padding, tgt_padding, memory_padding):
        return self.net(
            src,
            tgt,
            src_key_padding_mask=src_padding,
            tgt_key_padding_mask=tgt_padding,
            memory_key_padding_mask=memory_padding,
        )


@case(
    sides=(16, 16),
    exit="1",
    broken="P6|P1",
    call=lambda m, a, am, b, bm: [(m(a, b, ~am, ~bm), 1)],
    what="decoder never gets the source's padding",
)
class Seq2SeqForgot(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.d = nn.TransformerDecoderLayer(16, 2, 32, batch_first=True)

    def forward(self, src, tgt, src_padding=None, tgt_padding=None):
        m = self.e(src) if src_padding is None else self.e(src, src_key_padding_mask=src_padding)
        return self.d(tgt, m + src, tgt_key_padding_mask=tgt_padding)


@case(
    sides=(24, 16),
    call=lambda m, a, am, b, bm: [(m(memory=a, query=b, memory_keep=am), 1)],
    what="keyword-only everything",
)
class MemNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.k, self.v, self.q = nn.Linear(24, 16), nn.Linear(24, 16), nn.Linear(16, 16)

    def forward(self, *, memory, query, memory_keep=None, hops: int = 2, temperature: float = 1.0):
        u = query
        for _ in range(hops):
            s = self.q(u) @ self.k(memory).mT / temperature
            if memory_keep is not None:
                s = torch.where(memory_keep[:, None], s, torch.finfo(s.dtype).min)
            u = u + s.softmax(-1) @ self.v(memory)
        return u


@case(exit="2", says="ids|whole numbers", what="token ids with a mask")
class IdsMask(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(50, 16, padding_idx=0)
        self.l = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, input_ids, attention_mask=None):
        return self.l(self.e(input_ids), src_key_padding_mask=None if attention_mask is None else attention_mask == 0)


@case(exit="2", says="ids|whole numbers", what="features and token ids")
class VqaIds(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(50, 16, padding_idx=0)
        self.f = nn.Linear(20, 16)

    def forward(self, image_feats, question_ids, image_mask):
        q = self.e(question_ids)
        f = self.f(image_feats)
        s = (q @ f.mT).masked_fill(~image_mask[:, None], -1e9).masked_fill((question_ids == 0)[..., None], 0)
        return s.softmax(-1) @ f


@case(
    sides=(16, 24),
    call=lambda m, a, am, b, bm: [
        (m(a, encoder_hidden_states=b, attention_mask=add(am), encoder_attention_mask=add(bm))[0], 0)
    ],
    what="decoder block: optional second input with additive masks, relative bias",
)
class T5ish(nn.Module):
    def __init__(self):
        super().__init__()
        self.s, self.c, self.kv = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(24, 32)
        self.rel = nn.Embedding(64, 2)

    def heads(self, x):
        return x.view(len(x), -1, 2, 8).transpose(1, 2)

    def forward(
        self,
        hidden_states,
        attention_mask=None,
        encoder_hidden_states=None,
        encoder_attention_mask=None,
        past_key_value=None,
        use_cache=False,
        output_attentions=False,
    ):
        q, k, v = map(self.heads, self.s(hidden_states).chunk(3, -1))
        n = q.shape[2]
        d = (torch.arange(n)[None] - torch.arange(n)[:, None]).clamp(-30, 30) + 31
        s = q @ k.mT + self.rel(d).permute(2, 0, 1)[None]
        if attention_mask is not None:
            s = s + attention_mask
        x = hidden_states + (s.softmax(-1) @ v).transpose(1, 2).flatten(2)
        if encoder_hidden_states is not None:
            k, v = map(self.heads, self.kv(encoder_hidden_states).chunk(2, -1))
            s = self.heads(self.c(x)) @ k.mT
            if encoder_attention_mask is not None:
                s = s + encoder_attention_mask
            x = x + (s.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return (x,)


def add(m):
    return torch.zeros(m.shape).masked_fill(~m, torch.finfo(torch.float).min)[:, None, None]


@case(exit="0|2", what="a function, not a module: refused in a clear line, or audited", never="Traceback")
def coattend(a, b, a_mask, b_mask):
    s = a @ b.mT
    return s.masked_fill(~b_mask[:, None], -1e9).softmax(-1) @ b


@case(
    sides=(16, 20),
    call=lambda m, a, am, b, bm: [(m(a, b, am.sum(1), bm.sum(1)), None)],
    exit="1",
    broken="P1",
    says="recurren|RNN|GRU|packed",
    what="bidirectional GRU over pads",
)
class BiGruPads(nn.Module):
    def __init__(self):
        super().__init__()
        self.g = nn.GRU(16, 8, batch_first=True, bidirectional=True)
        self.f = nn.Linear(20, 16)

    def forward(self, text, video, text_lens, video_lens):
        t, _ = self.g(text)
        v = self.f(video)
        tm, vm = (torch.arange(x.shape[1])[None] < n[:, None] for x, n in ((t, text_lens), (v, video_lens)))
        a = (t @ v.mT).masked_fill(~vm[:, None], -1e9).softmax(-1) @ v
        return (a * tm[..., None]).sum(1) / text_lens[:, None].clamp(min=1)


@case(sides=(16,), call=lambda m, a, am: [(m(a, am), None)], what="unidirectional GRU, last real state gathered")
class GruLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.g = nn.GRU(16, 8, batch_first=True)

    def forward(self, x, x_mask):
        h, _ = self.g(x)
        i = (x_mask.long() * torch.arange(x.shape[1])).amax(1)
        return h[torch.arange(len(h)), i]


@case(
    sides=(16,),
    exit="1",
    broken="P1",
    says="recurren|RNN|GRU|packed",
    call=lambda m, a, am: [(m(a, am), None)],
    what="unidirectional GRU, its last state whatever it is",
)
class GruFinal(GruLast):
    def forward(self, x, x_mask):
        h, hn = self.g(x)
        return hn[0] + (h * x_mask[..., None]).sum(1)


@case(sides=(16,), call=lambda m, a, am: [(m(a, am.long()), 0)], what="positions by cumulative sum of the mask")
class CumPos(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.Embedding(600, 16, padding_idx=0)
        self.l = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, inputs_embeds, attention_mask):
        pos = (torch.cumsum(attention_mask, 1) * attention_mask).long()
        h = inputs_embeds + self.p(pos)
        return h + self.l(h, h, h, key_padding_mask=attention_mask == 0)[0]


@case(
    sides=(16, 12),
    exit="1",
    broken="P1",
    call=lambda m, a, am, b, bm: [(m(a, b, am, bm), 0)],
    what="residual writes into pads, a second layer reads them",
)
class SecondReadsPads(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.Linear(12, 16)
        self.mix = nn.Conv1d(16, 16, 3, padding=1)

    def forward(self, a, b, a_mask, b_mask):
        y = self.p(b)
        x = a * a_mask[..., None] + (a @ y.mT).masked_fill(~b_mask[:, None], -1e9).softmax(-1) @ y
        return x + self.mix(x.mT).mT


for _cls in ():
    pass
