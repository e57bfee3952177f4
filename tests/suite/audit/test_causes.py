"""What an audit says of why something broke is true of that very module, and names its line."""

import inspect
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from suite.audit.findings import findings
from suite.audit.properties import examine
from suite.audit.reading import understand
from suite.audit.tracing import Refused
from tests.lanes import one_in

D, HEADS = 16, 2


class _Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.key, self.value = nn.Linear(D, D), nn.Linear(D, D)

    def scores(self, words: Tensor, regions: Tensor) -> Tensor:
        return words @ self.key(regions).mT / D**0.5


class _Part(_Attends):
    def forward(self, words: Tensor, regions: Tensor, hidden: Tensor | None = None) -> Tensor:
        return self.scores(words, regions).softmax(-1) @ self.value(regions)


class HandsItOn(nn.Module):
    """The mask is turned into numbers and handed to a part under another name, which does nothing with it."""

    def __init__(self) -> None:
        super().__init__()
        self.part = _Part()

    def forward(self, words: Tensor, regions: Tensor, regions_mask: Tensor) -> Tensor:
        return words + self.part(words, regions, hidden=(1.0 - regions_mask.float()) * -1e9)


class Forgets(_Attends):
    """The mask is not even touched."""

    def forward(self, words: Tensor, regions: Tensor, regions_mask: Tensor) -> Tensor:
        return words + self.scores(words, regions).softmax(-1) @ self.value(regions)


class OtherOrder(_Attends):
    """Heads and examples share an axis; the mask is repeated head by head, the scores stand example by example."""

    def forward(self, words: Tensor, regions: Tensor, regions_mask: Tensor) -> Tensor:
        def heads(x: Tensor) -> Tensor:
            return x.view(*x.shape[:2], HEADS, -1).transpose(1, 2).flatten(0, 1)

        scores = heads(words) @ heads(self.key(regions)).mT
        weights = scores.masked_fill(~regions_mask.repeat(HEADS, 1)[:, None], -1e9).softmax(-1)
        mixed = (weights @ heads(self.value(regions))).view(len(words), HEADS, words.shape[1], -1)
        return words + mixed.transpose(1, 2).flatten(2)


class CountsThem(_Attends):
    """Padding is blanked and hidden, and a mean over the padded length is scaled by how long that is."""

    def forward(self, words: Tensor, regions: Tensor, regions_mask: Tensor) -> Tensor:
        regions = regions.masked_fill(~regions_mask[..., None], 0)
        weights = self.scores(words, regions).masked_fill(~regions_mask[:, None], -1e9).softmax(-1)
        return words + weights @ self.value(regions) + self.value(regions.mean(1, keepdim=True))


class RootOfZero(_Attends):
    """Blanked padding is brought to length one."""

    def forward(self, words: Tensor, regions: Tensor, regions_mask: Tensor) -> Tensor:
        regions = self.value(regions).masked_fill(~regions_mask[..., None], 0) @ self.key.weight
        regions = regions / (regions.square().sum(-1, keepdim=True).sqrt() + 1e-6)
        weights = (words @ regions.mT).masked_fill(~regions_mask[:, None], -1e9).softmax(-1)
        return words + weights @ regions


class HiddenAfterwards(_Attends):
    """Rows of padded words are -inf alone; their NaN is taken out forwards, and stays in the gradient."""

    def forward(self, words: Tensor, regions: Tensor, words_mask: Tensor, regions_mask: Tensor) -> Tensor:
        pairs = words_mask[:, :, None] & regions_mask[:, None]
        weights = self.scores(words, regions).masked_fill(~pairs, -torch.inf).softmax(-1)
        return words + (weights @ self.value(regions)).nan_to_num()


class TinyEpsilon(_Attends):
    def forward(self, words: Tensor, regions: Tensor, regions_mask: Tensor) -> Tensor:
        powers = (self.scores(words, regions) - 30).exp() * regions_mask[:, None]
        weights = powers / (powers.sum(-1, keepdim=True) + 1e-12)
        return words + weights @ self.value(regions)


class LargeFill(_Attends):
    def forward(self, words: Tensor, regions: Tensor, regions_mask: Tensor) -> Tensor:
        weights = self.scores(words, regions).masked_fill(~regions_mask[:, None], -1e20).softmax(-1)
        return words + weights @ self.value(regions)


class InTrainModeOnly(_Attends):
    """Padding is hidden in eval mode alone."""

    def forward(self, words: Tensor, regions: Tensor, regions_mask: Tensor) -> Tensor:
        scores = self.scores(words, regions)
        scores = scores if self.training else scores.masked_fill(~regions_mask[:, None], -1e9)
        return words + scores.softmax(-1) @ self.value(regions)


class AddsTooLittle(_Attends):
    def forward(self, words: Tensor, regions: Tensor, regions_mask: Tensor) -> Tensor:
        scores = self.scores(words, regions) + (~regions_mask).to(words.dtype)[:, None] * -3
        return words + scores.softmax(-1) @ self.value(regions)


class BlanksAlone(_Attends):
    """Padding is blanked, and its scores, which are those of the bias, take their share."""

    def forward(self, words: Tensor, regions: Tensor, regions_mask: Tensor) -> Tensor:
        regions = regions.masked_fill(~regions_mask[..., None], 0)
        return words + self.scores(words, regions).softmax(-1) @ self.value(regions)


class ConvolvesOver(_Attends):
    """A first convolution's bias fills the padding, and the next one reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv1d(D, D, 3, padding=1) for _ in range(2))

    def forward(self, words: Tensor, regions: Tensor, regions_mask: Tensor) -> Tensor:
        regions = self.first(regions.masked_fill(~regions_mask[..., None], 0).mT)
        regions = self.second(regions.relu()).mT
        weights = self.scores(words, regions).masked_fill(~regions_mask[:, None], -1e9).softmax(-1)
        return words + weights @ self.value(regions)


class ReadsACount(_Attends):
    """A mask with holes is taken for a length."""

    def forward(self, words: Tensor, regions: Tensor, regions_mask: Tensor) -> Tensor:
        real = torch.arange(regions.shape[1]) < regions_mask.sum(-1, keepdim=True)
        return words + self.scores(words, regions).masked_fill(~real[:, None], -1e9).softmax(-1) @ self.value(regions)


class MeetsMates(_Attends):
    """Everything is divided by the largest number in the batch."""

    def forward(self, words: Tensor, regions: Tensor, regions_mask: Tensor) -> Tensor:
        words = words / words.abs().max()
        weights = self.scores(words, regions).masked_fill(~regions_mask[:, None], -1e9).softmax(-1)
        return words + weights @ self.value(regions)


class WeightsOfNothing(_Attends):
    """A row without regions has equal weights."""

    def forward(self, words: Tensor, regions: Tensor, regions_mask: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.scores(words, regions).masked_fill(~regions_mask[:, None], -1e9).softmax(-1)
        return words + weights @ self.value(regions), weights


class ModestFill(_Attends):
    """A fill that holds as long as scores are ordinary."""

    def forward(self, words: Tensor, regions: Tensor, regions_mask: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.scores(words, regions).masked_fill(~regions_mask[:, None], -300.0).softmax(-1)
        return words + weights @ self.value(regions), weights


class ScoresTimesMask(_Attends):
    """Scores of padding are 0, and its weights are taken away again."""

    def forward(self, words: Tensor, regions: Tensor, regions_mask: Tensor) -> Tensor:
        mask = regions_mask[:, None].to(words.dtype)
        weights = (8 * self.scores(words, regions) * mask).softmax(-1) * mask
        return words + weights / (weights.sum(-1, keepdim=True) + 1e-13) @ self.value(regions)


def line_of(kind: type[nn.Module], code: str) -> str:
    """``test_causes.py:12``, where that code stands in a class."""
    lines, first = inspect.getsourcelines(kind)
    return f"{__file__.rpartition('/')[2]}:{first + next(at for at, line in enumerate(lines) if code in line)}"


def said(make: Callable[[], nn.Module], id: str) -> str:
    subject = understand(make).subject
    (finding,) = findings(subject, examine(subject, only=[id]), task="t", device="cpu")
    assert finding.verdict == "broken", finding.summary
    return finding.summary


CAUSES = [
    (HandsItOn, "P6", "regions_mask is never used", _Part, "def forward", "as hidden, which does nothing with it"),
    (Forgets, "P1", "regions_mask is never used", Forgets, "def forward", "it gets as far as Forgets.forward"),
    (OtherOrder, "P3", "laid out example by example", OtherOrder, "softmax", "make it with repeat_interleave"),
    (
        CountsThem,
        "P2",
        "how many there are does",
        CountsThem,
        "regions.mean",
        "divide by the number of valid slots of regions",
    ),
    (RootOfZero, "P8", "the first gradient that is not finite", RootOfZero, "sqrt()", "epsilon under the root"),
    (HiddenAfterwards, "P8", "hides it from no gradient", HiddenAfterwards, "softmax", "fill with -inf only where"),
    (TinyEpsilon, "P10", "its divisor is 1e-12 in float32", TinyEpsilon, "powers /", "use a larger one"),
    (LargeFill, "P10", "has the fill -1e+20", LargeFill, "-1e20", "finfo"),
    (InTrainModeOnly, "P1", "in train mode the softmax", InTrainModeOnly, "scores.softmax", "does not see the mask"),
    (AddsTooLittle, "P1", "moved by 3 only", AddsTooLittle, "softmax", "does not hide them"),
    (BlanksAlone, "P2", "the softmax counts padding at", BlanksAlone, "softmax", "fill with -inf"),
    (ConvolvesOver, "P2", "the convolution at", ConvolvesOver, "self.second(", "blank padded slots of regions first"),
    (WeightsOfNothing, "P9", "gives padding equal weights", WeightsOfNothing, "softmax", "multiply the weights"),
    (ModestFill, "P17", "has the fill -300 for padded", ModestFill, "softmax", "fill with -inf"),
    (ScoresTimesMask, "P17", "has scores up to 0 for padded", ScoresTimesMask, "softmax", "fill with -inf"),
    (MeetsMates, "P3o", "first depends on its batch mates", MeetsMates, "max()", "keep examples apart"),
]


@pytest.mark.parametrize(
    ("kind", "id", "cause", "where", "code", "remedy"), one_in(4, CAUSES), ids=[c[0].__name__ for c in CAUSES]
)
def test_a_cause_is_found_by_experiment_with_its_line(
    kind: type[nn.Module], id: str, cause: str, where: type[nn.Module], code: str, remedy: str
) -> None:
    text = said(kind, id)
    assert cause in text
    assert line_of(where, code) in text
    assert remedy in text
    assert "perhaps" not in text


def test_a_mask_that_is_read_as_a_count_is_called_so() -> None:
    text = said(ReadsACount, "P5")
    assert "the mask of regions is read as a count" in text
    assert "perhaps" not in text


@pytest.mark.parametrize(("lacking", "verdict"), [(True, "not judged"), (False, "broken")])
def test_an_operation_that_this_device_lacks_in_a_type_is_no_fault_of_the_module(
    lacking: bool, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Refused, "to_be_had_in", lambda self, dtype: not lacking)
    subject = understand(LargeFill).subject
    (finding,) = findings(subject, examine(subject, only=["P10"]), task="t", device="cpu")
    assert finding.verdict == verdict
    assert "masked_fill at test_causes.py" in finding.summary
    assert ("is not to be had in fp16 on this device" in finding.summary) == lacking


def test_a_device_is_asked_with_ordinary_numbers_whether_it_has_an_operation() -> None:
    def only_in_float32(x: Tensor, y: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise NotImplementedError("in whatever words")
        return x @ y

    both = (torch.full((2, 2), torch.nan), torch.ones(2, 2))
    a_fill = (torch.ones(2), torch.ones(2, dtype=torch.bool), -1e9)
    mixed = (torch.ones(2, 2, dtype=torch.float16), torch.ones(2, 2))

    def asked(call: Callable[..., object], args: tuple[object, ...]) -> bool:
        return Refused(call=call, name="it", place="", args=args, kwargs={}).to_be_had_in(torch.float16)

    assert not asked(only_in_float32, both)
    assert asked(torch.masked_fill, a_fill)  # the number was too large, the operation is there
    assert asked(torch.mm, mixed)  # two types met, which is the module's doing
