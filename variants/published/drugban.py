"""peizhenbai/DrugBAN, bilinear attention between a drug and a protein, as it behaves."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from variants.interface import Attended, Batch, CoAttention, hidden_width
from variants.masking import blank, joint_softmax, uniform
from variants.origin import Origin
from variants.published.ban import BCNet, FCNet, bc_net, fc_net
from variants.published.checkpoint import Adapted, Checkpoint
from variants.published.defects import NO_MASKS, known
from variants.registry import register
from variants.slots import valid_rows


class BANLayer(BCNet):
    """Maps over all pairs of an atom and a residue, pooled together, behind a norm over the batch.

    It takes no mask on either side, and unless asked takes the maps' scores for weights, without a softmax.

    Args:
        net: the maps.
        width: of what comes out.
        softmax: whether each map is a distribution.
        momentum: of the norm's running statistics.
        eps: of the norm.
        by_batch: whether the norm takes the statistics of the batch, and moves the running ones.
    """

    def __init__(self, net: BCNet, width: int, *, softmax: bool, momentum: float, eps: float, by_batch: bool) -> None:
        super().__init__(net.v_net, net.q_net, rank=width * net.k, k=net.k, maps=net.maps, normed=True)
        self.softmax = softmax
        self.by_batch = by_batch
        self.bn = nn.BatchNorm1d(width, eps=eps, momentum=momentum)

    def forward(self, v: Tensor, q: Tensor, w: Tensor | None = None) -> dict[str, Tensor]:
        """``f`` ``[B, width]`` and ``att`` ``[B, G, N, T]``; with the batch's statistics also the running ones.

        Args:
            v: drug atoms ``[B, N, dv]``.
            q: protein positions ``[B, T, dq]``.
            w: not taken.
        """
        atoms, residues = self.v_net(v), self.q_net(q)
        att = self.maps_of(atoms, residues)
        if self.softmax:
            att = torch.softmax(att.flatten(2), 2).view_as(att)
        outputs = {"f": self.joined(atoms, residues, att), "att": att}
        if self.by_batch:
            assert self.bn.running_mean is not None
            assert self.bn.running_var is not None
            outputs |= {"running_mean_after": self.bn.running_mean, "running_var_after": self.bn.running_var}
        return outputs

    def joined(self, atoms: Tensor, residues: Tensor, att: Tensor) -> Tensor:
        """Both sides' ranks in one vector, ``[B, width]``, by the maps ``[B, G, N, T]``."""
        self.bn.train(self.by_batch)
        found: Tensor = self.bn(self.summed(atoms, residues, att.sum(1)))
        return found


@register("published_drugban")
class PublishedDrugban(CoAttention):
    """The authors' bilinear attention on a batch: one vector for both sides, and the mean of the maps' marginals.

    The norm over the batch keeps to its running statistics: with those of the batch every example sees every other,
    and one alone raises.

    Options: ``hidden`` (the narrower width unless given) is its h_dim, ``maps`` its h_out, ``ranks`` its k;
    ``softmax`` whether the maps are distributions, which they are not as published. ``corrected`` leaves padding out of
    the maps, with the same weights; the maps still pool as they are, and what is shown of them is their softmax.
    """

    source = "peizhenbai/DrugBAN, ban.py, BANLayer; Bai et al. 2023, section Methods"
    origin = Origin(
        where="peizhenbai/DrugBAN, the authors of the paper",
        differs="weights are scores without a softmax; one vector for both sides, normed over the batch; no mask",
        ours="published_drugban[corrected=true]",
        nearest="bilinear",
    )
    known_defects = (
        *NO_MASKS,
        *known(
            "its weights are scores, of either sign and any sum",
            {
                "P4": (("negative weights", "image"), ("negative weights", "question")),
                "P7": (("slot zeroed", "image"), ("slot zeroed", "question")),
            },
        ),
    )

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        hidden: int | None = None,
        maps: int = 2,
        ranks: int = 3,
        softmax: bool = False,
        corrected: bool = False,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        hidden = hidden_width(hidden, image_width=image_width, question_width=question_width)
        nets = (FCNet(width, ranks * hidden, "ReLU") for width in (image_width, question_width))
        net = BCNet(*nets, rank=ranks * hidden, k=ranks, maps=maps, normed=True)
        self.network = BANLayer(net, hidden, softmax=softmax, momentum=0.1, eps=1e-5, by_batch=False)
        self.corrected = corrected
        if corrected:
            self.known_defects = ()

    def forward(self, batch: Batch) -> Attended:
        if not self.corrected:
            found = self.network(batch.image, batch.question)
            vector = found["f"].unsqueeze(1)
            shown = found["att"].mean(1, keepdim=True)  # [B, 1, N, T]
            return Attended(vector, vector, shown.sum(-1), shown.sum(-2))
        image, question, image_valid, question_valid = batch
        (atoms, at_atoms), (residues, at_residues) = (
            valid_rows(image, image_valid),
            valid_rows(question, question_valid),
        )
        atoms = blank(at_atoms.spread(self.network.v_net(atoms)), image_valid)
        residues = blank(at_residues.spread(self.network.q_net(residues)), question_valid)
        scores = self.network.maps_of(atoms, residues)
        looks = joint_softmax(scores, image_valid, question_valid)  # [B, G, N, T]
        # without ranks a padded slot adds nothing, whatever its pairs' scores are
        vector = self.network.joined(atoms, residues, looks if self.network.softmax else scores).unsqueeze(1)
        some = [valid.any(-1)[:, None, None] for valid in (image_valid, question_valid)]
        shown = looks.mean(1, keepdim=True)
        even = [uniform(valid, image.dtype).unsqueeze(1) for valid in (image_valid, question_valid)]
        return Attended(
            torch.where(some[0], vector, 0.0),
            torch.where(some[1], vector, 0.0),
            torch.where(some[1], shown.sum(-1), even[0]),
            torch.where(some[0], shown.sum(-2), even[1]),
        )


def banlayer_from_checkpoint(checkpoint: Checkpoint) -> BANLayer:
    """The layer in the sizes of its weights; ``k`` (3), ``softmax`` (no) and ``bn`` (eval) are the configuration's."""
    return BANLayer(
        bc_net(checkpoint, "", k=checkpoint.option("k", 3)),
        checkpoint.size("bn.weight", 0),
        softmax=checkpoint.option("softmax", False),
        momentum=float(str(checkpoint.config.get("bn_momentum", 0.1))),
        eps=float(str(checkpoint.config.get("bn_eps", 1e-5))),
        by_batch=checkpoint.option("bn", "eval") == "train",
    )


def adapted(checkpoint: Checkpoint) -> Adapted:
    """What `PublishedDrugban` has to be built with for these weights."""
    hidden = checkpoint.size("bn.weight", 0)
    return Adapted(
        options={
            "hidden": hidden,
            "maps": checkpoint.size("h_mat_v", 1),
            "ranks": checkpoint.option("k", 3),
            "softmax": checkpoint.option("softmax", False),
        },
        image_width=fc_net(checkpoint, "v_net", "").inputs,
        question_width=fc_net(checkpoint, "q_net", "").inputs,
    )
