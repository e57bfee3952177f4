"""airsplay/lxmert, the authors' own code, as it behaves."""

from collections.abc import Collection
from typing import Literal

from torch import Tensor, nn

from variants.interface import Attended, Batch, CoAttention, one_width
from variants.origin import Origin
from variants.published.bert import Attention, Intermediate, Output, additive
from variants.published.checkpoint import Adapted, Checkpoint
from variants.published.defects import ADDED_MASKS
from variants.published.rows import RowScores
from variants.registry import register
from variants.slots import EVERY, Slots, valid_rows


class LXRTXLayer(nn.Module):
    """A cross-modality layer: the sides read each other through one shared attention, then themselves, then each a
    feed-forward layer. Dropout is left out.

    Args:
        hidden_size: width of both sides.
        heads: how many.
        intermediate_size: width of the feed-forward layers.
        activation: of the feed-forward layers.
    """

    def __init__(self, hidden_size: int, heads: int, intermediate_size: int, activation: str) -> None:
        super().__init__()
        # one module for both directions, its norm included
        self.visual_attention = Attention("att", hidden_size, hidden_size, heads)
        self.lang_self_att = Attention("self", hidden_size, hidden_size, heads)
        self.visn_self_att = Attention("self", hidden_size, hidden_size, heads)
        self.lang_inter = Intermediate(hidden_size, intermediate_size, activation)
        self.lang_output = Output(intermediate_size, hidden_size)
        self.visn_inter = Intermediate(hidden_size, intermediate_size, activation)
        self.visn_output = Output(intermediate_size, hidden_size)

    def forward(
        self,
        lang: Tensor,
        visn: Tensor,
        lang_mask: Tensor | None = None,
        visn_mask: Tensor | None = None,
        at_words: Slots = EVERY,
        at_regions: Slots = EVERY,
    ) -> dict[str, Tensor]:
        """Both sides in their own shapes.

        Args:
            lang: words ``[B, T, d]``.
            visn: regions ``[B, N, d]``.
            lang_mask: ``[B, 1, 1, T]``, added to scores: 0 on real words, -10000 on padding; or as `bert.attend`.
            visn_mask: ``[B, 1, 1, N]``, likewise.
            at_words: the slots whose rows ``lang`` is; all, as published.
            at_regions: likewise of ``visn``.
        """
        lang_found, _ = self.visual_attention(lang, visn, visn_mask, at_words, at_regions)
        visn_found, _ = self.visual_attention(visn, lang, lang_mask, at_regions, at_words)
        lang, _ = self.lang_self_att(lang_found, lang_found, lang_mask, at_words, at_words)
        visn, _ = self.visn_self_att(visn_found, visn_found, visn_mask, at_regions, at_regions)
        return {
            "lang": self.lang_output(self.lang_inter(lang), lang),
            "visn": self.visn_output(self.visn_inter(visn), visn),
        }


@register("published_lxmert")
class PublishedLxmert(CoAttention):
    """The authors' cross-modality layer on a batch; a score of ours pools the rows that it gives back.

    Options: ``heads`` and ``intermediate`` (four times the width unless given) are its num_attention_heads and
    intermediate_size, ``activation`` its hidden_act; ``corrected`` has its masks right, with the same weights.
    """

    source = "airsplay/lxmert, src/lxrt/modeling.py, LXRTXLayer; Tan & Bansal 2019, arXiv:1908.07490, section 2.2"
    origin = Origin(
        where="airsplay/lxmert, the authors of the paper",
        differs="one attention, its norm included, for both directions; adds -10000 to padding",
        ours="published_lxmert[corrected=true]",
        nearest="transformer",
    )
    known_defects = ADDED_MASKS

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        heads: int = 8,
        intermediate: int | None = None,
        activation: Literal["gelu", "relu", "swish"] = "gelu",
        corrected: bool = False,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        width = one_width("published_lxmert", image_width=image_width, question_width=question_width)
        self.network = LXRTXLayer(width, heads, intermediate or 4 * width, activation)
        self.scores = RowScores(width, width)
        self.corrected = corrected
        if corrected:
            self.known_defects = ()

    def forward(self, batch: Batch) -> Attended:
        regions, words, at_regions, at_words = batch.image, batch.question, EVERY, EVERY
        if self.corrected:
            masks = [valid[:, None, None] for valid in (batch.question_valid, batch.image_valid)]
            regions, at_regions = valid_rows(regions, batch.image_valid)
            words, at_words = valid_rows(words, batch.question_valid)
        else:
            masks = [additive(valid, batch.image.dtype) for valid in (batch.question_valid, batch.image_valid)]
        found = self.network(words, regions, *masks, at_words, at_regions)
        return self.scores.attended(at_regions.spread(found["visn"]), at_words.spread(found["lang"]), batch)


def xlayer_from_checkpoint(checkpoint: Checkpoint) -> LXRTXLayer:
    """The layer in the sizes of its weights; heads are the configuration's ``num_attention_heads``, else 12."""
    return LXRTXLayer(
        hidden_size=checkpoint.size("visual_attention.att.query.weight", 0, config="hidden_size"),
        heads=checkpoint.option("num_attention_heads", 12),
        intermediate_size=checkpoint.size("lang_inter.dense.weight", 0, config="intermediate_size"),
        activation=checkpoint.option("hidden_act", "gelu"),
    )


def adapted(checkpoint: Checkpoint) -> Adapted:
    """What `PublishedLxmert` has to be built with for these weights."""
    width = checkpoint.size("visual_attention.att.query.weight", 0)
    return Adapted(
        options={
            "heads": checkpoint.option("num_attention_heads", 12),
            "intermediate": checkpoint.size("lang_inter.dense.weight", 0),
            "activation": checkpoint.option("hidden_act", "gelu"),
        },
        image_width=width,
        question_width=width,
    )
