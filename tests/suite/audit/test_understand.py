"""Foreign modules: what their arguments and outputs mean is found, said, and judged accordingly."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from suite.audit import Adapter, NothingJudged, NotUnderstood, assert_masked, command, property_tests, understand
from suite.audit.findings import findings, settled, why_nothing
from suite.audit.properties import examine
from suite.audit.reading import Stated
from suite.audit.testing import judge
from tests.lanes import one_in
from variants import Batch, build
from variants.masking import masked_softmax


class Pooled(NamedTuple):
    image: Tensor
    image_weights: Tensor


class Guided(nn.Module):
    """Correct: the question's masked mean guides attention over the image; masks True where valid."""

    def __init__(self) -> None:
        super().__init__()
        self.image_hidden, self.question_hidden = nn.Linear(20, 16), nn.Linear(12, 16)
        self.score = nn.Linear(16, 1)

    def attend(self, image: Tensor, question: Tensor, image_valid: Tensor, question_valid: Tensor) -> Pooled:
        image = image.masked_fill(~image_valid.unsqueeze(-1), 0)
        question = question.masked_fill(~question_valid.unsqueeze(-1), 0)
        mean = question.sum(1) / question_valid.sum(-1, keepdim=True).clamp(min=1)
        hidden = torch.tanh(self.image_hidden(image) + self.question_hidden(mean).unsqueeze(1))
        weights = masked_softmax(self.score(hidden).squeeze(-1), image_valid)
        return Pooled((weights.unsqueeze(-1) * image).sum(1), weights)


class ByName(Guided):
    def forward(self, image: Tensor, question: Tensor, image_valid: Tensor, question_valid: Tensor) -> Pooled:
        return self.attend(image, question, image_valid, question_valid)


class ByPadding(Guided):
    def forward(self, regions: Tensor, words: Tensor, regions_pad: Tensor, words_pad: Tensor) -> dict[str, Tensor]:
        return self.attend(regions, words, ~regions_pad, ~words_pad)._asdict()


class ByTrial(Guided):
    """Nothing in a name says that True is padding."""

    def forward(self, img: Tensor, txt: Tensor, img_mask: Tensor, txt_mask: Tensor) -> tuple[Tensor, Tensor]:
        return tuple(self.attend(img, txt, ~img_mask, ~txt_mask))


class ByLengths(Guided):
    def forward(self, v: Tensor, q: Tensor, v_len: Tensor, q_len: Tensor) -> Pooled:
        valid = [torch.arange(x.shape[1]) < length[:, None] for x, length in ((v, v_len), (q, q_len))]
        return self.attend(v, q, valid[0], valid[1])


class SoftmaxOnly(nn.Module):
    """Both softmaxes are masked and the affinity is not."""

    def __init__(self) -> None:
        super().__init__()
        self.image_score, self.question_score = nn.Linear(16, 1), nn.Linear(16, 1)

    def forward(self, image: Tensor, question: Tensor, image_valid: Tensor, question_valid: Tensor) -> Pooled:
        affinity = torch.tanh(question @ image.mT / 16)
        scores = self.image_score(torch.tanh(image + affinity.mT @ question)).squeeze(-1)
        weights = masked_softmax(scores, image_valid)
        return Pooled((weights.unsqueeze(-1) * image.masked_fill(~image_valid[..., None], 0)).sum(1), weights)


class UnnamedSides(nn.Module):
    """Both sides attended through one affinity that nobody masks, returned as a bare tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.affinity, self.image_hidden, self.question_hidden = (nn.Linear(32, 32, bias=False) for _ in range(3))
        self.image_score, self.question_score = nn.Linear(32, 1), nn.Linear(32, 1)

    def forward(
        self, image: Tensor, question: Tensor, image_mask: Tensor, question_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        affinity = torch.tanh(0.1 * self.affinity(question) @ image.mT)
        seen, read = self.image_hidden(image), self.question_hidden(question)
        image_scores = self.image_score(torch.tanh(seen + affinity.mT @ read)).squeeze(-1)
        question_scores = self.question_score(torch.tanh(read + affinity @ seen)).squeeze(-1)
        a = image_scores.masked_fill(~image_mask, -1e9).softmax(-1)
        b = question_scores.masked_fill(~question_mask, -1e9).softmax(-1)
        return (a[:, None] @ image).squeeze(1), (b[:, None] @ question).squeeze(1), a, b


class Bare(nn.Module):
    def forward(self, image: Tensor, question: Tensor) -> Tensor:
        return torch.softmax(question @ image.mT, dim=-1) @ image


class Lone(nn.Module):
    def forward(self, graph: Any) -> Tensor:
        return graph.nodes


def broken(target: object) -> dict[str, str]:
    return {finding.quantity: finding.severity for finding in judge(target) if finding.verdict == "broken"}


@pytest.mark.parametrize(
    ("target", "said"),
    one_in(
        4,
        [
            (ByName, "image_valid tells of the padding of image: it takes a boolean mask [B, L], True where real"),
            (ByPadding, "words_pad tells of the padding of words: it takes a boolean mask [B, L], True where padding"),
            (ByTrial, "txt_mask tells of the padding of txt: it takes a boolean mask [B, L], True where padding"),
            (ByLengths, "v_len tells of the padding of v: it takes lengths, whole numbers, one per example"),
        ],
    ),
)
def test_a_usual_signature_is_understood_and_a_correct_module_raises_no_alarm(target: object, said: str) -> None:
    understood = understand(target)
    assert f"{said} (found by trial)" in understood.account
    assert [side.width for side in understood.subject.sides] == [20, 12]
    assert {finding for finding in broken(target) if finding != "P13"} == set()


def multihead() -> nn.Module:
    return nn.MultiheadAttention(32, 4)


def decoder_layer() -> nn.Module:
    return nn.TransformerDecoderLayer(32, 4, dim_feedforward=64, batch_first=True)


@pytest.mark.slow
@pytest.mark.parametrize("target", [multihead, decoder_layer])
def test_torchs_own_attention_is_fragile_under_nan_and_not_wrong(target: object) -> None:
    found = broken(target)
    assert found["P1n"] == "fragile"
    assert set(found.values()) == {"fragile"}
    assert_masked(target)
    with pytest.raises(AssertionError, match="P1n"):
        assert_masked(target, strict=True)


def test_slots_first_is_read_from_what_runs() -> None:
    account = " ".join(understand(multihead).account)
    assert "query is a feature input, [L, B, 32]" in account
    assert "output 1 is weights over slots of key, one row per slot of query" in account


def test_a_module_without_masks_is_told_so() -> None:
    account = understand(Bare).account
    assert "image has no mask, so it is never padded here" in account
    found = {finding.quantity: finding for finding in judge(Bare)}
    assert found["P6"].verdict == "broken"
    assert "takes no mask" in found["P6"].summary
    assert found["P1"].verdict == "not applicable"


@pytest.mark.parametrize("left", [{"mask", "bias", "shown"}, {"shown", "bias"}])
def test_a_mask_that_was_to_be_ignored_is_not_said_to_be_missing(left: set[str]) -> None:
    class Pool(nn.Module):
        def forward(  # type: ignore[no-untyped-def]
            self, image: Tensor, mask=None, bias=None, shown=None, scale: float = 1.0
        ):
            scores = image.mean(-1) * scale
            for hidden in (mask, shown):
                scores = scores if hidden is None else scores.masked_fill(~hidden, -1e30)
            weights = (scores if bias is None else scores + bias).softmax(1)
            return (weights[:, None] @ image)[:, 0], weights

    understood = understand(Pool, stated=Stated(ignore=frozenset(left)))
    names = [name for name in ("mask", "bias", "shown") if name in left]
    assert f"left out, as asked: {', '.join(names)}" in understood.account
    outcomes = examine(understood.subject, only=["P1", "P6", "P11"])
    found = {one.quantity: one for one in findings(understood.subject, outcomes, task="", device="cpu")}
    assert not any("takes no mask" in one.summary for one in found.values())
    if "mask" in left:
        assert found["P6"].verdict == "not judged"
        assert "without mask and bias and shown, left out as asked" in found["P6"].summary
        assert found["P1"].summary == "without mask and bias and shown it has no padding"
    else:
        assert found["P6"].verdict == "holds"
    with pytest.raises(NotUnderstood, match="--ignore scale has no effect"):
        understand(Pool, stated=Stated(ignore=frozenset({"scale"})))


@pytest.mark.parametrize(
    ("target", "stated"),
    [
        (Bare, Stated(ignore=frozenset({"nothing"}))),
        (Bare, Stated(ignore=frozenset({"image"}))),
        (build("parallel", width=8).module, Stated(ignore=frozenset({"batch"}))),
        (build("parallel", width=8).module, Stated(masks={"batch": "valid"})),
    ],
)
def test_what_is_said_of_arguments_is_refused_where_it_would_change_nothing(target: object, stated: Stated) -> None:
    with pytest.raises(NotUnderstood, match=r"has no argument|cannot be left out|have no effect"):
        understand(target, stated=stated)


def test_a_mask_on_the_softmax_alone_is_named_in_the_assertion() -> None:
    with pytest.raises(AssertionError, match=r"P1 \(wrong\): .*slots of question"):
        assert_masked(SoftmaxOnly)


@pytest.mark.slow
def test_vectors_without_names_belong_to_the_side_that_their_weights_pool() -> None:
    sides = [output.side for output in understand(UnnamedSides).subject.outputs]
    assert sides == ["image", "question", "image", "question"]
    with pytest.raises(AssertionError, match="affinity"):
        assert_masked(UnnamedSides)


def test_what_is_not_understood_comes_with_the_adapter_to_write() -> None:
    with pytest.raises(NotUnderstood, match=r"no reading of Lone(.|\n)*return Adapter\("):
        understand(Lone)
    with pytest.raises(NotUnderstood, match="cannot be called without arguments"):
        understand(nn.Linear)


def test_an_adapter_of_a_few_lines_is_judged_like_any_other() -> None:
    def adapted() -> Adapter:
        module = Guided()
        return Adapter(module, lambda batch: module.attend(*batch), image_width=20, question_width=12)

    assert broken(adapted) == {}

    def wrong() -> Adapter:
        module = Guided()

        def call(batch: Batch) -> Pooled:
            return module.attend(*batch._replace(question_valid=torch.ones_like(batch.question_valid)))

        return Adapter(module, call, image_width=20, question_width=12)

    assert "P1" in broken(wrong)


def test_a_mechanism_is_judged_by_the_contract() -> None:
    assert_masked(build("parallel", width=16).module, strict=True)


def test_of_a_mechanism_that_gives_no_numbers_nothing_is_said_but_that() -> None:
    broken = build("pool", width=16).module
    broken.register_forward_hook(lambda _module, _given, made: type(made)(*(value * torch.nan for value in made)))
    found = judge(broken)
    assert {finding.verdict for finding in found} == {"not judged"}
    assert {finding.summary.partition(" are ")[2] for finding in found} == {"NaN or infinite without any padding too"}
    with pytest.raises(NothingJudged, match=r"cannot be judged: .* are NaN or infinite"):
        assert_masked(broken)
    with pytest.raises(NothingJudged, match="are NaN or infinite"):
        property_tests(broken)("any")


def test_a_test_passes_of_nothing_that_the_command_does_not_judge() -> None:
    with pytest.raises(NothingJudged, match="nothing applies to it: no normalisation in it"):
        assert_masked(ByName, only=["P18"])
    (finding,) = judge(ByName, only=["P18"])
    noisy = replace(finding, verdict="unclear", quantity="P1")
    assert settled([finding, noisy]) == []
    assert why_nothing([finding, noisy]) == "its own noise is too large for P1"
    assert settled([replace(noisy, verdict="holds")])
    heard = command.Heard()
    heard.final = [finding, noisy]
    answer = command.answered("ByName", heard, strict=False)
    assert answer.code == 2
    assert answer.last.endswith(": its own noise is too large for P1.")


test_one_property_a_test = property_tests(ByName)


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "theirs.py"
    path.write_text(f"import torch\nfrom torch import nn\n{text}")
    return str(path)


class TestCommand:
    def test_nothing_wrong_is_exit_0_and_fragile_counts_when_strict(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = write(tmp_path, "def layer():\n    return nn.MultiheadAttention(16, 2)\n")
        assert command.start(f"{path}:layer") == 0
        assert "FRAGILE, not wrong" in capsys.readouterr().out
        assert command.start(f"{path}:layer", strict=True) == 1

    def test_something_wrong_is_exit_1_with_one_paragraph(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = write(
            tmp_path,
            "class Mean(nn.Module):\n"
            "    def forward(self, image, question, image_valid):\n"
            "        return image.mean(1) + question.mean(1)\n",
        )
        assert command.start(f"{path}:Mean") == 1
        assert "WRONG: " in capsys.readouterr().out

    def test_without_any_verdict_it_is_exit_2(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = write(
            tmp_path,
            "class Blown(nn.Module):\n"
            "    def forward(self, image, question, image_valid):\n"
            "        mean = (image * image_valid[:, :, None]).sum(1) / image_valid.sum(1, keepdim=True)\n"
            "        return (mean + question.mean(1)) * torch.inf\n",
        )
        assert command.start(f"{path}:Blown") == 2
        answer = capsys.readouterr().out.splitlines()
        why = "output is NaN or infinite without any padding too"
        assert answer[-1] == f"NOT JUDGED: of no property could it be told whether it holds: {why}."

    def test_a_signature_that_is_not_understood_is_exit_2_with_the_adapter(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = write(tmp_path, "class Lone(nn.Module):\n    def forward(self, graph):\n        return graph.nodes\n")
        assert command.start(f"{path}:Lone") == 2
        assert "def lone_adapted():" in capsys.readouterr().out

    def test_a_variant_is_audited_by_name(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command.start("parallel", strict=True) == 0
        assert "Masked correctly" in capsys.readouterr().out

    def test_what_is_not_there_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no such file"):
            command.start(f"{tmp_path}/none.py:Net")
        path = write(tmp_path, "class Net(nn.Module):\n    pass\n")
        with pytest.raises(ValueError, match=r"has no 'Nets'; it has .*Net"):
            command.start(f"{path}:Nets")
        with pytest.raises(ValueError, match=r"expected path/to/file.py:NAME"):
            command.start(path)


class _Embeds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)

    def forward(self, image: Tensor, tokens: Tensor, hidden: Tensor) -> Tensor:
        words = self.embedding(tokens)
        return (image @ words.mT).masked_fill(hidden[:, None], float("-inf")).softmax(-1) @ words


def test_whole_numbers_made_from_features_are_not_said_to_hide_a_nan() -> None:
    module = _Embeds()

    def call(batch: Any) -> Tensor:
        tokens = (batch.words[..., 0].nan_to_num().abs() * 1e4).long() % 49 + 1
        found: Tensor = module(batch.image, tokens, ~batch.words_valid)
        return found

    adapted = Adapter(module, call, widths={"image": 16, "words": 4}, masked=("words",))
    (found,) = judge(adapted, only=["P1v"])
    assert found.verdict == "holds"
