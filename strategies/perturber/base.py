"""Which stored coordinates move, and along which direction."""

import math
from abc import ABC, abstractmethod

from zolit.errors import UserError
from zolit.noise import Direction
from zolit.strategies.quantizer.base import Quantizer
from zolit.tensors.reading import Site
from zolit.tensors.store import StoredWeight


class Perturber(ABC):
    """Names the coordinates of a model that move, their unit and the distribution of directions.

    Args:
        eps: step along a direction of a perturbed read, in units of the coordinate.
        float_unit: unit of tuned weights that stay floating point (norms, biases, embeddings,
            by `tune`): they move by ``eps * float_unit * z`` where others move by ``eps * z``.

    Raises:
        UserError: if ``eps`` or ``float_unit`` is not a positive finite number.
    """

    def __init__(self, eps: float, float_unit: float = 1.0) -> None:
        for name, value in (("eps", eps), ("float_unit", float_unit)):
            if not (math.isfinite(value) and value > 0):
                raise UserError(f"{name} must be a positive number, got {value}; try 1e-3")
        self.eps = eps
        self.float_unit = float_unit

    @abstractmethod
    def direction(self) -> Direction:
        """Distribution of the directions."""

    @abstractmethod
    def check(self, quantizer: Quantizer) -> None:
        """Refuse a quantizer whose weights have no such coordinates.

        Raises:
            UserError: naming both parts and what to use instead.
        """

    def site(self, index: int, store: StoredWeight) -> Site:
        """Place and coordinates of one weight."""
        if not store.quantized:
            return Site(index, "elements", (0.0, self.float_unit))
        return self.quantized_site(index, store)

    @abstractmethod
    def quantized_site(self, index: int, store: StoredWeight) -> Site:
        """Place and coordinates of a weight stored as codes."""
