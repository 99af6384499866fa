"""Activations as int8 codes, and products of integers scaled, against numpy."""

import numpy as np
import pytest
import torch

from zolit.kernels.activations import quantize_rows, scale_product
from zolit.kernels.dispatch import Preference


@pytest.mark.parametrize("kernels", ["reference", "compiled"])
def test_int8_activations(kernels: Preference) -> None:
    x = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    x[2] = 0.0
    codes, scale = torch.empty(6, 40, dtype=torch.int8), torch.empty(6, 1)
    quantize_rows(x, codes, scale, preference=kernels)
    size = np.maximum(np.abs(x.double().numpy()).max(1, keepdims=True) / 127, 1e-12)
    np.testing.assert_allclose(scale.double().numpy(), size, rtol=1e-6)
    assert np.abs(codes.numpy() - x.double().numpy() / size).max() <= 0.5 + 1e-4
    assert codes[2].abs().max() == 0
    product = torch.arange(-12, 12, dtype=torch.int32).view(6, 4)
    out = torch.empty(6, 4)
    column = torch.tensor([0.5, 1.0, 2.0, 3.0])
    scale_product(product, scale, column, out, preference=kernels)
    np.testing.assert_allclose(
        out.double().numpy(), product.numpy() * scale.double().numpy() * column.numpy(), rtol=1e-6
    )
