"""The end of a causal language model: what follows its last block, and the loss."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from zolit.calibration.chain import Chain
from zolit.errors import UserError
from zolit.models.anatomy import input_embeddings, named_blocks, output_layer
from zolit.models.passes.calls import Stage, wrapped_call
from zolit.tensors.weight import PerturbedWeight

_CLOSE = 0.02
"""Logits of two ways of running a model count as equal if they differ by at most this fraction of
the largest logit."""


class Ending:
    """Final norm, output layer and loss of a model.

    The model's own forward is run with its blocks skipped, so that whatever else it does to its
    logits, such as Gemma's soft cap, is kept.

    Args:
        chain: the blocks of the model.
        dtype: to compute in: float32, or that of the model's hidden states. The loss itself is
            computed in float32.
    """

    def __init__(self, chain: Chain, dtype: torch.dtype = torch.float32) -> None:
        self.chain = chain
        self.dtype = dtype
        self._values = {name: decoded(one, dtype) for name, one in _outside(chain.model).items()}

    def gradient(self, hidden: Tensor, window: int) -> Tensor:
        """Gradient of a window's loss, a mean over tokens, by the output of the last block.

        Args:
            hidden: that output, ``[1, length, columns]``.
            window: number of the window.

        Returns:
            ``[1, length, columns]`` float32.

        Raises:
            UserError: if the loss is not a number.
        """
        with torch.enable_grad():
            leaf, loss = self._loss(hidden, window)
            (found,) = torch.autograd.grad(loss, leaf)
        return found.float()

    def curve(self, hidden: Tensor, tangent: Tensor, window: int) -> Tensor:
        """How `gradient` changes along a tangent of the hidden states.

        Args:
            hidden: output of the last block, ``[1, length, columns]``.
            tangent: how that changes, float32.
            window: number of the window.

        Returns:
            ``[1, length, columns]`` float32.
        """
        with torch.enable_grad():
            leaf, loss = self._loss(hidden, window)
            (slope,) = torch.autograd.grad(loss, leaf, create_graph=True)
            (found,) = torch.autograd.grad((slope * tangent).sum(), leaf)
        return found

    def _loss(self, hidden: Tensor, window: int) -> tuple[Tensor, Tensor]:
        """The hidden states as a leaf, and the loss of a window from them."""
        ids, start = self.chain.windows[window].ids, self.chain.windows[window].start
        leaf = hidden.detach().to(self.dtype).requires_grad_()
        logits = _logits(self.chain, leaf, window, self._values)[0, start - 1 : -1]
        loss = F.cross_entropy(logits.float(), ids[start:].to(logits.device))
        if not loss.isfinite():
            raise UserError(
                f"model.source: the loss of window {window} of the text is {loss.item()}; give "
                "a model whose weights are finite, or model.dtype: float32"
            )
        return leaf, loss


@torch.no_grad()
def check_ending(chain: Chain, hidden: Tensor, window: int) -> None:
    """Refuse a model whose logits do not depend on the output of its last block alone.

    This also checks that the blocks, run one after another, give what the model itself gives.

    Args:
        chain: the model's blocks.
        hidden: output of the last block for a window, ``[1, length, columns]``.
        window: number of the window.

    Raises:
        UserError: if the logits differ from the model's own.
    """
    ids = chain.windows[window].ids
    wanted = chain.model(input_ids=ids.unsqueeze(0), use_cache=False).logits.float()
    if not wanted.isfinite().all():
        raise UserError(
            f"model.source: the norm or output layer of {type(chain.model).__name__} gives logits "
            f"that are NaN or infinite for window {window} of the text; give a model whose weights "
            "are finite, or model.dtype: float32"
        )
    # Another text in between, in case the model keeps something of its last forward.
    chain.model(input_ids=ids.roll(1).unsqueeze(0), use_cache=False)
    found = _logits(chain, hidden, window, {}).float()
    if not (found - wanted).abs().max() <= _CLOSE * wanted.abs().max():
        raise UserError(
            f"model.source: {type(chain.model).__name__} gives other logits than its blocks, norm "
            "and output layer run one after another; give a model whose output layer reads the "
            "output of the last block alone"
        )


def decoded(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    """The values of a parameter, decoded; they may share the parameter's memory.

    Args:
        parameter: plain, or stored in any format.
        dtype: float32; for any other the values have the parameter's own, as a model in bfloat16
            may hold some parameters in float32.
    """
    floats = dtype == torch.float32
    if isinstance(parameter, PerturbedWeight):
        return parameter.with_store(parameter.store, torch.float32 if floats else None).dense()
    return parameter.detach().float() if floats else parameter.detach()


def _outside(model: nn.Module) -> dict[str, Tensor]:
    """Parameters outside of blocks, without input embeddings that the output layer does not use."""
    inside = tuple(f"{path}." for path in named_blocks(model))
    words = getattr(input_embeddings(model), "weight", None)
    tied = words is getattr(output_layer(model), "weight", None)
    return {
        name: one
        for name, one in model.named_parameters()
        if not name.startswith(inside) and (tied or one is not words)
    }


def _logits(chain: Chain, hidden: Tensor, window: int, values: Mapping[str, Tensor]) -> Tensor:
    """Logits of a window, ``[1, length, V]``, from what its last block gave.

    Args:
        chain: the model's blocks.
        hidden: the output of the last block.
        window: number of the window.
        values: used in place of the parameters of these names.
    """
    ids = chain.windows[window].ids.unsqueeze(0)
    with ExitStack() as stack:
        for call in chain.calls(window):
            given = (hidden, *[None] * (call.results - 1)) if call.results else hidden
            stack.enter_context(wrapped_call(call.block, Stage.GIVEN, _gives(given)))
        logits: Tensor = functional_call(
            chain.model, dict(values), (), {"input_ids": ids, "use_cache": False}
        ).logits
    return logits


def _gives(result: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return lambda inner: lambda *arguments, **options: result
