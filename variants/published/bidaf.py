"""galsang/BiDAF-pytorch, its attention flow, as it behaves."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from variants.interface import Attended, Batch, CoAttention, one_width
from variants.origin import Origin
from variants.published.checkpoint import Checkpoint
from variants.published.defects import NO_MASKS, known
from variants.registry import register


class Linear(nn.Module):
    """A linear map under the name of its own that the published code gives it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, features: Tensor) -> Tensor:
        mapped: Tensor = self.linear(features)
        return mapped


class AttentionFlow(nn.Module):
    """Context and question read each other through one affinity; no mask of any kind.

    Squeezes without an axis drop a batch of one example, which then raises, as published.

    Args:
        width: of both sides.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.att_weight_c = Linear(width, 1)
        self.att_weight_q = Linear(width, 1)
        self.att_weight_cq = Linear(width, 1)

    def forward(self, c: Tensor, q: Tensor) -> dict[str, Tensor]:
        """``g`` ``[B, N, 4 width]``: the context, what it reads, and its products with that and with its summary.

        Args:
            c: context ``[B, N, width]``.
            q: question ``[B, T, width]``.
        """
        return {"g": self.flow(c, q)[0]}

    def flow(self, c: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`forward`'s ``g``; how each row reads the question, ``[B, N, T]``; and the weights of rows, ``[B, 1, N]``."""
        length, words = c.shape[1], q.shape[1]
        products = [self.att_weight_cq(c * word.unsqueeze(1)).squeeze() for word in q.unbind(1)]
        scores = (
            self.att_weight_c(c).expand(-1, -1, words)
            + self.att_weight_q(q).permute(0, 2, 1).expand(-1, length, -1)
            + torch.stack(products, dim=-1)
        )  # [B, N, T]
        looks = torch.softmax(scores, dim=2)
        read = torch.bmm(looks, q)  # [B, N, width]
        weights = torch.softmax(torch.max(scores, dim=2)[0], dim=1).unsqueeze(1)  # [B, 1, N]
        summary = torch.bmm(weights, c).squeeze().unsqueeze(1).expand(-1, length, -1)
        return torch.cat([c, read, c * read, c * summary], dim=-1), looks, weights


@register("published_bidaf")
class PublishedBidaf(CoAttention):
    """The port's attention flow on a batch; its rows are pooled by the weights that it has over the context itself."""

    source = "galsang/BiDAF-pytorch, model/model.py, att_flow_layer; after Seo et al. 2017, arXiv:1611.01603"
    origin = Origin(
        where="galsang/BiDAF-pytorch",
        differs="squeezes that drop a batch of one; words one after another; no mask",
        ours="flow[projected=false]",
        source="bidaf/attflow",
    )
    known_defects = (
        *NO_MASKS,
        *known("one example loses its batch", {"P3": ("alone",), "P8": ("gradients alone",), "P13": ("one example",)}),
        *known("a side of one row loses its axis", {"P13": (("one slot", "image"),)}),
    )

    def __init__(self, *, image_width: int, question_width: int, without: Collection[str] = ()) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.network = AttentionFlow(
            one_width("published_bidaf", image_width=image_width, question_width=question_width)
        )

    def forward(self, batch: Batch) -> Attended:
        rows, looks, image_weights = self.network.flow(batch.image, batch.question)
        question_weights = image_weights @ looks  # [B, 1, T]
        return Attended(image_weights @ rows, question_weights @ batch.question, image_weights, question_weights)


def attflow_from_checkpoint(checkpoint: Checkpoint) -> AttentionFlow:
    """The attention in the sizes of its weights."""
    return AttentionFlow(checkpoint.size("att_weight_c.linear.weight", 1))
