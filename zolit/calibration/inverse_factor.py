"""The Cholesky factor by which GPTQ and SparseGPT pass errors on to later columns."""

import torch
from torch import Tensor


def inverse_factor(moments: Tensor, damping: float) -> Tensor:
    """Upper Cholesky factor of the inverse of damped second moments, in float64.

    Row j of it, divided by its diagonal entry, is row j of the inverse of the moments of columns j
    and later, by which the error of column j is made up for (GPTQ, arXiv 2210.17323, step 3;
    SparseGPT, arXiv 2301.00774, section 3.3).

    Args:
        moments: ``[columns, columns]``, the sum of ``x x^T``. A column whose inputs are always 0
            counts as one of mean square 1.
        damping: fraction of the mean of the diagonal that is added to it.

    Returns:
        ``[columns, columns]`` float32.

    Example:
        >>> inverse_factor(torch.diag(torch.tensor([4.0, 0.0])), 0.0).diagonal().tolist()
        [0.5, 1.0]
    """
    damped = moments.double().clone()
    diagonal = damped.diagonal()
    mean = diagonal.mean()
    diagonal[diagonal == 0] = 1
    diagonal += damping * mean
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True).float()
