"""What first-order training asks of its parts, and what it says of the weights that it trains."""

import logging

import torch
from torch import nn

from zolit.errors import UserError
from zolit.objectives.base import Objective
from zolit.strategies import Quantizer

log = logging.getLogger(__name__)


def check_gradient_parts(quantizer: Quantizer, objective: Objective, tune: list[str]) -> None:
    """Refuse parts that gradients cannot be made with.

    Args:
        quantizer: of the module.
        objective: of the module.
        tune: what is trained.

    Raises:
        UserError: naming the part and what to use instead.
    """
    name = type(quantizer).__name__
    if objective.compares:
        raise UserError(
            f"objective: {type(objective).__name__} compares two reads of a direction (shared "
            "below 1), which first-order steps do not have; leave shared out"
        )
    if quantizer.keep_error:
        raise UserError(
            f"quantizer: got {name} with keep_error, which is for ZOSGD's error feedback; leave "
            "keep_error out"
        )
    if not quantizer.quantized or quantizer.straight_through:
        return
    if "linear" in tune:
        raise UserError(
            f"tune: got linear with quantizer {name}, which cannot quantize a weight anew in every "
            "forward; use Int8, Int4 or Float8, or tune an adapter beside the weights that it "
            "stores"
        )


def warn_of_bfloat16(model: nn.Module) -> None:
    """Log how many trained weights are bfloat16, in which short steps are lost."""
    count = sum(one.requires_grad and one.dtype == torch.bfloat16 for one in model.parameters())
    if count:
        log.warning(
            "%d weights are trained in bfloat16, whose numbers are 1/256 of their size apart: "
            "shorter steps are lost; set dtype: float32, or master_dtype for quantized weights",
            count,
        )
