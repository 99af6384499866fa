"""Noise: known answers, layout, and the statistics of its streams.

Seeds are fixed, so a test passes or fails for good. Bounds are stated as z-scores of a sound
generator: 4.4 for one statistic (1.1e-5 two-sided), 6 for a maximum over thousands (2e-9 each).
"""

import itertools
import math
from typing import Any

import numpy as np
import numpy_noise
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from zolit import noise
from zolit.noise import Direction
from zolit.supports import ALL, Hashed, Support

N = 1 << 18
GAUSSIAN, RADEMACHER = Direction("gaussian"), Direction("rademacher")
DIRECTIONS: list[tuple[Direction, Support]] = [
    (RADEMACHER, ALL),
    (GAUSSIAN, ALL),
    *((Direction("gaussian", bits), ALL) for bits in (2, 3, 4, 8)),
    (GAUSSIAN, Hashed(0.3, 99)),
    (RADEMACHER, Hashed(0.05, 7)),
]
each_direction = pytest.mark.parametrize(("direction", "support"), DIRECTIONS, ids=str)


def control(key: int = 5, site: int = 3, update: bool = False, support: Support = ALL) -> Tensor:
    words = [*numpy_noise.control_words(key, site, update=update), *(support.words(site) or ())]
    return torch.tensor(words, dtype=torch.int32)


def made(direction: Direction, rows: int, columns: int, **which: Any) -> Tensor:
    """Coordinates ``[rows, columns]``; ``which`` as of `control`."""
    index = torch.arange(rows, dtype=torch.int32)
    z = noise.coordinates(direction, control(**which), index, 1, columns // 32)
    return z.view(rows, columns)


def hashed(counter: np.ndarray, key: int) -> np.ndarray:
    high, low = (torch.tensor(word, dtype=torch.int32) for word in noise.split_key(key))
    signed = torch.from_numpy(counter.astype(np.uint32).view(np.int32))
    return noise.hash_words(signed, high, low).numpy().view(np.uint32)


def z_score(samples: Tensor, mean: float) -> float:
    deviation = samples.double() - mean
    return float(deviation.mean() / deviation.std() * math.sqrt(samples.numel()))


def bits_of(words: np.ndarray) -> np.ndarray:
    """``[n, 32]`` of -1 and 1."""
    return ((words[:, None] >> np.arange(32, dtype=np.uint32)) & 1) * 2.0 - 1.0


def key_words(count: int) -> np.ndarray:
    """Words of one counter under the keys of a run's steps."""
    keys = [noise.fold(noise.fold(1, 0, step, 0), 2, 0) for step in range(count)]
    high, low = torch.tensor([noise.split_key(key) for key in keys], dtype=torch.int32).T
    counter = torch.full((count,), 777, dtype=torch.int32)
    return noise.hash_words(counter, high, low).numpy().view(np.uint32)


STREAMS = {
    "counter": lambda: hashed(np.arange(1 << 16), 0x0123456789ABCDEF),
    "high_counter": lambda: hashed(np.arange(1 << 16) + 0x7FFF8000, 3),
    "key": lambda: key_words(1 << 15),
}


def test_fold_is_splitmix64() -> None:
    # The first outputs for seeds 0 and 1234567 in the generator's public test vectors.
    assert noise.fold(0, 0) == 0xE220A8397B1DCDAF
    assert noise.fold(1234567, 0) == 6457827717110365317
    assert noise.fold(1234567 + 0x9E3779B97F4A7C15, 0) == 3203168211198807973
    assert noise.fold(42, 0, 1, 2) == noise.fold(noise.fold(noise.fold(42, 0), 1), 2)
    assert noise.fold(42, 0, 1, 2) == numpy_noise.fold(42, 0, 1, 2) == 4571148557472995013


@pytest.mark.parametrize(
    ("counter", "key", "word"),
    [
        (1, 0, 0x9E19A430),
        (0, 1, 0x06D3FA73),
        (0, 1 << 32, 0x9E19A430),
        (0xFFFFFFFF, (1 << 64) - 1, 0xBF6BE90C),
        (0x80000000, 0x8000000080000000, 0xC0BD1472),
        (123456789, 0x0123456789ABCDEF, 0x66957D82),
    ],
)
def test_hash_known_answers(counter: int, key: int, word: int) -> None:
    assert hashed(np.array([counter]), key)[0] == word
    assert numpy_noise.words(np.array([counter]), key)[0] == word


@each_direction
@pytest.mark.parametrize("update", [False, True])
def test_directions_match_numpy(direction: Direction, support: Support, update: bool) -> None:
    got = made(direction, 7, 96, key=(1 << 63) + 11, site=4, update=update, support=support)
    expected = numpy_noise.direction(
        7,
        96,
        (1 << 63) + 11,
        4,
        distribution=direction.distribution,
        bits=direction.bits,
        density=support.density,
        mask_key=getattr(support, "key", 0),
        update=update,
    )
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), expected, atol=3e-6, rtol=1e-6)


@each_direction
def test_rows_made_alone_in_any_order_and_groups_agree(
    direction: Direction, support: Support
) -> None:
    whole = made(direction, 9, 128, support=support)
    words = control(support=support)
    for rows in ([4], [8, 0, 3], [5, 6]):
        index = torch.tensor(rows, dtype=torch.int32)
        alone = noise.coordinates(direction, words, index, 1, 4).view(len(rows), 128)
        assert torch.equal(alone, whole[rows])
        grouped = noise.coordinates(direction, words, index, 2, 2).view(len(rows), 128)
        assert torch.equal(grouped, alone)


@each_direction
def test_a_control_for_each_row(direction: Direction, support: Support) -> None:
    words = [control(5, site, support=support) for site in (0, 3, 7)]
    rows = torch.zeros(3, dtype=torch.int32)
    together = noise.coordinates(direction, torch.stack(words), rows, 1, 4)
    for place, one in enumerate(words):
        # Row 0 of a weight of two words: the first half of the same row of four.
        alone = noise.coordinates(direction, one, rows[:1], 1, 2)
        assert torch.equal(together[place, :, :2], alone[0])


@pytest.mark.parametrize("direction", [one for one, _ in DIRECTIONS[:6]], ids=str)
def test_moments(direction: Direction) -> None:
    z = made(direction, 256, 1024)
    assert abs(z_score(z, 0.0)) < 4.4
    if direction.distribution == "rademacher":
        assert set(z.unique().tolist()) == {-1.0, 1.0}
        return
    assert abs(z_score(z**3, 0.0)) < 4.4
    if direction.bits is not None:
        codes = z / direction.grid_step
        torch.testing.assert_close(codes, codes.round(), atol=1e-5, rtol=0)
        assert codes.round().abs().max() <= direction.levels
        return
    assert abs(z_score(z**2, 1.0)) < 4.4
    assert abs(z_score(z**4, 3.0)) < 4.4
    assert z.abs().max() < 5.78


@pytest.mark.parametrize("along", ["counter", "key"])
def test_gaussian_passes_kolmogorov_smirnov(along: str) -> None:
    if along == "counter":
        z = made(GAUSSIAN, 256, 1024).flatten()
    else:
        z = torch.cat([made(GAUSSIAN, 1, 32, key=noise.fold(9, k))[0, 5:6] for k in range(4000)])
    assert stats.kstest(z.numpy(), "norm").pvalue > 1e-5


@pytest.mark.parametrize("stream", STREAMS)
def test_bits_are_balanced_and_uncorrelated(stream: str) -> None:
    bits = bits_of(STREAMS[stream]())
    n = len(bits)
    assert np.abs(bits.sum(0)).max() / math.sqrt(n) < 6
    across = bits.T @ bits / math.sqrt(n)
    assert np.abs(across[~np.eye(32, dtype=bool)]).max() < 6
    for lag in (1, 2, 3, 7, 16, 32, 128, 1024):
        later = bits[lag:].T @ bits[:-lag] / math.sqrt(n - lag)
        assert np.abs(later).max() < 6, lag


@pytest.mark.parametrize("stream", STREAMS)
def test_runs_of_each_bit(stream: str) -> None:
    bits = bits_of(STREAMS[stream]())
    changes = (bits[1:] != bits[:-1]).sum(0)
    n = len(bits) - 1
    assert np.abs(changes - n / 2).max() / math.sqrt(n / 4) < 6


def test_gaussian_is_uncorrelated_along_counter_and_key() -> None:
    z = made(GAUSSIAN, 64, 1024).flatten().double()
    other = made(GAUSSIAN, 64, 1024, key=6).flatten().double()
    site = made(GAUSSIAN, 64, 1024, site=4).flatten().double()
    bound = 4.4 * math.sqrt(z.numel())
    for power in (1, 2):
        a, b, c = (x if power == 1 else x * x - 1.0 for x in (z, other, site))
        scale = bound * (1 if power == 1 else 2)
        for lag in (1, 2, 31, 32, 33, 1024):
            assert abs(float(a[lag:] @ a[:-lag])) < scale
        assert abs(float(a @ b)) < scale
        assert abs(float(a @ c)) < scale


@pytest.mark.parametrize("part", ["counter", "high", "low"])
def test_flipping_an_input_bit_flips_half_of_the_output(part: str) -> None:
    generator = np.random.default_rng(0)
    inputs = generator.integers(0, 1 << 32, (3, 1 << 14), dtype=np.uint64).astype(np.uint32)
    place = ("counter", "high", "low").index(part)

    def run(x: np.ndarray) -> np.ndarray:
        counter, high, low = (torch.from_numpy(v.view(np.int32)) for v in x)
        return noise.hash_words(counter, high, low).numpy().view(np.uint32)

    base = run(inputs)
    for bit in range(32):
        flipped = inputs.copy()
        flipped[place] ^= np.uint32(1 << bit)
        score = bits_of(base ^ run(flipped)).sum(0) / math.sqrt(1 << 14)
        assert np.abs(score).max() < 6, bit


def test_streams_have_keys_of_their_own() -> None:
    keys = set()
    for step in range(50):
        for query in range(4):
            query_key = noise.fold(0, 0, step, query)
            for site in range(20):
                keys.update(noise.fold(query_key, site, stream) for stream in range(3))
        rounding = noise.fold(0, 1, step)
        keys.update(noise.fold(rounding, site) for site in range(20))
    assert len(keys) == 50 * (4 * 20 * 3 + 20)


def rounded_with(direction: Direction, rounding: int) -> Tensor:
    words = control()
    words[4:6] = torch.tensor(noise.split_key(noise.fold(77, rounding)), dtype=torch.int32)
    return noise.coordinates(direction, words, torch.zeros(1, dtype=torch.int32), 1, 4).flatten()


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_rounding_is_unbiased_given_u(bits: int) -> None:
    direction = Direction("gaussian", bits)
    u = made(GAUSSIAN, 1, 128).flatten().double()
    draws = torch.stack([rounded_with(direction, k) for k in range(2000)]).double()
    step = direction.grid_step
    fraction = u / step - torch.floor(u / step)
    error = step * torch.sqrt(fraction * (1 - fraction) / 2000)
    assert ((draws.mean(0) - u).abs() / error).max() < 5  # 128 z-scores: 7e-5


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_two_draws_have_no_bias_and_one_shared_draw_has(bits: int) -> None:
    """E[u1 u2] = E[u^2] = 1, but E[u1 u1] = 1 + E[step^2 f (1 - f)], f the fraction lost."""
    direction = Direction("gaussian", bits)
    step = direction.grid_step

    def lost(u: float) -> float:
        fraction = u / step - math.floor(u / step)
        return step**2 * fraction * (1 - fraction) * stats.norm.pdf(u)

    grid = [step * k for k in range(-direction.levels, direction.levels + 1)]
    pairs = itertools.pairwise(grid)
    excess = sum(integrate.quad(lost, a, b)[0] for a, b in pairs)
    one, two = (made(direction, 256, 1024, update=update) for update in (False, True))
    assert not torch.equal(one, two)
    assert abs(z_score(one * two, 1.0)) < 4.4
    assert abs(z_score(one * one, 1.0 + excess)) < 4.4
    assert z_score(one * one, 1.0) > 20
    u = made(GAUSSIAN, 256, 1024)
    assert abs(z_score((one - u) * (two - u), 0.0)) < 4.4


@pytest.mark.parametrize("distribution", ["gaussian", "rademacher"])
def test_random_mask_is_the_same_for_every_direction(distribution: str) -> None:
    direction, support = Direction(distribution), Hashed(0.1, 8)
    masks = [made(direction, 256, 1024, key=key, support=support) != 0 for key in (5, 6)]
    assert torch.equal(masks[0], masks[1])
    count = masks[0].sum().item()
    assert abs(count - 0.1 * N) / math.sqrt(N * 0.1 * 0.9) < 4.4
    assert not torch.equal(masks[0], made(direction, 256, 1024, site=4, support=support) != 0)
    kept = made(direction, 256, 1024)[masks[0]]
    assert torch.equal(made(direction, 256, 1024, support=support)[masks[0]], kept)


@pytest.mark.parametrize("update", [False, True])
def test_tables_hold_the_words_of_each_weight(update: bool) -> None:
    sites = [0, 7, 2, 1 << 31]
    key = (1 << 64) - 5
    table = noise.control_table(key, sites, update=update)
    assert table.dtype == torch.int32
    words = [numpy_noise.control_words(key, site, update=update) for site in sites]
    assert table.tolist() == words
    roundings = noise.rounding_table(key, sites).tolist()
    assert roundings == [list(noise.split_key(noise.fold(key, site))) for site in sites]
