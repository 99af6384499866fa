"""Compile a model's blocks: everything between the products with stored weights.

Norms, rotary embeddings, activations and residual sums take about half of an eager forward on a
CPU. The blocks of a transformer are alike, so one compilation serves all of them. A product with a
stored weight is one opaque operation in the compiled code, because the values of the weight change
with every query and the compiled code does not.
"""

import itertools
from copy import deepcopy
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, fx, nn
from torch._dynamo import config as dynamo_config
from torch._functorch import config as functorch_config
from torch._inductor.compile_fx import compile_fx

from zolit.compat import Conv1D
from zolit.errors import UserError
from zolit.kernels.activations import quantize_activations
from zolit.models.adapters.base import LayerAdapter, take_adapter
from zolit.models.anatomy import named_blocks
from zolit.models.experts import StoredExperts, is_stored_experts
from zolit.models.passes.calls import Call, Stage, Wrap, wrap_call
from zolit.tensors.product import (
    add_bias,
    factors_by_row,
    matmul,
    quantized_matmul,
    scales_outputs,
)
from zolit.tensors.weight import PerturbedWeight

_layers: "WeakValueDictionary[int, StoredLinear]" = WeakValueDictionary()
_numbers = itertools.count()


class StoredLinear(nn.Module):
    """A linear layer around a stored weight, opaque to torch.compile.

    Takes the place of ``nn.Linear`` and of GPT-2's Conv1D inside compiled blocks and keeps the
    names of their parameters.

    Args:
        weight: the stored weight, as a parameter.
        bias: ``[rows]`` parameter or None.
        adapter: of the layer that it replaces. It is called here and not by a hook, because
            torch.compile ignores hooks when it chooses code: it would run the code of a block
            without adapters for one with adapters.
        scaled: whether factors of output channels are multiplied in the compiled code, together
            with the operations that follow, instead of in a pass of their own. Not with a bias,
            which the factors must not change.
    """

    def __init__(
        self,
        weight: PerturbedWeight,
        bias: Tensor | None,
        adapter: LayerAdapter | None = None,
        scaled: bool = False,
    ) -> None:
        super().__init__()
        self.scaled = scaled and bias is None
        self.weight, self.bias, self.adapter = weight, bias, adapter
        self.rows = weight.store.rows
        self.in_integers = weight.store.integer_products
        number = next(_numbers)
        # A tensor, since an integer would become a constant of the compiled code; not a buffer,
        # since it is read on the host.
        self.number = torch.tensor(number)
        _layers[number] = self

    def __deepcopy__(self, memo: dict[int, Any]) -> "StoredLinear":
        return StoredLinear(
            deepcopy(self.weight, memo),
            deepcopy(self.bias, memo),
            deepcopy(self.adapter, memo),
            self.scaled,
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[..., columns]`` to ``[..., rows]``."""
        out: Tensor
        # For ``[B, T, columns]`` one row of factors serves T rows. For every row they would be as
        # large as the product.
        apart = self.scaled and x.dim() == 3
        if self.in_integers:
            # A separate operation, so that layers with the same input can share it
            # (`_share_codes`).
            codes, scale = torch.ops.zolit.quantize(x, self.number)
            out = torch.ops.zolit.stored_integer_linear(
                codes, scale, self.number, self.rows, x.dtype, not apart
            )
        else:
            out = torch.ops.zolit.stored_linear(x, self.number, self.rows, not apart)
        if apart:
            factors = torch.ops.zolit.output_factors(x, self.number, self.rows)
            out = (out.float() * factors).to(out.dtype)
        return out if self.adapter is None else self.adapter(x, out)


# Not `torch.library.custom_op`, whose checks at each call cost as much as a small product.
_library = torch.library.Library("zolit", "FRAGMENT")
_library.define("stored_linear(Tensor x, Tensor number, int rows, bool scaled) -> Tensor")
_library.define("quantize(Tensor x, Tensor number) -> (Tensor, Tensor)")
_library.define(
    "stored_integer_linear(Tensor codes, Tensor scale, Tensor number, int rows, ScalarType dtype,"
    " bool scaled) -> Tensor"
)
_library.define("output_factors(Tensor x, Tensor number, int rows) -> Tensor")


@torch.library.impl(_library, "stored_linear", "CompositeExplicitAutograd")
def _stored_linear(x: Tensor, number: Tensor, rows: int, scaled: bool) -> Tensor:
    layer = _layers[int(number)]
    return add_bias(matmul(x, layer.weight, scaled), layer.bias)


@torch.library.register_fake("zolit::stored_linear", lib=_library)
def _(x: Tensor, number: Tensor, rows: int, scaled: bool) -> Tensor:
    return x.new_empty(*x.shape[:-1], rows)


@torch.library.impl(_library, "output_factors", "CompositeExplicitAutograd")
def _output_factors(x: Tensor, number: Tensor, rows: int) -> Tensor:
    return factors_by_row(x, _layers[int(number)].weight)


@torch.library.register_fake("zolit::output_factors", lib=_library)
def _(x: Tensor, number: Tensor, rows: int) -> Tensor:
    return x.new_empty(x.shape[0], 1, rows, dtype=torch.float32)


@torch.library.impl(_library, "quantize", "CompositeExplicitAutograd")
def _quantize(x: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    return quantize_activations(x, _layers[int(number)].weight.reading.preference)


@torch.library.register_fake("zolit::quantize", lib=_library)
def _(x: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    codes = torch.empty(x.shape, dtype=torch.int8, device=x.device)
    return codes, x.new_empty(*x.shape[:-1], 1, dtype=torch.float32)


@torch.library.impl(_library, "stored_integer_linear", "CompositeExplicitAutograd")
def _stored_integer_linear(
    codes: Tensor, scale: Tensor, number: Tensor, rows: int, dtype: torch.dtype, scaled: bool
) -> Tensor:
    layer = _layers[int(number)]
    return add_bias(quantized_matmul(codes, scale, layer.weight, dtype, scaled), layer.bias)


@torch.library.register_fake("zolit::stored_integer_linear", lib=_library)
def _(
    codes: Tensor, scale: Tensor, number: Tensor, rows: int, dtype: torch.dtype, scaled: bool
) -> Tensor:
    return codes.new_empty(*codes.shape[:-1], rows, dtype=dtype)


def _share_codes(graph: fx.Graph) -> None:
    """Quantize an input once for all the layers that take it (query, key and value)."""
    first: dict[fx.Node, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target in _QUANTIZE:
            shared = first.setdefault(node.args[0], node)
            if shared is not node:
                node.replace_all_uses_with(shared)
                graph.erase_node(node)


_QUANTIZE = (torch.ops.zolit.quantize, torch.ops.zolit.quantize.default)


def _inductor(module: fx.GraphModule, inputs: list[Tensor]) -> Any:
    _share_codes(module.graph)
    module.recompile()
    # Checks of the size of each buffer would cost a hundredth of a step.
    compiled: Any = compile_fx(module, inputs, config_patches={"size_asserts": False})

    def call(*arguments: Any) -> Any:
        # torch checks the results of operators once, under a mode. Kernels that are compiled in
        # that call would be compiled again in the next.
        with functorch_config.patch(check_custom_op_aliasing=False):
            return compiled(*arguments)

    return call


def compile_blocks(model: nn.Module) -> int:
    """Compile the blocks of a prepared model in place, on their first call.

    A block with a perturbed weight outside of its linear layers and experts (a tuned norm) stays as
    it is, as does everything outside of blocks (`zolit.models.anatomy`).

    Args:
        model: a model after `zolit.models.prepare.prepare`.

    Returns:
        The number of blocks that will be compiled.

    Raises:
        UserError: if the model has no such block.
    """
    found = [block for block in named_blocks(model).values() if _only_linear(block)]
    if not found:
        raise UserError(
            f"compile: got blocks, but {type(model).__name__} has no list of blocks whose tuned "
            "weights are all linear layers; use compile: none"
        )
    # All blocks get the same modules, tuned or not: each kind of block would be compiled by itself.
    scaled = any(
        isinstance(weight, PerturbedWeight) and scales_outputs(weight)
        for block in found
        for weight in block.parameters()
    )
    for block in found:
        for parent in list(block.modules()):
            for name, child in list(parent.named_children()):
                if _is_stored_linear(child):
                    stored = StoredLinear(
                        child.weight,  # type: ignore[arg-type]
                        child.bias,  # type: ignore[arg-type]
                        take_adapter(child),
                        scaled,
                    )
                    setattr(parent, name, stored)
                elif is_stored_experts(child):
                    setattr(parent, name, StoredExperts(child))
        compiled = torch.compile(block._call_impl, backend=_inductor, dynamic=True)
        wrap_call(block, Stage.COMPILED, _replaced_by(_with_constant_floats(compiled)))
    return len(found)


def _replaced_by(call: Call) -> Wrap:
    return lambda inner: call


def _with_constant_floats(compiled: Call) -> Call:
    """Compile the floats of a block (epsilon of a norm, scale of attention) as constants.

    ``dynamic=True`` would make them inputs. When torch then finds that they are constants it
    compiles the block a second time, which takes 3 s of the first step.
    """

    def call(*arguments: Any, **options: Any) -> Any:
        with dynamo_config.patch(specialize_float=True):
            return compiled(*arguments, **options)

    return call


def _is_stored_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D) and isinstance(module.weight, PerturbedWeight)


def _only_linear(block: nn.Module) -> bool:
    stored = [m for m in block.modules() if _is_stored_linear(m) or is_stored_experts(m)]
    inside = {id(p) for m in stored for p in m.parameters(recurse=False)}
    every = [p for p in block.parameters() if isinstance(p, PerturbedWeight)]
    return bool(stored) and all(id(p) in inside for p in every)
