"""CSUBioGroup/BACPI, bidirectional attention between a compound and a protein, as it behaves."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from variants.interface import Attended, Batch, CoAttention, blanked, one_width
from variants.masking import masked_softmax as right_softmax
from variants.origin import Origin
from variants.published.checkpoint import Adapted, Checkpoint
from variants.published.defects import EITHER, known
from variants.registry import register
from variants.slots import EVERY, Slots, slots_of

ROUNDS = 4
SLOPE = 0.1
TINY = 1e-6
SHORT_SUMS = "padding may hold the largest score, and a constant is added to the sum, so weights fall short of 1"
FILL = -9e15
"""What it writes over the scores of atoms without a bond; it does not fit into half precision."""


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Over ``[B, L]``: the largest score of *all* slots is subtracted, padding included, and the sum gets a constant.

    Where padding holds the largest score the weights of real slots sum to less than 1.
    """
    weights = torch.exp(scores - scores.max(dim=1, keepdim=True)[0]) * mask
    return weights / (weights.sum(dim=1, keepdim=True) + TINY)


class Rounds(nn.Module):
    """Four rounds side by side on the same features, each with weights of its own.

    Args:
        width: of all features.
    """

    corrected = False
    """Whether the largest score of the valid slots alone is subtracted, and nothing added to the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()

        def maps(inputs: int, width: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Linear(inputs, width) for _ in range(ROUNDS))

        self.U = nn.ParameterList(torch.empty(width, width).normal_(std=width**-0.5) for _ in range(ROUNDS))
        self.transform_c2p, self.transform_p2c = maps(width, width), maps(width, width)
        self.bihidden_c, self.bihidden_p = maps(width, width), maps(width, width)
        self.biatt_c, self.biatt_p = maps(2 * width, 1), maps(2 * width, 1)

    def rounds(
        self,
        atoms: Tensor,
        atoms_mask: Tensor,
        amino: Tensor,
        amino_mask: Tensor,
        at_atoms: Slots = EVERY,
        at_amino: Slots = EVERY,
    ) -> dict[str, Tensor]:
        """All that `BidirectionalAttention.forward` gives but the prediction; arguments as there.

        What needs no other slot is computed on the slots ``at_atoms`` and ``at_amino`` alone: on all, as published.
        """
        compound, protein = (at_atoms.taken(atoms), at_atoms), (at_amino.taken(amino), at_amino)
        pairs = atoms_mask.unsqueeze(2) * amino_mask.unsqueeze(1)
        vectors: dict[str, list[Tensor]] = {"cat_cf": [], "cat_pf": []}
        weights: dict[str, list[Tensor]] = {"atoms_att": [], "amino_att": []}
        for number in range(ROUNDS):
            affinity = torch.tanh(at_atoms.spread(compound[0] @ self.U[number]) @ amino.mT) * pairs  # [B, N, T]
            for features, (rows, at), (others, at_others), mask, turned, hidden, transform, score, vector, weight in (
                (
                    atoms,
                    compound,
                    protein,
                    atoms_mask,
                    affinity,
                    self.bihidden_c,
                    self.transform_p2c,
                    self.biatt_c,
                    "cat_cf",
                    "atoms_att",
                ),
                (
                    amino,
                    protein,
                    compound,
                    amino_mask,
                    affinity.mT,
                    self.bihidden_p,
                    self.transform_c2p,
                    self.biatt_p,
                    "cat_pf",
                    "amino_att",
                ),
            ):
                read = turned @ at_others.spread(torch.tanh(transform[number](others)))
                both = torch.cat([torch.tanh(hidden[number](rows)), at.taken(read)], dim=-1)
                scores = at.spread(score[number](both)).squeeze(2)
                looks = right_softmax(scores, mask > 0) if self.corrected else masked_softmax(scores, mask)
                weights[weight].append(looks)
                vectors[vector].append((weights[weight][-1].unsqueeze(1) @ features).squeeze(1))
        return {name: torch.cat(rounds, dim=1) for name, rounds in vectors.items()} | {
            name: torch.stack(rounds, dim=1) for name, rounds in weights.items()
        }


class Bidirectional(Rounds):
    """The rounds, then the prediction.

    Args:
        width: of all features.
        outputs: 1 for an affinity, 2 for an interaction.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__(width)
        self.comb_c = nn.Linear(ROUNDS * width, width)
        self.comb_p = nn.Linear(ROUNDS * width, width)
        self.output = nn.Linear(2 * width * width, outputs)

    def attend(
        self, atoms: Tensor, atoms_mask: Tensor, fps: Tensor, amino: Tensor, amino_mask: Tensor
    ) -> dict[str, Tensor]:
        """The prediction and what it came from; arguments as `BidirectionalAttention.forward`."""
        found = self.rounds(atoms, atoms_mask, amino, amino_mask)
        compound, protein = found["cat_cf"], found["cat_pf"]
        left = torch.cat([self.comb_c(compound), fps], dim=1)
        outer = (left.unsqueeze(2) * self.comb_p(protein).unsqueeze(1)).flatten(1)
        return {"prediction": self.output(nn.functional.leaky_relu(outer, SLOPE)), **found}


class BidirectionalAttention(Bidirectional):
    """The attention and the prediction alone."""

    def forward(
        self, atoms_vector: Tensor, atoms_mask: Tensor, fps: Tensor, amino_vector: Tensor, amino_mask: Tensor
    ) -> dict[str, Tensor]:
        """``prediction``; ``cat_cf``, ``cat_pf`` ``[B, 4 l]``; ``atoms_att``, ``amino_att`` ``[B, 4, L]``.

        Args:
            atoms_vector: ``[B, N, l]``.
            atoms_mask: ``[B, N]`` of numbers, 1 on real atoms.
            fps: features of the compound's fingerprint ``[B, l]``.
            amino_vector: ``[B, T, l]``.
            amino_mask: ``[B, T]``, likewise.
        """
        return self.attend(atoms_vector, atoms_mask, fps, amino_vector, amino_mask)


class GATLayer(nn.Module):
    """A head of graph attention; nothing is masked but pairs without a bond.

    Args:
        inputs: width of an atom.
        outputs: width of what comes out.
        slope: of its rectifier, where that is negative.
    """

    def __init__(self, inputs: int, outputs: int, slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.W = nn.Parameter(nn.init.xavier_uniform_(torch.empty(inputs, outputs)))
        self.a = nn.Parameter(nn.init.xavier_uniform_(torch.empty(2 * outputs, 1)))

    def forward(self, atoms: Tensor, adjacency: Tensor) -> Tensor:
        """``[B, N, outputs]`` of ``[B, N, inputs]``, with ``adjacency`` ``[B, N, N]`` of integers."""
        mapped = atoms @ self.W
        own, others = self.a.chunk(2)
        scores = nn.functional.leaky_relu(mapped @ own + (mapped @ others).mT, self.slope)
        scores = torch.where(adjacency > 0, scores, torch.full_like(scores, FILL))
        return torch.softmax(scores, dim=2) @ mapped


class BACPI(Bidirectional):
    """The whole network: graph attention over atoms, convolutions over residues, then the attention between them.

    Args:
        sizes: of the embeddings, ``(atoms, comp_dim)`` and ``(residues, prot_dim)``.
        gat: width of a head of graph attention, and how many heads.
        convolutions: how many, and the size of their window.
        fingerprint: bits of a fingerprint.
        width: of all features.
        outputs: 1 for an affinity, 2 for an interaction.
        slope: of the rectifiers over atoms and residues, where they are negative; those behind them keep theirs.
    """

    def __init__(
        self,
        *,
        sizes: tuple[tuple[int, int], tuple[int, int]],
        gat: tuple[int, int],
        convolutions: tuple[int, int],
        fingerprint: int,
        width: int,
        outputs: int,
        slope: float = SLOPE,
    ) -> None:
        super().__init__(width, outputs)
        self.slope = slope
        (atoms, comp_dim), (residues, prot_dim) = sizes
        self.heads = gat[1]
        self.embedding_layer_atom = nn.Embedding(atoms, comp_dim)
        self.embedding_layer_amino = nn.Embedding(residues, prot_dim)
        self.fp0 = nn.Parameter(torch.empty(fingerprint, width).normal_(std=fingerprint**-0.5))
        self.fp1 = nn.Parameter(torch.empty(width, width).normal_(std=width**-0.5))
        for head in range(self.heads):
            self.add_module(f"gat_layer_{head}", GATLayer(comp_dim, gat[0], slope))
        self.gat_out = GATLayer(gat[0] * self.heads, comp_dim, slope)
        self.W_comp = nn.Linear(comp_dim, width)
        # over positions and channels alike, as published
        self.conv_layers = nn.ModuleList(
            nn.Conv2d(1, 1, convolutions[1], padding=convolutions[1] // 2) for _ in range(convolutions[0])
        )
        self.W_prot = nn.Linear(prot_dim, width)

    def forward(
        self, atoms: Tensor, atoms_mask: Tensor, adjacency: Tensor, amino: Tensor, amino_mask: Tensor, fps: Tensor
    ) -> dict[str, Tensor]:
        """``prediction`` ``[B, outputs]``.

        Args:
            atoms: ids ``[B, N]``, 0 on padding.
            atoms_mask: ``[B, N]`` of numbers, 1 on real atoms; it reaches the attention alone.
            adjacency: ``[B, N, N]`` of integers, each real atom its own neighbour.
            amino: ids ``[B, T]``, 0 on padding.
            amino_mask: ``[B, T]``, as ``atoms_mask``.
            fps: fingerprints ``[B, bits]``.
        """
        compound = self.embedding_layer_atom(atoms)
        heads = [
            nn.functional.elu(self.get_submodule(f"gat_layer_{head}")(compound, adjacency))
            for head in range(self.heads)
        ]
        compound = nn.functional.elu(self.gat_out(torch.cat(heads, dim=2), adjacency))
        compound = nn.functional.leaky_relu(self.W_comp(compound), self.slope)
        protein = self.embedding_layer_amino(amino).unsqueeze(1)
        for convolution in self.conv_layers:
            protein = nn.functional.leaky_relu(convolution(protein), self.slope)
        protein = nn.functional.leaky_relu(self.W_prot(protein.squeeze(1)), self.slope)
        for weight in (self.fp0, self.fp1):
            fps = nn.functional.leaky_relu(fps @ weight, SLOPE)
        return {"prediction": self.attend(compound, atoms_mask, fps, protein, amino_mask)["prediction"]}


@register("published_bacpi")
class PublishedBacpi(CoAttention):
    """The authors' bidirectional attention on a batch, its four rounds as the glimpses.

    Options: ``corrected`` has its softmax right, with the same weights.
    """

    source = "CSUBioGroup/BACPI, model.py, bidirectional_attention_prediction; Li et al. 2022"
    origin = Origin(
        where="CSUBioGroup/BACPI, the authors of the paper",
        differs="four rounds side by side; a softmax with the maximum of padding and a constant in its sum",
        ours="published_bacpi[corrected=true]",
        nearest="parallel",
    )
    known_defects = (
        *known("NaN in a pad survives its weight of zero", {"P1n": EITHER}),
        *known(
            SHORT_SUMS,
            {
                "P1": ("pads filled",),
                "P2": ("pads added",),
                "P4": (("sum of weights", "image"), ("sum of weights", "question")),
                "P8": ("gradient at pads", "gradients alone"),
            },
        ),
        *known(SHORT_SUMS, {"P3": ("alone",), "P11": ("sides of one width",)}, always=False),
    )

    def __init__(
        self, *, image_width: int, question_width: int, without: Collection[str] = (), corrected: bool = False
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.network = Rounds(one_width("published_bacpi", image_width=image_width, question_width=question_width))
        self.network.corrected = corrected
        self.corrected = corrected
        if corrected:
            self.known_defects = ()

    def forward(self, batch: Batch) -> Attended:
        if self.corrected:
            batch = blanked(batch)
        image, question, image_valid, question_valid = batch
        slots = (slots_of(image_valid), slots_of(question_valid)) if self.corrected else (EVERY, EVERY)
        masks = image_valid.to(image.dtype), question_valid.to(image.dtype)
        found = self.network.rounds(image, masks[0], question, masks[1], *slots)
        return Attended(
            found["cat_cf"].view(len(image), ROUNDS, -1),
            found["cat_pf"].view(len(image), ROUNDS, -1),
            found["atoms_att"],
            found["amino_att"],
        )


def bidat_from_checkpoint(checkpoint: Checkpoint) -> BidirectionalAttention:
    """The attention in the sizes of its weights."""
    return BidirectionalAttention(checkpoint.size("U.0", 0, config="latent_dim"), checkpoint.size("output.weight", 0))


def net_from_checkpoint(checkpoint: Checkpoint) -> BACPI:
    """The network in the sizes of its weights; ``alpha`` (0.1) is the configuration's."""
    heads = checkpoint.count(r"gat_layer_(\d+)\.")
    return BACPI(
        sizes=(
            (checkpoint.size("embedding_layer_atom.weight", 0), checkpoint.size("embedding_layer_atom.weight", 1)),
            (checkpoint.size("embedding_layer_amino.weight", 0), checkpoint.size("embedding_layer_amino.weight", 1)),
        ),
        gat=(checkpoint.size("gat_layer_0.W", 1, config="gat_dim"), heads),
        convolutions=(checkpoint.count(r"conv_layers\.(\d+)\."), checkpoint.size("conv_layers.0.weight", 2)),
        fingerprint=checkpoint.size("fp0", 0),
        width=checkpoint.size("U.0", 0, config="latent_dim"),
        outputs=checkpoint.size("output.weight", 0),
        slope=float(str(checkpoint.config.get("alpha", SLOPE))),
    )


def adapted(checkpoint: Checkpoint) -> Adapted:
    """What `PublishedBacpi` has to be built with for the attention's weights, or for the whole network's."""
    width = checkpoint.size("U.0", 0)
    answer = ("comb_", "output.", "embedding_layer_", "fp", "gat_", "W_comp.", "conv_layers.", "W_prot.")
    return Adapted(options={}, image_width=width, question_width=width, left_out=answer)
