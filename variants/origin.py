"""Where a published implementation is from, and which mechanism computes the same with its masks right."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a published implementation says of itself, beside its class; mechanisms of ours have none."""

    where: str
    """Whose code it is: a repository, an article, a library with its version."""
    differs: str
    """What it does that its paper does not say."""
    ours: str
    """Canonical name of what computes the same with its masks right: a mechanism of ours, or its own corrected form."""
    nearest: str = ""
    """Of our own mechanisms, the one that does the same job, where that is not `ours` without its options."""
    source: str = ""
    """Component of `load_published` whose weights are those of `ours`, such as ``dcn/stack``; empty where none is."""
    beside: str = ""
    """What it is trained beside, where not `ours`: options that change no mask cost no training of their own."""
