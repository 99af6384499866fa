"""The noise of `zolit.noise` written again in numpy, sharing no code with it."""

import numpy as np

M64 = (1 << 64) - 1


def splitmix(state: int) -> int:
    """One output of SplitMix64 (Steele, Lea, Flood 2014) at a state."""
    x = (state + 0x9E3779B97F4A7C15) & M64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & M64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & M64
    return x ^ (x >> 31)


def fold(key: int, *data: int) -> int:
    for value in data:
        key = splitmix(key ^ (value * 0x9E3779B97F4A7C15 & M64))
    return key


def control_words(key: int, site: int, *, update: bool = False) -> list[int]:
    """Of one weight: two int32 words, high first, of its radius, angle and rounding streams."""
    streams = (0, 1, 3 if update else 2)
    keys = [fold(fold(key, site), stream) for stream in streams]
    halves = [half for one in keys for half in (one >> 32, one & 0xFFFFFFFF)]
    return np.array(halves, dtype=np.uint32).view(np.int32).tolist()


def lowbias32(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.uint32)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x21F0AAAD)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0xD35A2D97)
    return x ^ (x >> np.uint32(15))


def words(counter: np.ndarray, key: int) -> np.ndarray:
    """uint32 noise words of a 64-bit key."""
    high, low = np.uint32(key >> 32), np.uint32(key & 0xFFFFFFFF)
    return lowbias32(lowbias32(counter.astype(np.uint32) + high) ^ low)


def uniform(counter: np.ndarray, key: int) -> np.ndarray:
    return (words(counter, key) >> np.uint32(8)) / 2.0**24


def counters(rows: int, columns: int) -> np.ndarray:
    """Counter of each coordinate of a weight whose columns are a multiple of 32."""
    return np.arange(rows * columns, dtype=np.uint64).reshape(rows, columns)


def direction(
    rows: int,
    columns: int,
    key: int,
    site: int,
    *,
    distribution: str = "gaussian",
    bits: int | None = None,
    density: float = 1.0,
    mask_key: int = 0,
    update: bool = False,
) -> np.ndarray:
    """Coordinates ``[rows, columns]`` of a direction in float64; columns a multiple of 32."""
    counter = counters(rows, columns)
    site_key = fold(key, site)
    if distribution == "rademacher":
        sign = words(counter // 32, fold(site_key, 0)) >> (counter % 32).astype(np.uint32)
        z = (sign & np.uint32(1)) * 2.0 - 1.0
    else:
        radius = np.sqrt(-2.0 * np.log(1.0 - uniform(counter, fold(site_key, 0))))
        z = radius * np.cos(2.0 * np.pi * uniform(counter, fold(site_key, 1)))
        if bits is not None:
            levels = 2 ** (bits - 1) - 1
            draw = uniform(counter, fold(site_key, 3 if update else 2))
            z = np.clip(np.floor(z * levels / 5.0 + draw), -levels, levels) * 5.0 / levels
    if density < 1.0:
        z = np.where(uniform(counter, fold(mask_key, site, 5)) < density, z, 0.0)
    return z
