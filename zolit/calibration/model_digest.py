"""What tells one model from another by few of its numbers."""

import hashlib

import torch
from torch import Tensor, nn

from zolit.digests import DIGEST_BYTES
from zolit.models.plan import find_parameters, is_transposed
from zolit.models.prepare import as_matrix
from zolit.tensors.weight import PerturbedWeight

_ROWS = 8
_COLUMNS = 4096


def float_digests(model: nn.Module) -> dict[str, str]:
    """`matrix_digest` of each parameter of a model that is stored as floats, by its name.

    Args:
        model: plain, or with stored weights; with numbers.
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
    """Hex BLAKE2b of a matrix's shape and of some of its rows as bfloat16.

    A model that is loaded in bfloat16 or in float32 has the same. Models that were trained apart,
    or one from another, differ in nearly every number, so that few rows tell.

    Args:
        matrix: ``[rows, columns]`` float.
    """
    rows = torch.linspace(0, len(matrix) - 1, min(_ROWS, len(matrix))).long()
    some = matrix[rows.to(matrix.device), :_COLUMNS].to(torch.bfloat16).contiguous().cpu()
    digest = hashlib.blake2b(str(list(matrix.shape)).encode(), digest_size=DIGEST_BYTES)
    digest.update(some.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
