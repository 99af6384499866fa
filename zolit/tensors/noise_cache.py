"""A cache of what the weights of a model share of a direction, such as key words and factors."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Made = TypeVar("Made")


class NoiseCache:
    """Keeps results that are made once for all weights, by name, until the next direction.

    A kernel call for each weight would cost more than what the kernel makes.

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
        """The result of ``make``, which is called the first time that this name is asked for."""
        if name not in self._made:
            self._made[name] = make()
        found: Made = self._made[name]
        return found

    def clear(self) -> None:
        """Forget everything, before the next direction."""
        self._made.clear()
