"""Int8 weights with int8 activations: true integer products on perturbed codes (W8A8)."""

import torch
from torch import Tensor

from zolit.formats.base import chunks, to_blocks
from zolit.formats.float8 import Float8Weight
from zolit.formats.int8 import Int8Weight
from zolit.kernels.activations import emulate_float8, quantize_rows, scale_product
from zolit.kernels.cpu.amx import fits_tiles, tile_product
from zolit.kernels.dispatch import Preference
from zolit.kernels.perturb_codes import perturb_codes
from zolit.kernels.read import Perturbation
from zolit.tensors.reading import Reading


class IntegerWeight(Int8Weight):
    """Int8 weight, a scale per row, multiplied in integers with activations quantized per token."""


class EmulatedFloat8Weight(Float8Weight):
    """Float8 weight whose activations are rounded to float8 per token as well."""

    def activations(self, x: Tensor) -> Tensor:
        return super().activations(emulate_float8(x))


def quantize(x: Tensor, preference: Preference) -> tuple[Tensor, Tensor]:
    """Activations as integers.

    Args:
        x: ``[..., K]`` float.
        preference: kernel choice.

    Returns:
        ``[..., K]`` int8 codes and ``[..., 1]`` float32 scales.
    """
    rows = x.reshape(-1, x.shape[-1])
    codes = torch.empty(rows.shape, dtype=torch.int8, device=x.device)
    scale = torch.empty(len(rows), 1, dtype=torch.float32, device=x.device)
    quantize_rows(rows, codes, scale, preference=preference)
    return codes.view(x.shape), scale.view(*x.shape[:-1], 1)


def multiply_codes(
    codes: Tensor,
    scale: Tensor,
    store: IntegerWeight,
    reading: Reading,
    noise: Perturbation | None,
    out: Tensor,
) -> None:
    """``out[c] = (scale * codes)[c] @ W_c.T`` by int8 x int8 -> int32 products.

    Args:
        codes: ``[C, M, K]`` int8, C versions of the weight.
        scale: ``[C * M, 1]`` float32, of each row of ``codes``.
        store: the weight.
        reading: shared state, for buffers and kernel choice.
        noise: direction on the codes, None to multiply the stored codes.
        out: ``[C * M, N]`` float, written.
    """
    copies, _, columns = codes.shape
    for rows in chunks(store.rows, reading.rows_per_chunk(columns, 1)):
        weights, sizes = current_codes(store, rows, copies, reading, noise)
        target = out if rows.stop - rows.start == store.rows else out[:, rows]
        multiply_scaled(codes, scale, weights, sizes, target, reading)


def current_codes(
    store: IntegerWeight, rows: slice, copies: int, reading: Reading, noise: Perturbation | None
) -> tuple[list[Tensor], Tensor]:
    """Some rows of each version of a weight.

    Args:
        store: the weight.
        rows: which rows.
        copies: versions.
        reading: shared state, for buffers and kernel choice; the buffers are overwritten.
        noise: direction on the codes, None for the stored codes.

    Returns:
        ``[R, K]`` int8 of each version and the scales, ``[R, 1, 1, 1]`` float32.
    """
    blocks, decoding, index = store.operands(rows)
    weights = [store.bytes(rows)] * copies
    if noise is not None:
        shape = (rows.stop - rows.start, store.padded_columns)
        parts = reading.buffers(copies, *shape, torch.int8, store.device).parts
        perturb_codes(
            blocks,
            index,
            [to_blocks(part) for part in parts],
            noise.direction,
            noise.control,
            noise.amplitude,
            preference=reading.preference,
        )
        weights = [part[:, : store.columns] for part in parts]
    sizes: Tensor = decoding[0]  # type: ignore[assignment]
    return weights, sizes


def multiply_scaled(
    codes: Tensor,
    scale: Tensor,
    weights: list[Tensor],
    column_scale: Tensor,
    out: Tensor,
    reading: Reading,
) -> None:
    """``out = scale * column_scale * (codes[c] @ weights[c].T)``, version by version."""
    copies, tokens, _ = codes.shape
    if fits_tiles(codes[0], weights[0], out, reading.preference):
        scales, outs = scale.split(tokens), out.split(tokens)
        for one, size, weight, part in zip(codes, scales, weights, outs, strict=True):
            tile_product(one, size, weight, column_scale, part)
        return
    # One reused buffer: the product takes three times as long into memory out of cache.
    shape = copies * tokens, len(weights[0])
    whole = reading.buffers(1, *shape, torch.int32, codes.device).parts[0]
    for one, weight, part in zip(codes, weights, whole.split(tokens), strict=True):
        torch._int_mm(one, weight.t(), out=part)
    scale_product(whole, scale, column_scale, out, preference=reading.preference)
