"""What the weights of a model share of the noise of a direction: made at its first use."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Made = TypeVar("Made")


class NoiseCache:
    """Noise made once for all weights, by name: a kernel call for each would cost more than it.

    Example:
        >>> cache = NoiseCache()
        >>> cache.made("key words", lambda: [1, 2])
        [1, 2]
        >>> cache.made("key words", lambda: [3])
        [1, 2]
    """

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}

    def made(self, name: Hashable, make: Callable[[], Made]) -> Made:
        """What ``make`` returned when something of this name was first asked for."""
        if name not in self._made:
            self._made[name] = make()
        found: Made = self._made[name]
        return found

    def clear(self) -> None:
        """Forget everything: the next direction has other noise."""
        self._made.clear()
