"""A picture of attention accounts for all of it: what real slots lack, padding has."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.core.errors import UserError
from suite.core.records import Artifact
from suite.report import attention, style
from suite.report.accuracies import Accuracies


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.floats(0, 1))
def test_percents_add_up_to_a_hundred_and_each_is_off_by_less_than_one(shares: list[float], real: float) -> None:
    total = sum(shares) or 1.0
    weights = [real * share / total for share in shares]
    whole = attention.percents(weights)
    assert sum(whole) == 100
    exact = [*weights, attention.on_padding(weights)]
    assert all(abs(percent - 100 * share) <= 1 + 1e-6 for percent, share in zip(whole, exact, strict=True))


def drawing(row: str, real: float, glimpses: int) -> dict[str, object]:
    generator = np.random.default_rng(glimpses)
    weights = [(real * share).tolist() for share in generator.dirichlet(np.ones(3), glimpses)]
    return {
        "row": row, "family": "unary", "words": ["is", "it", "red"], "answer": "no", "predicted": "yes",
        "colours": ["red", "blue", "green"], "shapes": ["circle", "square", "circle"],
        "places": [(0.0, 0.0), (1.0, 1.0), (-1.0, 0.5)], "image_weights": weights,
        "question_weights": [[1 / 3] * 3] * glimpses,
    }  # fmt: skip


def test_the_title_names_who_attends_to_padding_and_how_much_and_every_picture_shows_it() -> None:
    drawn = [drawing("right", 1.0, 3), drawing("leaky", 0.6, 3), drawing("pool", 1.0, 1)]
    with style.applied():
        made = attention.figure("unary", drawn)
    title = " ".join(made.get_suptitle().split())
    assert title.endswith("padded regions take 40 % of leaky's attention, none of right's")
    bars = [text.get_text() for axes in made.axes for text in axes.texts if text.get_text().startswith("padding")]
    assert bars == ["padding 0"] * 3 + ["padding 40"] * 3
    for axes in (axes for axes in made.axes if axes.get_visible()):
        said = [re.fullmatch(r"(?:padding )?(\d+)(?: red| blue| green)?", text.get_text()) for text in axes.texts]
        assert sum(int(one[1]) for one in said if one) == 100


def test_a_handwritten_digit_stands_for_itself_in_its_colour() -> None:
    digits = {**drawing("right", 1.0, 1), "shapes": ["7", "0", "7"]}
    with style.applied():
        made = attention.figure("unary", [digits])
    (axes,) = (axes for axes in made.axes if axes.get_visible())
    written = [(text.get_text(), text.get_color()) for text in axes.texts if text.get_text() in ("7", "0")]
    assert written[:3] == [
        (shape, attention.PAINT[colour]) for shape, colour in zip("707", digits["colours"], strict=True)
    ]


def test_mean_pooling_is_pictured_where_there_is_nothing_else() -> None:
    with style.applied():
        made = attention.figure("unary", [drawing("pool", 1.0, 1)])
    assert " ".join(made.get_suptitle().split()).endswith("nobody is right; padded regions get no attention")
    assert math.isclose(sum(axes.get_visible() for axes in made.axes), 1)


def kept(folder: Path, content: object) -> dict[str, list[dict[str, Any]]]:
    """What a page draws of a folder whose one file of attention holds this."""
    (folder / "seen.json").write_text(json.dumps(content))
    record = Artifact(task="train", variant="leaky", device="cpu", quantity="attention", path="seen.json")
    return attention.drawings(Accuracies([record]), folder)


def test_a_file_of_attention_is_drawn_as_it_was_written(tmp_path: Path) -> None:
    seen = drawing("leaky", 0.6, 3)
    del seen["row"]
    (pictured,) = kept(tmp_path, {"data": "scenes", "row": "leaky", "examples": [seen]})["unary"]
    assert pictured == drawing("leaky", 0.6, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"places": [[0.0]]}, {"colours": ["red"]}, {"colours": ["ultraviolet"] * 3}, {"image_weights": [["a"] * 3]},
        {"image_weights": []}, {"words": []}, {"question_weights": None}, {"shapes": 3},
        {"image_weights": [[10**400] * 3]}, {"image_weights": [[0.1] * 3] * 400, "question_weights": [[0.1] * 3] * 400},
        {"words": ["word"] * 400, "question_weights": [[0.0] * 400]}, {"image_padding": [[0.0] * 4000]},
    ],
    ids=lambda change: str(change)[:40],
)  # fmt: skip
def test_what_no_ablation_writes_is_refused_by_file(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"seen.json: expected the attention that an ablation writes"):
        kept(tmp_path, {"row": "leaky", "examples": [drawing("leaky", 0.6, 3) | change]})


def test_no_file_of_attention_is_read_through_a_link(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "seen.json").write_text("{}")
    (folder / "seen.json").symlink_to(tmp_path / "seen.json")
    record = Artifact(task="train", variant="leaky", device="cpu", quantity="attention", path="seen.json")
    with pytest.raises(UserError, match="leads out of the folder"):
        attention.drawings(Accuracies([record]), folder)
