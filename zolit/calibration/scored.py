"""Which weights of a model get scores."""

from dataclasses import dataclass

from torch import nn

from zolit.errors import UserError
from zolit.models.anatomy import named_blocks
from zolit.models.plan import Found, find_parameters, is_transposed


@dataclass(frozen=True)
class Scored:
    """A weight that gets scores.

    Attributes:
        path: its name in the model.
        name: its name in its block.
        shape: ``(rows, columns)``, output channels first; the matrices of a stack come one below
            the other.
        transposed: whether the module holds ``[columns, rows]``, or a stack of these.
    """

    path: str
    name: str
    shape: tuple[int, int]
    transposed: bool


def scored_weights(model: nn.Module) -> dict[str, list[Scored]]:
    """The linear layers of each block, experts among them, by the path of the block.

    Raises:
        UserError: if several blocks share one, whose gradient is none of a single block.
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
    """The modules around a parameter."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
