"""Who uses a public implementation sees in one look what to fix, and what that gains."""

from dataclasses import replace

import numpy as np
import pytest

from suite.bench.description import describe
from suite.core.records import Finding, Measurement, Record
from suite.report import published, tables
from tests.suite.report import synthetic

KNOWN = Finding(
    task="masking",
    variant="published_csdn",
    quantity="P1",
    verdict="known",
    value=0.98,
    summary="image moved by 0.98 when padded words changed",
    details={"defects": ["padded words reach the image through the affinity"]},
)


def section(records: list[Record]) -> str:
    """As a run has it, which describes its variants."""
    known = [describe(name) for name in dict.fromkeys(record.variant for record in records) if name]
    return undescribed([*known, *records])


def undescribed(records: list[Record]) -> str:
    return published.section(tables.make(records).cells, records)


def timed(variant: str, time_s: float, task: str) -> Measurement:
    return Measurement(
        task=task, variant=variant, workload="tiny", phase="forward", device="cpu", quantity="latency", unit="s",
        samples=tuple(time_s * np.linspace(1, 2, 12)), rounds=tuple(range(12)),
    )  # fmt: skip


def test_a_defect_is_told_once_with_the_ways_in_which_it_shows() -> None:
    text = section([KNOWN, replace(KNOWN, quantity="P3", value=0.5, summary="image differed by 0.5")])
    assert text.count("- **padded words reach the image through the affinity**") == 1
    assert text.index("P1: image moved by 0.98 when padded words changed") < text.index("P3: image differed by 0.5")
    assert "CSDN article 117292683" in text
    assert "`parallel[affinity=linear]`" in text


@pytest.mark.parametrize(
    ("time_s", "said"),
    [
        (0.006, "×3.00"),
        (0.001, "×0.500"),
        (0.002, "×1.00"),
    ],
)
def test_its_speed_stands_beside_ours_through_the_anchor(time_s: float, said: str) -> None:
    # in another task than its anchor was timed in for `parallel` itself, on a machine twice as slow by then
    records: list[Record] = [
        timed("parallel", 0.004, "a"),
        timed("parallel[affinity=linear]", 0.002, "a"),
        timed("parallel", 0.008, "b"),
        timed("published_csdn", 2 * time_s, "b"),
    ]
    text = section(records)
    assert f"`parallel[affinity=linear]` is {said} (" in text
    assert "so it is unclear which is faster" in text, "one process of each says little of another"


def test_where_the_corrected_form_was_not_timed_the_plain_mechanism_stands_in() -> None:
    records: list[Record] = [timed("parallel", 0.004, "a"), timed("published_csdn", 0.008, "a")]
    assert "`parallel` is ×2.00" in section(records)


def test_where_the_published_network_itself_is_corrected_the_nearest_of_ours_stands_in() -> None:
    records: list[Record] = [timed(name, 0.004, "a") for name in ("parallel", "transformer")]
    records.append(timed("published_lxmert", 0.008, "a"))
    text = section(records)
    assert "Corrected here as `published_lxmert[corrected=true]`" in text
    assert "`transformer` is ×2.00" in text


def test_what_the_defects_change_stands_in_numbers_beside_the_agreement_without_padding() -> None:
    apart = Measurement(
        task="masking", variant="published_csdn", device="cpu", quantity="deviation_from_corrected", unit="1",
        value=0.98, details={"image": 0.98, "question": 0.5, "unpadded": 3e-7},
    )  # fmt: skip
    text = section([KNOWN, apart])
    assert "differs from the corrected mechanism in image by 0.980, question by 0.500" in text
    assert "without padding, by 3.0e-07 at most" in text


def test_an_older_run_says_what_it_has_on_record() -> None:
    text = undescribed([KNOWN, timed("parallel", 0.004, "a"), timed("published_csdn", 0.008, "a")])
    assert text.startswith("### `published_csdn`")
    assert "- **padded words reach the image through the affinity**" in text
    assert "From " not in text


def test_a_run_without_them_has_no_such_section() -> None:
    assert section([timed("parallel", 0.004, "a")]) == ""


def test_the_synthetic_run_has_a_section_for_each() -> None:
    text = section(list(synthetic.records()))
    assert [line for line in text.splitlines() if line.startswith("### ")] == [
        f"### `{name}`" for name in synthetic.PUBLISHED
    ]
