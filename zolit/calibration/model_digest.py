"""Tells one model from another, by the shapes of its parameters and by few of their numbers."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zolit.calibration.scored import matrix_shape
from zolit.digests import DIGEST_BYTES
from zolit.models.matrices import as_matrix
from zolit.models.plan import find_parameters, is_transposed
from zolit.tensors.weight import PerturbedWeight

_ROWS = 8
_COLUMNS = 4096


def other_model(
    model: nn.Module, shapes: Mapping[str, tuple[int, int] | None], digests: Mapping[str, str]
) -> str | None:
    """What shows that a file was made of another model, as a clause; None if nothing does.

    Compared are the digests of those parameters that both models have as floats: before weights
    are quantized all of them, after it norms, biases and embeddings. Of a model on the meta device,
    which has no numbers, shapes alone are compared.

    Args:
        model: plain, or with stored weights.
        shapes: the file's weights by name, with ``(rows, columns)`` of their matrices; None for a
            weight whose shape the file does not hold.
        digests: `float_digests` of the file's model.
    """
    found = {one.path: one for one in find_parameters(model)}
    for path, shape in shapes.items():
        if path not in found:
            return f"the model has no {path}"
        if shape is not None and shape != (here := matrix_shape(found[path])):
            return f"{path} is {list(here)}, not {list(shape)}"
    if any(parameter.is_meta for parameter in model.parameters()):
        return None
    mine = float_digests(model)
    both = sorted(mine.keys() & digests.keys())
    if not both:
        return "no parameter of the model is stored as floats to tell it by"
    different = [path for path in both if mine[path] != digests[path]]
    return f"{different[0]} has other values" if different else None


def float_digests(model: nn.Module) -> dict[str, str]:
    """`matrix_digest` of every parameter of a model that is stored as floats, by its name.

    Args:
        model: plain, or with stored weights; not on the meta device.
    """
    found = {}
    for one in find_parameters(model):
        if isinstance(one.parameter, PerturbedWeight):
            floats = one.parameter.store.floats()
            if floats is None or one.kind == "adapter":
                continue
            found[one.path] = matrix_digest(floats)
        elif one.kind != "adapter":
            linear = one.kind == "linear"
            found[one.path] = matrix_digest(
                as_matrix(one.parameter.detach(), linear, linear and is_transposed(one.modules[0]))
            )
    return found


def matrix_digest(matrix: Tensor) -> str:
    """Hex BLAKE2b of a matrix's shape and of a few of its rows, rounded to bfloat16.

    It is the same whether a model is loaded in bfloat16 or in float32. A few rows are enough to
    tell two models apart: further training changes nearly every number.

    Args:
        matrix: ``[rows, columns]`` float.
    """
    rows = torch.linspace(0, len(matrix) - 1, min(_ROWS, len(matrix))).long()
    some = matrix[rows.to(matrix.device), :_COLUMNS].to(torch.bfloat16).contiguous().cpu()
    digest = hashlib.blake2b(str(list(matrix.shape)).encode(), digest_size=DIGEST_BYTES)
    digest.update(some.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
