"""Whoever breaks `masked_softmax` sees the oracles fail: each break is made, and each mechanism must notice."""

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.variants import oracles
from tests.variants.ragged import assert_follows, ragged
from variants.masking import masked_softmax

Softmax = Callable[[Tensor, Tensor], Tensor]


def ignoring_validity(scores: Tensor, valid: Tensor) -> Tensor:
    return masked_softmax(scores, torch.ones_like(valid))


def inverting_validity(scores: Tensor, valid: Tensor) -> Tensor:
    return masked_softmax(scores, ~valid)


def applying_it_twice(scores: Tensor, valid: Tensor) -> Tensor:
    return masked_softmax(masked_softmax(scores, valid), valid)


def flattening_scores(scores: Tensor, valid: Tensor) -> Tensor:
    return masked_softmax(scores * 0.9, valid)


def detaching_scores(scores: Tensor, valid: Tensor) -> Tensor:
    return masked_softmax(scores.detach(), valid)


VALIDITY = (ignoring_validity, inverting_validity)
SCORES = (applying_it_twice, flattening_scores, detaching_scores)
ATTENDING = ("parallel", "alternating", "cross", "hierarchical", "hierarchical[inner=alternating]")
LANES = [ATTENDING[0], *(pytest.param(name, marks=pytest.mark.slow) for name in ATTENDING[1:])]


def substitute(monkeypatch: pytest.MonkeyPatch, broken: Softmax) -> None:
    """Put a broken softmax in place of the right one, in every module that imported it."""
    places = [
        module
        for name, module in sys.modules.items()
        if name.startswith("variants.") and getattr(module, "masked_softmax", None) is masked_softmax
    ]
    assert len(places) >= 4
    for module in places:
        monkeypatch.setattr(module, "masked_softmax", broken)


@pytest.mark.parametrize("broken", [*VALIDITY, *SCORES], ids=lambda broken: broken.__name__)
@pytest.mark.parametrize("name", LANES)
def test_an_oracle_notices_a_broken_softmax(name: str, broken: Softmax, monkeypatch: pytest.MonkeyPatch) -> None:
    substitute(monkeypatch, broken)
    with pytest.raises(AssertionError):
        assert_follows(oracles.CASES[name], name, ragged(6, 4))


@pytest.mark.parametrize("broken", VALIDITY, ids=lambda broken: broken.__name__)
def test_plain_pooling_notices_a_broken_validity(broken: Softmax, monkeypatch: pytest.MonkeyPatch) -> None:
    substitute(monkeypatch, broken)
    with pytest.raises(AssertionError):
        assert_follows(oracles.CASES["pool"], "pool", ragged(6, 4))


@pytest.mark.parametrize("name", ["pool", *ATTENDING])
def test_the_substitution_alone_breaks_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    substitute(monkeypatch, lambda scores, valid: masked_softmax(scores, valid))
    assert_follows(oracles.CASES[name], name, ragged(6, 4))
