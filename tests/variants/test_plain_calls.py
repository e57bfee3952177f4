"""A call that stands for others (traced, mapped, differentiated forwards) takes no liberty that a plain one takes."""

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.variants.ragged import ragged
from variants import Attended, Batch, CoAttention, build
from variants.masking import blank

# the trace itself, and what torch scripts for its own forward derivatives
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.* is deprecated:DeprecationWarning")

SMALL = [
    "pool",
    "parallel",
    "parallel[bias=true]",
    "alternating",
    "cross",
    "hierarchical",
    "dense[heads=2,layers=1]",
    "modular[heads=2,layers=1]",
    "bidirectional[heads=2]",
    "bilinear",
    "transformer[heads=2,layers=1]",
    "flow",
    "dynamic",
    "queries[count=2,heads=2,layers=1]",
    "bags",
]
# torch has no rule that batches its LSTM
BATCHED = [name for name in SMALL if name != "hierarchical"]


class Taken(nn.Module):
    """The mechanism as tracers want it, with tensors for arguments."""

    def __init__(self, module: CoAttention) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Tensor, question: Tensor, image_valid: Tensor, question_valid: Tensor) -> Attended:
        attended: Attended = self.module(Batch(image, question, image_valid, question_valid))
        return attended


def mechanism(name: str) -> CoAttention:
    return build(name, width=6, seed=1).module.double().eval()


def full(batch: Batch) -> Batch:
    return batch._replace(
        image_valid=torch.ones_like(batch.image_valid), question_valid=torch.ones_like(batch.question_valid)
    )


# a feature width turned into a number is no concern: the weights fix it
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Converting a tensor to a Python:torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.*max:torch.jit.TracerWarning")
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_a_trace_of_two_full_examples_serves_a_ragged_batch(name: str, dtype: torch.dtype) -> None:
    module, batch = mechanism(name).to(dtype), ragged(6, 6, dtype=dtype)
    two = Batch(*(tensor[:2] for tensor in full(batch)))
    with torch.no_grad():
        traced = torch.jit.trace(Taken(module), tuple(two), check_trace=False)
        tolerance = 1e-6 if dtype == torch.float64 else 0.05  # a trace keeps Python's numbers in float32
        torch.testing.assert_close(tuple(traced(*batch)), tuple(module(batch)), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("rows", ["ragged", "full"])
@pytest.mark.parametrize("name", BATCHED)
def test_vmap_over_examples_is_the_batch(name: str, rows: str) -> None:
    module = mechanism(name)
    batch = ragged(6, 6) if rows == "ragged" else full(ragged(6, 6))
    with torch.no_grad():
        found = torch.vmap(lambda *one: module(Batch(*(part.unsqueeze(0) for part in one))))(*batch)
        torch.testing.assert_close(tuple(part.squeeze(1) for part in found), tuple(module(batch)))


@pytest.mark.parametrize("name", BATCHED)
def test_vmap_over_questions_for_one_image(name: str) -> None:
    module, batch = mechanism(name), full(ragged(6, 6))
    image, image_valid = batch.image[:1], batch.image_valid[:1]

    def about(question: Tensor, question_valid: Tensor) -> Attended:
        attended: Attended = module(Batch(image, question.unsqueeze(0), image_valid, question_valid.unsqueeze(0)))
        return attended

    with torch.no_grad():
        found = torch.vmap(about)(batch.question, batch.question_valid)
        repeated = batch._replace(image=image.expand(8, -1, -1), image_valid=image_valid.expand(8, -1))
        torch.testing.assert_close(tuple(part.squeeze(1) for part in found), tuple(module(repeated)))


@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
@pytest.mark.parametrize("rows", ["ragged", "full"])
@pytest.mark.parametrize("name", SMALL)
def test_the_forward_derivative_is_the_slope(name: str, rows: str, grad: bool) -> None:
    module = mechanism(name)
    batch = ragged(6, 6) if rows == "ragged" else full(ragged(6, 6))
    direction = torch.randn(batch.image.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def attended(image: Tensor) -> Tensor:
        found: Attended = module(batch._replace(image=image))
        return torch.cat([part.flatten() for part in found])

    step = 1e-6
    with torch.set_grad_enabled(grad):
        _, slope = torch.func.jvp(attended, (batch.image,), (direction,))
        difference = attended(batch.image + step * direction) - attended(batch.image - step * direction)
    torch.testing.assert_close(slope, difference / (2 * step), rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_shapes_can_be_asked_for_without_data(name: str) -> None:
    module, batch = mechanism(name), ragged(6, 6)
    expected = module(batch)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        found = module(Batch(*(mode.from_tensor(tensor) for tensor in batch)))
    assert [part.shape for part in found] == [part.shape for part in expected]


def test_a_plain_call_does_not_copy_full_rows() -> None:
    batch = full(ragged(6, 6))
    assert blank(batch.image, batch.image_valid) is batch.image
