"""Drug-target, pathology."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from people.truths import case


@case(exit="1", says="takes no mask", what="takes no mask at all: right where nothing is padded")
class DrugBANish(nn.Module):
    def __init__(self):
        super().__init__()
        self.v, self.q = nn.Linear(20, 16), nn.Linear(12, 16)

    def forward(self, v, q, softmax=False):
        a = self.v(v) @ self.q(q).mT
        if softmax:
            a = a.flatten(1).softmax(-1).view_as(a)
        return torch.einsum("bnt,bnk,btk->bk", a, self.v(v), self.q(q)), a


@case(
    sides=(20, 12),
    call=lambda m, c, cm, p, pm: [(m(c, p, cm.sum(1), pm.sum(1)), None)],
    what="numbers of atoms and residues, masks made in a loop",
)
class CPI(nn.Module):
    def __init__(self):
        super().__init__()
        self.c, self.p, self.o = nn.Linear(20, 16), nn.Linear(12, 16), nn.Linear(16, 2)

    def make_masks(self, num, max_len):
        mask = torch.zeros((len(num), max_len))
        for i in range(len(num)):
            mask[i, : int(num[i])] = 1
        return mask[:, None]

    def forward(self, compound, protein, atom_num, protein_num):
        cm, pm = self.make_masks(atom_num, compound.shape[1]), self.make_masks(protein_num, protein.shape[1])
        c, p = self.c(compound), self.p(protein)
        t = (c @ p.mT / 4).masked_fill(pm == 0, -1e10).softmax(-1) @ p
        s = (torch.norm(t, dim=2)).masked_fill(cm[:, 0] == 0, -1e10).softmax(-1)
        return self.o((s[..., None] * t).sum(1))


@case(
    sides=(20, 12),
    exit="1",
    broken="P1",
    call=lambda m, c, cm, p, pm: [(m(c, p, cm.sum(1), pm.sum(1)), None)],
    what="the norm's softmax over all atoms",
)
class CPILate(CPI):
    def forward(self, compound, protein, atom_num, protein_num):
        cm, pm = self.make_masks(atom_num, compound.shape[1]), self.make_masks(protein_num, protein.shape[1])
        c, p = self.c(compound), self.p(protein)
        t = (c @ p.mT / 4).masked_fill(pm == 0, -1e10).softmax(-1) @ p
        s = torch.norm(t, dim=2).softmax(-1)
        return self.o((s[..., None] * t * cm.mT).sum(1))


class HyperBase(nn.Module):
    def __init__(self):
        super().__init__()
        self.d1, self.p1 = nn.Conv1d(20, 16, 3, padding=1), nn.Conv1d(12, 16, 5, padding=2)
        self.d2, self.p2 = nn.Conv1d(16, 16, 3, padding=1), nn.Conv1d(16, 16, 5, padding=2)

    def cnn(self, x, m, a, b, clean=True):
        m = m[:, None].to(x)
        x = torch.relu(a(x.transpose(1, 2) * m))
        return torch.relu(b(x * m if clean else x)).transpose(1, 2)

    def tail(self, d, p, dm, pm):
        s = (d @ p.mT / 4).masked_fill(~dm[:, :, None] | ~pm[:, None], -1e9)
        wd = s.amax(2).softmax(-1)
        wp = s.amax(1).softmax(-1)
        return torch.cat([(wd[..., None] * d).sum(1), (wp[..., None] * p).sum(1)], -1)


def HC(m, d, dm, p, pm):
    return [(m(d, p, dm, pm), None)]


@case(sides=(20, 12), call=HC, what="convolutions over zeroed pads, zeroed again between")
class HyperCnn(HyperBase):
    def forward(self, drug, protein, drug_mask, protein_mask):
        return self.tail(
            self.cnn(drug, drug_mask, self.d1, self.d2),
            self.cnn(protein, protein_mask, self.p1, self.p2),
            drug_mask,
            protein_mask,
        )


@case(
    sides=(20, 12),
    call=HC,
    exit="1",
    broken="P2",
    says="convol",
    what="zeroed before the first convolution only: its bias fills the pads",
)
class HyperCnnOnce(HyperBase):
    def forward(self, drug, protein, drug_mask, protein_mask):
        return self.tail(
            self.cnn(drug, drug_mask, self.d1, self.d2, False),
            self.cnn(protein, protein_mask, self.p1, self.p2, False),
            drug_mask,
            protein_mask,
        )


@case(sides=(20, 12), call=HC, exit="1", broken="P1", says="convol", what="convolutions over raw pads")
class HyperCnnRaw(HyperBase):
    def forward(self, drug, protein, drug_mask, protein_mask):
        def one(x):
            return torch.ones(x.shape[:2])

        return self.tail(
            self.cnn(drug, one(drug), self.d1, self.d2),
            self.cnn(protein, one(protein), self.p1, self.p2),
            drug_mask,
            protein_mask,
        )


@case(
    sides=(20,),
    call=lambda m, x, xm: [(m(x, xm)[0], None)],
    what="gated attention pooling of a bag; mask may be left out; one side",
)
class GatedABMIL(nn.Module):
    def __init__(self, L=20, D=12, n_classes=2):
        super().__init__()
        self.a, self.b, self.c, self.cls = nn.Linear(L, D), nn.Linear(L, D), nn.Linear(D, 1), nn.Linear(L, n_classes)

    def forward(self, h, mask=None, attention_only=False):
        A = self.c(torch.tanh(self.a(h)) * torch.sigmoid(self.b(h)))
        A = A.transpose(1, 2)
        if mask is not None:
            A = A.masked_fill(~mask.bool().unsqueeze(1), -torch.inf)
        if attention_only:
            return A
        P = F.softmax(A, dim=2)
        return self.cls((P @ h).squeeze(1)), P


@case(
    sides=(20,),
    exit="1",
    broken="P1",
    call=lambda m, x, xm: [(m(x, xm)[0], None)],
    what="mask multiplied onto the weights behind the softmax",
)
class ABMILPost(GatedABMIL):
    def forward(self, h, mask):
        A = self.c(torch.tanh(self.a(h)) * torch.sigmoid(self.b(h))).transpose(1, 2)
        P = F.softmax(A, dim=2) * mask.unsqueeze(1)
        return self.cls((P @ h).squeeze(1)), P


@case(
    sides=(20,), exit="1", broken="P3", call=lambda m, x, xm: [(m(x, xm)[0], None)], what="softmax over the batch axis"
)
class ABMILBatch(GatedABMIL):
    def forward(self, h, mask):
        A = self.c(torch.tanh(self.a(h)) * torch.sigmoid(self.b(h))).squeeze(-1).masked_fill(~mask, -1e9)
        P = F.softmax(A, dim=0) * mask
        return self.cls((P.unsqueeze(1) @ h).squeeze(1)), P


@case(exit="2", says="list", what="needs lists of bags")
class BagList(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.f = nn.Linear(20, 1), nn.Linear(20, 8)

    def forward(self, bags):
        return torch.stack([(self.a(b).softmax(0) * self.f(b)).sum(0) for b in bags])


@case(sides=(20,), call=lambda m, x, xm: [(m(x, xm), None)], what="critical instance by argmax among real ones")
class DualStream(nn.Module):
    def __init__(self):
        super().__init__()
        self.s, self.q, self.v = nn.Linear(20, 1), nn.Linear(20, 12), nn.Linear(20, 8)

    def crit(self, s, pad):
        return s.masked_fill(pad, -1e30).argmax(1)

    def forward(self, feats, valid):
        pad = ~valid
        i = self.crit(self.s(feats)[..., 0], pad)
        q = self.q(feats)
        qm = q[torch.arange(len(q)), i]
        A = (q @ qm[..., None])[..., 0].masked_fill(pad, -1e30).softmax(1)
        return (A[..., None] * self.v(feats)).sum(1)


@case(
    sides=(20,),
    exit="1",
    broken="P1",
    call=lambda m, x, xm: [(m(x, xm), None)],
    what="critical instance among pads too",
)
class DualStreamRaw(DualStream):
    def crit(self, s, pad):
        return s.argmax(1)


@case(
    sides=(24,),
    exit="1",
    broken="P18",
    call=None,
    what="instance BatchNorm over slots (train mode pools pads): P18",
)
class BagNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.f, self.bn, self.a = nn.Linear(24, 16), nn.BatchNorm1d(16), nn.Linear(16, 1)

    def forward(self, bag, lens):
        b, n, _ = bag.shape
        x = torch.relu(self.bn(self.f(bag).flatten(0, 1))).view(b, n, -1)
        pad = torch.arange(n)[None] >= lens[:, None]
        return (self.a(x)[..., 0].masked_fill(pad, -1e9).softmax(1)[..., None] * x).sum(1)


@case(
    sides=(32, 16),
    call=lambda m, p, pm, o, om: [(m(p, o, path_mask=pm)[0], None)],
    lens=[(9, 6, 4), (6, 6, 6)],
    what="genomic-guided co-attention over patches; omics never padded; kwargs-only mask",
)
class GenomicCoattn(nn.Module):
    def __init__(self):
        super().__init__()
        self.wsi, self.om, self.att, self.rho = (
            nn.Linear(32, 16),
            nn.Linear(16, 16),
            nn.MultiheadAttention(16, 1, batch_first=True),
            nn.Linear(16, 4),
        )

    def forward(self, x_path, x_omics, *, path_mask=None):
        h = torch.relu(self.wsi(x_path))
        g = torch.relu(self.om(x_omics))
        o, A = self.att(g, h, h, key_padding_mask=None if path_mask is None else ~path_mask)
        return self.rho(o.mean(1)), A


@case(
    sides=(20, 12),
    call=lambda m, d, dm, p, pm: [(m(d, p, dm[:, :, None] & pm[:, None])[0], None)],
    what="one outer-product mask, as interaction maps take it",
)
class InterMap(nn.Module):
    def __init__(self):
        super().__init__()
        self.d, self.p = nn.Linear(20, 8), nn.Linear(12, 8)

    def forward(self, drug, prot, inter_mask):
        d, p = self.d(drug), self.p(prot)
        s = (d @ p.mT).masked_fill(~inter_mask, float("-inf"))
        w = s.flatten(1).softmax(-1).nan_to_num(0).view_as(s)
        return torch.einsum("bnt,bnk,btk->bk", w, d, p), w


@case(
    sides=(20, 12),
    exit="1",
    broken="P1|P2|P3",
    call=lambda m, d, dm, p, pm: [(m(d, p, dm, pm), None)],
    what="max-pool with zeros at pads",
)
class MaxZero(nn.Module):
    def __init__(self):
        super().__init__()
        self.d, self.p = nn.Linear(20, 8), nn.Linear(12, 8)
        nn.init.constant_(self.d.bias, -2.0)  # where all that is real is negative, a zero is the largest

    def forward(self, drug_feats, prot_feats, drug_mask, prot_mask):
        d = self.d(drug_feats) * drug_mask.unsqueeze(-1)
        p = self.p(prot_feats) * prot_mask.unsqueeze(-1)
        return torch.cat([d.max(1)[0], p.max(1)[0]], -1)


@case(sides=(20, 12), call=lambda m, d, dm, p, pm: [(m(d, p, dm, pm), None)], what="max-pool with -inf at pads")
class MaxInf(MaxZero):
    def forward(self, drug_feats, prot_feats, drug_mask, prot_mask):
        d = self.d(drug_feats).masked_fill(~drug_mask[..., None], -torch.inf)
        p = self.p(prot_feats).masked_fill(~prot_mask[..., None], -torch.inf)
        return torch.cat([d.amax(1), p.amax(1)], -1)


@case(
    sides=(20, 12),
    exit="0",
    call=lambda m, d, dm, p, pm: [(m(d, p, dm, pm), None)],
    what="mean by sum over count plus eps, correct up to rounding",
    sound="P1,P2,P3,P6",
)
class MeanEps(MaxZero):
    def forward(self, drug_feats, prot_feats, drug_mask, prot_mask):
        def mean(x, m):
            m = m.unsqueeze(-1).to(x)
            return (x * m).sum(1) / (m.sum(1) + 1e-8)

        return torch.cat([mean(self.d(drug_feats), drug_mask), mean(self.p(prot_feats), prot_mask)], -1)
