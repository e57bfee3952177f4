"""The audit audited: every planted defect is caught by what should catch it, and correct mechanisms raise no alarm."""

import pytest
import torch

from suite.audit import evidence
from suite.audit.causes import hints, signatures, traits
from suite.audit.defects import DEFECTS, SOUND, subject_of
from suite.audit.findings import findings, judged
from suite.audit.innocents import INNOCENTS
from suite.audit.lab import Lab
from suite.audit.observation import ANY, WHAT
from suite.audit.properties import BY_ID, examine
from suite.audit.selfcheck import NEEDED, REASONS, accusations, false_alarms, missed, only_catchers, plant_all
from suite.audit.subject import Subject, from_variant
from tests.lanes import one_in
from variants import KnownDefect, build, mechanisms


@pytest.mark.parametrize("name", one_in(6, DEFECTS))
def test_a_planted_defect_is_caught_by_the_properties_that_should(name: str) -> None:
    defect = DEFECTS[name]
    subject = subject_of(defect)
    outcomes = list(examine(subject, only=defect.caught_by))
    assert {o.examined.id for o in outcomes if o.verdict == "broken"} == set(defect.caught_by)
    kept = {trait for trait in signatures()[name] if trait.split()[0] in defect.caught_by}
    assert traits(subject, outcomes) == kept, "its signature is old: run_all.py selfcheck masking --write"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))  # run_all.py selfcheck masking tries as many as it is told
def test_correct_mechanisms_raise_no_alarm(seed: int) -> None:
    assert [(name, outcome.examined.id, outcome.worst) for _, name, outcome in false_alarms([seed])] == []


@pytest.mark.parametrize("name", one_in(12, INNOCENTS))
def test_a_correct_module_of_any_convention_is_not_accused(name: str) -> None:
    assert [said for _, _, said in accusations([0], [name]) if said] == []


def test_every_detector_is_some_defects_only_catcher_or_has_its_reason() -> None:
    kept = signatures()
    alone = {next(iter(ids)) for traits in kept.values() if len(ids := {trait.split()[0] for trait in traits}) == 1}
    assert set(kept) == set(DEFECTS)
    assert [id for id in NEEDED if id not in alone and id not in REASONS] == []
    assert set(REASONS) & alone == set()  # a reason is for those that are not


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mask on the softmax only", "softmax twice", "fill of -1e9", "masked_fill(-inf)"])
def test_signatures_are_those_that_the_defects_show_and_name_them_again(name: str) -> None:
    (found,) = plant_all([name])
    subject = subject_of(DEFECTS[name])
    assert traits(subject, found.outcomes) == signatures()[name]
    assert found.missed == ()
    named = hints(subject, found.outcomes)
    assert all(name in [defect.name for defect in named[id]] for id in found.broken)


@pytest.mark.slow
def test_only_catchers_are_defects_with_one_broken_property() -> None:
    caught = list(plant_all(["pads zeroed by a product", "mask read as a length"]))
    alone = only_catchers(caught)
    assert alone["P1n"] == ("pads zeroed by a product",)
    assert alone["P5"] == ()


def test_a_mask_on_the_softmax_alone_is_explained_with_the_guilty_slot() -> None:
    subject = subject_of(DEFECTS["mask on the softmax only"])
    (finding,) = findings(subject, examine(subject, only=["P1"]), task="t", device="cpu")
    assert finding.verdict == "broken"
    assert "because of padded" in finding.summary
    assert "the mask of image reaches the softmax at masking.py:" in finding.summary
    assert "and not the affinity" in finding.summary
    leak, slots, positions = (finding.details[key] for key in ("leak", "slots", "positions"))
    assert isinstance(leak, list)
    assert isinstance(slots, list)
    assert isinstance(positions, list)
    assert (len(leak), len(leak[0])) == (len(slots), len(positions))
    assert max(max(row) for row in leak) > 0


def test_the_position_that_moves_most_is_shown_however_many_there_are() -> None:
    lab = Lab(subject_of(DEFECTS["mask on the softmax only"]), 0)
    whole = evidence._matrix(lab, "image", 1, "question")
    assert whole is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "MOST", 3)  # as if there were many more positions than that
        shown = evidence._matrix(lab, "image", 1, "question")
    assert shown is not None
    assert len(shown.moved[0]) == 3
    by_position = [max(row[place] for row in whole.moved[:3]) for place in range(len(whole.moved[0]))]
    furthest = by_position.index(max(by_position))
    assert shown.first <= furthest < shown.first + 3
    assert f"position {furthest} of image moves most" in str(shown)
    assert shown.details()["positions"] == [str(shown.first + place) for place in range(3)]


class TestKnownDefects:
    """What a published implementation declares is `known`; what it declares and does not show is broken."""

    def verdicts(self, *defects: KnownDefect) -> list[tuple[str, bool]]:
        from dataclasses import replace

        subject = replace(subject_of(DEFECTS["softmax twice"]), known_defects=defects)
        outcomes = list(examine(subject, only=["P4c", "P7"]))
        found = list(findings(subject, outcomes, task="t", device="cpu"))
        # what is told while the audit is at work is what stands in the end
        final = [finding.verdict for finding in found if "missing" not in finding.details]
        assert [judged(subject, it)[0] for it in outcomes] == final
        return [(f"{finding.quantity} {finding.verdict}", "missing" in finding.details) for finding in found]

    def defect(self, property: str, output: str, what: str, side: str = "any") -> KnownDefect:
        return KnownDefect(property=property, output=output, what=what, side=side, summary="as published")

    def test_a_declared_one_is_known(self) -> None:
        assert self.verdicts(self.defect("P4c", "any", "scores scaled")) == [("P4c known", False), ("P7 holds", False)]

    def test_one_declared_for_another_output_leaves_the_rest_broken(self) -> None:
        found = self.verdicts(self.defect("P4c", "image_weights", "scores scaled"))
        assert found == [("P4c broken", False), ("P7 holds", False)]

    def test_a_declared_one_that_does_not_show_is_a_finding_of_its_own(self) -> None:
        found = self.verdicts(
            self.defect("P4c", "any", "any"), self.defect("P7", "image_weights", "slot zeroed", "image")
        )
        assert found == [("P4c known", False), ("P7 holds", False), ("P7 broken", True)]

    def test_one_that_shows_by_chance_is_known_where_it_shows_and_not_missed_elsewhere(self) -> None:
        from dataclasses import replace

        declared = (self.defect("P4c", "any", "any"), self.defect("P7", "image_weights", "slot zeroed", "image"))
        found = self.verdicts(*(replace(defect, always=False) for defect in declared))
        assert found == [("P4c known", False), ("P7 holds", False)]

    def test_one_of_a_property_that_was_not_examined_is_not_missed(self) -> None:
        found = self.verdicts(self.defect("P4c", "any", "any"), self.defect("P1", "any", "pads filled", "question"))
        assert found == [("P4c known", False), ("P7 holds", False)]


@pytest.mark.parametrize("scale", [0.1, 1e-2, 1e-4])
def test_weights_of_the_network_that_are_small_are_taken_for_no_second_softmax(scale: float) -> None:
    def verdict(module: torch.nn.Module, subject: Subject) -> str:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
        (outcome,) = examine(subject, only=["P4c"])
        return outcome.verdict

    def of(name: str) -> str:
        variant = build(name, image_width=24, question_width=16)
        return verdict(variant.module, from_variant(variant))

    assert {of(name) for name in ("published_ban", "bilinear", "parallel", "cross")} <= {
        "holds",
        "not judged",
        "not applicable",
    }
    twice = subject_of(DEFECTS["softmax twice"])
    assert verdict(twice.module, twice) in ("broken", "not judged")


def test_properties_and_correct_mechanisms_are_named_once() -> None:
    assert len(BY_ID) == 26
    assert len({kind.__name__ for kind in SOUND}) == len(SOUND)


def test_known_defects_speak_the_words_of_the_audit() -> None:
    for name in mechanisms():
        defects = build(name, width=16).module.known_defects
        for defect in defects:
            assert defect.property in BY_ID or defect.property == "agreement"
            assert defect.what in {*WHAT, ANY}
            assert defect.side in ("image", "question", ANY)


@pytest.mark.parametrize("seed", [8, 11, 83])
def test_a_finite_fill_is_found_also_where_the_only_score_of_the_shortest_row_is_small(seed: int) -> None:
    assert not missed(DEFECTS["fill of -1e4"], seed)
