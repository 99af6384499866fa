"""Int8 weights with int8 activations: true integer products on perturbed codes (W8A8)."""

import torch
from torch import Tensor

from zolit.kernels.activations import emulate_float8, quantize_rows, scale_product
from zolit.kernels.perturb_codes import perturb_codes
from zolit.kernels.read import Perturbation
from zolit.tensors.float8 import Float8Weight
from zolit.tensors.int8 import Int8Weight
from zolit.tensors.reading import Reading
from zolit.tensors.store import row_indices, to_blocks


class IntegerWeight(Int8Weight):
    """Int8 weight, a scale per row, multiplied in integers with activations quantized per token."""


class EmulatedFloat8Weight(Float8Weight):
    """Float8 weight whose activations are rounded to float8 per token as well."""

    def activations(self, x: Tensor) -> Tensor:
        return super().activations(emulate_float8(x))


def integer_matmul(
    x: Tensor, store: IntegerWeight, reading: Reading, noise: Perturbation | None, out: Tensor
) -> None:
    """``out[c] = x[c] @ W_c.T`` by int8 x int8 -> int32 products.

    Args:
        x: ``[C, M, K]`` float, C versions of the weight.
        store: the weight.
        reading: shared state, for buffers and kernel choice.
        noise: direction on the codes, None to multiply the stored codes.
        out: ``[C, M, N]`` float, written.
    """
    copies, tokens, columns = x.shape
    codes, scale = reading.buffers(1, copies * tokens, columns, torch.int8, x.device).parts[0], None
    scale = torch.empty(copies * tokens, 1, dtype=torch.float32, device=x.device)
    quantize_rows(x.reshape(-1, columns), codes, scale, preference=reading.preference)
    factor, sizes = codes.view(copies, tokens, columns), scale.view(copies, tokens, 1)
    chunk = reading.rows_per_chunk(columns, 1)
    for start in range(0, store.rows, chunk):
        rows = slice(start, min(start + chunk, store.rows))
        part = store.bytes(rows)
        weights = [part] * copies
        if noise is not None:
            blocks = to_blocks(part)
            outs = [torch.empty_like(blocks) for _ in range(copies)]
            index = row_indices(rows, x.device)
            perturb_codes(
                blocks,
                index,
                outs,
                noise.direction,
                noise.control,
                noise.amplitude,
                preference=reading.preference,
            )
            weights = [o.flatten(1)[:, :columns] for o in outs]
        for copy, weight in enumerate(weights):
            whole = torch._int_mm(factor[copy], weight.t())
            scale_product(
                whole,
                sizes[copy],
                store.scale[rows, 0],
                out[copy][:, rows],
                preference=reading.preference,
            )
