"""Whether a call may look at its data and write over its own intermediates, or stands for other calls."""

import torch


def is_plain() -> bool:
    """Whether this call computes its own result and nothing else.

    It does not while it is compiled, exported or traced: what it sees then becomes part of a program that others run.
    Nor under ``torch.func`` (``vmap``, ``jvp`` and the like): one tensor then stands for many, or carries a tangent
    that its memory has no room for.
    """
    tracing: bool = torch.jit.is_tracing()  # type: ignore[no-untyped-call, attr-defined]
    return not (torch.compiler.is_compiling() or tracing or torch._C._are_functorch_transforms_active())
