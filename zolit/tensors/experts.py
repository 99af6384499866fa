"""Products of mixture-of-experts layers: each token is multiplied by the matrix of its expert.

The experts of a layer are stored as one matrix, the rows of one expert below those of another. The
rows are decoded in chunks, once for both signs of a pair, and multiplied expert by expert.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from zolit.formats.base import StoredWeight
from zolit.formats.rows import chunks
from zolit.kernels.activations import integer_product, quantize_activations
from zolit.tensors.outputs import Part
from zolit.tensors.product import current_outputs, current_rows, current_versions
from zolit.tensors.weight import PerturbedWeight


@dataclass(frozen=True)
class Sorted:
    """The choices of experts, sorted by half of a pair and within it by expert.

    A choice is one token together with one of the experts that it is sent to.

    Attributes:
        order: ``[S]`` int64, the number of the choice at each sorted place.
        parts: the places of each expert's choices. An expert without a choice has no part.
        left: the places of choices without an expert, which come last in their half.
    """

    order: Tensor
    parts: list[Part]
    left: list[slice]


def sort_choices(experts: Tensor, count: int, halves: int) -> Sorted:
    """Sort choices by half and expert.

    Args:
        experts: ``[S]`` int64, the expert of each choice; S is a multiple of ``halves``. A number
            of ``count`` or more stands for no expert; transformers marks experts on other devices
            so.
        count: number of experts.
        halves: 2 if the second half of the choices reads other weights than the first, else 1.

    Example:
        >>> found = sort_choices(torch.tensor([1, 0, 1]), count=2, halves=1)
        >>> found.order.tolist(), [(part.expert, part.tokens) for part in found.parts]
        ([1, 0, 2], [(0, slice(0, 1, None)), (1, slice(1, 3, None))])
    """
    kinds = count + 1
    keys = experts.clamp(max=count).view(halves, -1)
    keys = keys + kinds * torch.arange(halves, device=experts.device).unsqueeze(1)
    order = keys.flatten().argsort(stable=True)
    if experts.is_meta:
        # The meta device has no numbers, so all experts count as chosen equally often.
        share = len(experts) // halves
        sizes = [share * (i + 1) // count - share * i // count for i in range(count)]
        sizes = [*sizes, 0] * halves
    else:
        sizes = torch.bincount(keys.flatten(), minlength=kinds * halves).tolist()
    ends = list(accumulate(sizes))
    parts, left = [], []
    for place, (size, end) in enumerate(zip(sizes, ends, strict=True)):
        half, expert = divmod(place, kinds)
        if size and expert < count:
            parts.append(Part(expert, half, slice(end - size, end)))
        elif size:
            left.append(slice(end - size, end))
    return Sorted(order, parts, left)


def expert_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, choices: Sorted, transposed: bool
) -> Tensor:
    """``x @ W_e.T + b_e`` with the expert e of each row, as the weights read now.

    Args:
        x: ``[S, columns]`` float, in the order of ``choices``.
        weight: ``[E, rows, columns]``, or ``[E, columns, rows]`` if ``transposed``; a
            `PerturbedWeight` or a plain tensor.
        bias: ``[E, rows]``, a `PerturbedWeight` or a plain tensor; None for none.
        choices: which rows of ``x`` are of which expert.
        transposed: whether a matrix is ``[columns, rows]``.

    Returns:
        ``[S, rows]`` in the dtype of ``x``; 0 in rows without an expert.
    """
    if not isinstance(weight, PerturbedWeight) and has_torch_function((x, weight)):
        # A torch-function mode then sees one operation, as it does of a linear layer
        # (`zolit.models.trials.stand_ins`).
        made: Tensor = handle_torch_function(
            expert_linear, (x, weight), x, weight, bias, choices, transposed
        )
        return made
    rows = weight.shape[2 if transposed else 1]
    out = x.new_empty(len(x), rows)
    for span in choices.left:
        out[span] = 0
    if isinstance(weight, PerturbedWeight):
        _multiply_stored(x, weight, choices.parts, out)
    else:
        for part in choices.parts:
            matrix = weight[part.expert]
            factor = matrix if transposed else matrix.t()
            torch.mm(x[part.tokens], factor, out=out[part.tokens])
    if bias is not None:
        each = [bias]
        if isinstance(bias, PerturbedWeight):
            each = current_rows(bias, slice(0, len(bias)), len(bias), bias.dtype)
        for part in choices.parts:
            out[part.tokens] += each[part.half % len(each)][part.expert]
    return out


def _multiply_stored(x: Tensor, weight: PerturbedWeight, parts: list[Part], out: Tensor) -> None:
    """The product with stored experts, perturbed along the current direction."""
    store = weight.store
    if store.integer_products:
        codes, scale = quantize_activations(x, weight.reading.preference)
        _multiply_integers(codes, scale, weight, parts, out)
        _change_outputs(out, codes, scale, weight, parts)
        return
    factor, count = store.activations(x), out.shape[1]
    for rows, matrices in _decoded(weight, parts, count, x):
        for part, inside, columns in _meeting(parts, rows, count):
            matrix = matrices[part.half % len(matrices)][inside]
            # Floats that are read as stored have no padding.
            mine = factor[part.tokens, : matrix.shape[1]]
            torch.mm(mine, matrix.t(), out=out[part.tokens, columns])
    _change_outputs(out, x, None, weight, parts)


def _decoded(
    weight: PerturbedWeight, parts: list[Part], count: int, x: Tensor
) -> Iterator[tuple[slice, list[Tensor]]]:
    """The decoded rows of experts that have tokens: chunk by chunk, in one or two versions."""
    store, workspace = weight.store, weight.reading.workspace
    versions = current_versions(weight)
    floats = store.floats()
    if floats is not None and versions.as_stored:
        yield slice(0, store.rows), [floats]
        return
    most = workspace.rows_per_chunk(store.padded_columns, x.element_size())
    for rows in _chunks(store, parts, count, most):
        shape = (rows.stop - rows.start, store.padded_columns)
        buffers = workspace.buffers(versions.copies, *shape, x.dtype, x.device)
        versions.read(store, rows, buffers.parts, weight.reading.preference)
        yield rows, buffers.parts


def _multiply_integers(
    codes: Tensor,
    scale: Tensor,
    weight: PerturbedWeight,
    parts: list[Part],
    out: Tensor,
) -> None:
    """The product with int8 activations, ``[S, columns]`` and their scales ``[S, 1]``."""
    store, reading, count = weight.store, weight.reading, out.shape[1]
    versions = current_versions(weight)
    copies, noise = versions.copies, versions.noise
    workspace, preference = reading.workspace, reading.preference
    for rows in _chunks(store, parts, count, workspace.rows_per_chunk(store.columns, 1)):
        matrices, sizes = store.code_versions(rows, copies, noise, workspace, preference)
        for part, inside, columns in _meeting(parts, rows, count):
            factor, lengths, target = codes[part.tokens], scale[part.tokens], out[part.tokens]
            matrix, size = matrices[part.half % copies][inside], sizes[inside]
            target = target[:, columns]
            integer_product(factor, lengths, matrix, size, target, preference)


def _chunks(store: StoredWeight, parts: list[Part], count: int, most: int) -> Iterator[slice]:
    """Slices of at most ``most`` rows, of whole experts or of a part of one.

    Args:
        store: the stacked experts.
        parts: the tokens of each expert; slices without an expert that has tokens are left out.
        count: rows of an expert.
        most: rows of a slice.
    """
    needed = {part.expert for part in parts}
    experts = store.rows // count
    if most < count:
        for expert in sorted(needed):
            for rows in chunks(count, most):
                yield slice(expert * count + rows.start, expert * count + rows.stop)
        return
    for some in chunks(experts, most // count):
        if not needed.isdisjoint(range(some.start, some.stop)):
            yield slice(some.start * count, some.stop * count)


def _meeting(parts: list[Part], rows: slice, count: int) -> Iterator[tuple[Part, slice, slice]]:
    """The parts whose expert has rows in a slice of the stack.

    Args:
        parts: the tokens of each expert.
        rows: a slice of the stack.
        count: rows of an expert.

    Yields:
        A part, the place of its expert's rows within ``rows``, and their place within the expert.
    """
    for part in parts:
        first = part.expert * count
        start, stop = max(first, rows.start), min(first + count, rows.stop)
        if start < stop:
            inside = slice(start - rows.start, stop - rows.start)
            yield part, inside, slice(start - first, stop - first)


def _change_outputs(
    out: Tensor, x: Tensor, scale: Tensor | None, weight: PerturbedWeight, parts: list[Part]
) -> None:
    """Change a product in place along the current direction, unless the decoded weight was."""
    outputs = current_outputs(weight)
    if outputs is not None:
        outputs.change_experts(out, x, scale, weight.store, parts)
