"""Work on valid slots alone gives what work on all of them gives, wherever a caller may look at the data."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from variants import Batch, build, slots
from variants.published.ban import NormedLinear
from variants.slots import EVERY, slots_of, valid_rows

NAMES = [
    "cross[heads=2]",
    "cross[heads=2]-image_attention",
    "bidirectional[heads=2]",
    "bidirectional[heads=2]-question_attention",
    "transformer[heads=2]",
    "transformer[heads=2,shared=true]",
    "modular[layers=2,heads=2]",
    "modular[arrangement=stack,layers=2,heads=2]",
    "queries[count=3,heads=2]",
    "bilinear[factor=3,glimpses=3]",
    "bilinear-pooling",
    *(f"published_{name}[corrected=true,heads=2]" for name in ("lxmert", "vilbert", "gdino", "lightglue", "blip2")),
    "modular[layers=2,heads=2]+sdpa",
    "published_mcat[corrected=true,heads=2,layers=1]",
    "published_bacpi[corrected=true]",
    "published_drugban[corrected=true]",
    "published_drugban[corrected=true,softmax=true]",
]
VALID = {
    "holes": ([[0, 1, 1, 0, 1], [0, 0, 0, 1, 1]], [[1, 0, 1], [0, 1, 0]]),
    "an empty row on either side": ([[0] * 5, [1, 1, 0, 0, 0]], [[1, 1, 0], [0] * 3]),
    "an empty side": ([[0] * 5, [0] * 5], [[1, 0, 0], [1, 1, 1]]),
    "nothing at all": ([[0] * 5, [0] * 5], [[0] * 3, [0] * 3]),
}


def batch_of(case: str) -> Batch:
    generator = torch.Generator().manual_seed(0)
    image_valid, question_valid = (torch.tensor(side, dtype=torch.bool) for side in VALID[case])
    image = torch.randn(2, 5, 8, generator=generator, dtype=torch.float64)
    question = torch.randn(2, 3, 8, generator=generator, dtype=torch.float64)
    image[~image_valid] = float("nan")
    question[~question_valid] = float("inf")
    return Batch(image, question, image_valid, question_valid)


def outputs_and_gradients(name: str, case: str) -> list[Tensor]:
    variant = build(name, width=8)
    variant.module.double()
    batch = batch_of(case)
    batch = batch._replace(image=batch.image.requires_grad_(), question=batch.question.requires_grad_())
    found = variant.run(batch)
    sum((output * torch.arange(output.numel()).view_as(output).cos()).sum() for output in found).backward()
    sources = [batch.image, batch.question, *variant.module.parameters()]
    return [*found, *(torch.zeros_like(one) if one.grad is None else one.grad for one in sources)]


@pytest.mark.parametrize("case", VALID)
@pytest.mark.parametrize("name", NAMES)
def test_padding_need_not_be_computed_on(name: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = outputs_and_gradients(name, case)
    monkeypatch.setattr(slots, "_MOST_VALID", -1.0)
    for few, all_slots in zip(alone, outputs_and_gradients(name, case), strict=True):
        assert torch.isfinite(few).all()
        torch.testing.assert_close(few, all_slots, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in NAMES if "-" not in name])
def test_no_projection_sees_a_padded_region(name: str) -> None:
    variant = build(name, width=8)
    variant.module.double()
    batch = batch_of("holes")
    rows: list[Tensor] = []
    for module in variant.module.modules():
        score = isinstance(module, nn.Linear) and module.out_features == 1  # of slots, which it may give one each
        if isinstance(module, nn.Linear | nn.LayerNorm | NormedLinear) and not score:
            module.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0]))
    variant.run(batch)
    counts = {one.numel() // one.shape[-1] for one in rows}
    assert int(batch.image_valid.sum()) in counts
    assert batch.image_valid.numel() not in counts
    assert all(torch.isfinite(one).all() for one in rows)


def test_slots_go_out_and_come_back() -> None:
    valid = torch.tensor([[False, True, False], [True, True, False], [False] * 3])
    features = torch.randn(3, 3, 2)
    rows, places = valid_rows(features, valid)
    assert torch.equal(rows, features[valid])
    assert torch.equal(places.spread(rows), features.masked_fill(~valid.unsqueeze(-1), 0))
    assert torch.equal(places.taken(places.spread(rows)), rows)
    assert torch.equal(EVERY.spread(EVERY.taken(features)), features)


def test_all_slots_are_computed_on_where_nearly_all_are_valid_or_a_call_stands_for_others() -> None:
    full = torch.ones(4, 5, dtype=torch.bool)
    ragged = full.clone()
    ragged[0, 2:] = False
    assert slots_of(full) == EVERY
    assert slots_of(ragged).places is not None
    assert slots_of(ragged.to("meta")) == EVERY
    few: list[bool] = []

    def seen(valid: Tensor) -> Tensor:
        few.append(slots_of(valid).places is not None)
        return valid

    torch.vmap(seen)(ragged.unsqueeze(0))
    with FlopCounterMode(display=False):
        seen(ragged)
    assert few == [False] * len(few)
    assert len(few) >= 2
    # what is blank on padding comes back where all slots are computed on
    one_hole = full.clone()
    one_hole[1, 1] = False
    features = torch.full((4, 5, 2), float("nan"))
    assert valid_rows(features, one_hole)[0][1, 1].tolist() == [0.0, 0.0]
