"""What published implementations are known to get wrong, in the terms of the masking audit."""

from collections.abc import Mapping

from variants.interface import KnownDefect


def known(summary: str, shown: Mapping[str, tuple[str, ...]], *, output: str = "any") -> tuple[KnownDefect, ...]:
    """One fault as it shows.

    Args:
        summary: what happens and why, in one sentence.
        shown: under each property that it breaks, the conditions, or a part of their wording that they share.
        output: the field of ``Attended`` in which it shows, if it is one.
    """
    return tuple(
        KnownDefect(property=property, output=output, condition=condition, summary=summary)
        for property, conditions in shown.items()
        for condition in conditions
    )


NO_IMAGE_MASK = known(
    "it takes no image mask, so padded regions are attended, and reach the question through the affinity or the guide",
    {
        "P1": ("padded regions",),
        "P1n": ("padded regions",),
        "P2": ("padded regions",),
        "P3": ("example alone",),
        "P4": ("weight on padded regions", "the sum over valid regions is not 1"),
        "P6": ("a hidden region", "an inverted mask of regions", "a hidden word against a removed one"),
        "P8": ("padded regions get a gradient", "gradients of the same examples alone"),
        "P9": ("empty image",),
        "P9r": ("empty image",),
        "P11": ("as many words as regions",),
        "P13": ("no row of regions full",),
    },
)

WORDS_NOT_MASKED = known(
    "its question mask is dead, so padded words are attended, and reach the image where that sees the question",
    {
        "P1": ("padded words",),
        "P1n": ("padded words",),
        "P2": ("padded words",),
        "P4": ("weight on padded words", "the sum over valid words is not 1"),
        "P8": ("padded words get a gradient",),
        "P9": ("empty question",),
        "P9r": ("empty question",),
        "P13": ("no row of words full",),
    },
)

NO_WORD_MATTERS = known("hiding a word changes nothing at all", {"P6": ("a hidden word must", "mask of words must")})
