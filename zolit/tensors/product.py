"""Products with stored weights, which are decoded and perturbed in chunks of rows."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.formats.rows import Rows, chunks
from zolit.kernels.activations import quantize_activations
from zolit.tensors.outputs import Outputs
from zolit.tensors.reading import Reading
from zolit.tensors.site import Site
from zolit.tensors.versions import AS_STORED, Versions
from zolit.tensors.workspace import Buffers


class Weight(Protocol):
    """The attributes of a `zolit.tensors.weight.PerturbedWeight` that a product needs."""

    store: StoredWeight
    site: Site | None
    reading: Reading
    path: str
    transposed: bool

    @property
    def shape(self) -> torch.Size: ...

    @property
    def dtype(self) -> torch.dtype: ...


def matmul(x: Tensor, weight: Weight, scaled: bool = True) -> Tensor:
    """``x @ W.T`` with the weight as it reads now.

    Inside a pair the first half of ``x`` along its first dimension is multiplied by ``W+``, the
    weight at plus, and the second half by ``W-``.

    Args:
        x: ``[..., columns]`` float.
        weight: a weight of ``[rows, columns]``.
        scaled: whether to multiply the output channels by their factors, where these are what
            moves. False leaves it to the caller, who asks for them by `factors_by_row`.

    Returns:
        ``[..., rows]`` in the dtype of ``x``.
    """
    store = weight.store
    if store.integer_products:
        codes, scale = quantize_activations(x, weight.reading.preference)
        return quantized_matmul(codes, scale, weight, x.dtype, scaled)
    versions = current_versions(weight)
    floats = store.floats()
    if floats is not None and versions.as_stored:
        out = F.linear(x, floats)
    else:
        out = _product(x, weight, versions)
    return _change_outputs(out, x, None, weight, scaled)


def current_versions(weight: Weight) -> Versions:
    """The versions of its elements that a weight reads as now."""
    site = weight.site
    if site is None:
        return AS_STORED
    stretched = weight.reading.stretch(site)
    if stretched is not None:
        return stretched
    return site.coordinates.versions(weight.store, site, weight.reading)


def current_outputs(weight: Weight) -> Outputs | None:
    """How a product with the decoded weight changes now; None if it does not."""
    site = weight.site
    if site is None or weight.reading.stretch(site) is not None:
        return None
    return site.coordinates.outputs(weight.store, site, weight.reading)


def scales_outputs(weight: Weight) -> bool:
    """Whether a direction on this weight is a factor for each output channel."""
    return weight.site is not None and weight.site.coordinates.scales_outputs(weight.store)


def factors_by_row(x: Tensor, weight: Weight) -> Tensor:
    """The current factors of the output channels of a product, for each row of a batch.

    Args:
        x: ``[B, ...]``, the other factor of the product; inside a pair its halves are those of
            `matmul`.
        weight: a weight of ``[rows, columns]``.

    Returns:
        ``[B, 1, rows]`` float32; ones where the weight is not perturbed.
    """
    outputs = current_outputs(weight) if scales_outputs(weight) else None
    if outputs is None or outputs.factors is None:
        return torch.ones((x.shape[0], 1, weight.store.rows), device=x.device)
    _check_halves(x, weight, outputs.copies)
    return outputs.factors.repeat_interleave(x.shape[0] // outputs.copies, dim=0)


def _product(x: Tensor, weight: Weight, versions: Versions) -> Tensor:
    """The product, by chunks of the weight's rows that are decoded in all versions at once."""
    store, preference, workspace = weight.store, weight.reading.preference, weight.reading.workspace
    copies, columns = versions.copies, store.padded_columns
    _check_halves(x, weight, copies)
    out = x.new_empty(copies, x.numel() // (x.shape[-1] * copies), store.rows)
    factor = store.activations(x).reshape(copies, -1, columns)
    for rows in chunks(store.rows, workspace.rows_per_chunk(columns, x.element_size())):
        buffers = workspace.buffers(copies, rows.stop - rows.start, columns, x.dtype, x.device)
        versions.read(store, rows, buffers.parts, preference)
        _multiply(factor, buffers, out[:, :, rows])
    return out.view(*x.shape[:-1], store.rows)


def _multiply(factor: Tensor, weights: Buffers, out: Tensor) -> None:
    """``out[c] = factor[c] @ weights[c].T``; ``out`` may be some columns of a wider tensor."""
    if out.is_contiguous():
        # One batched product, whose parts oneDNN runs in parallel. Single products of a few hundred
        # rows would get one thread each (benchmarks/products.py).
        torch.bmm(factor, weights.whole.transpose(1, 2), out=out)
        return
    for copy, weight in enumerate(weights.parts):
        torch.mm(factor[copy], weight.t(), out=out[copy])


def quantized_matmul(
    codes: Tensor, scale: Tensor, weight: Weight, dtype: torch.dtype, scaled: bool = True
) -> Tensor:
    """`matmul` of activations that are quantized already, with a weight that has integer products.

    Args:
        codes: ``[..., columns]`` int8; inside a pair the halves are those of `matmul`.
        scale: ``[..., 1]`` float32, of each row of ``codes``.
        weight: a weight of ``[rows, columns]``.
        dtype: of the result.
        scaled: see `matmul`.

    Returns:
        ``[..., rows]``.
    """
    store = weight.store
    versions = current_versions(weight)
    copies = versions.copies
    _check_halves(codes, weight, copies)
    out = codes.new_empty(scale.numel(), store.rows, dtype=dtype)
    store.multiply(
        codes.view(copies, -1, store.columns),
        scale.view(-1, 1),
        versions.noise,
        out,
        weight.reading.workspace,
        weight.reading.preference,
    )
    return _change_outputs(out.view(*codes.shape[:-1], store.rows), codes, scale, weight, scaled)


def _check_halves(x: Tensor, weight: Weight, copies: int) -> None:
    if x.numel() // x.shape[-1] % copies:
        raise UserError(
            f"a paired read needs an even batch, but {weight.path} got {tuple(x.shape)}; "
            "set the estimator's `paired: false`"
        )


def _change_outputs(
    out: Tensor, x: Tensor, scale: Tensor | None, weight: Weight, scaled: bool
) -> Tensor:
    """Change a product in place along the current direction, unless the decoded weight was.

    Args:
        out: ``[..., rows]``, the product with the decoded weight.
        x: ``[..., columns]``, the other factor.
        scale: ``[..., 1]``, factor of each row of ``x``; None for 1.
        weight: the weight.
        scaled: see `matmul`.
    """
    if not scaled and scales_outputs(weight):
        return out
    outputs = current_outputs(weight)
    if outputs is not None:
        _check_halves(x, weight, outputs.copies)
        outputs.change_product(out, x, scale, weight.store, weight.reading.preference)
    return out


def current_rows(weight: Weight, rows: Rows, count: int, dtype: torch.dtype) -> list[Tensor]:
    """Some rows of a weight as it reads now, newly decoded, in one or two versions.

    Args:
        weight: a weight of ``[rows, columns]``.
        rows: which rows.
        count: how many these are.
        dtype: of the result.

    Returns:
        ``[count, columns]`` for each version, its columns in the model's order.
    """
    store, versions = weight.store, current_versions(weight)
    outs = [
        torch.empty(count, store.padded_columns, dtype=dtype, device=store.device)
        for _ in range(versions.copies)
    ]
    versions.read(store, rows, outs, weight.reading.preference)
    values = [store.in_model_order(out) for out in outs]
    outputs = current_outputs(weight)
    return values if outputs is None else outputs.change_rows(values[0], rows, store)


def dense(weight: Weight) -> Tensor:
    """The whole weight as it reads now, in its logical shape and dtype.

    Raises:
        UserError: inside a pair, since a perturbed weight has two values there.
    """
    if weight.reading.copies(weight.site) == 2:
        raise UserError(
            f"{weight.path} is used by an operation that cannot read two versions of a weight at "
            "once; set the estimator's `paired: false` or take it out of `tune`"
        )
    store = weight.store
    value = current_rows(weight, slice(0, store.rows), store.rows, weight.dtype)[0]
    if weight.transposed:  # one matrix, or those of several experts
        value = value.view(*weight.shape[:-2], -1, store.columns).mT
    return value.reshape(weight.shape)


def add_bias(out: Tensor, bias: Tensor | None) -> Tensor:
    """``out + bias``, where the bias may be None or a weight that is perturbed.

    Args:
        out: ``[..., rows]``; inside a pair the halves are those of `matmul`.
        bias: ``[rows]``.
    """
    if bias is None:
        return out
    site = getattr(bias, "site", None)
    if site is None or bias.reading.copies(site) == 1:  # type: ignore[attr-defined]
        return out + bias
    plus, minus = (row.flatten() for row in current_rows(bias, slice(0, 1), 1, bias.dtype))  # type: ignore[arg-type]
    first, second = out.chunk(2, dim=0)
    return torch.cat((first + plus, second + minus))


def embedding(indices: Tensor, weight: Weight) -> Tensor:
    """The row of the weight for each index, as the weight reads now.

    Args:
        indices: ``[...]`` integers; inside a pair the first half along the first dimension reads
            the weight at plus, the second half at minus.
        weight: a weight of ``[rows, columns]``.

    Returns:
        ``[..., columns]``.

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
