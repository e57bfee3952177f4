"""Published implementations as they behave, defects included, and loaders for their checkpoints."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from variants.published import csdn, dcn, hiecoatt, mcan, skyol5, zhangtd
from variants.published.checkpoint import Checkpoint, Config

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
}
"""Every published component that can be loaded, by implementation and component."""


def load_published(source: str, state_dict: Mapping[str, Tensor], *, config: Config | None = None) -> nn.Module:
    """Build a published module from its weights, to run on the original's inputs and give the original's outputs.

    Args:
        source: one of `SOURCES`, such as ``dcn/stack``.
        state_dict: the weights under their published names.
        config: the published configuration by its own names, for what no weight tells, such as the number of heads.

    Raises:
        ValueError: the source is not known, or names or shapes do not fit; the message lists each.
    """
    build = SOURCES.get(source)
    if build is None:
        raise ValueError(f"{source!r} is no published component; known are {', '.join(SOURCES)}")
    checkpoint = Checkpoint(source, state_dict, config or {})
    return checkpoint.load(build(checkpoint))
