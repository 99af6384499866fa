"""One step of an optimizer, as the weights need it to move."""

from functools import lru_cache

import torch
from torch import Tensor

from zolit.formats.base import own_rows
from zolit.kernels.arguments import Query
from zolit.noise import rounding_table
from zolit.tensors.noise_cache import NoiseCache
from zolit.tensors.reading import Place, Reading


class Step:
    """The directions of a step, and how far each weight moves along them.

    Args:
        reading: the state that the weights share.
        keys: 64-bit key of each query's direction.
        coefficients: signed step along each, in coordinate units.
        rounding_key: key of this step's stochastic rounding.
        device: of the weights.

        Attributes:
            lengths: ``[Q]`` float32, the coefficients.
            noise: noise of the directions that the weights share.
    """

    def __init__(
        self,
        reading: Reading,
        keys: list[int],
        coefficients: list[float],
        rounding_key: int,
        device: torch.device,
    ) -> None:
        self.reading, self.keys, self.device = reading, keys, device
        self.lengths = torch.tensor(coefficients, dtype=torch.float32, device=device)
        self.noise = NoiseCache()
        table = rounding_table(rounding_key, reading.sites).to(device)
        self._roundings = dict(zip(reading.sites, own_rows(table), strict=True))

    @property
    def controls(self) -> list[dict[int, Tensor]]:
        """Key words of each query's direction, by the number of the weight."""
        return self.noise.made(
            "controls",
            lambda: [self.reading.controls(key, self.device, update=True) for key in self.keys],
        )

    def coefficients(self, place: Place) -> list[Tensor]:
        """For each query a float32 scalar: how far a weight moves, if the direction moves it."""
        weight = place.support.importance_weight
        return self.noise.made(("coefficients", weight), lambda: own_rows(self.lengths * weight))

    def moving(self, place: Place) -> list[int]:
        """Numbers of the queries whose direction moves a weight."""
        return [q for q, key in enumerate(self.keys) if place.support.includes(key)]

    def queries(self, place: Place) -> list[Query]:
        """The directions that move a weight, and the step along each."""
        lengths, controls = self.coefficients(place), self.controls
        direction, bits = self.reading.direction, place.support.bits()
        return [
            Query(direction, controls[q][place.index], lengths[q], bits) for q in self.moving(place)
        ]

    def rounding(self, place: Place) -> Tensor:
        """``[2]`` int32 key words of a weight's stochastic rounding."""
        return self._roundings[place.index]


@lru_cache(maxsize=64)
def constant(value: float | tuple[float, ...], device: torch.device) -> Tensor:
    """A float32 tensor that all weights and steps share; not to be written to."""
    # An inference tensor would compile kernels anew.
    with torch.inference_mode(False):
        return torch.tensor(value, dtype=torch.float32, device=device)
