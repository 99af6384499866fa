"""The file of a choice that a mask of single coordinates made: bits, or positions where few."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from zolit.calibration.facts import read_facts
from zolit.errors import UserError
from zolit.files import replacing
from zolit.formats.base import StoredWeight
from zolit.formats.sparse_overlay import SparseOverlay
from zolit.supports import Bits
from zolit.tensors.weight import PerturbedWeight

VERSION = 1


@dataclass(frozen=True)
class Facts:
    """What the file says beside its bits.

    Attributes:
        version: of the format.
        shapes: rows and columns of the coordinates of each weight, by the parameter's name.
        digests: `float_digests` of the parameters that do not move; empty to compare none.
        title: of the mask that chose.
    """

    version: int
    shapes: dict[str, tuple[int, int]]
    digests: dict[str, str]
    title: str = ""


def write_choice(
    file: Path, weights: Iterable[PerturbedWeight], digests: dict[str, str], title: str
) -> None:
    """Write which coordinates of some weights move, in a safetensors file.

    Of each weight P it holds ``P``, a bit for each coordinate (`Bits.packed`, columns in the
    model's order), or where these are larger ``P.entries``, the coordinates' rising positions ``row
    * columns + column``, int32 or int64.

    Args:
        file: written whole or not at all.
        weights: that move.
        digests: see `Facts`.
        title: see `Facts`.

    Raises:
        UserError: naming a weight that moves by another kind of support.
        OSError: if it cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    shapes = {}
    for weight in weights:
        store, site = weight.store, weight.site
        if isinstance(store, SparseOverlay):
            shapes[weight.path] = store.rows, store.columns
            entries = store.entries_in_model_order()
            small = _narrow(entries, store.rows * store.columns)
            tensors[f"{weight.path}.entries"] = small.cpu()
            continue
        support = None if site is None else site.support
        if not isinstance(support, Bits):
            raise UserError(
                f"FromFile.save: {weight.path} moves by {type(support).__name__}, expected bits of "
                "single coordinates; keep the mask's seed and options instead"
            )
        shapes[weight.path] = support.shape
        name, tensor = as_tensor(weight.path, in_model_order(support, store), support.shape[1])
        tensors[name] = tensor
    write_tensors(file, tensors, Facts(VERSION, shapes, digests, title))


def write_bits(
    file: Path, supports: Mapping[str, Bits], digests: dict[str, str], title: str
) -> None:
    """Write which entries of some matrices are chosen, in the form of `write_choice`.

    Args:
        file: written whole or not at all.
        supports: the entries of each weight, columns in the model's order, by its parameter's name.
        digests: see `Facts`.
        title: see `Facts`.

    Raises:
        OSError: if it cannot be written.
    """
    tensors = dict(as_tensor(path, one.packed, one.shape[1]) for path, one in supports.items())
    shapes = {path: one.shape for path, one in supports.items()}
    write_tensors(file, tensors, Facts(VERSION, shapes, digests, title))


def as_tensor(path: str, packed: Tensor, columns: int) -> tuple[str, Tensor]:
    """The name and the tensor that the file has for a weight: bits, or positions where fewer."""
    entries = Bits(packed, columns).chosen().flatten().nonzero().flatten()
    small = _narrow(entries, packed.numel() * 32)
    few = small.numel() * small.element_size() < packed.numel() * packed.element_size()
    return (f"{path}.entries", small.cpu()) if few else (path, packed.cpu())


def write_tensors(file: Path, tensors: dict[str, Tensor], facts: Facts) -> None:
    """Write the tensors of a choice with its facts; the file is whole or not there."""
    text = json.dumps(asdict(facts))
    with replacing(file, durable=True) as scratch:
        scratch.write_bytes(save(tensors, {"zolit_mask": text}))


def read_choice_facts(file: str, where: str, again: str) -> Facts:
    """What a file says beside its bits; arguments are those of `read_facts`.

    Raises:
        UserError: if it is not there, not whole or no choice.
    """
    make: Callable[..., Facts] = Facts
    return read_facts(file, make, VERSION, "mask", where, again)


def read_choice(file: str, path: str, shape: tuple[int, int]) -> Bits:
    """The coordinates of one weight that move, columns in the model's order.

    Args:
        file: that `write_choice` wrote.
        path: a parameter of its `Facts`.
        shape: rows and columns that they say.

    Raises:
        UserError: if the file holds no such coordinates.
    """
    with safe_open(file, "pt") as opened:
        names = set(opened.keys())
        if path in names:
            return Bits(opened.get_tensor(path), shape[1])
        name = f"{path}.entries"
        entries = opened.get_tensor(name) if name in names else torch.empty(0)
    chosen = torch.zeros(shape, dtype=torch.bool)
    inside = bool(((entries >= 0) & (entries < chosen.numel())).all())
    if entries.is_floating_point() or entries.dim() != 1 or not inside:
        raise UserError(
            f"mask: {file!r} holds no positions of {path}, a matrix of {shape[0]}x{shape[1]}; get "
            "the file again"
        )
    chosen.view(-1)[entries.long()] = True
    return Bits.of(chosen)


def in_model_order(support: Bits, store: StoredWeight) -> Tensor:
    """Bits with the columns of elements as the model has them."""
    if support.shape != (store.rows, store.columns):  # of scales
        return support.packed
    chosen = support.chosen()
    ordered = torch.zeros_like(chosen)
    places = store.in_stored_order(torch.arange(store.columns).unsqueeze(0))[0]
    ordered[:, places.to(chosen.device)] = chosen
    return Bits.of(ordered).packed


def _narrow(entries: Tensor, total: int) -> Tensor:
    return entries.to(torch.int32 if total < 1 << 31 else torch.int64)
