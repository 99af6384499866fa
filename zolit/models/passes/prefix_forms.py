"""Finds by trials which arguments of a model's blocks have one entry for each row of a batch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten

from zolit.models.trials.pairs import ROWS, Forward, trial_rows
from zolit.models.trials.stand_ins import Blank, StandIns


@dataclass(frozen=True)
class Leaves:
    """The tensors in a block's arguments or results.

    Attributes:
        spec: the nesting of the values.
        each: for each leaf the length of its first dimension for one row of the batch; 0 if the
            length does not depend on the batch, None if no trial had a tensor of more than one
            entry there.
    """

    spec: TreeSpec
    each: tuple[int | None, ...]


@dataclass(frozen=True)
class Form:
    """A block's arguments and results."""

    taken: Leaves
    given: Leaves


class UnfitError(Exception):
    """Rows are not the first dimension of the blocks' arguments, or blocks do not run in order."""


@dataclass(frozen=True)
class _Call:
    place: int
    taken: tuple[list[Any], TreeSpec]
    given: tuple[list[Any], TreeSpec]


def find_forms(copy: Blank, blocks: list[nn.Module], forward: Forward) -> list[Form]:
    """The form of each block.

    The model runs with stand-ins for its weights on doubled batches of two sizes, with and without
    padding. A dimension that counts rows grows with the batch and has two equal halves.

    Args:
        copy: of the model, its blocks not compiled.
        blocks: of the copy, in their order.
        forward: how it will be called.

    Raises:
        UnfitError: if rows are not the first dimension, or blocks are called in another order.
        Exception: whatever the model raises.
    """
    whole, padded = (_forms(copy, blocks, forward, padded) for padded in (False, True))
    return [
        Form(_joined(one.taken, other.taken), _joined(one.given, other.given))
        for one, other in zip(whole, padded, strict=True)
    ]


def _forms(copy: Blank, blocks: list[nn.Module], forward: Forward, padded: bool) -> list[Form]:
    small, large = (_record(copy, blocks, forward, rows, padded) for rows in SIZES)
    return [
        Form(_leaves(one.taken, other.taken), _leaves(one.given, other.given))
        for one, other in zip(small, large, strict=True)
    ]


SIZES = (ROWS, ROWS + 2)


def doubled(copy: Blank, rows: int, padded: bool) -> tuple[Tensor, Tensor]:
    """Token ids and mask of a batch that is repeated once, ``[2 * rows, tokens]`` each."""
    first, _, mask = trial_rows(copy.model, rows)
    mask = mask if padded else torch.ones_like(mask)
    return torch.cat((first, first)), torch.cat((mask, mask))


def _record(
    copy: Blank, blocks: list[nn.Module], forward: Forward, rows: int, padded: bool
) -> list[_Call]:
    calls: list[_Call] = []
    with _watched(blocks, calls):
        StandIns(copy).run(forward, *doubled(copy, rows, padded))
    if [call.place for call in calls] != list(range(len(blocks))):
        raise UnfitError
    return calls


@contextmanager
def _watched(blocks: list[nn.Module], calls: list[_Call]) -> Iterator[None]:
    def hook(place: int) -> Callable[..., None]:
        def note(module: nn.Module, arguments: Any, options: Any, out: Any) -> None:
            calls.append(_Call(place, tree_flatten((arguments, options)), tree_flatten(out)))

        return note

    handles = [
        block.register_forward_hook(hook(place), with_kwargs=True)
        for place, block in enumerate(blocks)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _leaves(small: tuple[list[Any], TreeSpec], large: tuple[list[Any], TreeSpec]) -> Leaves:
    (few, spec), (many, other) = small, large
    if spec != other:
        raise UnfitError
    return Leaves(spec, tuple(map(_each, few, many)))


def _each(few: Any, many: Any) -> int | None:
    """Length of a leaf's first dimension for one row of the batch."""
    if not isinstance(few, Tensor) or not isinstance(many, Tensor):
        return None
    if few.shape == many.shape:
        return None if alike(few) else 0
    each = few.shape[0] // (2 * SIZES[0])
    grown = (2 * each * SIZES[1], *few.shape[1:])
    if each * 2 * SIZES[0] != few.shape[0] or many.shape != grown:
        raise UnfitError
    first, second = few.chunk(2)
    if not torch.allclose(first.float(), second.float(), rtol=1e-4, atol=1e-4, equal_nan=True):
        raise UnfitError
    return each


def _joined(one: Leaves, other: Leaves) -> Leaves:
    """The form that two batches of the same model agree on."""
    if one.spec != other.spec:
        raise UnfitError
    each = [{a, b} - {None} for a, b in zip(one.each, other.each, strict=True)]
    if any(len(kinds) > 1 for kinds in each):
        raise UnfitError
    return Leaves(one.spec, tuple(next(iter(kinds), None) for kinds in each))


def alike(value: Tensor) -> bool:
    """Whether a tensor has one entry that is the same for all rows."""
    return value.dim() == 0 or value.shape[0] == 1
