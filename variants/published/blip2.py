"""BLIP-2's Q-Former as transformers 5.24.0 has it, in its eager form, as it behaves."""

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor, nn

from variants.interface import Attended, Batch, CoAttention, blanked
from variants.masking import blank, pool, uniform
from variants.origin import Origin
from variants.published.bert import NORM_EPS, Attention, Intermediate, Output, extended
from variants.published.checkpoint import Adapted, Checkpoint
from variants.published.defects import EITHER, known
from variants.registry import register
from variants.scored import scored_pool
from variants.slots import EVERY, Slots, slots_of


class QFormerLayer(nn.Module):
    """Rows read each other; queries read the image too, and have a feed-forward layer of their own.

    Args:
        width: of the rows.
        heads: how many.
        intermediate: width of the feed-forward layers.
        encoder_width: of the image; None where this layer does not read it.
        text: whether there is a feed-forward layer for rows of text.
        activation: of the feed-forward layers.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        intermediate: int,
        encoder_width: int | None,
        *,
        text: bool,
        activation: str = "gelu",
    ) -> None:
        super().__init__()
        self.attention = Attention("attention", width, width, heads)
        self.crossattention = None if encoder_width is None else Attention("attention", width, encoder_width, heads)
        if text:
            self.intermediate = Intermediate(width, intermediate, activation)
            self.output = Output(intermediate, width)
        self.intermediate_query = Intermediate(width, intermediate, activation)
        self.output_query = Output(intermediate, width)

    def rows(
        self,
        rows: Tensor,
        image: Tensor,
        rows_mask: Tensor | None,
        image_mask: Tensor | None,
        queries: int | None = None,
        at_rows: Slots = EVERY,
        at_regions: Slots = EVERY,
    ) -> tuple[Tensor, Tensor | None]:
        """Rows in their own shape, and how the queries read the image, ``[B, h, Q, N]``, where they do.

        Args:
            rows: queries, then text ``[B, S, d]``.
            image: ``[B, N, e]``.
            rows_mask: added to scores, ``[B, 1, 1, S]``.
            image_mask: added to scores, ``[B, 1, 1, N]``; the model makes it for all rows.
            queries: how many of the rows are queries; None for all.
            at_rows: the slots whose rows these are; all, as published, or where some are text.
            at_regions: likewise of the image.
        """
        rows, _ = self.attention(rows, rows, rows_mask, at_rows, at_rows)
        learned, text = (rows, None) if queries is None else (rows[:, :queries], rows[:, queries:])
        weights = None
        if self.crossattention is not None:
            learned, weights = self.crossattention(learned, image, image_mask, at_rows, at_regions)
        learned = self.output_query(self.intermediate_query(learned), learned)
        if text is None or not text.shape[1]:
            return learned, weights
        return torch.cat([learned, self.output(self.intermediate(text), text)], dim=1), weights


class Layer(QFormerLayer):
    """One layer by itself, all of its rows queries."""

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """``hidden_states`` ``[B, Q, d]`` and, where the layer reads the image, ``cross_attn`` ``[B, h, Q, N]``.

        Args:
            hidden_states: queries ``[B, Q, d]``.
            encoder_hidden_states: image ``[B, N, e]``.
            encoder_attention_mask: ``[B, N]`` of integers, 1 on real patches.
        """
        mask = encoder_attention_mask
        additive = None if mask is None else extended(mask, hidden_states.dtype)
        rows, weights = self.rows(hidden_states, encoder_hidden_states, None, additive, hidden_states.shape[1])
        return {"hidden_states": rows} | ({} if weights is None else {"cross_attn": weights})


class Layers(nn.Module):
    """The layers under the name of the published encoder."""

    def __init__(self, layers: list[QFormerLayer]) -> None:
        super().__init__()
        self.layer = nn.ModuleList(layers)


class QFormer(nn.Module):
    """The model: a norm, then the layers.

    Args:
        layers: in order.
        width: of the rows.
        queries: how many of the rows are queries; None takes all of them.
    """

    def __init__(self, layers: list[QFormerLayer], width: int, queries: int | None) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(width, eps=NORM_EPS)
        self.encoder = Layers(layers)
        self.queries = queries

    def forward(
        self,
        query_embeds: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """``last_hidden_state`` ``[B, S, d]``.

        A ragged image mask beside rows of text raises, as published: it is made for all rows and used for the queries.

        Args:
            query_embeds: queries, then text ``[B, S, d]``.
            encoder_hidden_states: image ``[B, N, e]``.
            attention_mask: ``[B, S]`` of integers, 1 on real rows.
            encoder_attention_mask: ``[B, N]``, likewise.
        """
        slots, dtype = query_embeds.shape[1], query_embeds.dtype
        queries = self.queries if self.queries is not None else slots
        rows_mask = None if attention_mask is None else extended(attention_mask, dtype)
        image_mask = None
        if encoder_attention_mask is not None and not bool((encoder_attention_mask == 1).all()):
            image_mask = extended(encoder_attention_mask, dtype).expand(-1, -1, slots, -1)
        rows, _ = self.read(query_embeds, encoder_hidden_states, rows_mask, image_mask, queries)
        return {"last_hidden_state": rows}

    def read(
        self,
        rows: Tensor,
        image: Tensor,
        rows_mask: Tensor | None,
        image_mask: Tensor | None,
        queries: int | None = None,
        at_rows: Slots = EVERY,
        at_regions: Slots = EVERY,
    ) -> tuple[Tensor, Tensor]:
        """The rows behind the last layer, and how the queries read the image at last, ``[B, h, Q, N]``.

        Arguments as `QFormerLayer.rows`.
        """
        rows = self.layernorm(rows)
        weights = rows.new_zeros(0)
        for layer in self.encoder.layer:
            assert isinstance(layer, QFormerLayer)
            rows, looks = layer.rows(rows, image, rows_mask, image_mask, queries, at_rows, at_regions)
            weights = weights if looks is None else looks
        return rows, weights


@register("published_blip2")
class PublishedBlip2(CoAttention):
    """The Q-Former on a batch: the question's words are its queries, which read each other and the image.

    A score of ours pools the words that it gives back; the image's weights are the map of the last layer that read it,
    averaged over heads and, under the words' weights, over words. Text beside the queries is left out, since that
    raises where images are ragged.

    Options: ``layers``, of which every ``frequency``-th reads the image; ``heads``; ``intermediate`` (four times the
    width unless given) and ``activation`` of the feed-forward layers; ``corrected`` has its masks right, with the same
    weights.
    """

    source = "transformers 5.24.0, Blip2QFormerModel; Li et al. 2023, arXiv:2301.12597, section 3.1"
    origin = Origin(
        where="transformers 5.24.0, BLIP-2's Q-Former",
        differs="text beside a ragged image raises; an empty image is read evenly",
        ours="published_blip2[corrected=true]",
        nearest="queries",
    )
    known_defects = (
        *known("NaN in a pad survives its weight of zero", {"P1n": EITHER}),
        *known(
            "its fill is finite, so that an empty image is read as the plain mean of its padding",
            {"P9": (("side emptied", "image"),), "P9r": (("side emptied", "image"),)},
        ),
    )

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        layers: int = 2,
        frequency: int = 2,
        heads: int = 8,
        intermediate: int | None = None,
        activation: Literal["gelu", "relu", "swish"] = "gelu",
        corrected: bool = False,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        for option, value in (("layers", layers), ("frequency", frequency)):
            if value < 1:
                raise ValueError(f"published_blip2[{option}={value}]: expected at least 1")
        self.network = QFormer(
            [
                QFormerLayer(
                    question_width,
                    heads,
                    intermediate or 4 * question_width,
                    None if layer % frequency else image_width,
                    text=False,
                    activation=activation,
                )
                for layer in range(layers)
            ],
            question_width,
            None,
        )
        self.score = nn.Linear(question_width, 1, bias=False)
        self.corrected = corrected
        if corrected:
            self.known_defects = ()

    def guided_weights(self) -> tuple[str, ...]:
        return ("image_weights", "question_weights")

    def forward(self, batch: Batch) -> Attended:
        image, question, image_valid, question_valid = blanked(batch) if self.corrected else batch
        masks = [
            valid[:, None, None] if self.corrected else extended(valid, image.dtype)
            for valid in (question_valid, image_valid)
        ]
        at_words = at_regions = EVERY
        if self.corrected:
            at_words, at_regions = slots_of(question_valid), slots_of(image_valid)
        sides = at_words.taken(question), at_regions.taken(image)
        rows, looks = self.network.read(*sides, masks[0], masks[1], None, at_words, at_regions)
        rows = blank(at_words.spread(rows), question_valid)
        vector, weights = scored_pool(self.score, rows, question_valid)
        image_weights = pool(weights, looks.mean(1))  # [B, N]
        if self.corrected:  # without words all regions weigh the same
            even = uniform(image_valid, image.dtype)
            image_weights = torch.where(question_valid.any(-1, keepdim=True), image_weights, even)
        return Attended(
            pool(image_weights, blank(image, image_valid)).unsqueeze(1),
            vector.unsqueeze(1),
            image_weights.unsqueeze(1),
            weights.unsqueeze(1),
        )


def _sizes(checkpoint: Checkpoint, prefix: str) -> tuple[int, int, int, int | None]:
    image = f"{prefix}crossattention.attention.key.weight"
    return (
        checkpoint.size(f"{prefix}attention.attention.query.weight", 0, config="hidden_size"),
        checkpoint.option("heads", 12),
        checkpoint.size(f"{prefix}intermediate_query.dense.weight", 0, config="intermediate"),
        checkpoint.size(image, 1, config="encoder_hidden") if image in checkpoint.state_dict else None,
    )


def layer_from_checkpoint(checkpoint: Checkpoint) -> Layer:
    """The layer in the sizes of its weights; heads are the configuration's ``heads``, else 12."""
    return Layer(
        *_sizes(checkpoint, ""),
        text="intermediate.dense.weight" in checkpoint.state_dict,
        activation=checkpoint.option("hidden_act", "gelu"),
    )


def qformer_from_checkpoint(checkpoint: Checkpoint) -> QFormer:
    """The model in the sizes of its weights; ``heads`` (12) and ``query_length`` (all rows) are the configuration's."""
    layers = []
    for number in range(checkpoint.count(r"encoder\.layer\.(\d+)\.")):
        prefix = f"encoder.layer.{number}."
        text = f"{prefix}intermediate.dense.weight" in checkpoint.state_dict
        activation = checkpoint.option("hidden_act", "gelu")
        layers.append(QFormerLayer(*_sizes(checkpoint, prefix), text=text, activation=activation))
    queries = checkpoint.option("query_length", 0)
    return QFormer(layers, checkpoint.size("layernorm.weight", 0), queries or None)


def adapted(checkpoint: Checkpoint) -> Adapted:
    """What `PublishedBlip2` has to be built with for a model's weights; those for rows of text are left out."""
    layers = checkpoint.count(r"encoder\.layer\.(\d+)\.")
    reading = [
        n for n in range(layers) if f"encoder.layer.{n}.crossattention.attention.key.weight" in checkpoint.state_dict
    ]
    if not reading or reading != list(range(0, layers, reading[1] if len(reading) > 1 else layers)):
        raise ValueError(f"layers {reading} of {checkpoint.source} read the image: expected every n-th from the first")
    width, heads, intermediate, image_width = _sizes(checkpoint, "encoder.layer.0.")
    assert image_width is not None
    text = (part for n in range(layers) for part in (f"encoder.layer.{n}.intermediate.", f"encoder.layer.{n}.output."))
    return Adapted(
        options={
            "layers": layers,
            "frequency": reading[1] if len(reading) > 1 else layers,
            "heads": heads,
            "intermediate": intermediate,
            "activation": checkpoint.option("hidden_act", "gelu"),
        },
        image_width=image_width,
        question_width=width,
        left_out=tuple(text),
    )
