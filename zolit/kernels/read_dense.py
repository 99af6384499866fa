"""Read rows of a floating-point weight, perturbed."""

from torch import Tensor

from zolit.kernels.dispatch import kernel
from zolit.kernels.read import store_copies
from zolit.noise import Direction


@kernel
def read_dense(
    weight: Tensor,
    rows: Tensor,
    outs: list[Tensor],
    direction: Direction | None = None,
    control: Tensor | None = None,
    amplitude: Tensor | None = None,
) -> None:
    """``outs = weight +- amplitude[1] * z``.

    Args:
        weight: ``[R, 1, W, 32]`` float32, bfloat16 or float16.
        rows: ``[R]`` int32 indices of these rows within the weight.
        outs: one or two ``[R, 1, W, 32]`` tensors.
        direction: distribution, None to read without noise.
        control: ``[8]`` int32 key words.
        amplitude: ``[2]`` float32, see `zolit.kernels.read.Perturbation`.
    """
    length = None if amplitude is None else amplitude[1]
    store_copies(weight.float(), outs, rows, direction, control, length)
