"""airsplay/lxmert, the authors' own code, as it behaves."""

from torch import Tensor, nn

from variants.published.bert import Attention, Intermediate, Output
from variants.published.checkpoint import Checkpoint


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
        self, lang: Tensor, visn: Tensor, lang_mask: Tensor | None = None, visn_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Both sides in their own shapes.

        Args:
            lang: words ``[B, T, d]``.
            visn: regions ``[B, N, d]``.
            lang_mask: ``[B, 1, 1, T]``, added to scores: 0 on real words, -10000 on padding.
            visn_mask: ``[B, 1, 1, N]``, likewise.
        """
        lang_found, _ = self.visual_attention(lang, visn, visn_mask)
        visn_found, _ = self.visual_attention(visn, lang, lang_mask)
        lang, _ = self.lang_self_att(lang_found, lang_found, lang_mask)
        visn, _ = self.visn_self_att(visn_found, visn_found, visn_mask)
        return {
            "lang": self.lang_output(self.lang_inter(lang), lang),
            "visn": self.visn_output(self.visn_inter(visn), visn),
        }


def xlayer_from_checkpoint(checkpoint: Checkpoint) -> LXRTXLayer:
    """The layer in the sizes of its weights; heads are the configuration's ``num_attention_heads``, else 12."""
    return LXRTXLayer(
        hidden_size=checkpoint.size("visual_attention.att.query.weight", 0, config="hidden_size"),
        heads=checkpoint.option("num_attention_heads", 12),
        intermediate_size=checkpoint.size("lang_inter.dense.weight", 0, config="intermediate_size"),
        activation=checkpoint.option("hidden_act", "gelu"),
    )
