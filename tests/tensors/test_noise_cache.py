"""Noise that weights share is made once, until it is forgotten."""

import doctest

from zolit.tensors import noise_cache
from zolit.tensors.noise_cache import NoiseCache


def test_examples() -> None:
    assert doctest.testmod(noise_cache).failed == 0


def test_made_once_under_each_name() -> None:
    cache, made = NoiseCache(), []

    def make(value: int | None) -> int | None:
        made.append(value)
        return value

    assert cache.made("a", lambda: make(None)) is None
    assert cache.made("a", lambda: make(2)) is None
    assert cache.made("b", lambda: make(3)) == 3
    cache.clear()
    assert cache.made("a", lambda: make(4)) == 4
    assert made == [None, 3, 4]
