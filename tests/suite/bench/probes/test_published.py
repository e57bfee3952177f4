"""With the same weights, a published implementation is ours where nothing is padded, and is not where something is."""

import pytest

from suite.bench.probes import published
from suite.core.records import Measurement
from tests.audited import audited
from tests.lanes import one_in
from variants import canonical, mechanisms
from variants.build import option_types
from variants.published import TRANSFERS

RIGHT_ON_FINITE_PADS = {
    f"published_{name}" for name in ("dcn", "lxmert", "vilbert", "gdino", "lightglue", "allennlp", "blip2", "perceiver")
}
ORIGINS = {name: made.origin for name, made in mechanisms().items() if made.origin is not None}
SOURCES = [name for name, origin in ORIGINS.items() if origin.source]
CORRECTED = [name for name, made in mechanisms().items() if "corrected" in option_types(made)]


@pytest.mark.parametrize("name", one_in(10, [*SOURCES, *CORRECTED]))
def test_padding_alone_sets_a_published_layer_apart_from_ours(name: str) -> None:
    (found,) = published.deviate(name, "cpu", task="t")
    assert found.value is not None
    if name in RIGHT_ON_FINITE_PADS:  # of ordinary size, where no side is empty
        assert found.value < 2e-5
    elif name == "published_bacpi":  # a constant of 1e-6 in its sums
        assert 2e-5 < found.value < 1e-3
    else:
        assert found.value > 0.01
    unpadded = found.details["unpadded"]
    assert isinstance(unpadded, float)
    if name == "published_csdn":
        assert unpadded > 0.01, "its second softmax shows without padding too"
    elif name == "published_drugban":
        assert unpadded > 0.01, "its weights are scores without padding too"
    else:
        assert unpadded < 2e-5  # float32, another order of summation


def test_an_origin_names_weights_that_fit_ours_or_a_corrected_form_of_its_own() -> None:
    for name, origin in ORIGINS.items():
        ours = canonical(origin.ours)
        assert str(ours) == origin.ours
        assert (ours.mechanism == name) == (name in CORRECTED)
        assert not origin.source or ours.mechanism in TRANSFERS[origin.source]


@pytest.mark.slow
def test_the_audit_of_a_published_implementation_measures_it() -> None:
    found = [record.quantity for record in audited("published_skyol5") if isinstance(record, Measurement)]
    assert found == ["deviation_from_corrected"]


def test_others_have_nothing_to_be_compared_with() -> None:
    assert list(published.deviate("parallel", "cpu", task="t")) == []
