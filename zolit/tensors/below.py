"""The coordinates of a weight whose size is below a bound, chosen anew whenever it has moved."""

from dataclasses import dataclass

import torch
from torch import Tensor

from zolit.formats.base import StoredWeight
from zolit.formats.rows import chunks
from zolit.noise import WORD
from zolit.supports import Bits

_CHUNK_ELEMENTS = 1 << 20
"""Elements that are decoded at once."""


@dataclass(frozen=True, eq=False)
class Below(Bits):
    """The elements of at most a given size (Sparse-MeZO, arXiv 2402.15751, `GetMask`).

    The bound stays, and the elements are compared with it again after each move (`follow`). One
    that has grown beyond the bound rests, and since nothing moves it then, it rests for good. The
    choice follows from the weights alone, so a replay or a checkpoint needs no more than these.

    Attributes:
        bound: largest size of an element that moves, in weights.

    Example:
        >>> from zolit.formats.dense import DenseWeight
        >>> store = DenseWeight(torch.tensor([[0.5, -2.0, -0.1]]))
        >>> support = Below.of_weight(store, bound=0.5)
        >>> support.chosen()
        tensor([[ True, False,  True]])
        >>> _ = store.weight.add_(0.2)
        >>> support.follow(store)
        True
        >>> support.chosen()
        tensor([[False, False,  True]])
    """

    bound: float = float("inf")

    @classmethod
    def of_weight(cls, store: StoredWeight, bound: float) -> "Below":
        """The support of the elements that a weight has now.

        Args:
            store: the weight.
            bound: see `Below`.
        """
        words = -(-store.columns // WORD)
        packed = torch.empty(store.rows, words, dtype=torch.int32, device=store.device)
        made = cls(packed, store.columns, bound=bound)
        made.follow(store)
        return made

    def follow(self, store: StoredWeight) -> bool:
        if self.packed.is_meta:
            return True
        for rows in chunks(store.rows, max(1, _CHUNK_ELEMENTS // store.columns)):
            # By the reference kernel: the choice must not depend on how kernels run.
            size = store.in_stored_order(store.decoded(rows)).abs()
            self.packed[rows] = Bits.of(size <= self.bound).packed
        return True

    @property
    def identity(self) -> Tensor:
        return torch.tensor([self.bound], dtype=torch.float64)

    def on(self, device: torch.device) -> "Below":
        if self.packed.device == device:
            return self
        return Below(self.packed.to(device), self.columns, self.expected, self.bound)
