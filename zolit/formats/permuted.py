"""A weight whose columns are stored in another order than the model's (GPTQ's act-order)."""

import torch
from torch import Tensor

from zolit.formats.base import Rows, StoredWeight
from zolit.kernels.arguments import Perturbation, Update
from zolit.kernels.dispatch import Preference


class PermutedWeight(StoredWeight):
    """Another weight, of which stored column j is the model's column ``permutation[j]``.

    A product permutes its activations instead of the weight. Coordinates of a direction count
    stored columns.

    Attributes:
        inner: the weight in its stored order.
        permutation: ``[columns]`` int64.
    """

    def __init__(self, inner: StoredWeight, permutation: Tensor) -> None:
        self.inner, self.permutation = inner, permutation
        self.rows, self.columns = inner.rows, inner.columns
        self.levels = inner.levels

    @property
    def device(self) -> torch.device:
        return self.inner.device

    @property
    def format_name(self) -> str:
        return f"PermutedWeight of {self.inner.format_name}"

    @property
    def title(self) -> str:
        return f"PermutedWeight of {self.inner.title}"

    def tensors(self) -> dict[str, Tensor]:
        return {**self.inner.tensors(), "permutation": self.permutation}

    def scales(self) -> dict[str, Tensor]:
        return self.inner.scales()

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

    def read_copies(self, rows: Rows, outs: list[Tensor], preference: Preference) -> None:
        self.inner.read_copies(rows, outs, preference)

    def apply(self, rows: slice, update: Update, preference: Preference) -> None:
        self.inner.apply(rows, update, preference)

    def activations(self, x: Tensor) -> Tensor:
        return self.inner.activations(x[..., self.permutation])

    def in_model_order(self, decoded: Tensor) -> Tensor:
        ordered = self.inner.in_model_order(decoded)
        return torch.empty_like(ordered).index_copy_(1, self.permutation, ordered)

    def in_stored_order(self, values: Tensor) -> Tensor:
        return self.inner.in_stored_order(values[:, self.permutation])
