"""The choice of a run's mask as the run keeps it in its folder."""

from pathlib import Path
from typing import ClassVar

from torch import nn

from zolit.errors import UserError
from zolit.strategies.mask.base import Mask
from zolit.strategies.mask.choice_file import write_choice
from zolit.strategies.mask.from_file import FromFile
from zolit.tensors.weight import perturbed_weights


class KeptMask(FromFile):
    """Stands for the mask of a run that is taken up again; what that read is not needed then.

    That the model is the run's is compared with the run's journal and checkpoints, which hold
    digests of the choice too.

    Args:
        file: that `keep` wrote.
        mask: for which it stands.

    Raises:
        UserError: if the file is not whole, or of another mask.

    Example:
        ::

            KeptMask.keep(module.network, Path("runs/first/mask.safetensors"), module.mask)
    """

    again: ClassVar[str] = "use the model, tune and perturber of the run"

    def __init__(self, file: Path, mask: Mask) -> None:
        super().__init__(str(file))
        self._title = self._facts().title
        if self._title != mask.title:
            raise UserError(
                f"mask: got {mask.title}, but {str(file)!r} is of {self._title}; use the mask of "
                "the run"
            )

    @property
    def title(self) -> str:
        return self._title

    def files(self) -> dict[str, str]:
        return {}

    @staticmethod
    def keep(model: nn.Module, file: Path, mask: Mask) -> None:
        """Write which coordinates of a model's weights move.

        Args:
            model: prepared, at the weights that the run starts from.
            file: written whole or not at all.
            mask: that chose them.

        Raises:
            UserError: if a weight moves by another kind of support.
            OSError: if the file cannot be written.
        """
        write_choice(file, perturbed_weights(model), {}, mask.title)
