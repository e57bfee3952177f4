"""tanh through float32, held against float64."""

import pytest
import torch

from variants.elementwise import tanh_of_own


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(0,), (3, 1), (5, 7, 11), (3, 70_000)], ids=str)
def test_it_rounds_once(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0)).mul(3).to(dtype)
    exact = features.double().tanh()
    found = tanh_of_own(features.clone())
    assert found.dtype == dtype
    torch.testing.assert_close(found, exact.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_its_gradient_is_that_of_tanh(dtype: torch.dtype) -> None:
    features = torch.randn(4, 9, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    pull = torch.randn(4, 9, generator=torch.Generator().manual_seed(2)).to(dtype)
    (found,) = torch.autograd.grad(tanh_of_own(features * 2), features, pull)
    slope = 2 * pull.double() * (1 - (features.detach().double() * 2).tanh().square())
    torch.testing.assert_close(found.double(), slope, rtol=0, atol=8 * torch.finfo(dtype).eps)


def test_views_keep_their_order() -> None:
    features = torch.randn(6, 4).bfloat16()
    torch.testing.assert_close(tanh_of_own(features.mT), features.mT.double().tanh().bfloat16())
