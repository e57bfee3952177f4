"""What published implementations are known to get wrong, in the terms of the masking audit."""

from collections.abc import Mapping

from variants.interface import KnownDefect

Shown = str | tuple[str, str]


def known(
    summary: str, shown: Mapping[str, tuple[Shown, ...]], *, output: str = "any", always: bool = True
) -> tuple[KnownDefect, ...]:
    """One fault as it shows.

    Args:
        summary: what happens and why, in one sentence.
        shown: under each property that it breaks, what is done when it shows, alone or with the side it is done to.
        output: the field of ``Attended`` in which it shows, if it is one.
        always: whether every audit finds it.
    """
    pairs = [
        (property, *((done, "any") if isinstance(done, str) else done))
        for property, all in shown.items()
        for done in all
    ]
    return tuple(
        KnownDefect(property=property, output=output, what=what, side=side, summary=summary, always=always)
        for property, what, side in pairs
    )


NO_IMAGE_MASK = known(
    "it takes no image mask, so padded regions are attended, and reach the question through the affinity or the guide",
    {
        "P1": (("pads filled", "image"),),
        "P1n": (("pads not finite", "image"),),
        "P2": (("pads added", "image"),),
        "P3": ("alone",),
        "P4": (("weight on pads", "image"), ("sum of weights", "image")),
        "P6": (
            ("hidden or removed", "image"),
            ("hidden", "image"),
            ("mask inverted", "image"),
            ("hidden or removed", "question"),
        ),
        "P8": (("gradient at pads", "image"), "gradients alone"),
        "P9": (("side emptied", "image"),),
        "P9r": (("side emptied", "image"),),
        "P11": ("sides of one width",),
        "P13": (("no row full", "image"),),
    },
)

WORDS_NOT_MASKED = known(
    "its question mask is dead, so padded words are attended, and reach the image where that sees the question",
    {
        "P1": (("pads filled", "question"),),
        "P1n": (("pads not finite", "question"),),
        "P2": (("pads added", "question"),),
        "P4": (("weight on pads", "question"), ("sum of weights", "question")),
        "P8": (("gradient at pads", "question"),),
        "P9": (("side emptied", "question"),),
        "P9r": (("side emptied", "question"),),
        "P13": (("no row full", "question"),),
    },
)

NO_WORD_MATTERS = known(
    "hiding a word changes nothing at all", {"P6": (("hidden", "question"), ("mask inverted", "question"))}
)

NO_MASKS = (*NO_IMAGE_MASK, *WORDS_NOT_MASKED, *NO_WORD_MATTERS)

CONTENTS_FOR_MASK = known(
    "it takes regions of zeros for padding and any others for real, whatever is said of them",
    {
        "P1": (("pads filled", "image"),),
        "P1n": (("pads not finite", "image"),),
        "P2": (("pads added", "image"),),
        "P3": ("alone",),
        "P4": (("weight on pads", "image"), ("sum of weights", "image")),
        "P6": (
            ("hidden or removed", "image"),
            ("hidden", "image"),
            ("mask inverted", "image"),
            ("hidden or removed", "question"),
        ),
        "P7": (("slot zeroed", "image"),),
        "P8": (("gradient at pads", "image"), "gradients alone"),
        "P9": (("side emptied", "image"),),
        "P9r": (("side emptied", "image"),),
        "P11": ("sides of one width",),
        "P13": (("no row full", "image"),),
    },
)

EITHER = (("pads not finite", "image"), ("pads not finite", "question"))
EMPTIED = (("side emptied", "image"), ("side emptied", "question"))

ADDED_MASKS = (
    *known(
        "its mask is -10000 added to scores, so that padding whose scores are larger than that is read",
        {"P1": (("pads filled", "image"), ("pads filled", "question"))},
    ),
    *known("NaN in a pad survives its weight of zero, and reaches the other side", {"P1n": EITHER}),
    *known(
        "what is added shifts all scores of an empty side alike, so that its padding is read as if it were real",
        {"P9r": EMPTIED},
    ),
)
