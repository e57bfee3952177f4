"""Dense co-attention: every word attends to every region and back, in layers, with somewhere else to look."""

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from variants.elementwise import relu_of_own, sum_of_own
from variants.heads import split
from variants.interface import Attended, Batch, CoAttention, blanked
from variants.masking import masked_softmax, pool
from variants.regions import region
from variants.registry import register


class DenseLayer(nn.Module):
    """One dense co-attention and the residual fusion of both sides with what they found."""

    def __init__(
        self, image_width: int, question_width: int, heads: int, nowhere: int, *, to_question: bool, to_image: bool
    ) -> None:
        super().__init__()
        hidden = -(-min(image_width, question_width) // heads) * heads
        self.heads = heads
        self.nowhere = nowhere
        self.to_question = to_question
        self.to_image = to_image
        self.image_projection = nn.Linear(image_width, hidden, bias=False)
        self.question_projection = nn.Linear(question_width, hidden, bias=False)
        self.image_nowhere = nn.Parameter(torch.zeros(nowhere, image_width)) if nowhere else None
        self.question_nowhere = nn.Parameter(torch.zeros(nowhere, question_width)) if nowhere else None
        self.image_fusion = nn.Linear(image_width + question_width, image_width)
        self.question_fusion = nn.Linear(image_width + question_width, question_width)

    def forward(self, batch: Batch) -> Batch:
        """Both sides in their own shapes; what stands in padded slots is finite and means nothing."""
        image, question, image_valid, question_valid = batch
        slots = self.nowhere
        words_look = regions_look = None
        if self.to_question or self.to_image:
            with region("affinity"):
                regions = self._project(self.image_projection, image, self.image_nowhere)  # [B, h, M + N, D/h]
                words = self._project(self.question_projection, question, self.question_nowhere)  # [B, h, M + T, D/h]
                # one product serves both directions; scaled before it, where half precision has the range
                affinity = (words * words.shape[-1] ** -0.5) @ regions.mT  # [B, h, M + T, M + N]
        with region("scores"):
            if self.to_question:
                words_look = self._weights(affinity[:, :, slots:], image_valid)  # [B, T, M + N]
            if self.to_image:
                regions_look = self._weights(affinity[:, :, :, slots:].mT, question_valid)  # [B, N, M + T]
        with region("pooling"):
            return Batch(
                _fuse(self.image_fusion, image, regions_look, question, self.question_nowhere),
                _fuse(self.question_fusion, question, words_look, image, self.image_nowhere),
                image_valid,
                question_valid,
            )

    def _project(self, projection: nn.Linear, features: Tensor, nowhere: Tensor | None) -> Tensor:
        projected: Tensor = projection(features)  # [B, L, D]
        if nowhere is not None:
            projected = torch.cat((projection(nowhere).expand(features.shape[0], -1, -1), projected), dim=1)
        return split(projected, self.heads)

    def _weights(self, affinity: Tensor, valid: Tensor) -> Tensor:
        """The mean of the heads' maps over nowhere and the valid slots."""
        valid = torch.cat((valid.new_ones(valid.shape[0], self.nowhere), valid), dim=1)
        return masked_softmax(affinity, valid[:, None, None]).mean(1)


def _fuse(fusion: nn.Linear, features: Tensor, weights: Tensor | None, other: Tensor, nowhere: Tensor | None) -> Tensor:
    """``features + relu([features ; weights other] F + f)``, without forming what stands in the brackets."""
    own, found = fusion.weight[:, : features.shape[-1]], fusion.weight[:, features.shape[-1] :]
    fused = linear(features, own, fusion.bias)  # [B, L, D]
    if weights is not None:
        slots = 0 if nowhere is None else nowhere.shape[0]
        first = other.shape[1] < features.shape[1]  # project on the side that has fewer rows
        rows = linear(other, found) if first else other
        seen = weights[..., slots:] @ rows
        if nowhere is not None:
            seen = seen + weights[..., :slots] @ (linear(nowhere, found) if first else nowhere)
        fused = sum_of_own(fused, seen if first else linear(seen, found))
    return features + relu_of_own(fused)


class Summary(nn.Module):
    """A side in one vector: scores from two layers, and the mean of their weighted sums."""

    def __init__(self, width: int, maps: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.score = nn.Linear(width, maps)

    def forward(self, features: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Vector ``[B, D]`` and weights ``[B, L]``, the mean of the maps."""
        with region("scores"):
            scores = self.score(relu_of_own(self.hidden(features))).mT  # [B, h, L]
        with region("pooling"):
            weights = masked_softmax(scores, valid.unsqueeze(1)).mean(1)
            return pool(weights, features), weights


@register("dense")
class Dense(CoAttention):
    """Nguyen & Okatani 2018, section 3: the dense co-attention network between its encoders and its answer.

    In each layer and head i of h, with M learned nowhere slots in front of both sides, ``V' = [v_0 ; V]`` and
    ``Q' = [q_0 ; Q]``, and one affinity for both directions::

        A_i  = (Q' U_i) (V' W_i)' / sqrt(D / h)     [B, M + T, M + N]
        A_v  = mean_i softmax over regions (A_i)    [B, T, M + N]       a word's look at the image
        A_q  = mean_i softmax over words (A_i')     [B, N, M + T]       a region's look at the question
        V   <- V + relu([V ; A_q Q'] F_v + f_v)     [B, N, V]
        Q   <- Q + relu([Q ; A_v V'] F_q + f_q)     [B, T, Q]

    and after the last layer each side's summary, the only weights that are returned::

        a    = mean_i softmax(relu(X S + s) R + r)_i                    [B, L]
        x^   = a X                                                      [B, D]

    A word that fits no region looks nowhere instead, which is always valid; a side without a valid slot is nowhere to
    the other side, and its own summary is zero. The authors' code applies each head's map to the features and takes
    the mean of the results, h products for the same numbers, and forms the affinity once for each direction; here the
    fusion is also applied to the words before the regions gather them, where there are fewer of them.

    Options: ``layers``, ``heads`` and ``nowhere`` (M). Projections are as wide as the narrower side, rounded up to a
    multiple of the heads. ``-nowhere`` leaves the slots out, ``-image_to_question`` and ``-question_to_image`` replace
    what one side finds in the other by zeros.
    """

    source = "Nguyen & Okatani 2018, arXiv:1804.00775, section 3; nowhere slots, residual fusion and summary as there"
    parts = ("nowhere", "image_to_question", "question_to_image")

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        layers: int = 3,
        heads: int = 4,
        nowhere: int = 3,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        for option, value in (("layers", layers), ("heads", heads)):
            if value < 1:
                raise ValueError(f"dense[{option}={value}]: expected at least 1")
        self.layers = nn.ModuleList(
            DenseLayer(
                image_width,
                question_width,
                heads,
                0 if "nowhere" in self.without else nowhere,
                to_question="image_to_question" not in self.without,
                to_image="question_to_image" not in self.without,
            )
            for _ in range(layers)
        )
        self.image_summary = Summary(image_width, heads)
        self.question_summary = Summary(question_width, heads)

    def forward(self, batch: Batch) -> Attended:
        batch = blanked(batch)
        for layer in self.layers:
            batch = layer(batch)
        image_vector, image_weights = self.image_summary(batch.image, batch.image_valid)
        question_vector, question_weights = self.question_summary(batch.question, batch.question_valid)
        return Attended(
            image_vector.unsqueeze(1),
            question_vector.unsqueeze(1),
            image_weights.unsqueeze(1),
            question_weights.unsqueeze(1),
        )

    def guided_weights(self) -> tuple[str, ...]:
        guides = {"image_weights": "question_to_image", "question_weights": "image_to_question"}
        return tuple(weights for weights, part in guides.items() if part not in self.without)

    def matmul_flops(self, examples: int, regions: int, words: int) -> int:
        layer = self.layers[0]
        assert isinstance(layer, DenseLayer)
        image_width, question_width, slots = self.image_width, self.question_width, layer.nowhere
        each = shared = 0
        if layer.to_question or layer.to_image:
            hidden = layer.image_projection.out_features
            each += (regions * image_width + words * question_width) * hidden
            each += (slots + regions) * (slots + words) * hidden
            shared += slots * (image_width + question_width) * hidden  # nowhere is projected once a batch
        for to_side, count, width, others, other_width in (
            (layer.to_image, regions, image_width, words, question_width),
            (layer.to_question, words, question_width, regions, image_width),
        ):
            each += count * width * width
            if to_side:
                first = others < count
                each += count * (slots + others) * (width if first else other_width)
                each += min(count, others) * other_width * width
                shared += slots * other_width * width if first else 0
        maps = self.image_summary.score.out_features
        summaries = sum(
            count * width * (width + maps + 1) for count, width in ((regions, image_width), (words, question_width))
        )
        return 2 * (len(self.layers) * (examples * each + shared) + examples * summaries)
