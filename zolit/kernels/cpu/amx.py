"""Products of int8 codes on the matrix tiles of a CPU (AMX), scaled to floats as they are made.

torch's own product (`torch._int_mm`) stores an int32 result, four bytes a number where bfloat16
takes two, that a second pass has to scale. The product here takes codes as they lie, and its
results are those of the two passes, bit for bit.
"""

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from zolit.kernels.dispatch import Preference, is_compiled

BLOCK = 32
"""Tokens and outputs that are multiplied at once, the least that a product must have; ``kBlock`` of
the C++."""

DEPTH = 64
"""Input channels in a tile; a product must have a multiple of it; ``kDepth`` of the C++."""

_FUNCTIONS = {torch.bfloat16: "to_bfloat16", torch.float32: "to_float32"}
_NEEDED = ("amx_tile", "amx_int8", "avx512_bw")


@functools.cache
def tiles_found() -> bool:
    """Whether this processor has the instructions, and the system lets the process use them."""
    found = torch.cpu.get_capabilities()
    return all(found.get(name, False) for name in _NEEDED) and torch.cpu._init_amx()


def fits_tiles(codes: Tensor, weight: Tensor, out: Tensor, preference: Preference) -> bool:
    """Whether `tile_product` takes these factors here; arguments as there."""
    tokens, columns = codes.shape
    return (
        codes.device.type in ("cpu", "meta")
        and out.dtype in _FUNCTIONS
        and min(tokens, len(weight)) >= BLOCK
        and columns % DEPTH == 0
        and is_compiled(preference)
        and tiles_found()
    )


@functools.cache
def _library() -> ctypes.CDLL:
    """The C++ beside this file, built by inductor's compiler into inductor's cache."""
    from torch._inductor.codecache import CppCodeCache

    source = Path(__file__).with_suffix(".cpp").read_text(encoding="utf-8")
    library = CppCodeCache.load(source, needs_vec_isa=True)
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    for name in _FUNCTIONS.values():
        function = getattr(library, name)
        function.restype = None
        function.argtypes = (*[pointer] * 3, number, *[pointer] * 2, *[number] * 4)
    return library


def tile_product(
    codes: Tensor, row_scale: Tensor, weight: Tensor, column_scale: Tensor, out: Tensor
) -> None:
    """``out = (codes @ weight.T) * row_scale * column_scale``, for factors that `fits_tiles`.

    Args:
        codes: ``[M, K]`` int8, contiguous.
        row_scale: ``[M, 1]`` float32, contiguous.
        weight: ``[N, K]`` int8, rows contiguous.
        column_scale: ``[N, ...]`` float32, one number a row, contiguous.
        out: ``[M, N]`` bfloat16 or float32, rows contiguous, written.
    """
    if codes.is_meta:  # `zolit estimate` counts memory; there is nothing to write
        return
    getattr(_library(), _FUNCTIONS[out.dtype])(
        codes.data_ptr(),
        row_scale.data_ptr(),
        weight.data_ptr(),
        weight.stride(0),
        column_scale.data_ptr(),
        out.data_ptr(),
        out.stride(0),
        len(codes),
        len(weight),
        codes.shape[1],
    )
