"""Published implementations as they behave, defects included, and loaders for their checkpoints."""

from collections.abc import Callable, Mapping
from typing import overload

from torch import Tensor, nn

from variants.build import build
from variants.interface import CoAttention
from variants.published import (
    allennlp,
    bacpi,
    ban,
    bidaf,
    blip2,
    coatt,
    csdn,
    dcn,
    drugban,
    gdino,
    hiecoatt,
    lightglue,
    lxmert,
    mcan,
    mcat,
    perceiver,
    skyol5,
    vilbert,
    zhangtd,
)
from variants.published.checkpoint import Checkpoint, Config, fit, renamed
from variants.published.transfer import TRANSFERS

__all__ = ["SOURCES", "TRANSFERS", "Config", "beside", "corrected", "load_published"]

SOURCES: Mapping[str, Callable[[Checkpoint], nn.Module]] = {
    "csdn/parallel": csdn.from_checkpoint,
    "skyol5/parallel": skyol5.parallel_from_checkpoint,
    "skyol5/hierarchical": skyol5.net_from_checkpoint,
    "zhangtd/parallel": zhangtd.parallel_from_checkpoint,
    "zhangtd/alternating": zhangtd.alternating_from_checkpoint,
    "zhangtd/alternating_coa": zhangtd.alternating_coa_from_checkpoint,
    "zhangtd/text_attention": zhangtd.text_attention_from_checkpoint,
    "zhangtd/encoding": zhangtd.encoding_from_checkpoint,
    "zhangtd/phrase": zhangtd.phrase_from_checkpoint,
    "hiecoatt/parallel": hiecoatt.parallel_from_checkpoint,
    "hiecoatt/alternating": hiecoatt.alternating_from_checkpoint,
    "hiecoatt/hierarchical": hiecoatt.net_from_checkpoint,
    "dcn/layer": dcn.layer_from_checkpoint,
    "dcn/stack": dcn.stack_from_checkpoint,
    "mcan/mca_ed": mcan.mca_ed_from_checkpoint,
    "mcan/attflat": mcan.attflat_from_checkpoint,
    "mcan/net": mcan.net_from_checkpoint,
    "ban/bcnet_forward": ban.bcnet_from_checkpoint,
    "ban/bcnet_weights": ban.bcnet_from_checkpoint,
    "ban/biattention": ban.biattention_from_checkpoint,
    "ban/residual": ban.residual_from_checkpoint,
    "drugban/banlayer": drugban.banlayer_from_checkpoint,
    "lxmert/xlayer": lxmert.xlayer_from_checkpoint,
    "vilbert/biattention": vilbert.biattention_from_checkpoint,
    "vilbert/connection": vilbert.connection_from_checkpoint,
    "gdino/bimha": gdino.bimha_from_checkpoint,
    "gdino/block": gdino.block_from_checkpoint,
    "lightglue/crossblock": lightglue.crossblock_from_checkpoint,
    "lightglue/layer": lightglue.layer_from_checkpoint,
    "bidaf/attflow": bidaf.attflow_from_checkpoint,
    "allennlp/bidaf": allennlp.bidaf_from_checkpoint,
    "coatt/coattn": coatt.coattn_from_checkpoint,
    "coatt/encoder": coatt.encoder_from_checkpoint,
    "mcat/coattn": mcat.coattn_from_checkpoint,
    "mcat/pool": mcat.pool_from_checkpoint,
    "mcat/net": mcat.net_from_checkpoint,
    "bacpi/bidat": bacpi.bidat_from_checkpoint,
    "bacpi/net": bacpi.net_from_checkpoint,
    "blip2/qformer_layer": blip2.layer_from_checkpoint,
    "blip2/qformer": blip2.qformer_from_checkpoint,
    "flamingo/resampler": perceiver.resampler_from_checkpoint,
    "perceiver/io": perceiver.io_from_checkpoint,
}
"""Every published component that can be loaded, by implementation and component."""


@overload
def load_published(
    source: str, state_dict: Mapping[str, Tensor], *, config: Config | None = None, into: None = None
) -> nn.Module: ...
@overload
def load_published(
    source: str, state_dict: Mapping[str, Tensor], *, config: Config | None = None, into: str
) -> CoAttention: ...
def load_published(
    source: str, state_dict: Mapping[str, Tensor], *, config: Config | None = None, into: str | None = None
) -> nn.Module:
    """Build a module from published weights.

    By itself it is the published module: it takes the original's inputs and gives the original's outputs. With
    ``into`` it is a mechanism on a `Batch` with the same weights: the published one as it behaves, such as
    ``published_dcn``, or ours, such as ``dense``, which agrees with it where nothing is padded (but for a second
    softmax) and masks where something is.

    Args:
        source: one of `SOURCES`, such as ``dcn/stack``.
        state_dict: the weights under their published names.
        config: the published configuration by its own names, for what no weight tells, such as the number of heads.
        into: a mechanism of `TRANSFERS`, by its name there; its other options follow from the weights.

    Raises:
        ValueError: source or mechanism is not known, or names or shapes do not fit; the message lists each.
    """
    build_module = SOURCES.get(source)
    if build_module is None:
        raise ValueError(f"{source!r} is no published component; known are {', '.join(SOURCES)}")
    checkpoint = Checkpoint(source, renamed(state_dict), config or {})
    # first as published, so that what is wrong is said in the names that were given
    module = checkpoint.load(build_module(checkpoint))
    if into is None:
        return module
    return _transferred(checkpoint, into)


def beside(source: str, state_dict: Mapping[str, Tensor], *, config: Config | None = None) -> tuple[str, ...]:
    """Beginnings of the names that belong to other modules than the source's own, such as an encoder's or an answer's.

    A name without a dot belongs to no module, and is never among them.

    Args:
        source: as in `load_published`.
        state_dict: of a network that the source is a part of.
        config: as in `load_published`.

    Raises:
        ValueError: what the source needs is not there.
    """
    checkpoint = Checkpoint(source, renamed(state_dict), config or {})
    own = {name.partition(".")[0] for name in SOURCES[source](checkpoint).state_dict()}
    firsts = (name.partition(".")[0] for name in checkpoint.state_dict if "." in name)
    return tuple(dict.fromkeys(f"{first}." for first in firsts if first not in own))


def corrected(published: CoAttention, source: str, *, into: str, config: Config | None = None) -> CoAttention:
    """Ours with the weights of a published mechanism, which has a network's attention but not its answer.

    Args:
        published: such as the module of ``published_dcn``.
        source: whose weights those are, as in `load_published`.
        into: as in `load_published`.
        config: as in `load_published`.

    Raises:
        ValueError: as in `load_published`.
    """
    weights = {name.removeprefix("network."): weight for name, weight in published.state_dict().items()}
    return _transferred(Checkpoint(source, weights, config or {}), into)


def _transferred(checkpoint: Checkpoint, into: str) -> CoAttention:
    source = checkpoint.source
    transfers = TRANSFERS.get(source, {})
    if into not in transfers:
        raise ValueError(
            f"{source} cannot be loaded into {into!r}: its weights fit {' and '.join(transfers) or 'no mechanism'}"
        )
    transfer = transfers[into](checkpoint)
    widths = transfer.image_width, transfer.question_width
    mechanism = build(transfer.name, image_width=widths[0], question_width=widths[1]).module
    seeded = {name: weight for name, weight in mechanism.state_dict().items() if name.startswith(transfer.added)}
    fit(mechanism, seeded | transfer.weights, what=f"{source}, as {transfer.name},")
    return mechanism
