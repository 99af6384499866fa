"""Runs a model's operations without the numbers of its weights, and records the weights' inputs.

The flow of data through a model, row by row, does not depend on the values of its weights. A model
with stand-ins for them shows this flow in a fraction of a second, at any size, also on the meta
device, and always with the same result.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from zolit.models.anatomy import word_embeddings
from zolit.tensors.experts import Sorted, expert_linear
from zolit.tensors.weight import PerturbedWeight

RANK = 4
"""Rank of the matrices that stand for linear layers: enough that a router separates rows."""


@dataclass(frozen=True)
class Read:
    """One input of a tuned weight.

    Attributes:
        path: of the weight.
        shape: of the input; for an embedding of the indices.
        marked: ``[rows of the input]`` bool, the rows that depend on a marked token.
    """

    path: str
    shape: torch.Size
    marked: Tensor


@dataclass(frozen=True)
class Blank:
    """A copy of a model with stand-ins for its weights, on the CPU in float32.

    Attributes:
        model: the copy; its weights are constants that take no memory.
        tuned: paths of the weights that move, by the id of their stand-in.
    """

    model: nn.Module
    tuned: dict[int, str]


def make_blank(model: nn.Module) -> Blank:
    """A copy for trials: a forward that changes the model's own state changes the copy's.

    Args:
        model: prepared, on any device; not changed.
    """
    memo: dict[int, Any] = {}
    tuned: dict[int, str] = {}
    for module in model.modules():
        for held in (module._parameters, module._buffers, vars(module)):
            for tensor in held.values():
                if not isinstance(tensor, Tensor) or id(tensor) in memo:
                    continue
                if isinstance(tensor, nn.Parameter):
                    one = nn.Parameter(_constant(tensor), requires_grad=False)
                    if isinstance(tensor, PerturbedWeight) and tensor.site is not None:
                        tuned[id(one)] = tensor.path
                    memo[id(tensor)] = one
                elif tensor.is_meta:
                    memo[id(tensor)] = torch.ones_like(tensor, device="cpu")
                else:
                    memo[id(tensor)] = tensor.detach().cpu().clone()
    return Blank(deepcopy(model, memo).eval(), tuned)


def _constant(parameter: Tensor) -> Tensor:
    """A tensor of this shape with one number in memory: a half, or 0 for whole numbers."""
    floats = parameter.is_floating_point()
    one = torch.full((), 0.5) if floats else torch.zeros((), dtype=parameter.dtype)
    return one.expand(parameter.shape)


class StandIns(TorchFunctionMode):
    """Inside this context the linear layers of a `Blank` are matrices of low rank, and its
    embeddings waves.

    The embedding of a marked token is NaN, and so is everything that is computed from it.

    Args:
        copy: the model whose weights they stand for.
        marked: int64, tokens of the input embedding whose rows become NaN; None for none.

    Attributes:
        reads: inputs of tuned weights, in the order of the calls.
        elsewhere: paths of tuned weights that are read by another operation than a linear layer or
            an embedding, with the operation's name.
    """

    def __init__(self, copy: Blank, marked: Tensor | None = None) -> None:
        super().__init__()
        self.reads: list[Read] = []
        self.elsewhere: dict[str, str] = {}
        self._model, self._tuned = copy.model, copy.tuned
        self._words = word_embeddings(copy.model)
        self._marked = torch.empty(0, dtype=torch.int64) if marked is None else marked
        self._maps: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """``call(model, *arguments)`` with the copy."""
        with torch.no_grad(), torch.random.fork_rng(devices=[]), self:
            return call(self._model, *arguments)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        stand_in = _READS.get(func)
        if stand_in is not None:
            out = stand_in(self, *args, **kwargs)
            if out is not NotImplemented:
                return out
        out = self._product(*args, **kwargs) if func in _PRODUCTS else NotImplemented
        if out is NotImplemented:
            out = func(*args, **kwargs)
        if isinstance(out, Tensor | tuple | list) and not isinstance(out, torch.Size):
            for one in _flat((*args, *kwargs.values())):
                path = self._tuned.get(id(one))
                if path is not None and out is not one:
                    self.elsewhere.setdefault(path, getattr(func, "__name__", str(func)))
        return out

    def _read(self, weight: Any, shape: torch.Size, marked: Tensor) -> None:
        path = self._tuned.get(id(weight))
        if path is not None:
            self.reads.append(Read(path, shape, marked.flatten()))

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
        return self._layer(x, weight, weight.mT, bias)

    def _addmm(self, bias: Tensor, x: Tensor, weight: Tensor, **options: Any) -> Any:
        return NotImplemented if options else self._layer(x, weight, weight, bias)

    def _layer(self, x: Tensor, weight: Tensor, matrix: Tensor, bias: Tensor | None) -> Any:
        out = self._product(x, matrix)
        if out is not NotImplemented:
            marked = x.isnan().any(dim=-1)
            self._read(weight, x.shape, marked)
            self._read(bias, x.shape, marked)
        return out

    def _experts(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, choices: Sorted, transposed: bool
    ) -> Any:
        out = self._product(x, weight if transposed else weight.mT)
        if out is not NotImplemented:
            # In the order of the tokens, whose place decides to which half they belong.
            marked = torch.empty(len(x), dtype=torch.bool)
            marked[choices.order] = x.isnan().any(dim=-1)
            self._read(weight, x.shape, marked)
            self._read(bias, x.shape, marked)
        return out

    def _rows(self, weight: Tensor, index: Any) -> Any:
        """Rows of a table that is no ``nn.Embedding``, such as a table of positions: waves too."""
        tabular = isinstance(weight, Tensor) and weight.dim() == 2 and not any(weight.stride())
        numbers = isinstance(index, slice) or (
            isinstance(index, Tensor) and index.dtype in (torch.int64, torch.int32)
        )
        if not tabular or not numbers or weight.device.type != "cpu" or id(weight) in self._tuned:
            return NotImplemented
        indices = torch.arange(len(weight))[index]
        return (indices.unsqueeze(-1) * torch.linspace(0.1, 1.7, weight.shape[1])).cos()

    def _product(
        self, x: Tensor, matrix: Tensor, *others: Any, out: Tensor | None = None, **options: Any
    ) -> Any:
        """``x @ matrix`` for a stand-in or a view of it; not for a product of activations."""
        if any(matrix.stride()) or matrix.dim() < 2:
            return NotImplemented
        first, second = self._map(*matrix.shape[-2:])
        found = (x.float() @ first @ second).to(x.dtype)
        return found if out is None else out.copy_(found)

    def _map(self, columns: int, rows: int) -> tuple[Tensor, Tensor]:
        if (columns, rows) not in self._maps:
            drawn = torch.Generator().manual_seed(columns * 65_537 + rows)
            first = torch.randn(columns, RANK, generator=drawn) / columns**0.5
            self._maps[columns, rows] = first, torch.randn(RANK, rows, generator=drawn) / RANK**0.5
        return self._maps[columns, rows]

    def _embedding(self, indices: Tensor, weight: Tensor, *others: Any, **options: Any) -> Any:
        if any(weight.stride()):
            return NotImplemented
        marked = torch.isin(indices, self._marked.flatten())
        if weight is not self._words:
            marked = torch.zeros_like(marked)
        self._read(weight, indices.shape, marked)
        phases = indices.unsqueeze(-1) * torch.linspace(0.1, 1.7, weight.shape[1])
        return phases.cos().masked_fill(marked.unsqueeze(-1), torch.nan)


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from value
        else:
            yield value


_READS: dict[Any, Callable[..., Any]] = {
    F.linear: StandIns._linear,
    torch.addmm: StandIns._addmm,
    F.embedding: StandIns._embedding,
    expert_linear: StandIns._experts,
    Tensor.__getitem__: StandIns._rows,
}
"""Functions that can read two versions of a weight in a pair, see `PerturbedWeight`."""

_PRODUCTS = (
    torch.mm,
    torch.bmm,
    torch.matmul,
    Tensor.mm,
    Tensor.bmm,
    Tensor.matmul,
    Tensor.__matmul__,
    torch._grouped_mm,
)
"""Other products, which would need stand-ins as whole matrices."""

STOOD_FOR = frozenset((*_READS, *_PRODUCTS))
"""Functions whose results are made from stand-ins, without the numbers of a weight."""
