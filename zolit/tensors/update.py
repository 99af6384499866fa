"""Move a stored weight along regenerated directions."""

from dataclasses import dataclass

import torch
from torch import Tensor

from zolit.kernels.accumulate import Query, accumulate
from zolit.noise import WORD, control_words, fold, split_key
from zolit.tensors.affine import AffineWeight
from zolit.tensors.store import row_indices, to_blocks
from zolit.tensors.weight import PerturbedWeight

_CHUNK_ELEMENTS = 1 << 20
"""Coordinates updated at once: the sum over queries of a chunk stays in cache."""

SCALE_FLOOR = 1e-7
"""Smallest scale that an update leaves (QZO's code clamps at the same value)."""


def quantization_error(store: AffineWeight, weight: Tensor) -> Tensor:
    """What rounding took from a weight: ``(weight - decoded) / scale``.

    Args:
        store: the weight, just quantized.
        weight: ``[rows, columns]`` float that it was made of.

    Returns:
        ``[rows, padded_columns]`` float16, in code units.
    """
    error = torch.empty(store.rows, store.padded_columns, dtype=torch.float16, device=store.device)
    chunk = max(1, _CHUNK_ELEMENTS // store.padded_columns)
    for start in range(0, store.rows, chunk):
        rows = slice(start, min(start + chunk, store.rows))
        decoded = torch.empty(rows.stop - start, store.padded_columns, device=store.device)
        store.read(rows, [decoded], None, "reference")
        rest = to_blocks(weight[rows].float()).flatten(1) - decoded
        to_blocks(rest, store.groups).div_(store.scale[rows].view(-1, store.groups, 1, 1))
        error[rows] = rest
    return error


@dataclass(frozen=True)
class Feedback:
    """Error feedback: what rounding left undone is carried to the next step.

    Attributes:
        residual: ``[rows, padded_columns]`` float16 or float32, updated in place.
        decay: factor of the residual (QES: 0.9; 1 loses nothing).
    """

    residual: Tensor
    decay: float


def move(
    weight: PerturbedWeight,
    keys: list[int],
    coefficients: list[float],
    rounding_key: int,
    feedback: Feedback | None = None,
) -> None:
    """``theta += sum_q coefficients[q] * z(keys[q])`` in units of the coordinate, in place.

    Integer codes, float8 and bfloat16 are rounded stochastically, or to nearest with error
    feedback; every query's direction takes the update's rounding draw, distinct from the one its
    loss was measured with (QuZO's u_2).

    Args:
        weight: a weight with a site.
        keys: 64-bit key of each direction.
        coefficients: signed step along each, in coordinate units.
        rounding_key: key of this step's stochastic rounding.
        feedback: error feedback of this weight, None without.
    """
    site, store, reading = weight.site, weight.store, weight.reading
    if site is None:
        raise ValueError(f"{weight.path} has no site among the perturbed weights")
    device, direction = store.device, reading.direction
    controls = [
        torch.tensor(
            control_words(direction, key, site.index, update=True),
            dtype=torch.int32,
            device=device,
        )
        for key in keys
    ]
    unit = torch.tensor(site.unit, dtype=torch.float32, device=device)
    steps = [torch.tensor(c, dtype=torch.float32, device=device) for c in coefficients]
    if site.coordinates == "output_scales":
        _move_scales(weight, controls, [unit[1] * step for step in steps])
        return
    words = split_key(fold(rounding_key, site.index))
    rounding = torch.tensor(words, dtype=torch.int32, device=device)
    decay = None if feedback is None else torch.tensor(feedback.decay, device=device)
    chunk = max(1, _CHUNK_ELEMENTS // store.padded_columns)
    for start in range(0, store.rows, chunk):
        rows = slice(start, min(start + chunk, store.rows))
        total = None
        if len(keys) > 1:
            shape = (rows.stop - start, store.padded_columns)
            total = reading.buffers(1, *shape, torch.float32, device).parts[0].zero_()
            index = row_indices(rows, device)
            for control, step in zip(controls[:-1], steps[:-1], strict=True):
                accumulate(
                    to_blocks(total), index, direction, control, step, preference=reading.preference
                )
        residual = None if feedback is None else feedback.residual[rows]
        query = Query(direction, controls[-1], steps[-1])
        store.apply(rows, total, unit, rounding, reading.preference, residual, decay, query)


def _move_scales(weight: PerturbedWeight, controls: list[Tensor], steps: list[Tensor]) -> None:
    store, reading = weight.store, weight.reading
    first = row_indices(slice(0, 1), store.device)
    factor = torch.ones(1, 1, -(-store.rows // WORD), WORD, device=store.device)
    for control, step in zip(controls, steps, strict=True):
        accumulate(factor, first, reading.direction, control, step, preference=reading.preference)
    store.scale_rows(factor.flatten()[: store.rows], SCALE_FLOOR)
