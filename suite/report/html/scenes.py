"""Attention that can be seen: what a classifier looks at, padding included, so that its weights add up to 100 %."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from suite.report import attention
from suite.report.attention import DARKEST, LEVELS, PAINT, percents
from suite.report.html.document import Screen, render

_PLANE = (250.0, 190.0)
Drawing = Mapping[str, Any]


class Thing(NamedTuple):
    """An object of a scene where it is drawn."""

    x: float
    y: float
    radius: float
    """Of the disc that is as large as its weight."""
    shape: str
    paint: str
    said: str
    """Its share and its colour, in words."""
    at_left: bool
    """Where its words stand: there is no room at its right."""


class Pad(NamedTuple):
    """A slot of padding, or all of them where a file does not tell them apart."""

    x: float
    width: float
    weight: float
    said: str


class Word(NamedTuple):
    text: str
    darkness: float
    percent: int


class Picture(NamedTuple):
    """One glimpse of one classifier."""

    name: str
    """Of the classifier, and over its first glimpse its answer."""
    level: str
    things: list[Thing]
    pads: list[Pad]
    padding: int
    """Percent of the weight that all padded regions have."""
    words: list[Word]
    word_padding: int
    says: str
    """The picture in words, for who cannot see it."""


def screen(by_family: Mapping[str, Sequence[Drawing]]) -> Screen | None:
    """Every question, those first whose padding is looked at most; None where nothing was drawn."""
    families = [
        (
            f"“{' '.join(drawn[0]['words'])}” ({family}; answer: {drawn[0]['answer']}): {attention.finding(drawn)}",
            _in_rows(
                [picture(drawing, glimpse) for glimpse in range(len(drawing["image_weights"]))] for drawing in drawn
            ),
            max(_padding(drawing, glimpse) for drawing in drawn for glimpse in range(len(drawing["image_weights"]))),
        )
        for family, drawn in ((name, _worth_seeing(found)) for name, found in by_family.items())
        if drawn
    ]
    if not families:
        return None
    families.sort(key=lambda family: -family[2])
    body = render("scenes.html.jinja", families=families, plane=_PLANE)
    return Screen(id="attention", title="What they look at", short="Attention", body=body)


def _in_rows(pictures: Iterable[list[Picture]]) -> list[list[Picture]]:
    """Glimpses of one classifier side by side, and those of several where each has one."""
    rows: list[list[Picture]] = []
    alone: list[Picture] = []
    for own in pictures:
        if len(own) == 1:
            alone += own
        else:
            rows.append(own)
    return [*rows, *([alone] if alone else [])]


def _worth_seeing(drawn: Sequence[Drawing]) -> list[Drawing]:
    """Without mean pooling, which weighs all alike whatever is asked, where there is another."""
    return [drawing for drawing in drawn if drawing["row"] != "pool"] or list(drawn)


def picture(drawing: Drawing, glimpse: int) -> Picture:
    """One glimpse; shares are whole percents, and all that are shown add up to 100."""
    weights = drawing["image_weights"][glimpse]
    pads = drawing.get("image_padding")
    slots = pads[glimpse] if pads else []
    whole = percents([*weights, *slots])
    shares, padded = whole[: len(weights)], whole[len(weights) : -1]
    padding = sum(padded) + whole[-1]
    right = "right" if drawing["predicted"] == drawing["answer"] else "wrong"
    levels = len(drawing["image_weights"]) == len(LEVELS)
    things = [
        _thing(place, colour, shape, weight, percent)
        for place, colour, shape, weight, percent in zip(
            drawing["places"], drawing["colours"], drawing["shapes"], weights, shares, strict=True
        )
    ]
    question = drawing["question_weights"][glimpse]
    by_word = percents(question)
    words = [
        Word(word, min(weight / DARKEST, 1.0), percent)
        for word, weight, percent in zip(drawing["words"], question, by_word[:-1], strict=True)
    ]
    seen = ", ".join(thing.said for thing in things)
    return Picture(
        name=f"{drawing['row']}: answers {drawing['predicted']}, which is {right}"
        if glimpse == 0
        else str(drawing["row"]),
        level=f"attending on {LEVELS[glimpse]}" if levels else "",
        things=things,
        pads=_pads(slots, padded, padding),
        padding=padding,
        words=words,
        word_padding=by_word[-1],
        says=f"{seen}; padding {padding} %",
    )


def _padding(drawing: Drawing, glimpse: int) -> int:
    return percents(drawing["image_weights"][glimpse])[-1]


def _thing(place: tuple[float, float], colour: str, shape: str, weight: float, percent: int) -> Thing:
    x, y = (place[0] + 1.25) / 2.5 * _PLANE[0], (1.25 - place[1]) / 2.5 * _PLANE[1]
    x, y = min(max(x, 12.0), _PLANE[0] - 12), min(max(y, 12.0), _PLANE[1] - 12)
    return Thing(
        round(x, 1), round(y, 1), round(6 + 34 * weight**0.5, 1), shape, PAINT[colour], f"{percent} % {colour}",
        x > _PLANE[0] - 75,
    )  # fmt: skip


def _pads(slots: Sequence[float], shares: Sequence[int], padding: int) -> list[Pad]:
    """A box for each slot, side by side; one box for all where their number is not known."""
    if not slots:
        return [Pad(0.0, _PLANE[0], padding / 100, f"all padding: {padding} %")] if padding else []
    width = min(_PLANE[0] / len(slots), 42.0)
    return [
        Pad(round(at * width, 1), round(width - 3, 1), weight, f"{share} %")
        for at, (weight, share) in enumerate(zip(slots, shares, strict=True))
    ]
