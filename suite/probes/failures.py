"""Why a variant could not be measured, as a skip's fields."""

from typing import Literal, TypedDict

import torch

from variants import Skip


class Refusal(TypedDict):
    """What a `suite.records.Skip` says of its reason."""

    reason: str
    cause: Literal["impossible", "error", "memory"]


def refusal(error: Exception) -> Refusal:
    """Sort an exception: it cannot be had here, it ran out of memory, or it is an error."""
    text = " ".join(str(error).split())
    if isinstance(error, Skip):
        return {"reason": text, "cause": "impossible"}
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate" in text:
        return {"reason": f"out of memory: {text[:300]}", "cause": "memory"}
    return {"reason": f"{type(error).__name__}: {text[:300]}", "cause": "error"}
