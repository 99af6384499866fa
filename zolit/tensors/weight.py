"""The tensor that takes the place of a model's weight: stored in any format, read perturbed."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.tensors import gradient_product, product
from zolit.tensors.reading import Reading
from zolit.tensors.site import Site

aten = torch.ops.aten


class PerturbedWeight(Tensor):
    """A weight in any storage format, read along the direction that the shared `Reading` names.

    Linear layers, embeddings and GPT-2's ``addmm`` decode it in chunks of rows. Every other
    operation gets it as a plain tensor, decoded and perturbed. Inside a pair the weight has two
    values, and such an operation is refused.

    Attributes:
        store: the stored matrix ``[rows, columns]``.
        site: its place among the perturbed weights; None if it never moves.
        reading: the state that the weights of a model share.
        path: name of the parameter, for messages.
        transposed: whether the model has it as ``[columns, rows]`` (GPT-2's Conv1D), or as several
            such matrices (experts).

    Example:
        >>> from zolit.formats.int8 import Int8Weight
        >>> store = Int8Weight.quantize(torch.tensor([[1.0, -2.0]]), None)
        >>> reading, shape = Reading(preference="reference"), torch.Size((1, 2))
        >>> weight = PerturbedWeight(store, None, reading, "w", shape, torch.float32)
        >>> F.linear(torch.tensor([[1.0, 1.0]]), weight).round(decimals=1)
        tensor([[-1.]])
    """

    store: StoredWeight
    site: Site | None
    reading: Reading
    path: str
    transposed: bool

    @staticmethod
    def __new__(
        cls,
        store: StoredWeight,
        site: Site | None,
        reading: Reading,
        path: str,
        shape: torch.Size,
        dtype: torch.dtype,
        transposed: bool = False,
    ) -> "PerturbedWeight":
        return torch.Tensor._make_wrapper_subclass(
            cls, shape, dtype=dtype, device=store.device, requires_grad=False
        )

    def __init__(
        self,
        store: StoredWeight,
        site: Site | None,
        reading: Reading,
        path: str,
        shape: torch.Size,
        dtype: torch.dtype,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        self.store, self.site, self.reading = store, site, reading
        self.path, self.transposed = path, transposed
        store.keep_views()
        if site is not None:
            self.stand_at(site)

    def stand_at(self, site: Site) -> None:
        """Give the weight a place among the perturbed weights, and register it as one."""
        self.site = site
        self.reading.register(site, site.coordinates, self.store.rows, self.store.padded_columns)

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"PerturbedWeight({self.path}, {tuple(self.shape)}, {self.store.describe()})"

    def with_store(
        self, store: StoredWeight, dtype: torch.dtype | None = None
    ) -> "PerturbedWeight":
        """The same weight, with the same place, around another store."""
        return PerturbedWeight(
            store,
            None if self.site is None else self.site.on(store.device),
            self.reading,
            self.path,
            self.shape,
            dtype or self.dtype,
            self.transposed,
        )

    def __tensor_flatten__(self) -> tuple[list[str], dict[str, Any]]:
        """The names of the stored tensors. By this method torch knows that this is a wrapper."""
        return list(self.store.tensors()), {"like": self}

    @staticmethod
    def __tensor_unflatten__(
        inner: dict[str, Tensor], context: dict[str, Any], size: Any, stride: Any
    ) -> "PerturbedWeight":
        like = context["like"]
        return like.with_store(like.store.replace(inner))

    def __getattr__(self, name: str) -> Tensor:
        # torch asks for names that `__tensor_flatten__` returned.
        store = self.__dict__.get("store")
        if store is not None and name in (tensors := store.tensors()):
            return tensors[name]
        raise AttributeError(f"PerturbedWeight has no attribute {name!r}")

    def dense(self) -> Tensor:
        """The weight as it reads now, in its logical shape and dtype."""
        return product.dense(self)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        handler = _FUNCTIONS.get(func)
        if handler is not None:
            result = handler(*args, **kwargs)
            if result is not NotImplemented:
                return result
        # Not by super(), which would turn a plain result into a PerturbedWeight.
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (aten.detach.default, aten.alias.default, aten.view_as.default):
            return args[0].with_store(args[0].store)
        if func is aten.clone.default:
            weight = args[0]
            copies = {k: v.clone() for k, v in weight.store.tensors().items()}
            return weight.with_store(weight.store.replace(copies))
        if func is aten._to_copy.default:
            return _to_copy(args[0], **kwargs)

        written = args[0] if args and func._schema.is_mutable else None
        if isinstance(written, PerturbedWeight):
            # The operation would change a decoded copy and leave the weight as it is.
            raise UserError(
                f"{written.path} is changed in place by the model ({func}), which a stored weight "
                "cannot be; choose another model, or turn this off in its configuration"
            )

        def read(value: Any) -> Any:
            return value.dense() if isinstance(value, PerturbedWeight) else value

        return func(*tree_map(read, args), **tree_map(read, kwargs))


def _to_copy(weight: PerturbedWeight, **kwargs: Any) -> Tensor:
    dtype = kwargs.get("dtype")
    if dtype is not None and dtype != weight.dtype:
        # A cast in a forward pass (Gemma's ``weight.float()``) reads the weight.
        return weight.dense().to(**{k: v for k, v in kwargs.items() if v is not None})
    device = kwargs.get("device")
    moved = {k: v.to(device=device) for k, v in weight.store.tensors().items()}
    return weight.with_store(weight.store.replace(moved))


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    if not isinstance(weight, PerturbedWeight):
        return product.add_bias(F.linear(x, weight), bias)
    if weight.transposed:
        return NotImplemented
    return product.add_bias(gradient_product.matmul(x, weight), bias)


def _addmm(bias: Tensor, x: Tensor, weight: Tensor, **kwargs: Any) -> Any:
    if kwargs:
        return NotImplemented
    if not isinstance(weight, PerturbedWeight):
        return product.add_bias(x @ weight, bias)
    if not weight.transposed:
        return NotImplemented
    return product.add_bias(gradient_product.matmul(x, weight), bias)


def _embedding(
    indices: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    if not isinstance(weight, PerturbedWeight):
        return NotImplemented
    if max_norm is not None:
        raise UserError(
            f"embedding {weight.path} renormalizes its rows (max_norm={max_norm}), which would "
            "change stored weights in a read; take it out of `tune`"
        )
    return product.embedding(indices, weight)


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    F.linear: _linear,
    torch.addmm: _addmm,
    F.embedding: _embedding,
}


def perturbed_weights(model: nn.Module) -> list[PerturbedWeight]:
    """The weights of a model that have a site, in the order of their sites.

    A weight that several modules share comes once.
    """
    found = {
        p.site.index: p
        for p in model.parameters()
        if isinstance(p, PerturbedWeight) and p.site is not None
    }
    return [found[index] for index in sorted(found)]


def stored_weights(model: nn.Module) -> Iterator[PerturbedWeight]:
    """Every weight of the model that zolit stores, tuned or not; ties come once."""
    for parameter in model.parameters():
        if isinstance(parameter, PerturbedWeight):
            yield parameter
