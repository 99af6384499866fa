"""Keep the entries of a weight that a mask chooses as floats beside the codes of the others."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.formats.dense import DenseWeight
from zolit.formats.rows import chunks, row_indices
from zolit.formats.sparse_overlay import SparseOverlay
from zolit.models.matrices import matrix_shape
from zolit.models.parts import StoresWeights
from zolit.models.plan import Plan, Planned
from zolit.noise import KEY_WORDS, Direction, coordinates
from zolit.supports import Support, check_shape

log = logging.getLogger(__name__)

Choose = Callable[[StoredWeight], Tensor]
"""Which entries of a weight are kept as floats (`chosen_entries`)."""

_CHUNK_ELEMENTS = 1 << 18
"""Weights looked at at once."""


def chosen_entries(support: Support, weight: StoredWeight, one: Planned) -> Tensor:
    """The entries that a mask chooses, rising ``[N]`` int64: ``row * columns + column``.

    Columns are those of the stored weight. On the meta device there are as many as are expected.

    Args:
        support: what the mask said of the weight.
        weight: as floats, or as a checkpoint stores it.
        one: its place in the plan.

    Raises:
        UserError: if all entries are chosen, or a hash chooses none. Bits may, as those of a mask
            that compares the whole model.
    """
    rows, columns, words, bits = weight.rows, weight.columns, *_told(support, weight, one)
    if words is None and bits is None:
        raise UserError(
            f"mask: lets {one.path} move whole, but SparsePerturber keeps the entries that a mask "
            "chooses one by one as floats beside the codes; use RandomMask with a fraction below 1"
        )
    if weight.device.type == "meta":
        return torch.empty(
            round(support.density * rows * columns), dtype=torch.int64, device="meta"
        )
    # A direction of signs is 0 where a coordinate stays.
    control = torch.tensor([0] * KEY_WORDS + list(words or ()), dtype=torch.int32)
    control, found = control.to(weight.device), []
    for part in chunks(rows, max(1, _CHUNK_ELEMENTS // weight.padded_columns)):
        index = row_indices(part, weight.device)
        here = None if bits is None else bits[part]
        signs = coordinates(Direction("rademacher"), control, index, 1, weight.words, here)
        place = signs.view(len(index), -1)[:, :columns].nonzero()
        found.append((place[:, 0] + part.start) * columns + place[:, 1])
    entries = torch.cat(found)
    if not len(entries):
        if bits is None:
            raise UserError(
                f"mask: leaves no entry of {one.path} ({rows} x {columns}) to move; raise its "
                "fraction, or take the weight out of `tune`"
            )
        log.warning("the mask leaves no entry of %s to move", one.path)
    return entries


def _told(
    support: Support, weight: StoredWeight, one: Planned
) -> tuple[tuple[int, int, int] | None, Tensor | None]:
    """How a support names coordinates: by a hash, by bits; None for neither."""
    check_shape(one.path, support, (weight.rows, weight.columns))
    return support.words(one.index or 0), support.on(weight.device).bits()


def marked(entries: Tensor, weight: Tensor) -> Tensor:
    """``[rows, columns]`` bool: which entries of a weight these are.

    Args:
        entries: ``[N]`` int64.
        weight: ``[rows, columns]``.
    """
    found = torch.zeros(weight.shape, dtype=torch.bool, device=weight.device)
    found.view(-1)[entries] = True
    return found


def overlaid_shapes(plan: Plan, model: nn.Module) -> dict[str, tuple[int, int]]:
    """Rows and columns of the matrices of which entries will be chosen, by name.

    Args:
        plan: of a model whose entries move.
        model: on any device.
    """
    return {
        one.path: matrix_shape(model.get_parameter(one.path), one.transposed)
        for one in plan.weights
        if one.quantized and one.index is not None
    }


def overlaid(quantizer: StoresWeights, weight: Tensor, path: str, choose: Choose) -> StoredWeight:
    """A weight whose chosen entries stand as floats beside the codes of the others.

    Where the quantizer keeps the codes of a checkpoint, these floats are the decoded ones.

    Args:
        quantizer: fitted to the entries that are not chosen.
        weight: ``[rows, columns]`` float.
        path: name of the parameter.
        choose: asked once: of the float weight, or of the codes of a checkpoint that are kept.

    Returns:
        A `SparseOverlay`; a `DenseWeight` where a checkpoint left floats, of which a mask leaves
        coordinates out without an overlay.

    Raises:
        UserError: if the format takes no floats beside it.
    """
    if quantizer.converts:
        entries = choose(DenseWeight(weight))
        values = weight.reshape(-1)[entries].float()
        dense = quantizer.store(weight, path, marked(entries, weight))
        _check_products(dense, path)
        return SparseOverlay.of(dense, entries, values)
    dense = quantizer.store(weight, path)
    if not dense.quantized:
        return dense
    _check_products(dense, path)
    entries = choose(dense)
    made = SparseOverlay.at(dense, entries, torch.zeros(len(entries), device=dense.device))
    _decode_under(made)
    return made


def _check_products(dense: StoredWeight, path: str) -> None:
    if dense.integer_products:
        raise UserError(
            f"perturber SparsePerturber keeps floats beside {path}, which the checkpoint "
            "multiplies in integers; use CodePerturber or ScalePerturber with it"
        )


def _decode_under(overlay: SparseOverlay) -> None:
    """Give the floats of an overlay the values that the weight under them has."""
    dense, width = overlay.inner, overlay.padded_columns
    for rows in chunks(dense.rows, max(1, _CHUNK_ELEMENTS // width)):
        decoded = torch.empty(rows.stop - rows.start, width, device=dense.device)
        dense.read(rows, [decoded], None, "reference")
        found = overlay.entries(rows)
        found.values.copy_(decoded.view(-1)[found.places])
