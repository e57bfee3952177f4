"""Why a variant could not be measured, as a skip's fields."""

from typing import Literal, TypedDict

import torch

from suite.core.errors import words
from variants import Skip


class Refusal(TypedDict):
    """What a `suite.core.records.Skip` says of its reason."""

    reason: str
    cause: Literal["impossible", "error", "memory"]


def refusal(error: BaseException) -> Refusal:
    """Sort an exception: it cannot be had here, it ran out of memory, or it is an error."""
    text = words(error)
    if isinstance(error, Skip):
        return {"reason": text.partition(": ")[2], "cause": "impossible"}
    if out_of_memory(error):
        return {"reason": "out of memory" + "".join(text.partition(": ")[1:]), "cause": "memory"}
    return {"reason": text, "cause": "error"}


def out_of_memory(error: BaseException) -> bool:
    """Whether a process had to go without memory that it asked for."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate" in words(
        error
    )
