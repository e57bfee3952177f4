"""A picture of attention accounts for all of it: what real slots lack, padding has."""

import math
import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from suite.report import attention, style


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
        numbers = [re.sub(r"^padding ", "", text.get_text()) for text in axes.texts]
        assert sum(int(number) for number in numbers if number.isdigit()) == 100


def test_mean_pooling_is_pictured_where_there_is_nothing_else() -> None:
    with style.applied():
        made = attention.figure("unary", [drawing("pool", 1.0, 1)])
    assert made.get_suptitle().endswith("padded regions get no attention")
    assert math.isclose(sum(axes.get_visible() for axes in made.axes), 1)
