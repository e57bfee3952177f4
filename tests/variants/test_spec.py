"""The language of names: what parses, and what every mistake is told."""

import pytest

from variants.spec import Spec, parse


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("parallel", Spec("parallel")),
        ("  parallel ", Spec("parallel")),
        ("parallel[]", Spec("parallel")),
        ("parallel+bf16+compile", Spec("parallel", transforms=("bf16", "compile"))),
        ("parallel[hidden=64, bias = true]", Spec("parallel", options=(("hidden", "64"), ("bias", "true")))),
        (
            "hierarchical[inner=alternating]-phrase_level-image_attention+amp_bf16",
            Spec("hierarchical", (("inner", "alternating"),), ("phrase_level", "image_attention"), ("amp_bf16",)),
        ),
        # parts and transforms may stand in any order; the canonical spelling sorts them
        ("parallel+bf16-image_attention", Spec("parallel", without=("image_attention",), transforms=("bf16",))),
    ],
)
def test_a_name_is_read(written: str, expected: Spec) -> None:
    assert parse(written) == expected


@pytest.mark.parametrize(
    "name", ["parallel", "a[b=1,c=x]-d-e+f+g", "mine_2[rate=0.5]", "hierarchical[inner=alternating]-phrase_level+bf16"]
)
def test_a_name_is_written_as_it_was_read(name: str) -> None:
    assert str(parse(name)) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "'' is not a variant's name: expected mechanism[key=value,...]-part+transform"),
        ("Parallel", "'Parallel' is not a variant's name"),
        ("2parallel", "'2parallel' is not a variant's name"),
        ("parallel+", "'parallel+' is not a variant's name"),
        ("parallel[hidden=4", "'parallel[hidden=4' is not a variant's name"),
        ("parallel[[a=1]]", "'parallel[[a=1]]' is not a variant's name"),
        ("parallel+bf16[hidden=4]", "is not a variant's name"),
        ("parallel bf16", "'parallel bf16' is not a variant's name"),
        ("parallel[hidden]", "'parallel[hidden]' has the option 'hidden': expected key=value"),
        ("parallel[hidden=]", "has the option 'hidden=': expected key=value"),
        ("parallel[a=1,,b=2]", "has the option '': expected key=value"),
        ("parallel[a=1,a=2]", "'parallel[a=1,a=2]' gives the option 'a' twice"),
        ("parallel-image_attention-image_attention", "gives the removed part 'image_attention' twice"),
        ("parallel+bf16+bf16", "gives the transform 'bf16' twice"),
    ],
)
def test_a_mistake_is_quoted_and_a_way_out_shown(name: str, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the message is compared below, literally
        parse(name)
    assert message in str(error.value)
