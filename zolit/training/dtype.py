"""The dtype of activations: as told, or the one that this machine multiplies faster."""

import functools
import statistics
import time

import torch

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}

_WORTH = 1.25
"""How many times as fast float32 must be before its larger activations are worth it; less than
that is within the scatter of one measurement."""

_WORTH_TELLING = 1.5
"""How many times as fast float32 must be for a run in bfloat16 to hear of it."""

_ROWS, _SIDE, _REPEATS = 256, 1024, 5
"""The product that is timed is ``[256, 1024] x [1024, 1024]``: large enough for what a library
gains on wide layers, and done in milliseconds."""


@functools.cache
def float32_gain() -> float:
    """How many times as fast the CPU multiplies matrices in float32 as in bfloat16.

    Processors without bfloat16 instructions convert every number first; those with AVX-512 alone
    have such instructions but often no fast product; with AMX bfloat16 is several times faster.
    Measured once in a process, in about a tenth of a second; depends on the number of threads.

    Returns:
        Quotient of two medians: below 1 where bfloat16 is faster.
    """
    seconds: dict[str, list[float]] = {name: [] for name in DTYPES}
    sides = {
        name: (torch.ones(_ROWS, _SIDE, dtype=dtype), torch.ones(_SIDE, _SIDE, dtype=dtype))
        for name, dtype in DTYPES.items()
    }
    for repeat in range(_REPEATS + 1):
        for name, (x, weight) in sides.items():  # in turn, so that other load meets both
            started = time.perf_counter()
            torch.nn.functional.linear(x, weight)
            if repeat:  # the first call prepares the library
                seconds[name].append(time.perf_counter() - started)
    return statistics.median(seconds["bfloat16"]) / statistics.median(seconds["float32"])


def faster_dtype() -> str:
    """``float32`` where no CUDA device is found and the CPU multiplies it clearly faster.

    Returns:
        ``bfloat16`` or ``float32``.

    Example:
        >>> faster_dtype() in ("bfloat16", "float32")
        True
    """
    if torch.cuda.is_available():
        return "bfloat16"
    return "float32" if float32_gain() >= _WORTH else "bfloat16"


def told_dtype(name: str, given: bool) -> str | None:
    """What a run on the CPU says of its dtype; None if there is nothing to say.

    Args:
        name: ``bfloat16`` or ``float32``.
        given: whether the configuration names it.

    Example:
        >>> told_dtype("float32", given=True) is None
        True
    """
    if name == "float32" and given:
        return None
    gain = float32_gain()
    measured = f"this machine multiplies float32 {gain:.1f} times as fast as bfloat16"
    if not given:
        return f"dtype {name}: {measured}"
    if gain < _WORTH_TELLING:
        return None
    return (
        f"{measured}: dtype float32 would make steps shorter, and activations and weights that "
        "stay floats twice as large"
    )
