"""Counter-based random directions: ``z = f(key, coordinate)``, no state, no order.

A word of noise is a keyed 32-bit hash of its counter, in the spirit of Salmon et al. 2011
("Parallel random numbers: as easy as 1, 2, 3"): any row, chunk or shard is made alone, on any
device, in any order. Host-side keys are 64 bits wide and are derived with SplitMix64; the
device-side hash is two rounds of a 32-bit finalizer with one half of the key entering before
each (`hash_words`). `benchmarks/noise_battery.py` tests the streams along the counter and along
the key.

Coordinates. A weight is read as ``[rows, columns]``. Columns are cut into words of 32, so
coordinate ``(r, c)`` has the counter ``(r * words + c // 32) * 32 + c % 32`` where
``words = ceil(columns / 32)``. Rademacher directions take one hash for the 32 signs of a word,
Gaussian directions two hashes for each coordinate (Box and Muller 1958).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

WORD = 32
"""Coordinates that share one word of noise."""

KEY_WORDS = 6
"""Key words of one weight's share of a direction (`control_table`)."""

DRAWS = 1 << 24
"""Number of values of one uniform draw; the density of a random support is rounded to these."""

_U64 = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15

# Streams of one direction. The two rounding draws of QuZO are distinct streams; so are the
# rounding of an update and a random support.
RADIUS, ANGLE, READ_ROUNDING, UPDATE_ROUNDING, STEP_ROUNDING, MASK = range(6)
# Keys of the two factors of a low-rank direction.
LEFT, RIGHT = 6, 7
# Which blocks a direction moves.
BLOCKS = 8

Key = Any
"""A 64-bit key as a Python integer, or an array of them as uint64."""

_LEVELS = {bits: 2 ** (bits - 1) - 1 for bits in range(2, 9)}

DIRECTION_RANGE = 5.0
"""Largest ``|u|`` on the grid of a rounded Gaussian direction. A normal number exceeds it
with probability 5.7e-7."""


def fold(key: Key, *data: Key) -> Key:
    """A new 64-bit key from ``key`` and integers, by SplitMix64 (Steele et al. 2014).

    Any of them may be a uint64 array, for one key each.
    """
    for value in data:
        key = (key & _U64) ^ ((value * _GOLDEN) & _U64)
        key = (key + _GOLDEN) & _U64
        key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & _U64
        key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & _U64
        key ^= key >> 31
    return key


def signed(key: int) -> int:
    """``key`` as a signed 64-bit integer, the form that fits an int64 tensor."""
    return key - (1 << 64) if key >= 1 << 63 else key


@dataclass(frozen=True)
class Direction:
    """The distribution of a direction's coordinates; zero mean, unit variance.

    Attributes:
        distribution: ``gaussian`` or ``rademacher`` (-1 or 1 with equal odds).
        bits: Gaussian only: each coordinate is rounded stochastically onto the symmetric grid of
            ``2**bits - 1`` points in ``[-DIRECTION_RANGE, DIRECTION_RANGE]`` (QuZO Eq. 5). None
            keeps float32.
        rank: the share of a matrix is a sum of this many outer products, whose factors have
            coordinates of the distribution. None: its coordinates are independent.
    """

    distribution: Literal["gaussian", "rademacher"] = "gaussian"
    bits: int | None = None
    rank: int | None = None

    @property
    def levels(self) -> int:
        """Grid points on each side of zero; a coordinate is at most ``levels * grid_step``."""
        # A table, not a power: as a key the number of bits becomes a constant of a compilation.
        return 1 if self.bits is None else _LEVELS[self.bits]

    @property
    def grid_step(self) -> float | None:
        """Distance between neighbouring values of a coordinate, None if they are continuous."""
        if self.distribution == "rademacher":
            return 1.0
        return None if self.bits is None else DIRECTION_RANGE / self.levels


def control_table(key: int, sites: Sequence[int], *, update: bool = False) -> Tensor:
    """The key words that kernels need for each weight's share of a direction.

    Args:
        key: 64-bit key of the query's direction.
        sites: index of each weight among the perturbed weights of the model.
        update: take the rounding draw of the update (QuZO's u_2) instead of the read's (u_1).

    Returns:
        ``[len(sites), 6]`` int32: ``[radius, radius', angle, angle', rounding, rounding']``.
    """
    site_keys = fold(key, np.array(sites, dtype=np.uint64))
    rounding = UPDATE_ROUNDING if update else READ_ROUNDING
    return _split_keys([fold(site_keys, stream) for stream in (RADIUS, ANGLE, rounding)])


def rounding_table(key: int, sites: Sequence[int]) -> Tensor:
    """Key words of the stochastic rounding of many weights, ``[len(sites), 2]`` int32.

    Args:
        key: 64-bit key of an update's rounding.
        sites: index of each weight.
    """
    return _split_keys([fold(key, np.array(sites, dtype=np.uint64))])


def _split_keys(keys: list[Key]) -> Tensor:
    """Arrays of ``[S]`` keys as ``[S, 2 * len(keys)]`` int32 words, high before low."""
    words = np.stack(keys, axis=1).astype(">u8").view(">i4")
    return torch.from_numpy(words.astype(np.int32))


def split_key(key: int) -> tuple[int, int]:
    """A 64-bit key as two signed 32-bit words, high first."""
    high, low = key >> 32, key & 0xFFFFFFFF
    return (
        high - (1 << 32) if high >= 1 << 31 else high,
        low - (1 << 32) if low >= 1 << 31 else low,
    )


def _mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit integers with full avalanche ("lowbias32", C. Wellons 2018-2023).

    int32 multiplication wraps and ``>>`` is arithmetic in torch, hence the masks.
    """
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x21F0AAAD
    x = (x ^ ((x >> 15) & 0x1FFFF)) * (0xD35A2D97 - (1 << 32))
    return x ^ ((x >> 15) & 0x1FFFF)


def hash_words(counter: Tensor, key_high: Tensor, key_low: Tensor) -> Tensor:
    """32 pseudo-random bits for each int32 ``counter``; shape and dtype of ``counter``."""
    return _mix(_mix(counter + key_high) ^ key_low)


def _draw(counter: Tensor, key_high: Tensor, key_low: Tensor) -> Tensor:
    """Uniform int32 in ``[0, DRAWS)``."""
    return (hash_words(counter, key_high, key_low) >> 8) & 0xFFFFFF


def uniform(counter: Tensor, key_high: Tensor, key_low: Tensor) -> Tensor:
    """Uniform float32 in ``[0, 1)`` on a grid of 2**-24."""
    return _draw(counter, key_high, key_low).float() * 2.0**-24


def lane_indices(device: torch.device) -> Tensor:
    """Positions within a word, ``[32]`` int32.

    The length is a literal: compilation with dynamic shapes turns integer arguments into symbols,
    and an innermost loop of unknown length is not vectorized.
    """
    return torch.arange(0, 32, 1, dtype=torch.int32, device=device)


def check_lanes(x: Tensor) -> None:
    """Refuse a tensor whose words are not ``[..., 32]`` or, in two halves, ``[..., 2, 16]``.

    Under compilation this fixes the length of the innermost loop (see `lane_indices`).

    Raises:
        ValueError: naming the shape.
    """
    if x.shape[-1] != 32 and x.shape[-2:] != (2, 16):
        raise ValueError(f"words must be [..., 32] or [..., 2, 16], got {tuple(x.shape)}")


def word_counters(rows: Tensor, groups: int, words: int) -> Tensor:
    """Counters of the noise words of some rows: ``[R, groups, words]`` int32.

    Args:
        rows: ``[R]`` int32 row indices.
        groups: groups of columns in a row.
        words: words in a group.
    """
    column = torch.arange(groups, dtype=torch.int32, device=rows.device) * words
    column = column.unsqueeze(1) + torch.arange(words, dtype=torch.int32, device=rows.device)
    return (rows * (groups * words)).view(-1, 1, 1) + column


def coordinates(
    direction: Direction,
    control: Tensor,
    rows: Tensor,
    groups: int,
    words: int,
    bits: Tensor | None = None,
) -> Tensor:
    """Coordinates of a direction for some rows of a weight.

    Args:
        direction: distribution, static under compilation.
        control: ``[6]`` int32 from `control_table`; ``[9]`` where a hash leaves coordinates out,
            whose last three are `zolit.supports.Support.words`. Or one for each row: ``[R, 6]``,
            ``[R, 9]``.
        rows: ``[R]`` int32 row indices.
        groups: groups of columns in a row.
        words: noise words in a group.
        bits: ``[R, groups * words]`` int32: bit l of a word says whether the coordinate in its lane
            l moves; the others are 0. None: all do.

    Returns:
        ``[R, groups, words, 32]`` float32.
    """
    word = word_counters(rows, groups, words).unsqueeze(-1)
    lane = lane_indices(rows.device)
    counter = word * 32 + lane
    sparse = control.shape[-1] != KEY_WORDS
    if control.dim() == 2:
        control = control.t().view(control.shape[1], -1, 1, 1, 1)
    if bits is not None:
        bits = bits.view(-1, groups, words, 1)
    if direction.distribution == "rademacher":
        signs = hash_words(word, control[0], control[1])
        z = _signs(signs, lane, bits).float()
    else:
        z = _normal(direction, control, counter)
        if bits is not None:
            z = torch.where(((bits >> lane) & 1) == 1, z, 0.0)
    if sparse:
        z = torch.where(_draw(counter, control[6], control[7]) < control[8], z, 0.0)
    return z


def _signs(hashed: Tensor, lane: Tensor, bits: Tensor | None) -> Tensor:
    """-1 or 1 of each lane by the bits of its word, ``[..., 32]`` int32; 0 where a bit is not set.

    Words are cut into the lanes that go up and those that go down before they are spread over
    their lanes: to leave lanes out then takes one more operation for each, not three.
    """
    if bits is None:
        return ((hashed >> lane) & 1) * 2 - 1
    up, down = hashed & bits, ~hashed & bits
    return ((up >> lane) & 1) - ((down >> lane) & 1)


def coordinates_at(direction: Direction, control: Tensor, counter: Tensor) -> Tensor:
    """Coordinates of a direction at some counters of one weight, as `coordinates` has them there.

    Args:
        direction: distribution, static under compilation.
        control: as for `coordinates`, ``[6]`` or ``[9]``.
        counter: int32 of any shape.

    Returns:
        float32 of the shape of ``counter``.
    """
    if direction.distribution == "rademacher":
        word = hash_words(counter >> 5, control[0], control[1])
        z = (((word >> (counter & 31)) & 1) * 2 - 1).float()
    else:
        z = _normal(direction, control, counter)
    if control.shape[0] != KEY_WORDS:
        z = torch.where(_draw(counter, control[6], control[7]) < control[8], z, 0.0)
    return z


def _normal(direction: Direction, control: Tensor, counter: Tensor) -> Tensor:
    """Gaussian coordinates at each counter, rounded onto their grid if there is one."""
    # 1 - uniform lies in (0, 1], so the logarithm is finite and |u| at most 5.77.
    radius = torch.sqrt(-2.0 * torch.log(1.0 - uniform(counter, control[0], control[1])))
    z = radius * torch.cos(uniform(counter, control[2], control[3]) * (2.0 * math.pi))
    step = direction.grid_step
    if step is None:
        return z
    code = torch.floor(z * (1.0 / step) + uniform(counter, control[4], control[5]))
    return code.clamp(-direction.levels, direction.levels) * step
