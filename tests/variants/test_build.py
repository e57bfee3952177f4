"""From a name to a variant: canonical spelling, errors, the registry, seeded weights."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from tests.variants.ragged import ragged
from variants import Attended, Batch, CoAttention, Skip, build, canonical, mechanisms, register
from variants import registry as registered
from variants.build import blueprint
from variants.parallel import Parallel
from variants.transforms import AXES, TRANSFORMS

OURS = ("pool", "parallel", "alternating", "cross", "hierarchical", "hierarchical[inner=alternating]")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A registry that forgets what a test added."""
    monkeypatch.setattr(registered, "_MECHANISMS", mechanisms())
    yield
    sys.modules.pop("gated", None)


@pytest.mark.parametrize(
    ("written", "spelling"),
    [
        ("parallel", "parallel"),
        ("parallel[]", "parallel"),
        ("parallel[bias=false,affinity=tanh]", "parallel"),
        ("parallel[hidden=none]", "parallel"),
        ("parallel[hidden=064]", "parallel[hidden=64]"),
        ("parallel[hidden=8,bias=true]", "parallel[bias=true,hidden=8]"),
        ("parallel+compile+bf16", "parallel+bf16+compile"),
        ("parallel+cudagraph+compile+amp_fp16", "parallel+amp_fp16+compile+cudagraph"),
        ("parallel+bf16-question_attention-image_attention", "parallel-image_attention-question_attention+bf16"),
        ("hierarchical[inner=parallel]", "hierarchical"),
        ("hierarchical-image_attention-word_level", "hierarchical-word_level-image_attention"),
    ],
)
def test_a_variant_has_one_spelling(written: str, spelling: str) -> None:
    assert str(canonical(written)) == spelling
    assert str(canonical(spelling)) == spelling


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("paralel", "'paralel' asks for 'paralel', which is no mechanism: did you mean 'parallel'? known are "),
        ("parallel[hiden=4]", "sets 'hiden', which is no option of parallel: did you mean 'hidden'? known are hidden,"),
        ("pool[hidden=4]", "which is no option of pool: known are none"),
        ("parallel[hidden=many]", "'parallel[hidden=many]' sets hidden=many: expected a whole number, none"),
        ("parallel[hidden=-4]", "sets hidden=-4: expected a whole number, none"),
        ("parallel[hidden=1.5]", "sets hidden=1.5: expected a whole number, none"),
        ("parallel[bias=yes]", "sets bias=yes: expected true or false"),
        ("parallel[affinity=sine]", "sets affinity=sine: expected tanh or linear"),
        ("parallel-phrase", "removes 'phrase', which is no part of parallel: known are image_attention,"),
        ("pool-image_attention", "which is no part of pool: known are none"),
        ("parallel+compiled", "asks for 'compiled', which is no transform: did you mean 'compile'? known are "),
        ("parallel+bf16+fp16", "'parallel+bf16+fp16' asks for bf16 and fp16, but a variant has one precision"),
        ("parallel+compile+compile_tuned", "compile and compile_tuned, but a variant has one compilation"),
    ],
)
def test_a_mistake_is_quoted_with_what_is_known(name: str, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the message is compared below, literally
        canonical(name)
    assert message in str(error.value)


def test_every_transform_has_an_axis_and_a_line() -> None:
    assert {transform.axis for transform in TRANSFORMS.values()} <= set(AXES)
    assert all(name == transform.name and transform.summary for name, transform in TRANSFORMS.items())


@pytest.mark.parametrize("name", sorted(mechanisms()))
def test_every_mechanism_says_where_it_is_from(name: str) -> None:
    mechanism = mechanisms()[name]
    assert mechanism.source
    assert mechanism.__doc__
    assert bool(mechanism.known_defects) <= (mechanism.origin is not None)


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({}, "build needs width=, or both image_width= and question_width="),
        ({"image_width": 4}, "build needs width=, or both"),
        ({"width": 0}, "image_width is 0: expected at least 1"),
        ({"width": 4, "question_width": -1}, "question_width is -1: expected at least 1"),
    ],
)
def test_widths_that_cannot_be_are_refused(widths: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("parallel", **widths)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("parallel[hidden=0]", "hidden is 0: expected at least 1, or none for the narrower"),
        ("alternating[hidden=0]", "hidden is 0"),
        ("hierarchical[hidden=0]", "hidden is 0"),
        ("cross[hidden=0]", "hidden is 0"),
        ("cross[heads=0]", r"cross\[heads=0\]: expected at least one head"),
        ("cross[heads=3,hidden=4]", "expected hidden to be a multiple of heads"),
        ("hierarchical[layers=0]", "expected at least one layer"),
        ("alternating[weights=shared]", "needs equal widths, but the image has 6 and the question 4"),
    ],
)
def test_options_that_cannot_be_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, image_width=6, question_width=4)


def test_a_captured_variant_on_the_cpu_is_a_skip_with_its_reason() -> None:
    with pytest.raises(Skip, match=r"parallel\+bf16\+cudagraph needs a CUDA device, but the variant is on the cpu"):
        build("parallel+bf16+cudagraph", width=4)


def weights(name: str, seed: int, width: int = 6) -> dict[str, torch.Tensor]:
    return dict(build(name, width=width, seed=seed).module.named_parameters())


@pytest.mark.parametrize("name", OURS)
def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    once, again, other = weights(name, 1), weights(name, 1), weights(name, 2)
    assert all(torch.equal(once[key], again[key]) for key in once)
    assert all(not torch.equal(once[key], other[key]) for key in once)


def test_a_parameter_depends_on_its_own_name_alone() -> None:
    whole, part = weights("hierarchical", 1), weights("hierarchical-phrase_level", 1)
    assert part.keys() < whole.keys()
    assert all(torch.equal(whole[key], part[key]) for key in part)


def test_global_random_state_is_left_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    build("hierarchical", width=4)
    assert torch.equal(torch.rand(1), expected)


def test_precision_casts_the_weights_and_says_so() -> None:
    variant = build("parallel+bf16", width=4)
    assert variant.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in variant.module.parameters()} == {torch.bfloat16}
    automatic = build("parallel+amp_bf16", width=4)
    assert automatic.dtype == torch.float32
    assert {parameter.dtype for parameter in automatic.module.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["parallel", "alternating", "hierarchical", "hierarchical[inner=alternating]"])
def test_seeded_weights_keep_tanh_unsaturated(name: str) -> None:
    module = build(name, width=512).module
    batch = ragged(512, 512, dtype=torch.float32)
    batch = batch._replace(
        image_valid=torch.ones_like(batch.image_valid), question_valid=torch.ones_like(batch.question_valid)
    )
    shares = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = function(*args, **(kwargs or {}))
            if function in (torch.tanh, torch.Tensor.tanh, torch.Tensor.tanh_):
                shares.append((result.abs() > 0.99).double().mean().item())
            return result

    with Watch():
        module(batch)
    assert len(shares) >= 3
    assert max(shares) < 0.05, shares


README = Path(registered.__file__).with_name("README.md")


def examples() -> list[str]:
    """The Python blocks of the README."""
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_readmes_first_example_runs() -> None:
    names: dict[str, object] = {}
    exec(examples()[0], names)
    attended = names["attended"]
    assert isinstance(attended, Attended)
    assert attended.image.shape == (2, 1, 64)


@pytest.mark.usefixtures("registry")
def test_a_users_own_file_registers_a_mechanism(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gated.py").write_text(examples()[1])
    monkeypatch.syspath_prepend(tmp_path)
    __import__("gated")
    assert str(canonical("gated[sharpness=1.0]")) == "gated"
    variant = build("gated[sharpness=2.0]+bf16", image_width=6, question_width=4)
    assert variant.name == "gated[sharpness=2.0]+bf16"
    batch = ragged(6, 4, dtype=variant.dtype)
    attended = variant.call(batch)
    assert attended.image.shape == (8, 1, 6)
    assert (attended.image[5] == 0).all()


@pytest.mark.usefixtures("registry")
def test_a_blueprint_draws_nothing_and_leaves_alone_what_stands_on_a_device_of_its_own() -> None:
    kept: list[torch.Tensor] = []

    @register("drawing")
    class Drawing(Parallel):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            own = torch.Generator().manual_seed(0)
            self.drawn = torch.randn(3, 2, generator=own)
            self.filled = torch.empty(4).normal_(std=2.0)
            kept.extend((torch.randn(5, device="cpu"), torch.zeros(5, device="cpu").normal_(), self.drawn.norm()))

    made = blueprint(canonical("drawing"), image_width=8, question_width=8)
    assert (made.drawn.shape, made.drawn.device.type, made.filled.device.type) == ((3, 2), "meta", "meta")
    real, normal, size = kept
    assert size.shape == ()
    assert size.is_meta
    for drawn in (real, normal):
        assert not drawn.is_meta
        assert drawn.std() > 0.05


@pytest.mark.usefixtures("registry")
def test_a_name_belongs_to_one_class() -> None:
    class Other(CoAttention):
        source = "a test"

        def forward(self, batch: Batch) -> Attended:
            raise NotImplementedError

    with pytest.raises(ValueError, match=r"'parallel' already names variants\.parallel\.Parallel; choose another name"):
        register("parallel")(Other)
    with pytest.raises(ValueError, match=r"'my-own' cannot name a mechanism|is not a variant's name"):
        register("my-own")(Other)
    assert register("other")(Other) is Other
    assert mechanisms()["other"] is Other
