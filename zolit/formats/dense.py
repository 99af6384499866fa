"""Floating-point weights, shared with the model they belong to."""

from typing import ClassVar

import torch
from torch import Tensor

from zolit.formats.base import Rows, StoredWeight, by_row, is_padded, row_indices, to_blocks
from zolit.kernels.accumulate import Query, query_arguments
from zolit.kernels.apply_dense import apply_dense
from zolit.kernels.dispatch import Preference
from zolit.kernels.read import Perturbation, noise_arguments
from zolit.kernels.read_dense import read_dense


class DenseWeight(StoredWeight):
    """A ``[rows, columns]`` matrix of float32 or bfloat16; a vector is a matrix of one row."""

    quantized: ClassVar[bool] = False

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.rows, self.columns = weight.shape

    @property
    def device(self) -> torch.device:
        return self.weight.device

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight}

    def replace(self, tensors: dict[str, Tensor]) -> "DenseWeight":
        return DenseWeight(tensors["weight"])

    def read(
        self,
        rows: Rows,
        outs: list[Tensor],
        perturbation: Perturbation | None,
        preference: Preference,
    ) -> None:
        blocks = to_blocks(self.weight[rows])
        targets = [to_blocks(out) for out in outs]
        if perturbation is None:
            targets[0].copy_(blocks)
            return
        read_dense(
            blocks,
            row_indices(rows, self.device),
            targets,
            *noise_arguments(perturbation),
            preference=preference,
        )

    def apply(
        self,
        rows: slice,
        step: Tensor | None,
        unit: Tensor,
        rounding: Tensor,
        preference: Preference,
        residual: Tensor | None = None,
        decay: Tensor | None = None,
        query: Query | None = None,
    ) -> None:
        part = self.weight[rows]
        blocks = to_blocks(part)
        apply_dense(
            blocks,
            None if step is None else to_blocks(step),
            by_row(unit, blocks),
            row_indices(rows, self.device),
            rounding,
            None if residual is None else to_blocks(residual),
            decay,
            *query_arguments(query),
            preference=preference,
        )
        if is_padded(part):
            part.copy_(blocks.flatten(1)[:, : self.columns])
