"""Quantizes one weight of each kind for an estimate, as the others need the same."""

import re
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from zolit.formats.base import StoredWeight
from zolit.memory.tracker import LiveBytes


class OneOfAKind:
    """Stores one weight of each kind; the other weights of that kind get its shapes.

    Weights are of one kind if they have the same name without the layer's number, the same shape
    and dtype, and whatever else is asked for. This saves time: quantization runs many operations,
    chunk by chunk of rows, also on the meta device.

    Attributes:
        passing: most bytes that one weight needs while it is quantized, besides the result: the
            weight as floats, and the temporaries of the quantizer.

    Example:
        >>> from zolit.formats.dense import DenseWeight
        >>> kinds, weight = OneOfAKind(), torch.ones(2, 32, device="meta")
        >>> first = kinds.store("layers.0.up", weight, lambda: DenseWeight(weight))
        >>> kinds.store("layers.1.up", weight, lambda: DenseWeight(weight)).rows
        2
    """

    def __init__(self) -> None:
        self.passing = 0
        self._first: dict[Hashable, StoredWeight] = {}

    def store(
        self, path: str, weight: Tensor, make: Callable[[], StoredWeight], *also: Hashable
    ) -> StoredWeight:
        """A weight of the right shapes, on the meta device.

        Args:
            path: name of the weight in the model.
            weight: as floats.
            make: stores it; called for the first of its kind.
            also: what else weights of one kind have in common.
        """
        kind = (re.sub(r"\d+", "", path), weight.shape, weight.dtype, *also)
        if kind not in self._first:
            self._first[kind] = self.measured(weight, make)
        first = self._first[kind]
        meta = {n: torch.empty_like(t, device="meta") for n, t in first.tensors().items()}
        store = first.replace(meta)
        store.error = None if first.error is None else torch.empty_like(first.error)
        return store

    def measured(self, weight: Tensor, make: Callable[[], StoredWeight]) -> StoredWeight:
        """What ``make`` makes of a weight; counts what that needs."""
        with LiveBytes() as made:
            store = make()
        self.passing = max(self.passing, made.peak - made.live + weight.nbytes)
        return store
