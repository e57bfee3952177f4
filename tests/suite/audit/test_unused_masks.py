"""Masks that are taken and not used, and masks whose padding matters by its count alone, are read for what they are."""

import torch
from torch import Tensor, nn

from suite.audit.reading import understand

D = 16


class _Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.key, self.value = nn.Linear(D, D), nn.Linear(D, D)

    def attend(self, words: Tensor, regions: Tensor, added: Tensor | None = None) -> Tensor:
        scores = words @ self.key(regions).mT / D**0.5
        return (scores if added is None else scores + added).softmax(-1) @ self.value(regions)


class Drops(_Attends):
    """The mask of an input that may be left out is taken and goes nowhere."""

    def forward(
        self,
        words: Tensor,
        words_mask: Tensor | None = None,
        seen_states: Tensor | None = None,
        seen_mask: Tensor | None = None,
    ) -> Tensor:
        added = None if words_mask is None else words_mask[:, 0]
        words = words + self.attend(words, words, added)
        return words if seen_states is None else words + self.attend(words, seen_states)


class Crosses(_Attends):
    """One mask, unused; slots of the words never meet, those of the regions do."""

    def forward(self, words: Tensor, regions: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.attend(words, regions)


class Blanks(_Attends):
    """A first mask blanks the regions, a second one hides them: without it only their number would show."""

    def forward(
        self,
        words: Tensor,
        regions: Tensor,
        regions_padding: Tensor | None = None,
        memory_padding: Tensor | None = None,
    ) -> Tensor:
        if regions_padding is not None:
            regions = regions * ~regions_padding[..., None]
        added = None
        if memory_padding is not None:
            added = torch.zeros(memory_padding.shape).masked_fill(memory_padding, -1e9)[:, None]
        return self.attend(words, regions, added)


def _understood(module: type[nn.Module]) -> tuple[list[str], str, tuple[str, ...]]:
    understood = understand(module)
    masked = [side.name for side in understood.subject.sides if side.masked]
    return masked, "\n".join(understood.account), understood.doubts


def test_an_input_that_may_be_left_out_is_taken_where_a_mask_that_is_never_used_is_its_own() -> None:
    masked, account, doubts = _understood(Drops)
    assert masked == ["words", "seen_states"]
    assert "seen_mask is never used" in account
    assert not doubts


def test_a_mask_that_is_never_used_is_that_of_the_side_that_needs_one() -> None:
    masked, account, doubts = _understood(Crosses)
    assert masked == ["regions"]
    assert "attention_mask is never used" in account
    assert not doubts


def test_a_mask_is_kept_where_only_the_count_of_padding_needs_it() -> None:
    _, account, _ = _understood(Blanks)
    assert "memory_padding tells of the padding of regions" in account
