"""Counts the bytes that a computation needs, on tensors of the meta device, which hold none."""

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import finalize

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakIdKeyDictionary

from zolit.tensors.weight import PerturbedWeight

_FUSED = (torch.float32, torch.bfloat16, torch.float16)


class LiveBytes(TorchDispatchMode):
    """Counts the storages that are made inside this context and not freed yet.

    Storages that existed before, such as the weights of a model, are not counted, and neither are
    temporaries inside an operation. Operations may mix tensors on the meta device and others, such
    as token ids; the result is on the meta device.

    Attributes:
        live: bytes alive now.
        peak: most bytes alive at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        inputs = _tensors((args, kwargs))
        for value in inputs:
            self._known.setdefault(value.untyped_storage(), None)
        if len({value.is_meta for value in inputs}) == 2:
            args, kwargs = tree_map(_without_numbers, (args, kwargs))
        out = func(*args, **kwargs)
        for value in _tensors(out):
            if (storage := value.untyped_storage()) not in self._known:
                self._known[storage] = None
                self._made(storage)
        return out

    def _made(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        finalize(storage, partial(self._freed, size)).atexit = False

    def _freed(self, size: int) -> None:
        self.live -= size


def _tensors(values: Any) -> list[Tensor]:
    # A stored weight is a shell; the tensors in its store are seen when they are read.
    return [
        value
        for value in tree_leaves(values)
        if isinstance(value, Tensor) and not isinstance(value, PerturbedWeight)
    ]


def _without_numbers(value: Any) -> Any:
    """The same value on the meta device, for operations that mix token ids and weights."""
    plain = isinstance(value, Tensor) and not isinstance(value, PerturbedWeight)
    if not plain or value.is_meta:
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


class AsOnDevice(TorchFunctionMode):
    """Makes a model on the meta device run the same operations as on a real device.

    Attention computes no matrix of scores, like the fused kernels of CPU and CUDA. On the meta
    device torch would fall back to plain operations, which keep the scores of all heads. The other
    allocations of the CPU kernel are counted: its output, the logarithms of the normalizers, a
    boolean mask as floats, and packed keys and values.

    Token ids and masks keep their numbers when a model moves them to its device, because models
    branch on them, for example on whether a batch is padded at all.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and _is_fused(*args, **kwargs):
            return _attention(*args, **kwargs)
        if func is Tensor.to and not args[0].is_meta and not args[0].is_floating_point():
            device, dtype, *_ = torch._C._nn._parse_to(*args[1:], **kwargs)
            if device is not None and device.type == "meta":
                return args[0] if dtype is None else args[0].to(dtype)
        return func(*args, **kwargs)


def _is_fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    **options: Any,
) -> bool:
    return (
        query.dim() == 4
        and query.dtype in _FUSED
        and dropout_p == 0.0
        and query.shape[-1] == value.shape[-1]
    )


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any
) -> Tensor:
    made: Tensor = _Attention.apply(query, key, value, attn_mask)
    return made


class _Attention(torch.autograd.Function):
    """Makes what the fused kernel makes, and keeps what it keeps for the backward pass."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        batch, heads, tokens, _ = query.shape
        normalizers = query.new_empty(batch, heads, tokens, dtype=torch.float32)
        _packed = torch.empty_like(key), torch.empty_like(value)
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.empty_like(mask, dtype=query.dtype)
        out = torch.empty_like(query)  # in the layout of the query, as the kernel does
        ctx.save_for_backward(query, key, value, out, normalizers, mask)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, *_ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None
