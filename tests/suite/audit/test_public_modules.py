"""The padding tests of public modules are true where their packages are installed; the page is what the audits say."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

FOLDER = Path(__file__).parents[3] / "results" / "reference" / "public-modules"
sys.path.insert(0, str(FOLDER))

from page import page  # noqa: E402  # it lies beside the records that it is made from
from public_modules import CASES  # noqa: E402
from public_modules.truth import Case, broken, truth  # noqa: E402

RECORDS = [json.loads(line) for line in (FOLDER / "audits.jsonl").read_text().splitlines()]
BY_NAME = {case.name: case for case in CASES}


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.filterwarnings("ignore")  # of the packages, about their own settings
def test_what_is_said_to_be_right_of_a_public_module_is_so(name: str) -> None:
    case = BY_NAME[name]
    if case.version() is None:
        pytest.skip(f"pip install {case.package}")
    found = broken(truth(case))
    if case.right == "correct":
        assert found == ()
    elif case.right == "wrong":
        assert found == case.breaks
    else:
        assert "content" in found, "it takes no mask, so padding gets through"


class _Forgetful(nn.Module):
    """Takes the mask and does not use it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, key_padding_mask: torch.Tensor):  # type: ignore[no-untyped-def]
        return self.inner(query, key, value)


def test_the_padding_test_finds_a_mask_that_is_taken_and_not_used() -> None:
    planted = dataclasses.replace(BY_NAME["torch.nn.MultiheadAttention"], make=_Forgetful)
    found = truth(planted)
    assert broken(found) == ("content", "count", "trimmed", "gradient", "train")
    assert found["read"] == 0


def test_names_of_cases_differ_and_each_wrong_one_names_its_line() -> None:
    assert len(BY_NAME) == len(CASES)
    assert all(case.breaks and case.line for case in CASES if case.right == "wrong")
    assert not any(case.breaks or case.line for case in CASES if case.right != "wrong")


def test_the_records_are_of_these_modules_and_of_named_versions() -> None:
    assert len(RECORDS) >= 30
    for record in RECORDS:
        case: Case = BY_NAME[record["module"]]
        assert (record["right"], record["package"]) == (case.right, case.package)
        assert record["version"]


def test_the_page_is_what_the_records_say() -> None:
    assert (FOLDER / "README.md").read_text() == page(RECORDS)
