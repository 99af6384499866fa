"""The linear layers of a model's blocks, for whatever goes through a model block by block."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from zolit.compat import Conv1D
from zolit.errors import UserError
from zolit.models.anatomy import named_blocks
from zolit.models.matrices import as_matrix, matrix_shape
from zolit.models.plan import find_parameters, is_transposed


@dataclass(frozen=True)
class BlockLayer:
    """A linear layer of a block.

    Attributes:
        path: name of its weight in the model.
        name: of the layer in its block.
        shape: ``(rows, columns)`` of its weight, output channels first.
        transposed: whether the layer holds ``[columns, rows]`` (GPT-2's Conv1D).

    Example:
        >>> BlockLayer("h.0.attn.c_attn.weight", "attn.c_attn", (192, 64), True).weight_name
        'attn.c_attn.weight'
    """

    path: str
    name: str
    shape: tuple[int, int]
    transposed: bool

    @property
    def weight_name(self) -> str:
        """Name of its weight in the block."""
        return f"{self.name}.weight"

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight as ``[rows, columns]``; may share its memory."""
        return as_matrix(weight, True, self.transposed)

    def as_held(self, matrix: Tensor) -> Tensor:
        """A ``[rows, columns]`` matrix in the shape in which the layer holds its weight."""
        return matrix.mT if self.transposed else matrix


def block_layers(model: nn.Module) -> tuple[dict[str, list[BlockLayer]], list[str]]:
    """The linear layers of each block, by the path of the block, and the weights that are not such.

    Args:
        model: of transformers, on any device.

    Returns:
        The layers; and the names of weights that a quantizer would store and that are held by
        another kind of module: the experts of mixture-of-experts models.

    Raises:
        UserError: if two blocks share a weight.
    """
    blocks = named_blocks(model)
    found: dict[str, list[BlockLayer]] = {path: [] for path in blocks}
    others: list[str] = []
    for one in find_parameters(model):
        if one.kind != "linear":
            continue
        places = {path: name for name in one.names if (path := _block_of(name, blocks)) is not None}
        if len(places) > 1:
            raise UserError(
                f"model.source: {' and '.join(sorted(places))} share {one.path}, and blocks are "
                "gone through one after another; give a model whose blocks have weights of their "
                "own"
            )
        if not isinstance(one.modules[0], nn.Linear | Conv1D):
            others.append(one.path)
            continue
        transposed = is_transposed(one.modules[0])
        for path, name in places.items():
            layer = name.removeprefix(f"{path}.").rpartition(".")[0]
            shape = matrix_shape(one.parameter, transposed)
            found[path].append(BlockLayer(one.path, layer, shape, transposed))
    return {path: layers for path, layers in found.items() if layers}, others


def _block_of(name: str, blocks: dict[str, nn.Module]) -> str | None:
    """Path of the block that holds a parameter; None if none does."""
    parts: Sequence[str] = name.split(".")
    above = (".".join(parts[:count]) for count in range(1, len(parts)))
    return next((path for path in above if path in blocks), None)
