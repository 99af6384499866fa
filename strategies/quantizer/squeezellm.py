"""Codes of 3 or 4 bits with a table of values for each row (SqueezeLLM)."""

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from zolit.calibration.saliency_file import Saliency
from zolit.errors import UserError
from zolit.formats.affine import quantize_rows
from zolit.formats.row_tables import RowTablesWeight, code_planes
from zolit.strategies.quantizer.base import Quantizer
from zolit.strategies.quantizer.kmeans import nearest, weighted_kmeans_1d

_SMALLEST_SCALE = 1e-12


class SqueezeLLM(Quantizer):
    """A table of 8 or 16 values for each output channel, by k-means on its weights (Kim et al.
    2023, arXiv 2306.07629, sensitivity-based non-uniform quantization).

    The table of a row is chosen so that ``sum_i s_i (w_i - q_i)**2`` is small, where ``q_i`` is the
    table's value for weight ``w_i``. The score ``s_i`` is the squared gradient of the weight, which
    is the diagonal of the Fisher information, so the sum approximates the rise of the loss to
    second order. Without a file of scores all weights count alike.

    Args:
        bits: bits of a code: 3 or 4, for tables of 8 or 16 values.
        saliency: file with a score for every weight, made by ``zolit saliency`` with
            ``--saliency.keep 1``; null counts all weights alike.
        zeros_weigh: whether weights that are exactly 0 count as the others do. In the released code
            they do not count, since it sets outliers to 0 that it keeps beside the table.

    Raises:
        UserError: if ``bits`` is neither 3 nor 4.

    Example:
        >>> store = SqueezeLLM(bits=3).store(torch.arange(64.0).view(1, 64), "weight")
        >>> store.levels, store.codes()[0, ::8].tolist()
        (8, [0, 1, 2, 3, 4, 5, 6, 7])
    """

    codes_move: ClassVar[bool] = False
    version: ClassVar[int | None] = 1

    def __init__(
        self, bits: int = 4, saliency: str | None = None, zeros_weigh: bool = True
    ) -> None:
        if bits not in (3, 4):
            raise UserError(f"bits must be 3 or 4, got {bits}; for 8 bits use quantizer Int8")
        self.bits = bits
        self.saliency = saliency
        self.zeros_weigh = zeros_weigh
        self._file: Saliency | None = None

    def files(self) -> dict[str, str]:
        return {} if self.saliency is None else {"saliency": self.saliency}

    def read_files(self) -> None:
        if self.saliency is not None and self._file is None:
            self._file = Saliency.open(self.saliency)

    def store(self, weight: Tensor, path: str, excluded: Tensor | None = None) -> RowTablesWeight:
        """A weight in this format.

        Args:
            weight: ``[rows, columns]`` float, output channels first.
            path: parameter name, for the file's scores and for messages.
            excluded: ``[rows, columns]`` bool, weights that are kept as floats beside the result
                and so have no influence on the tables; None where there are none.

        Raises:
            UserError: if the weight is not finite, or the file has no fitting scores for it.
        """
        scores = None if self.saliency is None else self._scores(weight, path)
        made = quantize_rows(partial(self._rows, path), weight, scores, excluded)
        *planes, table, scale = made
        return RowTablesWeight(planes, table, scale, weight.shape[1])

    def _scores(self, weight: Tensor, path: str) -> Tensor:
        """The file's scores of one weight, ``[rows, columns]`` float."""
        if self._file is None:
            self._file = Saliency.open(str(self.saliency))
        self._file.check_matrix(path, weight)
        self._file.check_keeps(path, None, "quantizer SqueezeLLM")
        if weight.is_meta:  # `zolit estimate` counts memory alone
            return torch.empty_like(weight)
        return self._file.all_scores(path).to(weight.device)

    def _rows(
        self, path: str, part: Tensor, scores: Tensor | None, excluded: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Planes, tables and scales of ``[R, K]`` float32 rows."""
        _check(part, f"{path} has weights")
        counted = torch.ones_like(part) if excluded is None else (~excluded).float()
        if not self.zeros_weigh:
            counted = counted * (part != 0)
        weights = counted
        if scores is not None:
            _check(scores, f"saliency: {self.saliency!r} has scores of {path}", least=0)
            weights = counted * scores.float()
            # In a row without a score above 0 all weights that count do so alike.
            weights = torch.where((weights > 0).any(dim=1, keepdim=True), weights, counted)
        centres, _ = weighted_kmeans_1d(part, weights, 2**self.bits)
        scale = centres.abs().amax(dim=1, keepdim=True).clamp(min=_SMALLEST_SCALE).float()
        table = (centres / scale).half()
        codes = nearest(part, table.float() * scale)
        return (*code_planes(codes, self.bits), table, scale)


def _check(values: Tensor, what: str, least: float = -torch.inf) -> None:
    """Refuse numbers of which no mean can be taken; on the meta device there are no numbers."""
    if not values.is_meta and not (values.isfinite() & (values >= least)).all():
        raise UserError(
            f"{what} that are not finite{' or below 0' if least == 0 else ''}; expected numbers "
            "that a mean can be taken of, look at where the file comes from"
        )
