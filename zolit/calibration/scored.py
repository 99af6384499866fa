"""Finds the weights of a model that get saliency scores: the linear layers of its blocks."""

from dataclasses import dataclass

from torch import nn

from zolit.errors import UserError
from zolit.models.anatomy import named_blocks
from zolit.models.plan import Found, find_parameters, is_transposed


@dataclass(frozen=True)
class Scored:
    """A weight that gets scores.

    Attributes:
        path: the parameter's name in the model.
        name: its name in its block.
        shape: ``(rows, columns)``, output channels first. The matrices of a layer's experts count
            as one matrix, one below the other.
        transposed: whether the module holds ``[columns, rows]``, for one matrix or each expert.
    """

    path: str
    name: str
    shape: tuple[int, int]
    transposed: bool


def scored_weights(model: nn.Module) -> dict[str, list[Scored]]:
    """The weights of linear layers and of experts in each block, by the path of the block.

    Raises:
        UserError: if blocks share a weight. Its gradient is a sum over these blocks, which no
            single block gives.
    """
    found: dict[str, list[Scored]] = {path: [] for path in named_blocks(model)}
    for one in find_parameters(model):
        if one.kind != "linear":
            continue
        places = {path: name for name in one.names for path in _around(name) if path in found}
        if len(places) > 1:
            raise UserError(
                f"model.source: {' and '.join(sorted(places))} share {one.path}, but saliency "
                "takes one block after another; give a model whose blocks have weights of their own"
            )
        for path, name in places.items():
            transposed = is_transposed(one.modules[0])
            inside = name.removeprefix(f"{path}.")
            found[path].append(Scored(one.path, inside, matrix_shape(one), transposed))
    return {path: weights for path, weights in found.items() if weights}


def matrix_shape(one: Found) -> tuple[int, int]:
    """``(rows, columns)`` of a linear layer's parameter, output channels first."""
    columns = one.parameter.shape[-2 if is_transposed(one.modules[0]) else -1]
    return one.parameter.numel() // columns, columns


def _around(name: str) -> list[str]:
    """Paths of the modules that contain a parameter, from the outermost."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
