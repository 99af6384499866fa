"""Move what pruning left, so that zeros stay zero."""

from typing import ClassVar

import torch
from torch import Tensor

from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.formats.rows import chunks
from zolit.models.parts import Candidate
from zolit.strategies.mask.choice_file import Facts
from zolit.strategies.mask.from_file import FromFile
from zolit.strategies.perturber.base import Perturber
from zolit.supports import Bits

_CHUNK_ELEMENTS = 1 << 20
"""Weights that are decoded at once, so that their floats stay small."""

_FACTOR = 1.37
"""Scales are tried with this factor: a zero that is not exact at every scale shows."""


class Pruned(FromFile):
    """Moves the entries of a pruned model that are left; its zeros stay zero.

    Weights that were not pruned, such as norms or an adapter, move whole. Where a perturber moves
    scales, all of them move, since a scale times zero is zero. A format in which a pruned entry
    does not read as exactly 0 is refused.

    Args:
        file: ``support.safetensors`` of the run of ``zolit prune`` that made the model.

    Example:
        ::

            model:
              source:
                path: pruned_model # of zolit export
              mask:
                class_path: Pruned
                init_args:
                  file: runs/pruned/support.safetensors
    """

    name: ClassVar[str] = "Pruned"
    again: ClassVar[str] = "give the support.safetensors of the run of zolit prune that made it"

    def check(self, perturber: Perturber) -> None:
        super().check(perturber)
        if perturber.overlays:
            raise UserError(
                f"perturber {type(perturber).__name__} keeps what moves as floats beside codes, "
                "got mask Pruned, whose entries are most of a matrix; use CodePerturber or "
                "ScalePerturber with it, or DensePerturber without a quantizer"
            )

    def _choose(self, one: Candidate, facts: Facts) -> Bits:
        weight = one.weight
        shape, elements = one.shape, (weight.rows, weight.columns)
        if one.path not in facts.shapes:
            every = torch.ones(shape or elements, dtype=torch.bool, device=weight.device)
            return Bits.of(every)
        left = super()._choose(one._replace(shape=elements), facts)
        if weight.device.type != "meta":
            self._check_zeros(weight, one.path, left.chosen(), shape != elements)
        if shape is None or shape == elements:
            return left
        return Bits.of(torch.ones(shape, dtype=torch.bool, device=weight.device))

    def _check_zeros(self, weight: StoredWeight, path: str, kept: Tensor, scaled: bool) -> None:
        """Refuse a weight whose pruned entries do not read as 0, or would not at other scales.

        Args:
            weight: as it is stored.
            path: its name.
            kept: ``[rows, columns]`` bool, in stored order.
            scaled: whether its scales will move.
        """
        scales = weight.scales()
        moved = weight.with_scales(torch.full_like(scales["scale"], _FACTOR)) if scaled else weight
        for rows in chunks(weight.rows, max(1, _CHUNK_ELEMENTS // weight.columns)):
            for one in (weight, moved):
                values = weight.in_stored_order(one.decoded(rows))
                if not (wrong := values[~kept[rows]]).any():
                    continue
                worst = float(wrong.abs().max())
                raise UserError(
                    f"mask {self.name}: entries of {path} that {self.file!r} has as pruned read up "
                    f"to {worst:.3g} as {weight.title}, expected 0; give the pruned model as "
                    "model.source, and a format with a code for 0: Int8, Int4 with symmetric: "
                    "true, Float8 or NoQuantizer"
                )
