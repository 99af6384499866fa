"""Products of experts: each token meets the matrix of the expert that it was sent to.

The experts of a layer are one stored matrix, their rows one below the other. Its rows are decoded
once for both signs of a pair, in chunks, and multiplied expert by expert.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from zolit.formats.base import StoredWeight, chunks
from zolit.kernels.activations import integer_product, quantize_activations
from zolit.tensors.outputs import Part
from zolit.tensors.product import current_outputs, current_rows, current_versions
from zolit.tensors.weight import PerturbedWeight


@dataclass(frozen=True)
class Sorted:
    """Choices of experts, sorted by half of a pair and by expert.

    Attributes:
        order: ``[S]`` int64, number of the choice at each place.
        parts: the places of each expert's choices; experts without choices have none.
        left: the places of choices that name no expert; they come last in their half.
    """

    order: Tensor
    parts: list[Part]
    left: list[slice]


def sort_choices(experts: Tensor, count: int, halves: int) -> Sorted:
    """Sort choices by half and expert.

    Args:
        experts: ``[S]`` int64, the expert of each choice; S is a multiple of ``halves``. Numbers
            beyond ``count`` name no expert (transformers' mark of experts elsewhere).
        count: experts.
        halves: 2 if the second half of the choices reads other weights than the first.
    """
    kinds = count + 1
    keys = experts.clamp(max=count).view(halves, -1)
    keys = keys + kinds * torch.arange(halves, device=experts.device).unsqueeze(1)
    order = keys.flatten().argsort(stable=True)
    if experts.is_meta:
        # On the meta device there are no numbers: all experts get equally many.
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
    """``x @ W_e.T + b_e`` with each row's own expert e, as the weights read now.

    Args:
        x: ``[S, columns]`` float, in the order of ``choices``.
        weight: ``[E, rows, columns]``; ``[E, columns, rows]`` if ``transposed``. A
            `PerturbedWeight`, or plain.
        bias: ``[E, rows]``, a `PerturbedWeight` or plain; None for none.
        choices: the rows of each expert.
        transposed: whether a matrix is ``[columns, rows]``.

        Returns:
            ``[S, rows]`` in the dtype of ``x``; 0 in rows without an expert.
    """
    if not isinstance(weight, PerturbedWeight) and has_torch_function((x, weight)):
        # So that a mode sees one operation, as of a linear layer (`zolit.models.trials.stand_ins`).
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
    """The product with a stored stack, changed along the current direction."""
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
            # Floats without a perturbation are not padded.
            mine = factor[part.tokens, : matrix.shape[1]]
            torch.mm(mine, matrix.t(), out=out[part.tokens, columns])
    _change_outputs(out, x, None, weight, parts)


def _decoded(
    weight: PerturbedWeight, parts: list[Part], count: int, x: Tensor
) -> Iterator[tuple[slice, list[Tensor]]]:
    """Decoded rows of the experts with tokens, chunk by chunk, in one or two versions."""
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
    """Slices of at most ``most`` rows: whole experts, or a part of one; only experts with
    tokens."""
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
    """The parts whose expert has rows in ``rows``, with the place of these rows in ``rows`` and in
    the expert."""
    for part in parts:
        first = part.expert * count
        start, stop = max(first, rows.start), min(first + count, rows.stop)
        if start < stop:
            inside = slice(start - rows.start, stop - rows.start)
            yield part, inside, slice(start - first, stop - first)


def _change_outputs(
    out: Tensor, x: Tensor, scale: Tensor | None, weight: PerturbedWeight, parts: list[Part]
) -> None:
    """Change a product along the current direction, if this is not done in the weight; in place."""
    outputs = current_outputs(weight)
    if outputs is not None:
        outputs.change_experts(out, x, scale, weight.store, parts)
