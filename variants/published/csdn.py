"""The parallel co-attention of the CSDN article 117292683, as it behaves."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from variants.interface import Attended, Batch, CoAttention, one_width
from variants.origin import Origin
from variants.published.checkpoint import Checkpoint
from variants.published.defects import NO_IMAGE_MASK, known
from variants.registry import register


class ParallelCoAttentionNetwork(nn.Module):
    """The article's module: its names, its layout, its order of products, and its two softmaxes.

    Args:
        hidden_dim: width of both sides, d.
        co_attention_dim: width of the attention, k.
        src_length_masking: whether the second softmax hides the words beyond each length.
    """

    def __init__(self, hidden_dim: int, co_attention_dim: int, *, src_length_masking: bool = True) -> None:
        super().__init__()
        self.src_length_masking = src_length_masking
        self.W_b = nn.Parameter(torch.randn(hidden_dim, hidden_dim))
        self.W_v = nn.Parameter(torch.randn(co_attention_dim, hidden_dim))
        self.W_q = nn.Parameter(torch.randn(co_attention_dim, hidden_dim))
        self.w_hv = nn.Parameter(torch.randn(co_attention_dim, 1))
        self.w_hq = nn.Parameter(torch.randn(co_attention_dim, 1))

    def forward(self, V: Tensor, Q: Tensor, Q_lengths: Tensor) -> dict[str, Tensor]:
        """The article's outputs by their names.

        Args:
            V: image, channels first, ``[B, d, N]``.
            Q: question, ``[B, L, d]``.
            Q_lengths: ``[B]``, the longest of them L.

        Returns:
            ``a_v`` ``[B, 1, N]``, ``masked_a_q`` ``[B, 1, L]``, ``v`` and ``q`` ``[B, d]``, or ``[d]`` at B = 1.

        Raises:
            RuntimeError: the longest length is neither L nor 1.
        """
        affinity = Q @ (self.W_b @ V)  # [B, L, N]
        # both projections are formed twice, as published: the cost is part of the behaviour
        image_mixed = torch.tanh(self.W_v @ V + (self.W_q @ Q.permute(0, 2, 1)) @ affinity)  # [B, k, N]
        question_mixed = torch.tanh(self.W_q @ Q.permute(0, 2, 1) + (self.W_v @ V) @ affinity.permute(0, 2, 1))
        image_weights = torch.softmax(self.w_hv.t() @ image_mixed, dim=2)  # [B, 1, N]
        question_weights = torch.softmax(self.w_hq.t() @ question_mixed, dim=2)  # [B, 1, L], pads included
        masked = self._second_softmax(question_weights.squeeze(1), Q_lengths).unsqueeze(1)
        return {
            "a_v": image_weights,
            "masked_a_q": masked,
            "v": (image_weights @ V.permute(0, 2, 1)).squeeze(),
            "q": (masked @ Q).squeeze(),
        }

    def _second_softmax(self, probabilities: Tensor, lengths: Tensor) -> Tensor:
        if self.src_length_masking:
            # as wide as the longest length, not as the question
            positions = torch.arange(int(lengths.max()), device=lengths.device)
            probabilities = probabilities.masked_fill(positions >= lengths.unsqueeze(1), float("-inf"))
        return torch.softmax(probabilities.float(), dim=-1).type_as(probabilities)


@register("published_csdn")
class PublishedCsdn(CoAttention):
    """The CSDN article's `ParallelCoAttentionNetwork` on a batch: equations of `Parallel`, without the affinity's tanh.

    The article takes question lengths and no image mask, so the validity of regions is ignored and that of words is
    read as a count. The image reaches it channels first, as a view of the batch's layout.

    Options: ``hidden`` is k (the feature width unless given).
    """

    source = "CSDN article 117292683, ParallelCoAttentionNetwork; after Lu et al. 2016, section 3.3"
    origin = Origin(
        where="the PyTorch port of CSDN article 117292683",
        differs="no tanh on the affinity; a softmax of a softmax on the question; both projections formed twice",
        ours="parallel[affinity=linear]",
        source="csdn/parallel",
        beside="parallel",
    )
    known_defects = (
        *NO_IMAGE_MASK,
        *known(
            "padded words reach the image through the affinity, and the question through its first softmax",
            {
                "P1": (("pads filled", "question"),),
                "P1n": (("pads not finite", "question"),),
                "P8": (("gradient at pads", "question"),),
                "P9r": (("side emptied", "question"),),
            },
        ),
        *known(
            "the second softmax, of probabilities, keeps the words of a row within a factor e of each other",
            {"P4c": ("scores scaled",)},
            output="question_weights",
        ),
        *known(
            "it takes lengths, so words have to stand on the left",
            {
                "P5": (
                    ("slots moved apart", "question"),
                    ("slots permuted", "question"),
                    ("pads on the left", "question"),
                )
            },
        ),
        *known(
            "its mask is as wide as the longest length, so it raises where that is less than the question's width",
            {
                "P2": (("pads added", "question"),),
                "P6": (("mask inverted", "question"),),
                "P13": ("one example", ("no row full", "question"), ("mask expanded", "question")),
            },
        ),
        *known(
            "an empty question is NaN", {"P9": (("side emptied", "question"),), "P9b": (("side emptied", "question"),)}
        ),
        *known("one example loses its batch", {"P3": ("alone",), "P13": ("one example",)}, output="image"),
        *known("one example loses its batch", {"P3": ("alone",), "P13": ("one example",)}, output="question"),
    )

    def __init__(
        self, *, image_width: int, question_width: int, without: Collection[str] = (), hidden: int | None = None
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        width = one_width("published_csdn", image_width=image_width, question_width=question_width)
        self.network = ParallelCoAttentionNetwork(width, hidden or width)

    def forward(self, batch: Batch) -> Attended:
        outputs = self.network(batch.image.permute(0, 2, 1), batch.question, batch.question_valid.sum(-1))
        return Attended(
            outputs["v"].unsqueeze(1),
            outputs["q"].unsqueeze(1),
            outputs["a_v"],
            outputs["masked_a_q"],
        )

    def gain(self, parameter: str) -> float:
        return 0.1 / self.image_width**0.5 if parameter == "network.W_b" else 1.0

    def matmul_flops(self, examples: int, regions: int, words: int) -> int:
        width, hidden = self.image_width, self.network.W_v.shape[0]
        affinity = regions * width * width + words * regions * width
        projections = 2 * (regions + words) * width * hidden
        mixing = 2 * words * regions * hidden
        scores = (regions + words) * hidden
        pooling = (regions + words) * width
        return 2 * examples * (affinity + projections + mixing + scores + pooling)


def from_checkpoint(checkpoint: Checkpoint) -> ParallelCoAttentionNetwork:
    """The article's module in the sizes of its weights."""
    return ParallelCoAttentionNetwork(
        hidden_dim=checkpoint.size("W_b", 0, config="hidden_dim"),
        co_attention_dim=checkpoint.size("W_v", 0, config="co_attention_dim"),
        src_length_masking=checkpoint.option("src_length_masking", True),
    )
