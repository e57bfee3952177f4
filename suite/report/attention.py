"""Attention as a picture: regions on the image plane, words below, each as heavy as its weight."""

import math
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from suite.core import folders
from suite.core.errors import UserError
from suite.core.records import shown
from suite.report import labels, style
from suite.report.accuracies import Accuracies

MOST_PICTURED = 6
"""Classifiers side by side in one picture of attention."""
MOST = {"glimpses": 16, "words": 100, "objects or padded slots": 300}
"""In one picture."""
_MOST_FAMILIES = 50
DARKEST = 0.5
"""A word with this weight or more is as dark as can be: one scale for all, so that even weights look even and pale."""
PAINT = {
    "red": "#d62728",
    "green": "#2ca02c",
    "blue": "#1f77b4",
    "yellow": "#e7c820",
    "purple": "#9467bd",
    "orange": "#ff7f0e",
    "cyan": "#17becf",
    "brown": "#8c564b",
    "pink": "#f7a6c4",
    "grey": "#8f8f8f",
    "black": "#111111",
    "white": "#ffffff",
    "olive": "#8a8a00",
    "navy": "#10106e",
    "teal": "#006d6d",
    "maroon": "#6e1010",
}
_MARKS = {"circle": "o", "square": "s", "triangle": "^"}
_DIGITS = tuple("0123456789")
"""Handwritten digits stand for themselves."""
LEVELS = ("words", "phrases", "question")
"""What the glimpses of a classifier with three of them attend on."""
COLUMNS = 3
NAME_WIDTH = 44
"""Letters over one picture."""


def drawings(accuracies: Accuracies, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Per family, what each classifier made of its question; the same question for all.

    Raises:
        UserError: a file leads out of the folder, or holds something else.
    """
    by_family: dict[str, list[dict[str, Any]]] = defaultdict(list)
    # whole mechanisms first: there is room for a few, and without a part they look much alike
    files = sorted(accuracies.attention, key=lambda artifact: "-" in artifact.variant)
    for name in dict.fromkeys(artifact.path for artifact in files):
        path = folders.inside(folder, name)
        if not path.exists():
            continue
        for example in _examples(path):
            if example["family"] not in by_family and len(by_family) == _MOST_FAMILIES:
                raise UserError(f"{path}: more than {_MOST_FAMILIES} families of questions to draw")
            same = by_family[example["family"]]
            if len(same) < MOST_PICTURED and (not same or same[0]["words"] == example["words"]):
                same.append(example)
    return by_family


def _examples(path: Path) -> list[dict[str, Any]]:
    """What a file holds of one classifier, in the form in which it is drawn.

    Raises:
        UserError: it holds something else.
    """
    whole = folders.json_of(path)
    try:
        return [_example(example) | {"row": str(whole["row"])} for example in whole["examples"]]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: expected the attention that an ablation writes, but {error!r}") from error


def _example(given: Mapping[str, Any]) -> dict[str, Any]:
    example: dict[str, Any] = {key: str(given[key]) for key in ("family", "answer", "predicted")}
    example["words"] = [str(word) for word in given["words"]]
    example["places"] = [(float(x), float(y)) for x, y in given["places"]]
    for key, known in (("colours", PAINT), ("shapes", (*_MARKS, *_DIGITS))):
        example[key] = [str(name) for name in given[key]]
        if unknown := set(example[key]) - set(known):
            raise ValueError(f"{key} has {shown(min(unknown))}")
    for key in ("image_padding", "question_padding"):  # files of before name the weights of real slots alone
        if key in given:
            example[key] = [[min(max(float(weight), 0.0), 1.0) for weight in weights] for weights in given[key]]
            if len(example[key]) != len(given["image_weights"]):
                raise ValueError(f"{key} has {len(example[key])} rows for {len(given['image_weights'])} glimpses")
    objects = len(example["places"])
    padded = max(map(len, example.get("image_padding", ())), default=0)
    sizes = len(given["image_weights"]), len(example["words"]), max(objects, padded)
    for (what, most), count in zip(MOST.items(), sizes, strict=True):
        if count > most:
            raise ValueError(f"{count} {what}; expected {most} at most")
    for key, slots in (("image_weights", objects), ("question_weights", len(example["words"]))):
        example[key] = [[min(max(float(weight), 0.0), 1.0) for weight in weights] for weights in given[key]]
        if any(len(weights) != slots for weights in example[key]):
            raise ValueError(f"{key} has rows that are not of {slots}")
    if not objects == len(example["colours"]) == len(example["shapes"]):
        raise ValueError(f"places, colours and shapes are not of one length, {objects}")
    if not example["words"] or not 0 < len(example["image_weights"]) == len(example["question_weights"]):
        raise ValueError("words or weights are missing")
    return example


def figure(family: str, drawn: Sequence[Mapping[str, Any]]) -> Figure:
    """One question as each classifier attends to it: regions on the image plane, padding below them, then words."""
    # mean pooling weighs all alike whatever is asked: a picture of it shows nothing, where there is another
    drawn = [drawing for drawing in drawn if drawing["row"] != "pool"] or drawn
    rows = _packed(drawn)
    question, answer = " ".join(drawn[0]["words"]), drawn[0]["answer"]
    made = style.figure(f"“{question}” ({family}; answer: {answer}): {finding(drawn)}", 0.8 + 2.6 * len(rows))
    grid = made.subplots(len(rows), max(COLUMNS, *map(_glimpses, drawn)), squeeze=False)
    named: dict[Axes, list[labels.Named]] = {}
    for axis in grid.flat:
        axis.set_visible(False)
    for axes, row in zip(grid, rows, strict=True):
        pictures = [(drawing, glimpse) for drawing in row for glimpse in range(_glimpses(drawing))]
        for axis, (drawing, glimpse) in zip(axes, pictures, strict=False):
            axis.set_visible(True)
            axis.set_title(_title(drawing, glimpse), fontsize=8)
            _plane(axis, drawing, glimpse)
            named[axis] = _named(drawing, glimpse)
    labels.write(made, named, size=6.6, radius_pt=3.5)
    return made


def _named(drawing: Mapping[str, Any], glimpse: int) -> list[labels.Named]:
    """Each region's share and colour in words, for who cannot tell colours; nothing beside one without a share."""
    shares = percents(drawing["image_weights"][glimpse])[:-1]
    return [
        labels.Named(x, y, f"{share} {colour}" if share else "")
        for (x, y), colour, share in zip(drawing["places"], drawing["colours"], shares, strict=True)
    ]


def on_padding(weights: Sequence[float]) -> float:
    """What the weights on real slots lack of 1, which is what padding has."""
    return max(1.0 - sum(weights), 0.0)


def percents(weights: Sequence[float]) -> list[int]:
    """Weights and, at the end, what padding has: whole percents that add up to 100."""
    exact = [100 * weight for weight in (*weights, on_padding(weights))]
    whole = [math.floor(share) for share in exact]
    by_rest = sorted(range(len(exact)), key=lambda at: whole[at] - exact[at])
    for at in by_rest[: max(100 - sum(whole), 0)]:
        whole[at] += 1
    return whole


def finding(drawn: Sequence[Mapping[str, Any]]) -> str:
    """Which classifiers attend to padded regions, from the least to the most over their glimpses, and which do not."""
    leaking, clean = [], []
    for drawing in drawn:
        shares = [percents(weights)[-1] for weights in drawing["image_weights"]]
        low, high = min(shares), max(shares)
        if high:
            leaking.append(f"{low if low == high else f'{low} to {high}'} % of {drawing['row']}'s")
        else:
            clean.append(f"{drawing['row']}'s")
    if not leaking:
        right = [str(drawing["row"]) for drawing in drawn if drawing["predicted"] == drawing["answer"]]
        who = "all are" if len(right) == len(drawn) > 1 else f"{_and(right)} {'are' if len(right) > 1 else 'is'}"
        return f"{who if right else 'nobody is'} right; padded regions get no attention"
    none = f", none of {', '.join(clean)}" if clean else ""
    return f"padded regions take {', '.join(leaking)} attention{none}"


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _glimpses(drawing: Mapping[str, Any]) -> int:
    return len(drawing["image_weights"])


def _packed(drawn: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Classifiers in rows, each in the first that has room; the glimpses of one stay side by side."""
    rows: list[list[Mapping[str, Any]]] = []
    for drawing in drawn:
        room = COLUMNS - _glimpses(drawing)
        row = next((row for row in rows if sum(map(_glimpses, row)) <= room), None)
        if row is None:
            rows.append([drawing])
        else:
            row.append(drawing)
    return rows


def _title(drawing: Mapping[str, Any], glimpse: int) -> str:
    """The classifier and its answer over its first glimpse, and the level of each where there are the three levels."""
    right = "right" if drawing["predicted"] == drawing["answer"] else "wrong"
    name = f"{drawing['row']}: {drawing['predicted']} ({right})" if glimpse == 0 else ""
    if _glimpses(drawing) == 1:
        return textwrap.fill(name, NAME_WIDTH, break_on_hyphens=False)
    level = f"attending on {LEVELS[glimpse]}" if _glimpses(drawing) == len(LEVELS) else ""
    return f"{name}\n{level}"


def _plane(axis: Axes, drawing: Mapping[str, Any], glimpse: int) -> None:
    regions, words = drawing["image_weights"][glimpse], drawing["question_weights"][glimpse]
    whole = percents(regions)
    for (x, y), colour, shape, weight in zip(
        drawing["places"], drawing["colours"], drawing["shapes"], regions, strict=True
    ):
        axis.scatter(x, y, s=60 + 900 * weight, color=style.INK, alpha=0.14, linewidths=0, zorder=1)
        if shape in _DIGITS:
            axis.text(
                x, y, shape, fontsize=11, fontweight="bold", color=PAINT[colour], ha="center", va="center", zorder=3,
                path_effects=[withStroke(linewidth=1.2, foreground=style.INK)],
            )  # fmt: skip
        else:
            axis.scatter(
                x, y, s=42, color=PAINT[colour], marker=_MARKS[shape], edgecolors=style.INK, linewidths=0.6, zorder=3
            )
    share = whole[-1]
    axis.barh(-1.42, 2.5, 0.2, left=-1.25, color="white", edgecolor=style.FAINT, linewidth=0.8)
    axis.barh(-1.42, 0.025 * share, 0.2, left=-1.25, color=style.ORANGE, alpha=0.75, hatch="////", edgecolor="white")
    axis.text(
        -1.25 + 0.025 * share + 0.06, -1.42, f"padding {share}", fontsize=7, va="center", color=style.INK,
        ha="left",
    )  # fmt: skip
    axis.set_xlim(-1.25, 1.25)
    axis.set_ylim(-2.4, 1.25)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.axhline(-1.25, color=style.FAINT, linewidth=1)
    padded = percents(words)[-1]
    if padded:
        axis.text(1.2, -2.3, f"padding {padded}", fontsize=7, va="center", ha="right", color=style.ORANGE)
    lines = _wrapped(drawing["words"], 26)
    start = 0
    for line, texts in enumerate(lines):
        x = -1.2
        for word, weight in zip(texts, words[start : start + len(texts)], strict=True):
            share = min(weight / DARKEST, 1.0)
            axis.text(
                x,
                -1.72 - 0.25 * line,
                word,
                fontsize=7,
                va="center",
                color="white" if share > 0.6 else style.INK,
                bbox={"facecolor": style.BLUE, "alpha": share, "edgecolor": "none", "pad": 1.2},
            )
            x += 0.066 * (len(word) + 1.8)
        start += len(texts)


def _wrapped(words: Sequence[str], width: int) -> list[list[str]]:
    lines: list[list[str]] = [[]]
    for word in words:
        if lines[-1] and sum(len(other) + 1 for other in lines[-1]) + len(word) > width:
            lines.append([])
        lines[-1].append(word)
    return lines
