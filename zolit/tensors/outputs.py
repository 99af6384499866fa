"""Perturbations that are applied to a product, after the weight was decoded as it is stored."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.formats.rows import Rows
from zolit.kernels.dispatch import Preference
from zolit.kernels.outputs import scale_outputs


@dataclass(frozen=True)
class Part:
    """The tokens that are multiplied by the same expert.

    Attributes:
        expert: number of the expert in its layer.
        half: 0 for tokens that read the weights at plus, 1 for those at minus; 0 outside of a pair.
        tokens: the places of these tokens among the rows that are multiplied.

    Example:
        >>> Part(expert=3, half=0, tokens=slice(0, 5)).tokens
        slice(0, 5, None)
    """

    expert: int
    half: int
    tokens: slice


class Outputs(ABC):
    """How a product with a stored weight changes along the current direction.

    Attributes:
        copies: number of versions of the weight: 1, or 2 for plus and minus.
        factors: ``[copies, 1, rows]`` float32 where the change is a factor for each output channel;
            else None.
    """

    copies: int
    factors: Tensor | None = None

    @abstractmethod
    def change_product(
        self,
        out: Tensor,
        x: Tensor,
        scale: Tensor | None,
        store: StoredWeight,
        preference: Preference,
    ) -> None:
        """Change a product in place.

        Args:
            out: ``[..., rows]``, the product with the stored weight. With two versions its first
                half along the first dimension belongs to plus, the second to minus.
            x: ``[..., columns]``, the other factor of the product: float, or int8 codes.
            scale: ``[..., 1]`` float32, factor of each row of ``x``; None for 1.
            store: the weight.
            preference: kernel choice.
        """

    @abstractmethod
    def change_rows(self, values: Tensor, rows: Rows, store: StoredWeight) -> list[Tensor]:
        """Some rows of the weight in each version, as if it were perturbed itself.

        Args:
            values: ``[R, columns]``, the rows as stored, decoded, in the model's order of columns.
            rows: which rows these are.
            store: the weight.

        Returns:
            ``copies`` tensors like ``values``.
        """

    def change_experts(
        self,
        out: Tensor,
        x: Tensor,
        scale: Tensor | None,
        store: StoredWeight,
        parts: Sequence[Part],
    ) -> None:
        """`change_product` where each token is multiplied by the matrix of its own expert.

        Args:
            out: ``[S, rows of an expert]``, the product with the stored experts.
            x: ``[S, columns]``, the other factor.
            scale: ``[S, 1]`` float32, factor of each row of ``x``; None for 1.
            store: all experts of the layer, one below the other.
            parts: the tokens of each expert.

        Raises:
            UserError: if experts cannot be read along coordinates of this kind.
        """
        raise UserError(
            f"experts cannot be read along {type(self).__name__}; take them out of `tune`"
        )


class ScaledOutputs(Outputs):
    """Multiplies each output channel by a factor.

    Args:
        factors: ``[copies, 1, rows]`` float32.
    """

    factors: Tensor

    def __init__(self, factors: Tensor) -> None:
        self.copies, self.factors = len(factors), factors

    def change_product(
        self,
        out: Tensor,
        x: Tensor,
        scale: Tensor | None,
        store: StoredWeight,
        preference: Preference,
    ) -> None:
        # Copied, because a compilation depends on how a view lies in its base.
        copies = out.view(self.copies, -1, out.shape[-1])
        scale_outputs(copies, self.factors.clone(), preference=preference)

    def change_rows(self, values: Tensor, rows: Rows, store: StoredWeight) -> list[Tensor]:
        return [(values * one[0, rows].unsqueeze(1)).to(values.dtype) for one in self.factors]

    def change_experts(
        self,
        out: Tensor,
        x: Tensor,
        scale: Tensor | None,
        store: StoredWeight,
        parts: Sequence[Part],
    ) -> None:
        for part in parts:
            mine = self.factors[part.half % self.copies, 0].view(-1, out.shape[1])[part.expert]
            out[part.tokens] *= mine


class RowScaledOutputs(ScaledOutputs):
    """Multiplies the output channels of each row of a batch by factors of its own.

    Args:
        factors: ``[copies * R, 1, rows]`` float32 for R rows, those at plus first.
    """

    def change_product(
        self,
        out: Tensor,
        x: Tensor,
        scale: Tensor | None,
        store: StoredWeight,
        preference: Preference,
    ) -> None:
        if out.shape[0] % self.copies:
            raise UserError(
                "estimator: a direction for each example needs products with rows of the batch in "
                f"their order, got {tuple(out.shape)} for {self.copies} rows; use TwoPoint"
            )
        super().change_product(out, x, scale, store, preference)

    def change_rows(self, values: Tensor, rows: Rows, store: StoredWeight) -> list[Tensor]:
        raise UserError(
            "estimator: a direction for each example moves linear layers alone, got a weight in "
            "`tune` that is read by another operation; take it out, or use TwoPoint"
        )

    def change_experts(
        self,
        out: Tensor,
        x: Tensor,
        scale: Tensor | None,
        store: StoredWeight,
        parts: Sequence[Part],
    ) -> None:
        raise UserError(
            "estimator: a direction for each example cannot follow the rows that experts see "
            "together; take experts out of `tune`, or use TwoPoint"
        )
