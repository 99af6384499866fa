"""Move a stored weight along regenerated directions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from zolit.formats.affine import AffineWeight
from zolit.formats.base import StoredWeight, chunks, own_rows, row_indices, to_blocks
from zolit.kernels.accumulate import accumulate
from zolit.kernels.arguments import Query, Update
from zolit.noise import rounding_table
from zolit.tensors.low_rank import Factors
from zolit.tensors.reading import Reading, Site
from zolit.tensors.scales import relative_length, scale_step
from zolit.tensors.vectors import Vectors
from zolit.tensors.weight import PerturbedWeight

_CHUNK_ELEMENTS = 1 << 20
"""Coordinates updated at once: the sum over queries of a chunk stays in cache."""

SCALE_FLOOR = 1e-7
"""Smallest scale that an update leaves (QZO's code clamps at the same value)."""


def _chunks(store: StoredWeight) -> Iterator[slice]:
    return chunks(store.rows, max(1, _CHUNK_ELEMENTS // store.padded_columns))


def quantization_error(store: AffineWeight, weight: Tensor) -> Tensor:
    """What rounding took from a weight: ``(weight - decoded) / scale``.

    Args:
        store: the weight, just quantized.
        weight: ``[rows, columns]`` float that it was made of.

    Returns:
        ``[rows, padded_columns]`` float16, in code units.
    """
    error = torch.empty(store.rows, store.padded_columns, dtype=torch.float16, device=store.device)
    for rows in _chunks(store):
        decoded = torch.empty(rows.stop - rows.start, store.padded_columns, device=store.device)
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
    weights: Sequence[PerturbedWeight],
    keys: list[int],
    coefficients: list[float],
    rounding_key: int,
    feedbacks: Sequence[Feedback | None],
) -> None:
    """``theta += sum_q coefficients[q] * z(keys[q])`` in units of the coordinate, in place.

    Integer codes, float8 and bfloat16 are rounded stochastically, or to nearest with error
    feedback; every query's direction takes the update's rounding draw, distinct from the one its
    loss was measured with (QuZO's u_2).

    Args:
        weights: weights of one model, each with a site.
        keys: 64-bit key of each direction.
        coefficients: signed step along each, in coordinate units.
        rounding_key: key of this step's stochastic rounding.
        feedbacks: error feedback of each weight, None without.
    """
    if not weights or not keys:
        return
    step = _Step.of(weights[0], keys, coefficients, rounding_key)
    scaled = []
    for weight, feedback in zip(weights, feedbacks, strict=True):
        if weight.site is None:
            raise ValueError(f"{weight.path} has no site among the perturbed weights")
        if weight.site.coordinates == "output_scales":
            scaled.append((weight, weight.site))
        elif weight.site.coordinates == "scales":
            _move_each_scale(weight, weight.site, step)
        elif weight.site.coordinates == "low_rank":
            _move_low_rank(weight, weight.site, step, feedback)
        else:
            _move_elements(weight, weight.site, step, feedback)
    if scaled:
        _move_scales(scaled, step)


@dataclass(frozen=True)
class _Step:
    """Tensors that the moves of all weights in a step are made of.

    Attributes:
        reading: the state that the weights share.
        keys: 64-bit key of each query's direction.
        controls: key words of each query's direction, by the index of the site.
        factors: of each query's direction, by the index of a site of low rank.
        coefficients: float32 scalar of each query.
        roundings: key words of the stochastic rounding, by the index of the site.
    """

    reading: Reading
    keys: list[int]
    controls: list[dict[int, Tensor]]
    factors: list[dict[int, Factors]]
    coefficients: list[Tensor]
    roundings: dict[int, Tensor]

    @classmethod
    def of(
        cls, weight: PerturbedWeight, keys: list[int], coefficients: list[float], rounding_key: int
    ) -> "_Step":
        reading, device = weight.reading, weight.store.device
        table = rounding_table(rounding_key, reading.sites).to(device)
        lengths = torch.tensor(coefficients, dtype=torch.float32, device=device) * reading.rarity
        return cls(
            reading,
            keys,
            [reading.controls(key, device, update=True) for key in keys],
            [reading.factors(key, device) for key in keys],
            own_rows(lengths),
            dict(zip(reading.sites, own_rows(table), strict=True)),
        )

    def queries(self, site: Site) -> list[int]:
        """Numbers of the queries whose direction moves the weight at ``site``."""
        return [q for q, key in enumerate(self.keys) if self.reading.includes(site, key)]


def _move_elements(
    weight: PerturbedWeight, site: Site, step: _Step, feedback: Feedback | None
) -> None:
    store, reading = weight.store, weight.reading
    unit = _constant(site.unit, store.device)
    decay = None if feedback is None else _constant(feedback.decay, store.device)
    queries = [
        Query(reading.direction, step.controls[q][site.index], step.coefficients[q])
        for q in step.queries(site)
    ]
    if not queries:
        return
    *earlier, last = queries
    for rows in _chunks(store):
        total = None
        if earlier:
            shape = (rows.stop - rows.start, store.padded_columns)
            total = reading.buffers(1, *shape, torch.float32, store.device).parts[0].zero_()
            blocks, index = to_blocks(total), row_indices(rows, store.device)
            for query in earlier:
                accumulate(blocks, index, query, preference=reading.preference)
        residual = None if feedback is None else feedback.residual[rows]
        update = Update(total, unit, step.roundings[site.index], residual, decay, last)
        store.apply(rows, update, reading.preference)


def _move_low_rank(
    weight: PerturbedWeight, site: Site, step: _Step, feedback: Feedback | None
) -> None:
    """The sum over queries is one product of their factors, chunk by chunk of rows.

    That of one query of rank 1 is never made: its left factor is the length of a row's unit.
    """
    store, reading = weight.store, weight.reading
    unit = _constant(site.unit, store.device)
    decay = None if feedback is None else _constant(feedback.decay, store.device)
    pairs = [(step.factors[q][site.index], step.coefficients[q]) for q in step.queries(site)]
    if not pairs:
        return
    all_queries = Factors(
        torch.cat([factors.left * coefficient for factors, coefficient in pairs]),
        torch.cat([factors.right for factors, _ in pairs]),
    )
    for rows in _chunks(store):
        left = all_queries.left[:, rows]
        update = Update(
            all_queries.right if len(left) == 1 else all_queries.product(rows),
            unit.unsqueeze(1) * left if len(left) == 1 else unit,
            step.roundings[site.index],
            None if feedback is None else feedback.residual[rows],
            decay,
        )
        store.apply(rows, update, reading.preference)


def _move_scales(weights: list[tuple[PerturbedWeight, Site]], step: _Step) -> None:
    """The factors of all weights at once."""
    reading, device = weights[0][0].reading, weights[0][0].store.device
    vectors = Vectors.of([weight.store.rows for weight, _ in weights], device)
    factors = torch.ones(vectors.shape, device=device)
    units = torch.tensor([site.unit[1] for _, site in weights], device=device)
    for key, table, coefficient in zip(step.keys, step.controls, step.coefficients, strict=True):
        inside = [reading.includes(site, key) for _, site in weights]
        lengths = units * coefficient * torch.tensor(inside, device=device)
        accumulate(
            factors,
            vectors.rows,
            Query(
                reading.direction,
                vectors.by_word(torch.stack([table[site.index] for _, site in weights])),
                vectors.by_word(lengths).view(-1, 1, 1, 1),
            ),
            preference=reading.preference,
        )
    for (weight, _), factor in zip(weights, vectors.split(factors), strict=True):
        weight.store.multiply_scales(factor.unsqueeze(1), SCALE_FLOOR)


def _move_each_scale(weight: PerturbedWeight, site: Site, step: _Step) -> None:
    store, reading = weight.store, weight.reading
    scale = store.scales()["scale"]
    total = torch.zeros_like(scale)
    for q in step.queries(site):
        query = Query(reading.direction, step.controls[q][site.index], step.coefficients[q])
        total += scale_step(scale, query, reading.preference)
    factor = 1.0 + total * relative_length(scale, _constant(site.unit, scale.device))
    store.multiply_scales(factor, SCALE_FLOOR)


@lru_cache(maxsize=64)
def _constant(value: float | tuple[float, ...], device: torch.device) -> Tensor:
    # Shared by all weights and steps; an inference tensor would compile kernels anew.
    with torch.inference_mode(False):
        return torch.tensor(value, dtype=torch.float32, device=device)
