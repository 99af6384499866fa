"""Which subset of the coordinates moves."""

from abc import ABC, abstractmethod

from zolit.noise import Direction


class Mask(ABC):
    """Restricts directions to a subset of coordinates, in reads and updates alike."""

    @abstractmethod
    def restrict(self, direction: Direction) -> Direction:
        """The direction, zero outside the subset.

        Raises:
            UserError: if directions of this distribution have no such subset.
        """
