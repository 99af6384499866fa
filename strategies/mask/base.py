"""Which subset of the coordinates moves."""

from abc import ABC, abstractmethod

from zolit.noise import Direction


class Mask(ABC):
    """Restricts directions to a subset of coordinates, in reads and updates alike.

    Attributes:
        blocks: consecutive blocks of the model that a direction moves, chosen by its key
            (`zolit.tensors.reading.Reading.includes`); None for all.
    """

    blocks: int | None = None

    @abstractmethod
    def restrict(self, direction: Direction) -> Direction:
        """The direction, zero outside the subset.

        Raises:
            UserError: if directions of this distribution have no such subset.
        """
