"""Dropout of the hidden maps: in train mode alone, from torch's generator, and without parameters."""

import pytest
import torch

from tests.kernels.ragged import hard_batch
from variants import build

MECHANISMS = ["parallel", "alternating", "hierarchical", "hierarchical[inner=alternating]"]


def with_dropout(name: str) -> str:
    return name.replace("]", ",dropout=0.5]") if "[" in name else f"{name}[dropout=0.5]"


@pytest.mark.parametrize("name", MECHANISMS)
def test_dropout_is_drawn_in_train_mode_alone(name: str) -> None:
    plain, dropped = build(name, width=16), build(with_dropout(name), width=16)
    batch = hard_batch(4, 9, 7, 16, 16, dtype=torch.float32)
    assert dropped.module.state_dict().keys() == plain.module.state_dict().keys()
    with torch.no_grad():
        expected = plain.call(batch)
        torch.manual_seed(3)
        first, second = dropped.call(batch), dropped.call(batch)
        torch.manual_seed(3)
        again = dropped.call(batch)
        dropped.module.eval()
        evaluated = dropped.call(batch)
    for field, value in expected._asdict().items():
        assert torch.equal(getattr(evaluated, field), value), field
        assert torch.equal(getattr(again, field), getattr(first, field)), field
        assert not torch.equal(getattr(first, field), getattr(second, field)), field
        assert not torch.equal(getattr(first, field), value), field


def test_the_mean_over_draws_of_the_scores_is_that_without_dropout() -> None:
    plain, dropped = build("parallel", width=16), build("parallel[dropout=0.5]", width=16)
    batch = hard_batch(4, 9, 7, 16, 16, dtype=torch.float64, pad=0.0)
    for variant in (plain, dropped):
        variant.module.double()
    torch.manual_seed(0)
    with torch.no_grad():
        draws = torch.stack([dropped.module.scores(batch)[0] for _ in range(400)])
        expected = plain.module.scores(batch)[0]
    # six standard errors, over 36 scores
    assert ((draws.mean(0) - expected).abs() < 6 * draws.std(0) / 400**0.5 + 1e-12).all()


def test_all_of_a_map_cannot_be_dropped() -> None:
    with pytest.raises(ValueError, match="below 1"):
        build("alternating[dropout=1]", width=8)
