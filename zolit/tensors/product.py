"""Products with weights that are decoded and perturbed in chunks of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from zolit.errors import UserError
from zolit.formats.base import Rows, StoredWeight, chunks
from zolit.kernels.activations import quantize_activations
from zolit.kernels.arguments import Perturbation
from zolit.kernels.outputs import add_low_rank, scale_outputs
from zolit.tensors.reading import Buffers

if TYPE_CHECKING:
    from zolit.tensors.weight import PerturbedWeight


def matmul(x: Tensor, weight: PerturbedWeight, scaled: bool = True) -> Tensor:
    """``x @ W.T`` with the weight as it reads now.

    Inside a pair the first half of ``x`` along its first dimension meets ``W+``, the second
    half ``W-``.

    Args:
        x: ``[..., columns]`` float.
        weight: a weight of ``[rows, columns]``.
        scaled: whether output channels that move get their factors; false leaves that to the
            caller (`factors_by_row`).

    Returns:
        ``[..., rows]`` in the dtype of ``x``.
    """
    store = weight.store
    if store.integer_products:
        codes, scale = quantize_activations(x, weight.reading.preference)
        return quantized_matmul(codes, scale, weight, x.dtype, scaled)
    floats = store.floats()
    if floats is not None and versions(weight)[1] is None:
        out = F.linear(x, floats)
    else:
        out = _product(x, weight)
    return _perturb_outputs(out, x, None, weight, scaled)


def versions(weight: PerturbedWeight) -> tuple[int, Perturbation | None]:
    """How many versions of its elements the weight reads as, and what makes them differ.

    Output scales and directions of low rank leave one version of the elements: the first multiply
    the product, the second add to it.
    """
    site, reading = weight.site, weight.reading
    if site is None or site.coordinates == "low_rank" or moves_outputs(weight):
        return 1, None
    if site.coordinates == "scales":
        return reading.copies(site), None
    return reading.copies(site), reading.perturbation(site, weight.store.device)


def moves_outputs(weight: PerturbedWeight) -> bool:
    """Whether what moves is one factor for each output channel: a multiple of the product."""
    site, store = weight.site, weight.store
    if site is None or not site.scales_only:
        return False
    return site.coordinates == "output_scales" or store.scales()["scale"].shape[1] == 1


def output_factors(weight: PerturbedWeight) -> Tensor | None:
    """What multiplies the product in each version, ``[copies, 1, rows]``; None at rest."""
    site, store = weight.site, weight.store
    if site is None or site.coordinates == "output_scales":
        return None if site is None else weight.reading.output_factors(site, store.device)
    factors = weight.reading.scale_factors(site, store.scales()["scale"])
    return None if factors is None else torch.stack([one.t() for one in factors])


def factors_by_row(x: Tensor, weight: PerturbedWeight) -> Tensor:
    """What the output channels of a product are multiplied by now, for each row of a batch.

    Args:
        x: ``[B, ...]``, the other factor of the product; halves as in `matmul`.
        weight: a weight of ``[rows, columns]``.

    Returns:
        ``[B, 1, rows]`` float32; ones at rest.
    """
    shape = (x.shape[0], 1, weight.store.rows)
    factors = output_factors(weight) if moves_outputs(weight) else None
    if factors is None:
        return torch.ones(shape, device=x.device)
    _check_halves(x, weight, len(factors))
    return factors.repeat_interleave(x.shape[0] // len(factors), dim=0)


def version_stores(weight: PerturbedWeight) -> list[StoredWeight] | None:
    """A weight for each version, where each has scales of its own; None where all share one."""
    site, store = weight.site, weight.store
    if site is None or site.coordinates != "scales" or moves_outputs(weight):
        return None
    factors = weight.reading.scale_factors(site, store.scales()["scale"])
    return None if factors is None else [store.with_scales(one) for one in factors]


def read_versions(
    weight: PerturbedWeight,
    stores: list[StoredWeight] | None,
    rows: Rows,
    outs: list[Tensor],
    noise: Perturbation | None,
) -> None:
    """Decode rows of each version."""
    preference = weight.reading.preference
    if stores is None:
        weight.store.read(rows, outs, noise, preference)
        return
    for store, out in zip(stores, outs, strict=True):
        store.read(rows, [out], None, preference)


def _product(x: Tensor, weight: PerturbedWeight) -> Tensor:
    """The product chunk by chunk of rows, all versions of the weight at once."""
    store, reading = weight.store, weight.reading
    copies, noise = versions(weight)
    _check_halves(x, weight, copies)
    out = x.new_empty(copies, x.numel() // (x.shape[-1] * copies), store.rows)
    factor = store.activations(x).reshape(copies, -1, store.padded_columns)
    columns, stores = store.padded_columns, version_stores(weight)
    for rows in chunks(store.rows, reading.rows_per_chunk(columns, x.element_size())):
        buffers = reading.buffers(copies, rows.stop - rows.start, columns, x.dtype, x.device)
        read_versions(weight, stores, rows, buffers.parts, noise)
        _multiply(factor, buffers, out[:, :, rows])
    return out.view(*x.shape[:-1], store.rows)


def _multiply(factor: Tensor, weights: Buffers, out: Tensor) -> None:
    """``out[c] = factor[c] @ weights[c].T``; ``out`` may be some columns of a wider tensor."""
    if out.is_contiguous():
        # One batched product: oneDNN runs the versions side by side where it would give a
        # product of a few hundred rows one thread (benchmarks/products.py).
        torch.bmm(factor, weights.whole.transpose(1, 2), out=out)
        return
    for copy, weight in enumerate(weights.parts):
        torch.mm(factor[copy], weight.t(), out=out[copy])


def quantized_matmul(
    codes: Tensor, scale: Tensor, weight: PerturbedWeight, dtype: torch.dtype, scaled: bool = True
) -> Tensor:
    """`matmul` of activations that are quantized already, with a weight that has integer products.

    Args:
        codes: ``[..., columns]`` int8; halves as in `matmul`.
        scale: ``[..., 1]`` float32, of each row of ``codes``.
        weight: a weight of ``[rows, columns]``.
        dtype: of the result.
        scaled: as in `matmul`.

    Returns:
        ``[..., rows]``.
    """
    store = weight.store
    copies, noise = versions(weight)
    _check_halves(codes, weight, copies)
    out = codes.new_empty(scale.numel(), store.rows, dtype=dtype)
    store.multiply(
        codes.view(copies, -1, store.columns),
        scale.view(-1, 1),
        noise,
        out,
        weight.reading,
        weight.reading.preference,
    )
    return _perturb_outputs(out.view(*codes.shape[:-1], store.rows), codes, scale, weight, scaled)


def _check_halves(x: Tensor, weight: PerturbedWeight, copies: int) -> None:
    if x.numel() // x.shape[-1] % copies:
        raise UserError(
            f"a paired read needs an even batch, but {weight.path} got {tuple(x.shape)}; "
            "set the estimator's `paired: false`"
        )


def _perturb_outputs(
    out: Tensor, x: Tensor, scale: Tensor | None, weight: PerturbedWeight, scaled: bool
) -> Tensor:
    """What a direction changes of a fresh product rather than of the weight, in place.

    Args:
        out: ``[..., rows]``.
        x: ``[..., columns]``.
        scale: ``[..., 1]``, factor of each row of ``x``; None for 1.
        weight: the other factor of the product.
        scaled: as in `matmul`.
    """
    if moves_outputs(weight):
        return _scale_outputs(out, weight) if scaled else out
    if weight.site is not None and weight.site.coordinates == "low_rank":
        return _add_low_rank(out, x, scale, weight)
    return out


def _scale_outputs(out: Tensor, weight: PerturbedWeight) -> Tensor:
    """Multiply output channels by ``1 +- amplitude * z``, in place on a fresh product."""
    factors = output_factors(weight)
    if factors is None:
        return out
    copies = out.view(len(factors), -1, out.shape[-1])
    # A tensor of their own: kernels are compiled for how views lie in their base.
    scale_outputs(copies, factors.clone(), preference=weight.reading.preference)
    return out


def _add_low_rank(out: Tensor, x: Tensor, scale: Tensor | None, weight: PerturbedWeight) -> Tensor:
    """Add ``x @ (+-length * left.T @ right).T``, in place."""
    reading, site, store = weight.reading, weight.site, weight.store
    found = None if site is None else reading.low_rank(site, store.device)
    if found is None:
        return out
    lengths, factors = found
    copies = len(lengths)
    _check_halves(x, weight, copies)
    add_low_rank(
        out.view(copies, -1, store.rows),
        store.activations(x).reshape(copies, -1, store.padded_columns),
        None if scale is None else scale.reshape(copies, -1, 1),
        lengths,
        factors.left,
        factors.right,
        preference=reading.preference,
    )
    return out


def current_rows(
    weight: PerturbedWeight, rows: Rows, count: int, dtype: torch.dtype
) -> list[Tensor]:
    """Fresh decoded rows in the model's order, one or two copies."""
    store, site, reading = weight.store, weight.site, weight.reading
    copies, noise = versions(weight)
    outs = [
        torch.empty(count, store.padded_columns, dtype=dtype, device=store.device)
        for _ in range(copies)
    ]
    read_versions(weight, version_stores(weight), rows, outs, noise)
    values = [store.in_model_order(out) for out in outs]
    if site is None or site.coordinates == "elements" or len(values) == 2:
        return values
    if site.coordinates == "low_rank":
        found = reading.low_rank(site, store.device)
        if found is None:
            return values
        lengths, factors = found
        move = store.in_model_order(factors.product(rows))
        return [(values[0] + length * move).to(dtype) for length in lengths[:, 0]]
    scales = output_factors(weight) if moves_outputs(weight) else None
    if scales is None:
        return values
    return [(values[0] * scale[0, rows].unsqueeze(1)).to(dtype) for scale in scales]


def dense(weight: PerturbedWeight) -> Tensor:
    """The whole weight as it reads now, in its logical shape and dtype.

    Raises:
        UserError: inside a pair, where a perturbed weight has two values.
    """
    if weight.reading.copies(weight.site) == 2:
        raise UserError(
            f"{weight.path} is used by an operation that cannot read two versions of a weight at "
            "once; set the estimator's `paired: false` or take it out of `tune`"
        )
    store = weight.store
    value = current_rows(weight, slice(0, store.rows), store.rows, weight.dtype)[0]
    if weight.transposed:  # one matrix, or a stack of experts'
        value = value.view(*weight.shape[:-2], -1, store.columns).mT
    return value.reshape(weight.shape)


def add_bias(out: Tensor, bias: Tensor | None) -> Tensor:
    """``out + bias``, where the bias may be a perturbed weight of its own."""
    if bias is None:
        return out
    site = getattr(bias, "site", None)
    if site is None or bias.reading.copies(site) == 1:  # type: ignore[attr-defined]
        return out + bias
    plus, minus = (row.flatten() for row in current_rows(bias, slice(0, 1), 1, bias.dtype))  # type: ignore[arg-type]
    first, second = out.chunk(2, dim=0)
    return torch.cat((first + plus, second + minus))


def embedding(indices: Tensor, weight: PerturbedWeight) -> Tensor:
    """Rows of the weight for each index, ``[..., columns]``; the two halves of a pair differ.

    Raises:
        UserError: inside a pair, if the first dimension of the indices is not the doubled batch.
    """
    flat = indices.reshape(-1)
    values = current_rows(weight, flat, flat.numel(), weight.dtype)
    if len(values) == 1:
        return values[0].reshape(*indices.shape, -1)
    if indices.shape[0] % 2:
        raise UserError(
            f"embedding {weight.path} is looked up once for both halves of a pair; "
            "set the estimator's `paired: false` or take it out of `tune`"
        )
    half = flat.numel() // 2
    both = torch.cat((values[0][:half], values[1][half:]))
    return both.reshape(*indices.shape, -1)
