"""The base class of quantizers, which choose how weights are stored."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from zolit.arguments import Checked
from zolit.formats.base import StoredWeight
from zolit.models.parts import Excluded


class Quantizer(Checked, ABC):
    """Chooses the storage format of the linear layers, and quantizes their weights.

    Attributes:
        quantized: whether weights become codes with scales.
        integer_products: whether layers multiply integer codes with quantized activations, so
            that perturbed codes must stay integers.
        converts: True for a quantizer that makes codes from floats, False for one that keeps the
            codes of a checkpoint.
        codes_move: True where codes are numbers on a grid, False where they are indices of a table.
        calibrated: whether `calibrate` must see the whole model before `store`.
        straight_through: whether a weight can be quantized anew in every forward of first-order
            training (`FirstOrderModule`): `store` is quick and depends on the weight alone, and its
            range holds every weight, so that no weight is clipped.
        keep_error: whether the rounding error of each tuned weight is kept, at two bytes a code. An
            optimizer with error feedback starts from it. Codes then follow the weight that was
            quantized, so that moves far smaller than a code count from the first step on.
        version: of what it makes of the same weights and options, raised when that changes. A run
            records it, and is not taken up by another. None says that nothing is recorded.

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
    straight_through: ClassVar[bool] = False
    version: ClassVar[int | None] = None
    integer_products: bool = False
    keep_error: bool = False

    def calibrate(self, model: nn.Module, tokenizer: Any, excluded: Excluded | None = None) -> None:
        """See the model as floats before its weights are stored; the model may be changed.

        Args:
            model: loaded whole.
            tokenizer: its transformers tokenizer.
            excluded: called with the path and the floats of a weight, returns the entries that
                `store` will be told to leave out. None where no entry is left out. In the changed
                model these entries keep floats.

        Raises:
            UserError: if the quantizer cannot be calibrated on this model.
        """

    def files(self) -> dict[str, str]:
        """The files that codes depend on, by the argument that names them: a run records their
        digests, and asks for them when it is taken up again."""
        return {}

    def read_files(self) -> None:
        """Read from its files whether they will do, before a model is loaded.

        Raises:
            UserError: naming the file.
        """

    @abstractmethod
    def store(self, weight: Tensor, path: str, excluded: Tensor | None = None) -> StoredWeight:
        """Store a weight in this format.

        Args:
            weight: ``[rows, columns]`` float, output channels first.
            path: name of the parameter, for messages.
            excluded: ``[rows, columns]`` bool, entries that are kept as floats beside the result.
                Scales, zero points and codes are fitted to the other entries alone. None where
                there are none. A quantizer whose `store` has no such argument is refused with
                `SparsePerturber`.

        Raises:
            UserError: if the format cannot hold a matrix of this shape.
        """
