"""Products with stored weights that gradients pass through, as QLoRA's do (arXiv 2305.14314)."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from zolit.formats.rows import chunks
from zolit.kernels.activations import quantize_activations
from zolit.tensors import product
from zolit.tensors.product import Weight


def matmul(x: Tensor, weight: Weight) -> Tensor:
    """`zolit.tensors.product.matmul`, with a gradient for ``x`` where one is asked for.

    The weight is decoded again in the backward pass, chunk by chunk of its rows, so that nothing of
    its size is kept from one pass to the other, nor ``x``.

    Args:
        x: ``[..., columns]`` float.
        weight: a weight of ``[rows, columns]``, which gets no gradient.

    Returns:
        ``[..., rows]`` in the dtype of ``x``.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        made: Tensor = _Product.apply(x, weight)
        return made
    return product.matmul(x, weight)


class _Product(torch.autograd.Function):
    """``x @ W.T``; backward ``g @ W``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Any) -> Tensor:
        ctx.weight = weight
        return product.matmul(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return input_gradient(gradient, ctx.weight), None


def input_gradient(gradient: Tensor, weight: Weight) -> Tensor:
    """``gradient @ W``, the rows of W decoded in chunks.

    What the product rounds its activations to counts as not rounded: the gradient passes straight
    through.

    Args:
        gradient: ``[..., rows]`` float, of the product.
        weight: a weight of ``[rows, columns]``.

    Returns:
        ``[..., columns]`` in the dtype of ``gradient``. Where W takes several chunks, their sum is
        made in float32.
    """
    store, reading = weight.store, weight.reading
    flat, columns = gradient.reshape(-1, store.rows), store.padded_columns
    most = reading.workspace.rows_per_chunk(columns, flat.element_size())
    total: Tensor | None = None
    for rows in chunks(store.rows, most):
        shape = rows.stop - rows.start, columns
        [decoded] = reading.workspace.buffers(1, *shape, flat.dtype, flat.device).parts
        store.read(rows, [decoded], None, reading.preference)
        part = flat[:, rows] @ decoded
        if store.rows > most:
            part = part.float()
        total = part if total is None else total.add_(part)
    if total is None:
        raise ValueError("a weight without rows has no product")
    return store.in_model_order(total).to(gradient.dtype).reshape(*gradient.shape[:-1], -1)


def weight_gradient(gradient: Tensor, x: Tensor, weight: Weight) -> Tensor:
    """``gradient.T @ Q(x)``: of the weight of a product, as if it were not rounded.

    Args:
        gradient: ``[..., rows]`` float, of the product.
        x: ``[..., columns]`` float, its other factor. Where the product rounds it, the rounded
            numbers count.
        weight: the weight as it is stored.

    Returns:
        ``[rows, columns]`` in the dtype of ``gradient``.
    """
    store = weight.store
    if store.integer_products:
        codes, scale = quantize_activations(x, weight.reading.preference)
        read = (codes.float() * scale).to(gradient.dtype)
    else:
        read = store.in_model_order(store.activations(x).reshape(-1, store.padded_columns))
    return gradient.reshape(-1, store.rows).mT @ read.reshape(-1, store.columns)
