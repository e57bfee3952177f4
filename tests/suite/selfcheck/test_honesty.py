"""A variant that looks fast without being better is found out."""

import pytest
import torch

from suite.bench.probes.honesty import examine
from suite.bench.probes.step import prepare
from suite.bench.tasks import About
from suite.core.workloads import PHASES, WORKLOADS, Phase

ABOUT = About(task="t", variant="v", workload="tiny", phase="forward", device="cpu")


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize(
    ("name", "phase", "said"),
    [
        ("cheat[kind=last_result]", "forward", "gives an earlier result again although its inputs have changed"),
        ("cheat[kind=writes_input]", "forward", "writes into its inputs"),
        ("cheat[kind=writes_input]", "forward+backward", "writes into its inputs"),
    ],
)
def test_a_cheat_is_named(name: str, phase: Phase, said: str) -> None:
    finding = examine(prepare(name, WORKLOADS["tiny"], phase, "cpu"), ABOUT)
    assert (finding.verdict, finding.summary) == ("broken", said)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", ["parallel", "parallel+fp16", "alternating", "published_csdn"])
def test_honest_work_is_believed_and_finds_its_inputs_again(name: str, phase: Phase) -> None:
    step = prepare(name, WORKLOADS["tiny"], phase, "cpu")
    before = [feature.detach().clone() for feature in step.inputs[0]]
    assert examine(step, ABOUT).verdict == "holds"
    for now, was in zip(step.inputs[0], before, strict=True):
        torch.testing.assert_close(now.detach(), was, rtol=0, atol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.usefixtures("planted")
def test_work_on_a_stream_of_its_own_is_seen() -> None:
    finding = examine(prepare("cheat[kind=side_stream]", WORKLOADS["vqa-grid"], "forward", "cuda"), ABOUT)
    assert "still running when its stream is done" in finding.summary
