"""One small weight, its directions by numpy, and an estimate along them."""

import numpy as np
import numpy_noise
import torch
from torch import nn

from zolit.coordinates import Coordinates, Elements, Site
from zolit.gradient import ProjectedGradient
from zolit.noise import Direction, signed
from zolit.strategies import Quantizer
from zolit.tensors.reading import Reading
from zolit.tensors.weight import PerturbedWeight

ROWS, COLUMNS = 5, 64


def parameter(
    quantizer: Quantizer,
    coordinates: Coordinates | None = None,
    dtype: torch.dtype = torch.float32,
    direction: Direction | None = None,
) -> nn.Parameter:
    value = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0)).to(dtype)
    store = quantizer.store(value, "w")
    reading = Reading(direction or Direction(), "reference")
    site = Site(2, coordinates or Elements((1.0, 0.0) if store.quantized else (0.0, 1.0)))
    weight = PerturbedWeight(store, site, reading, "w", value.shape, dtype)
    return nn.Parameter(weight, requires_grad=False)


def gradient(values: list[float], rounding_key: int = 4, first: int = 0) -> ProjectedGradient:
    """An estimate along directions ``first``, ``first + 1`` and so on."""
    keys = [signed(((1 << 63) + 7 * (first + i)) & ((1 << 64) - 1)) for i in range(len(values))]
    return ProjectedGradient(
        torch.tensor(keys, dtype=torch.int64), torch.tensor(values), rounding_key
    )


def directions(count: int, distribution: str = "gaussian") -> np.ndarray:
    """The first directions, ``[count, ROWS, COLUMNS]``."""
    keys = [(1 << 63) + 7 * i for i in range(count)]
    made = [numpy_noise.direction(ROWS, COLUMNS, k, 2, distribution=distribution) for k in keys]
    return np.stack(made).astype(np.float64)
