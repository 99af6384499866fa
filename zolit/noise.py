"""Counter-based random directions: each coordinate is a function of a key and its own number.

The noise of a coordinate is a keyed 32-bit hash of its number, its counter (after Salmon et al.
2011, "Parallel random numbers: as easy as 1, 2, 3"). There is no generator state, so any row, chunk
or shard can be made alone, on any device, in any order. Keys are 64 bits wide and are derived on
the host by SplitMix64. The hash runs on the device: two rounds of a 32-bit finalizer, with one half
of the key entering before each (`hash_words`). `benchmarks/noise_battery.py` tests the noise along
the counter and along the key.

A weight is taken as ``[rows, columns]``, its columns cut into words of 32. Coordinate ``(r, c)``
has the counter ``(r * words + c // 32) * 32 + c % 32`` with ``words = ceil(columns / 32)``.
Rademacher directions need one hash for the 32 signs of a word, and Gaussian directions two hashes
for each coordinate (Box and Muller 1958).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

WORD = 32
"""Coordinates in a word of noise."""

KEY_WORDS = 6
"""Number of key words of one weight's part of a direction (`control_table`)."""

DRAWS = 1 << 24
"""Number of values of a uniform draw; densities of random supports are multiples of 1 / DRAWS."""

_U64 = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15

# Each number makes a key of its own from the key of a direction, an update or a mask. The two
# rounding draws of QuZO are among them.
RADIUS, ANGLE, READ_ROUNDING, UPDATE_ROUNDING, STEP_ROUNDING, MASK = range(6)
# Keys of the two factors of a low-rank direction.
LEFT, RIGHT = 6, 7
# Which blocks a direction moves.
BLOCKS = 8
# How the lengths of layers change together (DiZO).
LENGTHS = 9
# The directions of single examples (GRZO).
EXAMPLES = 10

Key = Any
"""A 64-bit key as a Python integer, or an array of them as uint64."""

_LEVELS = {bits: 2 ** (bits - 1) - 1 for bits in range(2, 9)}

DIRECTION_RANGE = 5.0
"""Largest size of a rounded Gaussian coordinate. One normal number in 1.75 million is larger."""


def fold(key: Key, *data: Key) -> Key:
    """A new 64-bit key from ``key`` and integers, by SplitMix64 (Steele et al. 2014).

    Any of them may be a uint64 array; the result is then an array of keys.
    """
    for value in data:
        key = (key & _U64) ^ ((value * _GOLDEN) & _U64)
        key = (key + _GOLDEN) & _U64
        key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & _U64
        key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & _U64
        key ^= key >> 31
    return key


def signed(key: int) -> int:
    """``key`` as a signed 64-bit integer, which fits an int64 tensor."""
    return key - (1 << 64) if key >= 1 << 63 else key


@dataclass(frozen=True)
class Direction:
    """The distribution of a direction's coordinates, of mean 0 and variance 1.

    Attributes:
        distribution: ``gaussian``, or ``rademacher``: -1 or 1 with equal odds.
        bits: for Gaussian directions: each coordinate is rounded stochastically onto the symmetric
            grid of ``2**bits - 1`` points in ``[-DIRECTION_RANGE, DIRECTION_RANGE]`` (QuZO Eq. 5).
            None keeps float32.
        rank: the direction of a matrix is a sum of this many outer products of vectors whose
            coordinates have the distribution. None: its coordinates are independent.

    Example:
        >>> Direction("gaussian", bits=4).levels
        7
    """

    distribution: Literal["gaussian", "rademacher"] = "gaussian"
    bits: int | None = None
    rank: int | None = None

    @property
    def levels(self) -> int:
        """Grid points on each side of zero; no coordinate exceeds ``levels * grid_step``."""
        # Looked up, not computed: so the number of bits becomes a constant of a compilation.
        return 1 if self.bits is None else _LEVELS[self.bits]

    @property
    def grid_step(self) -> float | None:
        """Distance between neighbouring values of a coordinate; None where it is continuous."""
        if self.distribution == "rademacher":
            return 1.0
        return None if self.bits is None else DIRECTION_RANGE / self.levels


def control_table(key: int, sites: Sequence[int], *, update: bool = False) -> Tensor:
    """The key words by which kernels make each weight's part of a direction.

    Args:
        key: 64-bit key of the query's direction.
        sites: index of each weight among the perturbed weights of the model.
        update: True for the rounding draw of updates (QuZO's u_2), False for that of reads (u_1).

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
        sites: index of each weight among the perturbed weights of the model.
    """
    return _split_keys([fold(key, np.array(sites, dtype=np.uint64))])


def _split_keys(keys: list[Key]) -> Tensor:
    """Arrays of ``[S]`` keys as ``[S, 2 * len(keys)]`` int32 words, the high half first."""
    words = np.stack(keys, axis=1).astype(">u8").view(">i4")
    return torch.from_numpy(words.astype(np.int32))


def split_key(key: int) -> tuple[int, int]:
    """A 64-bit key as two signed 32-bit words, the high half first."""
    high, low = key >> 32, key & 0xFFFFFFFF
    return (
        high - (1 << 32) if high >= 1 << 31 else high,
        low - (1 << 32) if low >= 1 << 31 else low,
    )


def _mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit integers with full avalanche ("lowbias32", C. Wellons 2018-2023)."""
    # In torch a product of int32 wraps, and ``>>`` copies the sign bit, which the masks remove.
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x21F0AAAD
    x = (x ^ ((x >> 15) & 0x1FFFF)) * (0xD35A2D97 - (1 << 32))
    return x ^ ((x >> 15) & 0x1FFFF)


def hash_words(counter: Tensor, key_high: Any, key_low: Any) -> Tensor:
    """32 pseudo-random bits for each int32 counter, as int32 of the same shape."""
    return _mix(_mix(counter + key_high) ^ key_low)


def _draw(counter: Tensor, key_high: Any, key_low: Any) -> Tensor:
    """Uniform int32 in ``[0, DRAWS)``."""
    return (hash_words(counter, key_high, key_low) >> 8) & 0xFFFFFF


def hash_includes(counter: Tensor, words: Any) -> Tensor:
    """Whether the hash of three `zolit.supports.Support.words` lets coordinates move, bool."""
    return _draw(counter, words[0], words[1]) < words[2]


def uniform(counter: Tensor, key_high: Tensor, key_low: Tensor) -> Tensor:
    """Uniform float32 in ``[0, 1)`` on a grid of 2**-24."""
    return _draw(counter, key_high, key_low).float() * 2.0**-24


def lane_indices(device: torch.device) -> Tensor:
    """The positions in a word, ``[32]`` int32."""
    # The length is a literal. Compilation with dynamic shapes would turn an argument into a symbol,
    # and does not vectorize an innermost loop of unknown length.
    return torch.arange(0, 32, 1, dtype=torch.int32, device=device)


def check_lanes(x: Tensor) -> None:
    """Refuse a tensor whose words are neither ``[..., 32]`` nor, in halves, ``[..., 2, 16]``.

    This tells a compilation the length of the innermost loop (see `lane_indices`).

    Raises:
        ValueError: naming the shape.
    """
    if x.shape[-1] != 32 and x.shape[-2:] != (2, 16):
        raise ValueError(f"words must be [..., 32] or [..., 2, 16], got {tuple(x.shape)}")


def word_counters(rows: Tensor, groups: int, words: int) -> Tensor:
    """The number of each word in some rows, ``[R, groups, words]`` int32.

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
        direction: the distribution; a constant of the compilation.
        control: ``[6]`` int32 from `control_table`. Where a hash chooses the coordinates that move,
            ``[9]``: the last three are `zolit.supports.Support.words`. Or key words of each row,
            ``[R, 6]`` or ``[R, 9]``.
        rows: ``[R]`` int32 row indices.
        groups: groups of columns in a row.
        words: words in a group.
        bits: ``[R, groups * words]`` int32: bit k of a word says whether coordinate k of the word
            moves; a coordinate that does not is 0. None: all move.

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
            # A factor is made after z. A condition would be made before it, and its vector put
            # aside while the logarithm and the cosine are called.
            z = z * ((bits >> lane) & 1)
    if sparse:
        z = torch.where(hash_includes(counter, control[6:]), z, 0.0)
    return z


def _signs(hashed: Tensor, lane: Tensor, bits: Tensor | None) -> Tensor:
    """The signs of a Rademacher direction, ``[..., 32]`` int32: -1 or 1, or 0 without its bit.

    The word is split into coordinates that go up and coordinates that go down before it is spread
    over its 32 coordinates. To leave coordinates out then takes one more operation for each of
    them, not three.
    """
    if bits is None:
        return ((hashed >> lane) & 1) * 2 - 1
    up, down = hashed & bits, ~hashed & bits
    return ((up >> lane) & 1) - ((down >> lane) & 1)


def coordinates_at(direction: Direction, control: Tensor, counter: Tensor) -> Tensor:
    """The numbers that `coordinates` has at some counters of one weight.

    Args:
        direction: the distribution; a constant of the compilation.
        control: ``[6]`` or ``[9]`` int32, see `coordinates`.
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
        z = torch.where(hash_includes(counter, control[6:]), z, 0.0)
    return z


def _normal(direction: Direction, control: Tensor, counter: Tensor) -> Tensor:
    """Gaussian coordinates at each counter, rounded onto their grid if there is one."""
    # 1 - uniform lies in (0, 1], so the logarithm is finite and no coordinate exceeds 5.77.
    radius = torch.sqrt(-2.0 * torch.log(1.0 - uniform(counter, control[0], control[1])))
    z = radius * torch.cos(uniform(counter, control[2], control[3]) * (2.0 * math.pi))
    step = direction.grid_step
    if step is None:
        return z
    code = torch.floor(z * (1.0 / step) + uniform(counter, control[4], control[5]))
    return code.clamp(-direction.levels, direction.levels) * step
