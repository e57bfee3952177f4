"""Every mechanism against the paper written as loops, in float64, on odd sizes, with ragged validity, gradients too."""

import pytest
import torch

from tests.lanes import one_in
from tests.variants import oracles
from tests.variants.ragged import assert_follows, ragged, smallest
from variants import Attended, mechanisms
from variants.build import option_types
from variants.hierarchical import AnswerEncoder
from variants.spec import parse

OURS = ("pool", "parallel", "alternating", "cross", "hierarchical")


@pytest.mark.parametrize("name", one_in(5, oracles.CASES))
def test_a_mechanism_is_its_paper_on_ragged_rows(name: str) -> None:
    assert_follows(oracles.CASES[name], name, ragged(6, 4))


@pytest.mark.parametrize("name", oracles.EQUAL_WIDTHS)
def test_shared_weights_are_one_set_for_every_step(name: str) -> None:
    assert_follows(oracles.EQUAL_WIDTHS[name], name, ragged(5, 5))


@pytest.mark.parametrize("name", oracles.CASES)
def test_a_mechanism_is_its_paper_on_one_region_and_one_word(name: str) -> None:
    assert_follows(oracles.CASES[name], name, smallest(6, 4))


@pytest.mark.parametrize("name", OURS)
def test_a_mechanism_is_its_paper_with_the_wider_question(name: str) -> None:
    assert_follows(oracles.CASES[name], name, ragged(3, 9))


@pytest.mark.parametrize("name", OURS)
def test_every_option_and_part_has_an_oracle(name: str) -> None:
    covered = [parse(case) for case in (*oracles.CASES, *oracles.EQUAL_WIDTHS)]
    options = {key for spec in covered if spec.mechanism == name for key, _ in spec.options}
    parts = {part for spec in covered if spec.mechanism == name for part in spec.without}
    # dropout draws, which no oracle can foretell: tests/variants/test_dropout.py
    assert options == set(option_types(mechanisms()[name])) - {"dropout"}
    assert parts == set(mechanisms()[name].parts)


@pytest.mark.parametrize(("glimpses", "bias"), [(1, False), (3, False), (3, True)])
def test_the_answer_encoder_is_equation_7(glimpses: int, bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    encoder = AnswerEncoder(5, 9, glimpses=glimpses, bias=bias).double()
    image, question = torch.randn(2, 3, glimpses, 5, generator=generator, dtype=torch.float64)
    attended = Attended(image, question, torch.empty(0), torch.empty(0))
    found = encoder(attended)
    assert found.shape == (3, 9)
    torch.testing.assert_close(found, oracles.answer(dict(encoder.named_parameters()), attended), rtol=0, atol=1e-13)
