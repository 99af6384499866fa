"""Floating-point weights, in the memory of the model they belong to."""

from typing import ClassVar

import torch
from torch import Tensor

from zolit.formats.elements import ElementWeight
from zolit.formats.layout import is_padded, to_blocks
from zolit.formats.rows import Rows, row_indices
from zolit.kernels.accumulate import whole_step
from zolit.kernels.arguments import Perturbation, Stored, Update
from zolit.kernels.dispatch import Preference, kernel
from zolit.kernels.read import write_versions
from zolit.kernels.rounding import integer_draw, round_to_bfloat16, with_residual


@kernel
def read_dense(stored: Stored, outs: list[Tensor], noise: Perturbation | None = None) -> None:
    """``outs = weight +- amplitude[1] * z``.

    Args:
        stored: its codes are the floats, ``[R, 1, W, 32]`` float32, bfloat16 or float16.
        outs: one or two ``[R, 1, W, 32]`` tensors.
        noise: the direction, None to read without.
    """
    write_versions(stored.codes.float(), stored, outs, noise)


@kernel
def move_dense(stored: Stored, update: Update) -> None:
    """``weight += step * unit[1] + decay * residual``, in place.

    A step of a zeroth-order method is often far smaller than the spacing of bfloat16 numbers, and
    would be lost by rounding to nearest. So bfloat16 is rounded stochastically: a random 16-bit
    integer is added below its last bit, and the rounded weight is right on average. With a
    residual rounding is to nearest, since the residual keeps what a step loses.

    Args:
        stored: its codes are the floats, ``[R, 1, W, 32]`` float32 or bfloat16.
        update: the step and the residual in the same shape.
    """
    weight = stored.codes
    target = weight.float() + whole_step(update, weight, stored.rows) * update.unit[1]
    target = moved = with_residual(target, update)
    if weight.dtype == torch.bfloat16:
        moved = round_to_bfloat16(target, integer_draw(update, stored.rows, weight, 16))
    if update.residual is not None:
        update.residual.copy_((target - moved).to(update.residual.dtype))
    weight.copy_(moved.to(weight.dtype))


class DenseWeight(ElementWeight):
    """A ``[rows, columns]`` matrix of float32 or bfloat16; a vector is a matrix of one row.

    Attributes:
        weight: the matrix.

    Example:
        >>> DenseWeight(torch.tensor([[1.0, -2.0, 0.5]])).floats()
        tensor([[ 1.0000, -2.0000,  0.5000]])
    """

    quantized: ClassVar[bool] = False
    read_kernel = read_dense
    move_kernel = move_dense

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.rows, self.columns = weight.shape

    @property
    def device(self) -> torch.device:
        return self.weight.device

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight}

    def floats(self) -> Tensor:
        return self.weight

    def replace(self, tensors: dict[str, Tensor]) -> "DenseWeight":
        return DenseWeight(tensors["weight"])

    def stored(self, rows: Rows) -> Stored:
        blocks = to_blocks(self.weight[rows])
        return Stored(blocks, None, None, row_indices(rows, self.device))

    def read(
        self,
        rows: Rows,
        outs: list[Tensor],
        perturbation: Perturbation | None,
        preference: Preference,
    ) -> None:
        if perturbation is None:  # a copy, so that no kernel is compiled for each dtype of models
            for out in outs:
                to_blocks(out).copy_(to_blocks(self.weight[rows]))
        else:
            super().read(rows, outs, perturbation, preference)

    def write_back(self, rows: slice, stored: Stored) -> None:
        part = self.weight[rows]
        if is_padded(part):
            part.copy_(stored.codes.flatten(1)[:, : self.columns])
