"""Recommenders, speech, and what is odd in other ways."""

import threading
from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F

from people.truths import case


class Din(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 12), nn.Sigmoid(), nn.Linear(12, 1))

    def score(self, q, k):
        q = q.unsqueeze(1).expand(-1, k.shape[1], -1)
        return self.net(torch.cat([q, k, q - k, q * k], -1)).squeeze(-1)


def DC(m, q, qm, k, km):
    return [(m(q[:, 0], k, km.sum(1)), None)]


@case(sides=(16, 16), lens=[(1, 1, 1), (9, 6, 4)], call=DC, what="candidate vector, history, keys_length")
class DinRight(Din):
    def forward(self, query, keys, keys_length):
        s = self.score(query, keys) / 4
        m = torch.arange(keys.shape[1])[None, :] < keys_length[:, None]
        return (torch.where(m, s, torch.full_like(s, -(2**32) + 1)).softmax(-1)[:, None] @ keys).squeeze(1)


@case(
    sides=(16, 16),
    lens=[(1, 1, 1), (9, 6, 4)],
    exit="1",
    broken="P2",
    call=DC,
    what="mask * score before the softmax, values zeroed",
)
class DinTimes(Din):
    def forward(self, query, keys, keys_length):
        m = (torch.arange(keys.shape[1])[None, :] < keys_length[:, None]).float()
        return ((self.score(query, keys) * m).softmax(-1) * m)[:, None].matmul(keys).squeeze(1)


@case(
    sides=(16,),
    call=lambda m, x, xm: [(m(x, ~xm), 0)],
    what="causal self-attention with timeline mask, sequence recommender",
)
class SasRec(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.n, self.p = nn.MultiheadAttention(16, 2), nn.LayerNorm(16, eps=1e-8), nn.Embedding(400, 16)

    def forward(self, seqs, timeline_mask):
        seqs = (seqs * 4 + self.p(torch.arange(seqs.shape[1]))) * ~timeline_mask.unsqueeze(-1)
        n = seqs.shape[1]
        am = ~torch.tril(torch.ones((n, n), dtype=torch.bool))
        x = seqs.transpose(0, 1)
        y, _ = self.a(self.n(x), x, x, attn_mask=am)
        return (y + x).transpose(0, 1) * ~timeline_mask.unsqueeze(-1)


@case(
    sides=(16, 24),
    call=lambda m, h, hm, c, cm: [(m(h, hm.sum(1), c, cm.sum(1)), 1)],
    what="history by length, candidates by length, score per candidate",
)
class Candidates(nn.Module):
    def __init__(self):
        super().__init__()
        self.c, self.h = nn.Linear(24, 16), nn.Linear(16, 16)

    def forward(self, hist, hist_len, cand, cand_num):
        q = self.c(cand)
        hm = torch.arange(hist.size(1)) < hist_len.unsqueeze(1)
        a = (q @ self.h(hist).mT / 4).masked_fill(~hm.unsqueeze(1), -1e9).softmax(-1) @ hist
        cm = torch.arange(cand.size(1)) < cand_num.unsqueeze(1)
        return (a * q).sum(-1).masked_fill(~cm, 0.0)


@case(
    exit="1", broken="P16", says="random|repeat|dropout|gumbel", never="affinity", what="gumbel pointers in eval mode"
)
class Pointers(nn.Module):
    def __init__(self):
        super().__init__()
        self.u, self.i = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, user_reviews, item_reviews, user_mask, item_mask):
        s = self.u(user_reviews) @ self.i(item_reviews).mT
        s = s.masked_fill(~(user_mask[..., None] & item_mask[:, None]), -1e9)
        p = F.gumbel_softmax(s.amax(2), hard=True, tau=1.0)
        return (p[..., None] * user_reviews).sum(1)


@case(
    sides=(20, 16),
    call=lambda m, a, am, b, bm: [(m(a, am.sum(1), b, bm.sum(1))[0], 0)],
    what="speech: xs, xs_lens; returns lens too",
    sound="P1,P2,P3,P6",
)
class SpeechCross(nn.Module):
    def __init__(self):
        super().__init__()
        self.x, self.y, self.ln = nn.Linear(20, 16), nn.Linear(16, 16), nn.LayerNorm(16)

    def forward(self, xs_pad, ilens, ys_pad, ylens):
        x, y = self.ln(self.x(xs_pad)), self.y(ys_pad)
        pad = torch.arange(y.size(1)).unsqueeze(0) >= ylens.unsqueeze(1)
        xpad = torch.arange(x.size(1)).unsqueeze(0) >= ilens.unsqueeze(1)
        o = (
            x
            + (x @ y.mT).masked_fill(pad.unsqueeze(1), float("-inf")).softmax(-1).masked_fill(pad.unsqueeze(1), 0.0) @ y
        )
        return o.masked_fill(xpad.unsqueeze(-1), 0.0), ilens


@case(
    sides=(16, 16),
    call=lambda m, q, qm, k, km: [(m(q, k, k, km[:, None]), 0)],
    what="ESPnet's attention: query, key, value, mask [B,1,T]",
)
class EspMHA(nn.Module):
    def __init__(self):
        super().__init__()
        self.h = 4
        self.lq, self.lk, self.lv, self.lo = (nn.Linear(16, 16) for _ in range(4))

    def forward(self, query, key, value, mask):
        n = query.size(0)
        q, k, v = (
            f(x).view(n, -1, 4, 4).transpose(1, 2) for f, x in ((self.lq, query), (self.lk, key), (self.lv, value))
        )
        s = q @ k.transpose(-2, -1) / 2
        m = mask.unsqueeze(1).eq(0)
        s = s.masked_fill(m, torch.finfo(s.dtype).min)
        return self.lo((s.softmax(-1).masked_fill(m, 0.0) @ v).transpose(1, 2).reshape(n, -1, 16))


@case(
    sides=(12, 20),
    call=lambda m, a, am, v, vm: [(m(a.transpose(0, 1), v.transpose(0, 1), ~am, ~vm)[0].transpose(0, 1), 0)],
    what="[T,B,D], masks [B,T], MulT",
)
class AudioVisual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.v = nn.Linear(12, 16), nn.Linear(20, 16)
        self.av, self.va = nn.MultiheadAttention(16, 2), nn.MultiheadAttention(16, 2)

    def forward(self, audio, video, audio_pad_mask, video_pad_mask):
        a, v = self.a(audio), self.v(video)
        return a + self.av(a, v, v, key_padding_mask=video_pad_mask)[0], v + self.va(
            v, a, a, key_padding_mask=audio_pad_mask
        )[0]


@case(exit="0|2", what="output subsampled by two: an axis of no side", sound="P1")
class Subsampled(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Linear(40, 16)

    def forward(self, feats, feat_lens):
        n = feats.shape[1] // 2
        m = torch.arange(feats.shape[1]) < feat_lens[:, None]
        x = (feats * m[..., None])[:, : 2 * n].reshape(len(feats), n, 40)
        return self.c(x)


@case(
    sides=(16, 12),
    exit="1",
    broken="P1",
    call=lambda m, a, am, b, bm: [(m(a, b, am, bm), 0)],
    what="InstanceNorm over slots of the padded sequence",
)
class TimeNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.n, self.p = nn.InstanceNorm1d(16, affine=True), nn.Linear(12, 16)

    def forward(self, speech, text, speech_mask, text_mask):
        x = self.n(speech.mT).mT
        y = self.p(text)
        return x + (x @ y.mT / 4).masked_fill(~text_mask[:, None], -1e9).softmax(-1) @ y


@case(sides=(16,), call=lambda m, a, am: [(m(a, am), None)], what="statistics pooling")
class StatsPool(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(32, 4)

    def forward(self, frames, frames_mask):
        m = frames_mask.unsqueeze(-1).float()
        n = m.sum(1).clamp(min=1)
        mu = (frames * m).sum(1) / n
        var = ((frames - mu[:, None]) ** 2 * m).sum(1) / n
        return self.l(torch.cat([mu, (var + 1e-5).sqrt()], -1))


@case(sides=(16,), exit="1", broken="P1", call=lambda m, a, am: [(m(a, am), None)], what="std over padded frames")
class StatsPoolRaw(StatsPool):
    def forward(self, frames, frames_mask):
        m = frames_mask.unsqueeze(-1).float()
        mu = (frames * m).sum(1) / m.sum(1).clamp(min=1)
        return self.l(torch.cat([mu, frames.std(1)], -1))


# ---- odd
class Cfg:
    hidden_size = 16
    num_attention_heads = 2
    kv_dim = 24


class NeedsConfig(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.q, self.k = nn.Linear(config.hidden_size, 16), nn.Linear(config.kv_dim, 32)

    def forward(self, hidden_states, context, context_mask=None):
        k, v = self.k(context).chunk(2, -1)
        s = self.q(hidden_states) @ k.mT
        if context_mask is not None:
            s = s + context_mask[:, None, :]
        return s.softmax(-1) @ v


@case(
    sides=(16, 24),
    call=lambda m, a, am, b, bm: [(m(a, b, torch.zeros(bm.shape).masked_fill(~bm, -1e9)), 0)],
    what="factory with a config; additive [B, L]",
)
def configured():
    return NeedsConfig(Cfg())


case(exit="2", says="without arguments|factory", what="a class that needs a config")(NeedsConfig)


@case(exit="2", says="arguments", what="forward(*inputs)")
class StarArgs(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(16, 16)

    def forward(self, *inputs):
        x, y, m = inputs
        return (self.l(x) @ y.mT).masked_fill(~m[:, None], -1e9).softmax(-1) @ y


@case(exit="0|2", never="WRONG", what="masks come by **kwargs")
class KwMasks(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(16, 16)

    def forward(self, x, y, **kwargs):
        s = self.l(x) @ y.mT
        m = kwargs.get("y_mask")
        if m is not None:
            s = s.masked_fill(~m[:, None], -1e9)
        return s.softmax(-1) @ y


@case(exit="2", what="one dict of everything", never="Traceback")
class DictIn(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(16, 16)

    def forward(self, batch):
        x, y, m = batch["image"], batch["text"], batch["text_mask"]
        return {"out": (self.l(x) @ y.mT).masked_fill(~m[:, None], -1e9).softmax(-1) @ y}


@case(exit="2|0", what="masks as a list", never="takes no mask|Traceback")
class MaskList(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(16, 16)

    def forward(self, feats: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]):
        x, y = feats
        _m, n = masks
        return (self.l(x) @ y.mT).masked_fill(~n[:, None], -1e9).softmax(-1) @ y


@case(exit="2|0", what="ragged list out", never="Traceback|WRONG")
class RaggedOut(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(16, 16)

    def forward(self, x, y, x_mask, y_mask):
        o = (self.l(x) @ y.mT).masked_fill(~y_mask[:, None], -1e9).softmax(-1) @ y
        return [t[k] for t, k in zip(o, x_mask, strict=False)]


@case(sides=(16, 16), exit="0", what="cut to the longest row by the lengths")
class CutByLens(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(16, 16)

    def forward(self, a, a_len, b, b_len):
        a = a[:, : int(a_len.max())]
        b = b[:, : int(b_len.max())]
        bm = torch.arange(b.size(1)) < b_len[:, None]
        return (self.l(a) @ b.mT).masked_fill(~bm[:, None], -1e9).softmax(-1) @ b


@case(
    sides=(16, 16),
    call=lambda m, a, am, b, bm: [(m(a, b, am, ~bm), None)],
    says="mixed up|True where",
    what="polarity differs between the sides",
)
class MixedPolarity(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Linear(16, 16)

    def forward(self, left, right, left_mask, right_mask):
        s = self.w(left) @ right.mT / 4
        s = s.masked_fill(right_mask[:, None], -1e4)
        o = s.softmax(-1) @ right
        return (o * left_mask[..., None]).sum(1) / left_mask.sum(1)[:, None].clamp(min=1)


@case(
    sides=(16, 16),
    call=lambda m, a, am, b, bm: [(m(a, b, ~am, ~bm), None)],
    says="opposite",
    what="*_valid is True where padding",
)
class SaysOpposite(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Linear(16, 16)

    def forward(self, src, ctx, src_valid, ctx_valid):
        o = (self.w(src) @ ctx.mT / 4).masked_fill(ctx_valid[:, None], -1e4).softmax(-1) @ ctx
        return (o * ~src_valid[..., None]).sum(1) / (~src_valid).sum(1)[:, None].clamp(min=1)


@case(exit="0", what="learned positions fix both lengths: 16 and 10")
class FixedLens(nn.Module):
    def __init__(self):
        super().__init__()
        self.pi, self.pt, self.i, self.t = (
            nn.Parameter(torch.randn(1, 16, 20)),
            nn.Parameter(torch.randn(1, 10, 20)),
            nn.Linear(24, 20),
            nn.Linear(12, 20),
        )

    def forward(self, patches, tokens, patches_mask, tokens_mask):
        x, y = self.i(patches) + self.pi, self.t(tokens) + self.pt
        o = (x @ y.mT / 5).masked_fill(~tokens_mask[:, None], -1e4).softmax(-1) @ y
        return (o * patches_mask[..., None]).sum(1) / patches_mask.sum(1)[:, None].clamp(min=1)


@case(exit="1", broken="P16", says="dropout|random", never="affinity", what="F.dropout on weights in eval")
class EvalDrop(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Linear(16, 16)

    def forward(self, x, ctx, ctx_mask):
        return F.dropout((self.w(x) @ ctx.mT / 4).masked_fill(~ctx_mask[:, None], -1e9).softmax(-1), 0.1) @ ctx


@case(exit="1", says="NaN|not finite", what="outer mask: padded queries see nothing, NaN spreads in the next layer")
class NanRows(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.w2 = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x, y, x_mask, y_mask):
        m = x_mask[..., None] & y_mask[:, None]
        x = x + (self.w(x) @ y.mT).masked_fill(~m, -torch.inf).softmax(-1) @ y
        return x + (self.w2(x) @ x.mT).masked_fill(~x_mask[:, None], -torch.inf).softmax(-1) @ x


@case(
    sides=(16, 16), call=lambda m, a, am, b, bm: [(m(a, b, am, bm), 0)], what="cannot be deep-copied: lock, kept graph"
)
class NoCopy(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Linear(16, 16)
        self.lock = threading.Lock()
        self.last = None
        self.gen = (i for i in range(3))

    def forward(self, x, y, x_mask, y_mask):
        with self.lock:
            self.last = (self.w(x) @ y.mT).masked_fill(~y_mask[:, None], -1e9).softmax(-1)
            return self.last @ y * x_mask[..., None]


class MaskedSoft(torch.autograd.Function):
    @staticmethod
    def forward(ctx, s, m):
        p = s.masked_fill(~m, -torch.inf).softmax(-1).nan_to_num(0.0)
        ctx.save_for_backward(p)
        return p

    @staticmethod
    def backward(ctx, g):
        (p,) = ctx.saved_tensors
        return p * (g - (g * p).sum(-1, keepdim=True)), None


@case(sides=(16, 16), call=lambda m, a, am, b, bm: [(m(a, b, bm), 0)], what="a custom autograd function, correct")
class CustomGrad(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Linear(16, 16)

    def forward(self, x, memory, memory_mask):
        return MaskedSoft.apply(self.w(x) @ memory.mT / 4, memory_mask[:, None].expand(-1, x.shape[1], -1)) @ memory


class WrongSoft(MaskedSoft):
    @staticmethod
    def backward(ctx, g):
        (p,) = ctx.saved_tensors
        return p * g, None


@case(exit="1", broken="P8g", what="a custom backward that is wrong")
class CustomGradWrong(CustomGrad):
    def forward(self, x, memory, memory_mask):
        return WrongSoft.apply(self.w(x) @ memory.mT / 4, memory_mask[:, None].expand(-1, x.shape[1], -1)) @ memory


@case(exit="0", what="writes into its inputs: x.mul_(mask) in place", sound="P1,P2,P3,P6")
class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Linear(16, 16)

    def forward(self, x, y, x_mask, y_mask):
        with torch.no_grad():
            y.masked_fill_(~y_mask[..., None], 0)
        return (self.w(x) @ y.mT).masked_fill(~y_mask[:, None], -1e9).softmax(-1) @ y * x_mask[..., None]


@case(
    exit="0|2",
    never="Traceback",
    what="raises KeyboardInterrupt-like odd exceptions on empty rows",
    sound="P1,P2,P3,P6",
)
class OddErrors(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Linear(16, 16)

    def forward(self, x, y, y_mask):
        if not bool(y_mask.any(1).all()):
            raise StopIteration("an empty row")
        if x.shape[0] != y.shape[0]:
            raise LookupError("batch")
        return (self.w(x) @ y.mT).masked_fill(~y_mask[:, None], -1e9).softmax(-1) @ y


@case(exit="0", sound="P1,P2,P3,P6,P15", what="forces a back end that this device lacks for some dtypes")
class OneBackend(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x, y, y_mask):
        from torch.nn.attention import SDPBackend, sdpa_kernel

        with sdpa_kernel([SDPBackend.MATH]):
            return F.scaled_dot_product_attention(
                self.q(x)[:, None], self.k(y)[:, None], y[:, None], y_mask[:, None, None]
            )[:, 0]


def HR(m, q, qm, k, km):
    return [(m(q, k, km), 0)]


class RepBase(nn.Module):
    def __init__(self):
        super().__init__()
        self.n_head = 4
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))

    def rep(self, m):
        return m.repeat_interleave(4, 0)

    def forward(self, x, mem, mem_mask):
        b = len(x)
        q, k, v = (
            f(t).view(b, -1, 4, 4).transpose(1, 2).reshape(b * 4, -1, 4)
            for f, t in ((self.q, x), (self.k, mem), (self.v, mem))
        )
        s = torch.bmm(q, k.mT) / 2
        s = s.masked_fill(~self.rep(mem_mask)[:, None], -1e9)
        return torch.bmm(s.softmax(-1), v).view(b, 4, -1, 4).transpose(1, 2).flatten(2)


@case(sides=(16, 16), call=HR, what="heads folded into the batch, mask repeated in the right order")
class RepRight(RepBase):
    pass


@case(sides=(16, 16), call=HR, exit="1", broken="P1", says="head|repeat|order", what="mask repeated in the wrong order")
class RepWrong(RepBase):
    def rep(self, m):
        return m.repeat(4, 1)


@case(sides=(16, 16), call=HR, exit="1", broken="P1", what="fill of -1e-9")
class TinyFill(RepBase):
    def forward(self, x, mem, mem_mask):
        s = self.q(x) @ self.k(mem).mT / 4
        return s.masked_fill(mem_mask[:, None] == 0, -1e-9).softmax(-1) @ self.v(mem)


@case(sides=(16, 16), call=HR, exit="0", sound="P1,P2,P3,P6", what="-1e9 raises/overflows in half: fragile")
class HalfFill(RepBase):
    def forward(self, x, mem, mem_mask):
        s = self.q(x) @ self.k(mem).mT / 4
        return (s + (1 - mem_mask.to(s)[:, None]) * -1e9).softmax(-1) @ self.v(mem)


@case(sides=(16, 16), call=lambda m, q, qm, k, km: [(m(q, k, km.float()), 0)], what="score + log(mask)")
class LogMask(RepBase):
    def forward(self, x, mem, keep):
        s = self.q(x) @ self.k(mem).mT / 4
        return (s + keep[:, None].log()).softmax(-1) @ self.v(mem)


@case(
    sides=(16, 16), call=lambda m, q, qm, k, km: [(m(q, k, km.float()), 0)], what="score*mask + (1-mask)*-1e9", exit="0"
)
class BlendMask(RepBase):
    def forward(self, x, mem, mem_mask):
        s = self.q(x) @ self.k(mem).mT / 4
        m = mem_mask[:, None]
        return (s * m + (1 - m) * -1e9).softmax(-1) @ self.v(mem)


class Tri(nn.Module):
    def __init__(self):
        super().__init__()
        self.t, self.a, self.v = nn.Linear(20, 16), nn.Linear(12, 16), nn.Linear(28, 16)

    def x(self, q, k, m):
        s = q @ k.mT / 4
        return q + (s if m is None else s.masked_fill(m[:, None] == 0, -1e9)).softmax(-1) @ k

    def mean(self, x, m):
        m = m.to(x)[..., None]
        return (x * m).sum(1) / m.sum(1).clamp(min=1)


def T3(m, t, tm, a, am, v, vm):
    return [(m(t, a, v, tm, am, vm), None)]


@case(sides=(20, 12, 28), call=T3, what="three modalities, pairwise, three masks")
class TriRight(Tri):
    def forward(self, text, audio, vision, text_mask, audio_mask, vision_mask):
        t, a, v = self.t(text), self.a(audio), self.v(vision)
        return torch.cat(
            [
                self.mean(self.x(self.x(t, a, audio_mask), v, vision_mask), text_mask),
                self.mean(self.x(a, t, text_mask), audio_mask),
                self.mean(self.x(v, t, text_mask), vision_mask),
            ],
            -1,
        )


@case(sides=(20, 12, 28), call=T3, exit="1", broken="P1", what="audio's keys unmasked in one of the pairs")
class TriOne(Tri):
    def forward(self, text, audio, vision, text_mask, audio_mask, vision_mask):
        t, a, v = self.t(text), self.a(audio), self.v(vision)
        return torch.cat(
            [
                self.mean(self.x(self.x(t, a, None), v, vision_mask), text_mask),
                self.mean(self.x(a, t, text_mask), audio_mask),
                self.mean(self.x(v, t, text_mask), vision_mask),
            ],
            -1,
        )


@case(
    sides=(20, 12, 28),
    call=lambda m, t, tm, a, am, v, vm: [(m(t, a, v, tm.sum(1), am.sum(1), vm.sum(1)), None)],
    what="three modalities by lengths",
)
class TriLens(TriRight):
    def forward(self, text, audio, vision, text_lengths, audio_lengths, vision_lengths):
        def k(x, n):
            return torch.arange(x.shape[1])[None] < n[:, None]

        return super().forward(
            text, audio, vision, k(text, text_lengths), k(audio, audio_lengths), k(vision, vision_lengths)
        )


@case(exit="0|2", never="Traceback", what="packed LSTM that needs sorted lengths", sound="P1,P2,P3,P6")
class Sorted(nn.Module):
    def __init__(self):
        super().__init__()
        self.r = nn.LSTM(16, 16, batch_first=True)

    def forward(self, x, x_lens):
        p = nn.utils.rnn.pack_padded_sequence(x, x_lens.cpu(), batch_first=True)
        return self.r(p)[1][0][-1]


@case(
    exit="0",
    what="one side, pooled, no parameters in the softmax's way",
    never="Traceback",
)
class BroadcastT(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Linear(16, 16)

    def forward(self, seq, seq_mask):
        w = self.w(seq).sum(-1)  # [B, L]
        w = w.masked_fill(~seq_mask, -1e9).softmax(-1)
        return (w[..., None] * seq).sum(1)


@case(
    sides=(16, 16),
    call=lambda m, a, am, b, bm: [(m(a, b, mask_a=am, mask_b=bm)[1], None)],
    what="a hook that keeps outputs; layers in a list out",
)
class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.o = nn.Linear(16, 16), nn.Linear(16, 3)
        self.seen = []
        self.w.register_forward_hook(lambda m, i, o: self.seen.append(o.detach()) or None)

    def forward(self, a, b, mask_a, mask_b):
        s = self.w(a) @ b.mT / 4
        x = s.masked_fill(~mask_b[:, None], -1e9).softmax(-1) @ b
        del self.seen[:-2]
        layers = [a, x, a + x]
        return layers, self.o((layers[-1] * mask_a[..., None]).sum(1) / mask_a.sum(1, keepdim=True).clamp(min=1))


@case(
    sides=(16, 12),
    call=lambda m, a, am, b, bm: [(m(b, a, bm[:, :, None].float(), am[:, :, None].float()), 1)],
    what="column masks, floats, [B, L, 1]",
)
class Columns(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.Linear(12, 16)

    def forward(self, tokens, regions, tokens_m, regions_m):
        t = self.p(tokens) * tokens_m
        r = regions * regions_m
        s = t @ r.mT / 4 + (1 - regions_m.transpose(1, 2)) * -1e9
        return (t + s.softmax(-1) @ r) * tokens_m


@case(
    exit="0|2",
    what="boolean causal flag required, mask [B, T, S] int pairs",
    sound="P1,P2,P3",
    sides=(16, 16),
    call=lambda m, a, am, b, bm: [(m(a, b, (am[:, :, None] & bm[:, None]).long(), False), 0)],
)
class PairsInt(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Linear(16, 16)

    def forward(self, dec, enc, dec_enc_mask, return_weights: bool):
        s = self.w(dec) @ enc.mT / 4
        p = s.masked_fill(dec_enc_mask == 0, -1e9).softmax(-1)
        return (p @ enc, p) if return_weights else p @ enc


@case(
    sides=(16, 20),
    call=lambda m, a, am, b, bm: [(m(a, b, torch.cat([am, bm], 1)), None)],
    exit="0|2",
    never="takes no mask",
    what="mask computed by the user over both, optional",
)
class JointOptional(nn.Module):
    def __init__(self):
        super().__init__()
        self.b = nn.Linear(20, 16)
        self.n = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, x1, x2, padding_mask=None):
        x = torch.cat([x1, self.b(x2)], 1)
        h = self.n(x, src_key_padding_mask=None if padding_mask is None else ~padding_mask)
        return h[:, 0]
