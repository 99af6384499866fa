"""A weight whose columns are stored in another order than the model has (act-order of GPTQ)."""

import torch
from torch import Tensor

from zolit.formats.base import StoredWeight
from zolit.formats.rows import Rows
from zolit.formats.wrapped import WrappedWeight
from zolit.kernels.arguments import Perturbation, Update
from zolit.kernels.dispatch import Preference


class PermutedWeight(WrappedWeight):
    """Another weight whose stored column j is column ``permutation[j]`` of the model's matrix.

    A product permutes the activations, not the weight. The coordinates of a direction are numbered
    by the stored columns.

    Args:
        inner: the weight, with its columns as they are stored.
        permutation: ``[columns]`` int64.

    Example:
        >>> from zolit.formats.dense import DenseWeight
        >>> stored = DenseWeight(torch.tensor([[1.0, 2.0, 3.0]]))
        >>> PermutedWeight(stored, torch.tensor([2, 0, 1])).decoded(slice(0, 1))
        tensor([[2., 3., 1.]])
    """

    def __init__(self, inner: StoredWeight, permutation: Tensor) -> None:
        super().__init__(inner)
        self.permutation = permutation

    def tensors(self) -> dict[str, Tensor]:
        return {**self.inner.tensors(), "permutation": self.permutation}

    def replace(self, tensors: dict[str, Tensor]) -> "PermutedWeight":
        return PermutedWeight(self.inner.replace(tensors), tensors["permutation"])

    def read(
        self,
        rows: Rows,
        outs: list[Tensor],
        perturbation: Perturbation | None,
        preference: Preference,
    ) -> None:
        self.inner.read(rows, outs, perturbation, preference)

    def apply(self, rows: slice, update: Update, preference: Preference) -> None:
        self.inner.apply(rows, update, preference)

    def activations(self, x: Tensor) -> Tensor:
        return self.inner.activations(x[..., self.permutation])

    def in_model_order(self, decoded: Tensor) -> Tensor:
        ordered = self.inner.in_model_order(decoded)
        return torch.empty_like(ordered).index_copy_(1, self.permutation, ordered)

    def in_stored_order(self, values: Tensor) -> Tensor:
        return self.inner.in_stored_order(values[:, self.permutation])
