"""Stored weights of every format, with their value computed apart in float64."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy_noise import control_words

from zolit.formats.base import StoredWeight
from zolit.formats.dense import DenseWeight
from zolit.formats.float8 import Float8Weight
from zolit.formats.int4 import Int4Weight
from zolit.formats.int8 import Int8Weight
from zolit.kernels.arguments import Perturbation
from zolit.noise import Direction
from zolit.supports import ALL, Hashed, Support

KEY, SITE = (1 << 63) + 12345, 2


class Drawn(NamedTuple):
    """A distribution, and the coordinates that directions of it move."""

    direction: Direction
    support: Support = ALL


DIRECTIONS = {
    "rademacher": Drawn(Direction("rademacher")),
    "gaussian": Drawn(Direction("gaussian")),
    "bits2": Drawn(Direction("gaussian", 2)),
    "bits4": Drawn(Direction("gaussian", 4)),
    "bits8": Drawn(Direction("gaussian", 8)),
    "sparse_rademacher": Drawn(Direction("rademacher"), Hashed(0.2, 6)),
    "sparse_gaussian": Drawn(Direction("gaussian"), Hashed(0.2, 6)),
}

SHAPES = [(1, 32), (5, 64), (3, 50), (1, 7), (70, 128)]
"""One row, words, odd columns, a vector, and more rows than a chunk of `CHUNK`."""

CHUNK = 32


@dataclass
class Case:
    """A store and its numbers, ``[rows, columns]`` float64: ``value = number * scale + zero``."""

    store: StoredWeight
    number: np.ndarray
    scale: np.ndarray
    zero: np.ndarray

    @property
    def value(self) -> np.ndarray:
        return self.number * self.scale + self.zero


def _spread(part: torch.Tensor, columns: int) -> np.ndarray:
    return np.repeat(part.numpy().astype(np.float64), columns // part.shape[1], axis=1)


def _floats(rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(rows, columns, generator=generator)


def dense(dtype: torch.dtype) -> Callable[[int, int], Case]:
    def make(rows: int, columns: int) -> Case:
        weight = _floats(rows, columns, torch.Generator().manual_seed(1)).to(dtype)
        ones = np.ones((rows, columns))
        return Case(DenseWeight(weight), weight.double().numpy(), ones, 0 * ones)

    return make


def int8(groups: int) -> Callable[[int, int], Case]:
    def make(rows: int, columns: int) -> Case:
        generator = torch.Generator().manual_seed(2)
        codes = torch.randint(-128, 128, (rows, columns), generator=generator).to(torch.int8)
        scale = 0.01 + torch.rand(rows, groups, generator=generator)
        wide = _spread(scale, columns)
        numbers = codes.numpy().astype(np.float64)
        return Case(Int8Weight(codes, scale), numbers, wide, 0 * wide)

    return make


def float8(rows: int, columns: int) -> Case:
    generator = torch.Generator().manual_seed(3)
    codes = (8 * _floats(rows, columns, generator)).to(torch.float8_e4m3fn)
    codes[0, 0] = 2.0**-9
    scale = 0.01 + torch.rand(rows, 1, generator=generator)
    wide = _spread(scale, columns)
    return Case(Float8Weight(codes, scale), codes.double().numpy(), wide, 0 * wide)


def int4(groups: int, symmetric: bool = False) -> Callable[[int, int], Case]:
    def make(rows: int, columns: int) -> Case:
        generator = torch.Generator().manual_seed(4)
        codes = torch.randint(-8, 8, (rows, columns), generator=generator)
        nibble = (codes & 0xF).to(torch.uint8)
        word = nibble.view(rows, -1, 2, 16)
        packed = (word[:, :, 0] | (word[:, :, 1] << 4)).flatten(1).view(torch.int8)
        scale = 0.01 + torch.rand(rows, groups, generator=generator)
        zero = torch.randn(rows, groups, generator=generator)
        return Case(
            Int4Weight(packed, scale, None if symmetric else zero),
            codes.numpy().astype(np.float64),
            _spread(scale, columns),
            _spread(0 * zero if symmetric else zero, columns),
        )

    return make


FORMATS: dict[str, Callable[[int, int], Case]] = {
    "float32": dense(torch.float32),
    "bfloat16": dense(torch.bfloat16),
    "int8_row": int8(1),
    "int8_group": int8(2),
    "float8": float8,
    "int4_row": int4(1),
    "int4_group": int4(2),
    "int4_symmetric": int4(1, symmetric=True),
}


def fits(form: str, columns: int) -> bool:
    """Whether a format holds rows of so many columns."""
    groups = 2 if "group" in form else 1
    return columns % (32 * groups) == 0 if "int4" in form or groups > 1 else True


CASES = [(form, shape) for form in FORMATS for shape in SHAPES if fits(form, shape[1])]


def perturbation(drawn: Drawn, amplitude: tuple[float, float]) -> Perturbation:
    words = [*control_words(KEY, SITE), *(drawn.support.words(SITE) or ())]
    control = torch.tensor(words, dtype=torch.int32)
    return Perturbation(drawn.direction, control, torch.tensor(amplitude))
