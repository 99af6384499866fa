"""How weights are stored."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from zolit.formats.base import StoredWeight
from zolit.models.parts import Excluded


class Quantizer(ABC):
    """Decides the storage format of the linear layers.

    Attributes:
        quantized: whether weights become codes with scales.
        integer_products: whether layers multiply integer codes with quantized activations, so
            that a perturbation must keep codes integer.
        converts: whether it makes codes of floats, rather than keep those of a checkpoint.
        codes_move: whether codes are numbers along a grid, rather than indices of a table.
        calibrated: whether `calibrate` must see the whole model before `store`.
        keep_error: keep the rounding error of each tuned weight, two bytes a code. An optimizer
            with error feedback starts from it: codes then follow the weight that was quantized, and
            moves far smaller than a code count from the first step.

    Example:
        >>> import torch
        >>> from zolit.formats.dense import DenseWeight
        >>> class Rounded(Quantizer):
        ...     quantized = False
        ...     def store(self, weight, path):
        ...         return DenseWeight(weight.bfloat16())
        >>> Rounded().store(torch.ones(2, 32), "weight").floats().dtype
        torch.bfloat16
    """

    quantized: ClassVar[bool] = True
    converts: ClassVar[bool] = True
    codes_move: ClassVar[bool] = True
    calibrated: ClassVar[bool] = False
    integer_products: bool = False
    keep_error: bool = False

    def calibrate(  # noqa: B027  (optional)
        self, model: nn.Module, tokenizer: Any, excluded: Excluded | None = None
    ) -> None:
        """Look at the float model, which may be changed, before its weights are stored.

        Args:
            model: loaded whole.
            tokenizer: its transformers tokenizer.
            excluded: tells which entries of a weight `store` will be told to leave out; None where
                there are none. The floats are what stands in their place in the model afterwards.
        """

    @abstractmethod
    def store(self, weight: Tensor, path: str, excluded: Tensor | None = None) -> StoredWeight:
        """A weight in this format.

        Args:
            weight: ``[rows, columns]`` float, output channels first.
            path: parameter name, for messages.
            excluded: ``[rows, columns]`` bool, entries that are kept as floats beside the result:
                scales, zero points and codes are fitted to the others alone. None for none. A
                quantizer whose `store` does not take it is refused with `SparsePerturber`.

        Raises:
            UserError: if the format cannot hold a matrix of this shape.
        """
