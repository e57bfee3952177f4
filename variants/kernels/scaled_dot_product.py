"""Multi-head attention through `torch.nn.functional.scaled_dot_product_attention`, on one backend and no other."""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from variants.heads import Heads
from variants.regions import region
from variants.slots import EVERY, Slots

Module = TypeVar("Module", bound=nn.Module)


def backend(device: torch.device) -> SDPBackend:
    """The one that takes a mask and keeps no map; cuDNN's takes one too, and has given NaN gradients with it."""
    return SDPBackend.FLASH_ATTENTION if device.type == "cpu" else SDPBackend.EFFICIENT_ATTENTION


class Reading(nn.Module):
    """`Heads` with its affinity and softmax inside one kernel."""

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self.heads = heads

    def forward(
        self, features: Tensor, other: Tensor, other_valid: Tensor, own: Slots = EVERY, others: Slots = EVERY
    ) -> Tensor:
        """As `Heads`."""
        heads = self.heads
        with region("affinity"):
            query, key, value = (
                heads.split(slots.spread(layer(source)))
                for layer, source, slots in (
                    (heads.query, features, own),
                    (heads.key, other, others),
                    (heads.value, other, others),
                )
            )
            empty = ~other_valid.any(-1)  # [B]
            # backends disagree on rows without a valid slot: they see all, and are emptied below
            seen = (other_valid | empty.unsqueeze(-1))[:, None, None, :].expand(-1, 1, query.shape[2], -1)
            with sdpa_kernel(backend(query.device)):
                context = scaled_dot_product_attention(query, key, value, attn_mask=seen)  # [B, heads, L, K/heads]
            return heads.join(context.masked_fill(empty[:, None, None, None], 0), own)


def has_heads(module: nn.Module) -> bool:
    """Whether there is anything in a module that the kernel computes."""
    return any(isinstance(part, Heads) for part in module.modules())


def twin(module: Module) -> Module:
    """The same module over the same weights, with every `Heads` in it read through the kernel."""
    other = copy.copy(module)
    other._modules = {
        name: Reading(part) if isinstance(part, Heads) else part if part is None else twin(part)
        for name, part in module._modules.items()
    }
    return other
