"""Co-attention mechanisms and ways to run them, behind one interface."""

import variants.parallel  # noqa: F401  # registers itself
from variants.build import build, canonical, mechanisms, register
from variants.interface import Attended, Batch, CoAttention, KnownDefect, Skip
from variants.masking import valid_from_lengths
from variants.published import load_published
from variants.variant import Variant

__all__ = [
    "Attended",
    "Batch",
    "CoAttention",
    "KnownDefect",
    "Skip",
    "Variant",
    "build",
    "canonical",
    "load_published",
    "mechanisms",
    "register",
    "valid_from_lengths",
]
