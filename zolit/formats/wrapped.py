"""A weight around another one, for formats that add something to any format."""

import torch
from torch import Tensor

from zolit.formats.base import StoredWeight


class WrappedWeight(StoredWeight):
    """A weight that stores another weight, and something beside it.

    Where a subclass says nothing else, it answers as the inner weight does.

    Args:
        inner: the other weight.
    """

    def __init__(self, inner: StoredWeight) -> None:
        self.inner = inner
        self.rows, self.columns, self.levels = inner.rows, inner.columns, inner.levels

    @property
    def device(self) -> torch.device:
        return self.inner.device

    @property
    def format_name(self) -> str:
        return f"{type(self).__name__} of {self.inner.format_name}"

    @property
    def title(self) -> str:
        return f"{type(self).__name__} of {self.inner.title}"

    def scales(self) -> dict[str, Tensor]:
        return self.inner.scales()

    def keep_views(self) -> None:
        self.inner.keep_views()

    def activations(self, x: Tensor) -> Tensor:
        return self.inner.activations(x)

    def in_model_order(self, decoded: Tensor) -> Tensor:
        return self.inner.in_model_order(decoded)

    def in_stored_order(self, values: Tensor) -> Tensor:
        return self.inner.in_stored_order(values)
