"""Int4 weights with zero points found by half-quadratic quantization."""

import torch
from torch import Tensor

from zolit.arguments import at_least, in_unit_range, positive
from zolit.formats.affine import check_group_size, quantize_rows, valid_group_size
from zolit.formats.int4 import Int4Weight, pack_codes
from zolit.strategies.quantizer.base import Quantizer
from zolit.strategies.quantizer.excluded import filled

_LEVELS = 15


class HQQ(Quantizer):
    """Groupwise int4 codes whose zero points minimize ``|W - decoded|_p^p``, p below 1 (Badri and
    Shaji 2023, "Half-Quadratic Quantization of Large Machine Learning Models"). No data is needed.

    The codes of a group span its smallest to its largest weight, as in `Int4`. Half-quadratic
    splitting then alternates between two steps: a shrinkage takes large errors out of the fit, as
    the norm weighs them little, and the zero point becomes the mean that fits the rest. A group
    stops when its mean absolute error no longer falls; the authors' code stops all groups of a
    tensor together.

    Args:
        group_size: input channels that share a scale: 32, 64 or 128, or another multiple of 32.
        iterations: the most iterations for a group.
        norm: p, in (0, 1].
        beta: weight of the quadratic term in the first iteration.
        kappa: factor of this weight from one iteration to the next, at least 1.
        keep_error: keep the rounding error of each weight for an optimizer with error feedback.

    Raises:
        UserError: if an argument is out of range.

    Example:
        >>> HQQ(group_size=64).store(torch.ones(4, 64), "weight").zero.shape
        torch.Size([4, 1])
    """

    def __init__(
        self,
        group_size: int = 64,
        iterations: int = 20,
        norm: float = 0.7,
        beta: float = 10.0,
        kappa: float = 1.01,
        keep_error: bool = False,
    ) -> None:
        default = "leave it out"
        self.group_size = valid_group_size(group_size)
        self.iterations = at_least("iterations", iterations, instead=default)
        self.norm = in_unit_range("norm", norm, default)
        self.beta = positive("beta", beta, default)
        self.kappa = at_least("kappa", kappa, instead=default)
        self.keep_error = keep_error

    def store(self, weight: Tensor, path: str, excluded: Tensor | None = None) -> Int4Weight:
        check_group_size(self.group_size, weight.shape[1], path)
        weight = filled(weight, excluded, self.group_size)
        return Int4Weight(*quantize_rows(self._rows, weight))

    def grid(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """`half_quadratic` with the options of this quantizer."""
        return half_quadratic(groups, self.iterations, self.norm, self.beta, self.kappa)

    def _rows(self, part: Tensor) -> tuple[Tensor, ...]:
        """Packed codes, scales and values of code 0 of ``[R, K]`` float32 rows."""
        groups = part.view(part.shape[0], -1, self.group_size)
        inverse, zero = self.grid(groups)
        codes = torch.round(groups * inverse + zero).clamp_(0, _LEVELS) - 8
        packed = pack_codes(codes.view(part.shape).to(torch.int8))
        scale = 1.0 / inverse
        return packed, scale.squeeze(2), ((8 - zero) * scale).squeeze(2)


def half_quadratic(
    groups: Tensor, iterations: int, norm: float, beta: float, kappa: float
) -> tuple[Tensor, Tensor]:
    """Inverse scales and zero points of four-bit codes ``round(w * inverse + zero)``.

    Args:
        groups: ``[R, G, size]`` float32 weights.
        iterations: the most iterations for a group.
        norm: p, the power of the error that is minimized.
        beta: weight of the quadratic term in the first iteration.
        kappa: factor of this weight from one iteration to the next.

    Returns:
        Inverse scales and zero points, each ``[R, G, 1]`` float32. Zero points need not be whole.
    """
    low, high = groups.amin(dim=2, keepdim=True), groups.amax(dim=2, keepdim=True)
    inverse = (_LEVELS / (high - low)).clamp(max=2e4)  # finite, even where all weights are equal
    zero = torch.round(-low * inverse)
    active = torch.ones_like(zero, dtype=torch.bool)
    best = torch.full_like(zero, torch.inf)
    for _ in range(iterations):
        codes = torch.round(groups * inverse + zero).clamp_(0, _LEVELS)
        rest = groups - (codes - zero) / inverse
        error = rest.abs().mean(dim=2, keepdim=True)
        forgiven = rest.sign() * (rest.abs() - rest.abs().pow(norm - 1) / beta).clamp_(min=0)
        fitted = (codes - (groups - forgiven) * inverse).mean(dim=2, keepdim=True)
        zero = torch.where(active, fitted, zero)
        active &= error < best
        best = torch.minimum(best, error)
        beta *= kappa
    return inverse, zero
