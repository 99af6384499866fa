"""One step of an optimizer: its directions, and how far the weights move along each."""

from functools import lru_cache

import torch
from torch import Tensor

from zolit.formats.layout import own_rows
from zolit.kernels.arguments import Query
from zolit.noise import rounding_table
from zolit.tensors.members import Place
from zolit.tensors.noise_cache import NoiseCache
from zolit.tensors.reading import Reading


class Step:
    """The directions of a step, and how far each weight moves along each of them.

    Args:
        reading: the state that the weights share.
        keys: 64-bit key of each query's direction.
        coefficients: signed step along each direction, in units of the coordinate.
        rounding_key: 64-bit key of this step's stochastic rounding.
        device: of the weights.

    Attributes:
        lengths: ``[Q]`` float32, the coefficients.
        noise: what the weights share of these directions, such as key words.

    Example:
        >>> reading = Reading(preference="reference")
        >>> step = Step(reading, [7, 8], [0.1, -0.2], 9, torch.device("cpu"))
        >>> step.lengths
        tensor([ 0.1000, -0.2000])
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
        """How far a weight moves along each direction that moves it: a float32 scalar a query."""
        weight = place.support.importance_weight
        return self.noise.made(("coefficients", weight), lambda: own_rows(self.lengths * weight))

    def moving(self, place: Place) -> list[int]:
        """The numbers of the queries whose direction moves a weight."""
        return [q for q, key in enumerate(self.keys) if place.support.includes(key)]

    def queries(self, place: Place) -> list[Query]:
        """The directions that move a weight, with the step along each."""
        lengths, controls = self.coefficients(place), self.controls
        direction, bits = self.reading.direction, place.support.bits()
        curvature = self.reading.curvatures.get(place.index)
        return [
            Query(direction, controls[q][place.index], lengths[q], bits, curvature)
            for q in self.moving(place)
        ]

    def rounding(self, place: Place) -> Tensor:
        """``[2]`` int32 key words of a weight's stochastic rounding."""
        return self._roundings[place.index]


@lru_cache(maxsize=64)
def constant(value: float | tuple[float, ...], device: torch.device) -> Tensor:
    """A float32 tensor of constants that all weights and steps share. Not to be written to."""
    # An inference tensor would compile kernels anew.
    with torch.inference_mode(False):
        return torch.tensor(value, dtype=torch.float32, device=device)
