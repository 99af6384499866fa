"""Int4 weights calibrated on text: GPTQ."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from zolit.arguments import at_least
from zolit.calibration.inverse_factor import inverse_factor
from zolit.calibration.text import windows_of_text
from zolit.calibration.visitors import replace_weights
from zolit.errors import UserError
from zolit.formats.affine import check_group_size, quantize_rows, valid_group_size
from zolit.formats.int4 import Int4Weight, pack_codes
from zolit.models.experts import expert_paths
from zolit.models.parts import Excluded
from zolit.strategies.quantizer.base import Quantizer
from zolit.strategies.quantizer.excluded import filled
from zolit.strategies.quantizer.hqq import HQQ

log = logging.getLogger(__name__)

_LEVELS = 15


class GPTQ(Quantizer):
    """Groupwise int4 codes that keep the outputs of each layer (Frantar et al. 2022, arXiv
    2210.17323, Algorithm 1).

    Columns are rounded one after another. Those not yet rounded change so as to make up for the
    error, by the second moments of the layer's inputs on a calibration text. Blocks are calibrated
    in order, each on the outputs of the quantized blocks before it. For this the model is loaded
    whole.

    Experts of mixture-of-experts models are rounded to nearest on the same grid, and the log says
    so: most experts see too few tokens of a calibration text for second moments of their own.

    Args:
        text: file of calibration text with a document on each line; the paper takes C4.
        samples: number of windows of text, from the beginning of the file; the paper takes 128.
        length: tokens of a window; the paper takes 2048.
        group_size: input channels that share a scale: 32, 64 or 128, or another multiple of 32.
        damping: added to the diagonal of the second moments, as a fraction of its mean.
        grid: how the scale and zero point of a group are chosen: ``range`` spans its weights, as in
            the paper; ``half_quadratic`` takes those of `HQQ`.
        act_order: round the columns with the largest inputs first, as the authors' code can. Scales
            are then those of the weights before calibration.

    Raises:
        UserError: if an argument is out of range.

    Example:
        ::

            quantizer:
              class_path: GPTQ
              init_args:
                text: c4.txt # a document a line
                samples: 128
    """

    calibrated: ClassVar[bool] = True

    def __init__(
        self,
        text: str,
        samples: int = 128,
        length: int = 512,
        group_size: int = 64,
        damping: float = 0.01,
        grid: Literal["range", "half_quadratic"] = "range",
        act_order: bool = False,
    ) -> None:
        for name, value in (("samples", samples), ("length", length)):
            at_least(name, value, instead="try 128")
        if not 0 < damping < 1:
            raise UserError(f"damping must be in (0, 1), got {damping}; try 0.01")
        self.text = text
        self.samples = samples
        self.length = length
        self.group_size = valid_group_size(group_size)
        self.damping = damping
        self.grid = grid
        self.act_order = act_order
        self._found: dict[str, Int4Weight] = {}
        self._nearest: set[str] = set()

    def files(self) -> dict[str, str]:
        return {"text": self.text}

    def calibrate(self, model: nn.Module, tokenizer: Any, excluded: Excluded | None = None) -> None:
        ids = windows_of_text(Path(self.text), tokenizer, self.samples, self.length)

        def quantize(path: str, weight: Tensor, moments: Tensor) -> Tensor:
            check_group_size(self.group_size, weight.shape[1], path)
            left_out = None if excluded is None else excluded(path, weight)
            how = self.group_size, self.damping, GRIDS[self.grid], self.act_order
            codes, scale, zero, kept = gptq(weight, moments, *how, left_out)
            store = Int4Weight(pack_codes(codes - 8), scale, (8 - zero) * scale)
            self._found[path] = store
            decoded = torch.empty(store.rows, store.columns, dtype=weight.dtype)
            store.read(slice(0, store.rows), [decoded], None, "reference")
            if left_out is not None:
                decoded[left_out] = kept[left_out].to(weight.dtype)
            return decoded

        replace_weights(model, ids, quantize)
        self._nearest = expert_paths(model)
        if self._nearest:
            every = sum(p.numel() for p in model.parameters())
            some = sum(model.get_parameter(path).numel() for path in self._nearest)
            log.warning(
                "GPTQ calibrates linear layers; experts, %.0f %% of the parameters, are rounded to "
                "nearest",
                100 * some / every,
            )

    def store(self, weight: Tensor, path: str, excluded: Tensor | None = None) -> Int4Weight:
        if path in self._nearest:
            check_group_size(self.group_size, weight.shape[1], path)
            weight = filled(weight, excluded, self.group_size)
            return Int4Weight(*quantize_rows(self._round, weight))
        if path not in self._found:
            raise UserError(
                f"quantizer GPTQ was not calibrated on {path}, which is in no block of the model "
                "or was never run; use quantizer Int4 or HQQ"
            )
        return self._found.pop(path)

    def _round(self, part: Tensor) -> tuple[Tensor, ...]:
        """Packed codes, scales and values of code 0 of ``[R, K]`` float32 rows, to nearest."""
        codes, scales, zeros = [], [], []
        for group in part.split(self.group_size, dim=1):
            scale, zero = GRIDS[self.grid](group)
            code = torch.round(group / scale.unsqueeze(1) + zero.unsqueeze(1)).clamp_(0, _LEVELS)
            codes.append(code - 8)
            scales.append(scale)
            zeros.append((8 - zero) * scale)
        packed = pack_codes(torch.cat(codes, 1).to(torch.int8))
        return packed, torch.stack(scales, 1), torch.stack(zeros, 1)


Grid = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Scales and zero points, ``[rows]`` each, of a group of columns ``[rows, size]`` float32."""


def range_grid(group: Tensor) -> tuple[Tensor, Tensor]:
    """The grid of the paper: it spans all weights and 0, and its zero point is whole."""
    low, high = group.amin(1).clamp(max=0), group.amax(1).clamp(min=0)
    scale = ((high - low) / _LEVELS).clamp(min=1e-12)
    return scale, torch.round(-low / scale)


def half_quadratic_grid(group: Tensor) -> tuple[Tensor, Tensor]:
    """The grid of `HQQ` with its default arguments."""
    inverse, zero = HQQ().grid(group.unsqueeze(1))
    return 1.0 / inverse.flatten(), zero.flatten()


GRIDS: dict[str, Grid] = {"range": range_grid, "half_quadratic": half_quadratic_grid}


def gptq(
    weight: Tensor,
    moments: Tensor,
    group_size: int,
    damping: float,
    grid: Grid = range_grid,
    act_order: bool = False,
    excluded: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes of a weight that keep the outputs of its layer.

    Args:
        weight: ``[rows, columns]`` float.
        moments: ``[columns, columns]`` float32, the sum of ``x x^T`` over inputs x of the layer.
        group_size: neighbouring columns that share a scale.
        damping: fraction of the mean of the diagonal of ``moments`` that is added to the diagonal.
        grid: chooses the scale and zero point of a group, from its columns as they are when the
            group's turn comes.
        act_order: round the columns with the largest inputs first. Grids are then chosen from the
            weights as they are given, so that a group remains neighbouring columns.
        excluded: ``[rows, columns]`` bool, entries that are kept as floats. They are not rounded,
            they change to make up for the errors of columns before them, and no grid depends on
            them. None where there are none.

    Returns:
        Codes ``[rows, columns]`` int8 in [0, 15]; scales and zero points ``[rows, groups]``
        float32, by which a code reads as ``scale * (code - zero)``; and ``[rows, columns]``
        float32, the final weights: decoded codes, and the floats of excluded entries.
    """
    columns = weight.shape[1]
    size = moments.diagonal()
    order = size.argsort(descending=True, stable=True) if act_order else torch.arange(columns)
    rest = weight.float().clone()
    never = (size == 0).expand_as(rest)  # columns whose inputs are always 0
    rest[never if excluded is None else never & ~excluded] = 0
    grids = []
    if act_order:
        grids = [grid(part) for part in filled(rest, excluded, group_size).split(group_size, dim=1)]
    rest, factor = rest[:, order], inverse_factor(moments[order][:, order], damping)
    codes = torch.empty(weight.shape, dtype=torch.int8)
    for start in range(0, columns, group_size):
        stop = start + group_size
        part, local = rest[:, start:stop], factor[start:stop, start:stop]
        if not act_order:
            left_out = None if excluded is None else excluded[:, start:stop]
            grids.append(grid(filled(part, left_out, None)))
        errors = torch.empty_like(part)
        for column in range(group_size):
            place = int(order[start + column])
            scale, zero = grids[place // group_size]
            value = part[:, column].clone()
            code = torch.round(value / scale + zero).clamp_(0, _LEVELS)
            error = value - scale * (code - zero)
            if excluded is not None:
                error.masked_fill_(excluded[:, place], 0.0)
            errors[:, column] = error / local[column, column]
            part[:, column:] -= torch.outer(errors[:, column], local[column, column:])
            codes[:, place] = code.to(torch.int8)
        rest[:, stop:] -= errors @ factor[start:stop, stop:]
    scales, zeros = zip(*grids, strict=True)
    return codes, torch.stack(scales, 1), torch.stack(zeros, 1), rest[:, order.argsort()]
