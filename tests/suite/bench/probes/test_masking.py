"""The audit of built variants: correct mechanisms hold everywhere; tests/variants/test_published.py has the others."""

import pytest

from suite.bench.probes.masking import audit
from suite.core.records import Finding
from tests.audited import findings

LACKS = {
    "P15": "one execution",
    "P18": "no normalisation",
}
"""What a plain eager mechanism has nothing to be examined on."""


def verdicts(name: str) -> dict[str, Finding]:
    return {finding.quantity: finding for finding in findings(name)}


@pytest.mark.parametrize(
    "name",
    ["parallel", *(pytest.param(name, marks=pytest.mark.slow) for name in ("alternating", "hierarchical", "cross"))],
)
def test_a_correct_mechanism_holds_everywhere_in_eager_float32(name: str) -> None:
    found = verdicts(name)
    assert {
        id: finding.summary for id, finding in found.items() if finding.verdict not in ("holds", "not applicable")
    } == {}
    lacking = {id: finding.summary for id, finding in found.items() if finding.verdict == "not applicable"}
    assert set(lacking) == set(LACKS)
    assert all(LACKS[id] in reason for id, reason in lacking.items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["parallel+fp16", "parallel+bf16", "parallel+amp_bf16", "parallel-image_attention", "pool"]
)
def test_other_forms_hold_too(name: str) -> None:
    found = verdicts(name)
    assert {id: finding.summary for id, finding in found.items() if finding.verdict in ("broken", "unclear")} == {}


@pytest.mark.slow
def test_longer_scenes_of_another_width_hold_too_and_show_what_is_known() -> None:
    for name, shown in (("parallel", set()), ("published_csdn", {"P1"})):
        found = [item for item in audit(name, "cpu", task="t", width=40, stretch=4) if isinstance(item, Finding)]
        assert [finding.summary for finding in found if finding.verdict in ("broken", "unclear")] == []
        assert shown <= {finding.quantity for finding in found if finding.verdict == "known"}


@pytest.mark.slow
def test_exact_properties_are_judged_bit_for_bit_in_narrow_types() -> None:
    found = verdicts("parallel+bf16")
    assert [(found[id].value, found[id].limit) for id in ("P1", "P1n")] == [(0.0, 0.0), (0.0, 0.0)]
