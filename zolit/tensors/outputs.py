"""Changes of a product along a direction, for coordinates whose elements read as stored."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from zolit.errors import UserError
from zolit.formats.base import Rows, StoredWeight
from zolit.kernels.dispatch import Preference
from zolit.kernels.outputs import scale_outputs


@dataclass(frozen=True)
class Part:
    """Tokens that meet the same matrix of a stack of experts.

    Attributes:
        expert: number of the matrix in its stack.
        half: of a pair: 0 reads the weights at +, 1 at -; 0 outside of a pair.
        tokens: their places among the rows that are multiplied.
    """

    expert: int
    half: int
    tokens: slice


class Outputs(ABC):
    """A change of products with a weight, along the direction that it is read along.

    Attributes:
        copies: versions of the weight: 1, or 2 at plus and at minus.
        factors: ``[copies, 1, rows]`` float32, if the change is one factor for each output channel.
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
        """Change a fresh product in place.

        Args:
            out: ``[..., rows]``; in a pair its first half belongs to plus.
            x: ``[..., columns]``, the other factor: float, or int8 codes.
            scale: ``[..., 1]`` float32, factor of each row of ``x``; None for 1.
            store: the weight.
            preference: kernel choice.
        """

    @abstractmethod
    def change_rows(self, values: Tensor, rows: Rows, store: StoredWeight) -> list[Tensor]:
        """Rows of the weight in each version.

        Args:
            values: ``[R, columns]``, the decoded rows in the model's order.
            rows: their numbers.
            store: the weight.
        """

    def change_experts(
        self,
        out: Tensor,
        x: Tensor,
        scale: Tensor | None,
        store: StoredWeight,
        parts: Sequence[Part],
    ) -> None:
        """`change_product` for a stack of experts: each token meets the matrix of its own expert.

        Args:
            out: ``[S, rows of an expert]``.
            x: ``[S, columns]``.
            scale: ``[S, 1]`` float32, or None.
            store: the stack.
            parts: the tokens of each expert.

            Raises:
                UserError: if stacks of experts cannot be read along coordinates of this kind.
        """
        raise UserError(
            f"experts cannot be read along {type(self).__name__}; take them out of `tune`"
        )


class ScaledOutputs(Outputs):
    """Each output channel times a factor.

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
        # A copy, since kernels are compiled for the layout of a view in its base.
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
