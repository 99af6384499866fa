"""Parameters as matrices: output channels first, whatever shape their module holds them in."""

from torch import Tensor


def as_matrix(value: Tensor, linear: bool, transposed: bool) -> Tensor:
    """A parameter as ``[rows, columns]``, output channels first.

    Args:
        value: in the model's shape.
        linear: whether it is a linear layer's, or a stack of such; the matrices of a stack come
            one below the other.
        transposed: whether its matrices are ``[columns, rows]``.
    """
    if not linear:
        return value.reshape(1, -1) if value.dim() < 2 else value.reshape(value.shape[0], -1)
    matrices = value.mT if transposed else value
    return matrices.reshape(-1, matrices.shape[-1]).contiguous()


def matrix_shape(parameter: Tensor, transposed: bool) -> tuple[int, int]:
    """Rows and columns of a linear layer's parameter, as `as_matrix` makes them of it.

    Args:
        parameter: in the model's shape, on any device; plain or stored.
        transposed: whether the module holds ``[columns, rows]``, or a stack of these.

    Example:
        >>> import torch
        >>> matrix_shape(torch.empty(3, 32, 64), transposed=True)
        (192, 32)
    """
    columns = parameter.shape[-2 if transposed else -1]
    return parameter.numel() // columns, columns
