"""The decoded elements of a weight along a direction: one version of them, or two."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.formats.rows import Rows
from zolit.kernels.arguments import Perturbation
from zolit.kernels.dispatch import Preference


class Versions(ABC):
    """The versions of its elements that a weight reads as: along a direction, or as stored.

    Attributes:
        copies: number of versions: 1, or 2 for plus and minus.
        as_stored: whether the stored weight is the only version.
    """

    copies: int = 1
    as_stored: bool = False

    @abstractmethod
    def read(
        self, store: StoredWeight, rows: Rows, outs: list[Tensor], preference: Preference
    ) -> None:
        """Decode some rows of each version.

        Args:
            store: the weight.
            rows: which rows.
            outs: one ``[R, padded_columns]`` float tensor for each version, written.
            preference: kernel choice.
        """

    @property
    def noise(self) -> Perturbation | None:
        """The direction on the codes, for products of integers; None for the stored codes.

        Raises:
            UserError: if the versions differ by something else than a direction on the codes.
        """
        raise UserError(
            f"activations: int8 multiplies by codes that a direction may move one by one, got "
            f"{type(self).__name__}; use a quantizer with activations: none, or CodePerturber"
        )


class AsStored(Versions):
    """The weight itself."""

    as_stored = True

    def read(
        self, store: StoredWeight, rows: Rows, outs: list[Tensor], preference: Preference
    ) -> None:
        store.read(rows, outs, None, preference)

    @property
    def noise(self) -> Perturbation | None:
        return None


AS_STORED = AsStored()
"""The versions of every weight whose elements are not perturbed."""


class Perturbed(Versions):
    """Each element plus or minus its coordinate of a direction, made inside the read kernel.

    Args:
        copies: 2 for plus and minus, 1 for plus alone.
        perturbation: the direction.
    """

    def __init__(self, copies: int, perturbation: Perturbation) -> None:
        self.copies, self._perturbation = copies, perturbation

    def read(
        self, store: StoredWeight, rows: Rows, outs: list[Tensor], preference: Preference
    ) -> None:
        store.read(rows, outs, self._perturbation, preference)

    @property
    def noise(self) -> Perturbation | None:
        return self._perturbation


class Rescaled(Versions):
    """The stored codes with other scales in each version.

    Args:
        factors: for each version the factor of each scale, ``[rows, groups]`` float32.
        store: the weight.
    """

    def __init__(self, factors: list[Tensor], store: StoredWeight) -> None:
        self.copies = len(factors)
        self._stores = [store.with_scales(factor) for factor in factors]

    def read(
        self, store: StoredWeight, rows: Rows, outs: list[Tensor], preference: Preference
    ) -> None:
        for one, out in zip(self._stores, outs, strict=True):
            one.read(rows, [out], None, preference)


class Stretched(Versions):
    """``anchor + ratio * (weight - anchor)`` with another ratio in each version (DiZO).

    Args:
        anchor: the weight as it was, in the same format.
        ratios: of each version.
    """

    def __init__(self, anchor: StoredWeight, ratios: Sequence[float]) -> None:
        self.copies, self._anchor, self._ratios = len(ratios), anchor, ratios

    def read(
        self, store: StoredWeight, rows: Rows, outs: list[Tensor], preference: Preference
    ) -> None:
        start, moved = moved_since(self._anchor, store, rows, outs[0].shape, preference)
        for ratio, out in zip(self._ratios, outs, strict=True):
            out.copy_(torch.add(start, moved, alpha=ratio))


def moved_since(
    anchor: StoredWeight,
    store: StoredWeight,
    rows: Rows,
    shape: torch.Size,
    preference: Preference,
) -> tuple[Tensor, Tensor]:
    """Some rows of a weight as it was, and how far they have moved since, both decoded.

    Args:
        anchor: the weight as it was.
        store: the weight.
        rows: which rows.
        shape: ``[R, padded_columns]``, of the result.
        preference: kernel choice.

    Returns:
        Two tensors of this shape, float32.
    """
    start, now = (torch.empty(shape, device=store.device) for _ in range(2))
    anchor.read(rows, [start], None, preference)
    store.read(rows, [now], None, preference)
    return start, now.sub_(start)
