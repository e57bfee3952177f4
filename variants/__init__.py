"""Co-attention mechanisms and ways to run them, behind one interface."""

from variants import found  # noqa: F401  # every mechanism registers itself
from variants.build import build, canonical
from variants.interface import Attended, Batch, CoAttention, KnownDefect, Skip
from variants.masking import valid_from_lengths
from variants.published import load_published
from variants.registry import mechanisms, register
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
