"""Finds out how a model calls its blocks: in which order, and with which arguments."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Rest = dict[int | str, Any]
"""Arguments of a block besides its hidden states: positional ones by number, others by name."""


@dataclass(frozen=True)
class Call:
    """How the model calls a block.

    Attributes:
        path: of the block.
        block: the block.
        follows: whether it continues a chain: its hidden states are the output of the block before
            it, and its other arguments are known without running the model.
        rest: its other arguments for the first window.
        shared: names of those other arguments that are the very objects which the first block of
            its chain was given, such as an encoder's output. They depend on the window.
        times: how often the model calls it in one forward.
        results: length of the tuple that it returns, whose first entry is the hidden states; 0 if
            it returns the hidden states alone.
    """

    path: str
    block: nn.Module
    follows: bool
    rest: Rest
    shared: frozenset[int | str]
    times: int
    results: int

    def rests(self, firsts: Iterable[Rest]) -> list[Rest]:
        """Its other arguments for each window.

        Args:
            firsts: the other arguments of the first block of its chain, for each window.
        """
        return [{**self.rest, **{name: one[name] for name in self.shared}} for one in firsts]


@torch.no_grad()
def find_calls(
    model: nn.Module, windows: Iterable[Tensor], blocks: Mapping[str, nn.Module]
) -> list[Call]:
    """The first call of each block, in the order in which the model makes them.

    The model runs on two windows. A block continues the chain of the block before it if it takes
    that block's output, and each of its other arguments is equal for both windows or is an object
    that the first block of the chain was given too. Any other block begins a new chain.

    Args:
        model: a transformers model.
        windows: ``[length]`` token ids of each window; the first and the last are run.
        blocks: the blocks to look for, by path.
    """
    each = list(windows)
    calls: list[Call] = []
    other = {one.path: one for one in _seen(model, each[-1], blocks)}
    first: Rest = {}
    for one in _seen(model, each[0], blocks):
        rest = one.rest
        theirs = other[one.path].rest if one.path in other else {}
        known = {name for name, value in rest.items() if name in first and first[name] is value}
        alike = (name in known or same(value, theirs.get(name)) for name, value in rest.items())
        follows = one.linked and all(alike)
        first, shared = (first, known) if follows else (rest, set(rest))
        calls.append(
            Call(one.path, one.block, follows, rest, frozenset(shared), one.times, one.results)
        )
    return calls


@torch.no_grad()
def caught(
    model: nn.Module, call: Call, windows: Iterable[Tensor]
) -> Iterator[tuple[Tensor, Rest]]:
    """The arguments that a block is given for each window. The model is run up to the block.

    Arguments that equal those of the first window are yielded as the same objects, so that they
    are held in memory once.

    Args:
        model: a transformers model.
        call: the call of the block.
        windows: ``[length]`` token ids of each.

    Yields:
        The hidden states, ``[1, length, columns]``, and the block's other arguments.
    """
    found: list[tuple[Any, Rest]] = []

    def catch(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append(_split(args, kwargs))
        raise _Caught

    known = call.rest
    for number, window in enumerate(windows):
        hook = call.block.register_forward_pre_hook(catch, with_kwargs=True)
        try:
            model(input_ids=window.unsqueeze(0), use_cache=False)
        except _Caught:
            pass
        finally:
            hook.remove()
        hidden, rest = found.pop()
        rest = {n: known[n] if same(v, known.get(n)) else v for n, v in rest.items()}
        if number == 0:
            known = rest
        yield hidden, rest


def run_block(block: Callable[..., Any], hidden: Tensor, rest: Rest) -> Tensor:
    """Run a block; returns its hidden states, ``[1, length, columns]``.

    Args:
        block: the block, or a function that calls it.
        hidden: ``[1, length, columns]``, its input.
        rest: its other arguments.
    """
    others = [rest[place] for place in sorted(one for one in rest if isinstance(one, int))]
    named = {name: value for name, value in rest.items() if isinstance(name, str)}
    states: Tensor = hidden_states(block(hidden, *others, **named))
    return states


def same(one: Any, other: Any) -> bool:
    """Whether two arguments are one object, or hold equal values."""
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one is other or (one.dtype == other.dtype and torch.equal(one, other))
    plain = bool | int | float | str
    return one is other or (isinstance(one, plain) and isinstance(other, plain) and one == other)


class _Caught(Exception):  # noqa: N818  (not an error)
    """Ends a forward as soon as it has reached the block that is looked for."""


@dataclass
class _Seen:
    """The first call of a block.

    Attributes:
        path: of the block.
        block: the block.
        linked: whether its input equals the output of the block that was called before it.
        rest: its other arguments.
        times: how often it was called.
        results: see `Call`.
    """

    path: str
    block: nn.Module
    linked: bool
    rest: Rest
    times: int = 0
    results: int = 0


def _seen(model: nn.Module, window: Tensor, blocks: Mapping[str, nn.Module]) -> list[_Seen]:
    """The first call of each block, in one forward."""
    found: dict[str, _Seen] = {}
    before: Any = None

    def enter(path: str) -> Callable[..., None]:
        def hook(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden, rest = _split(args, kwargs)
            found.setdefault(path, _Seen(path, block, same(hidden, before), rest))
            found[path].times += 1

        return hook

    def leave(path: str) -> Callable[..., None]:
        def hook(block: nn.Module, args: Any, result: Any) -> None:
            nonlocal before
            before = hidden_states(result)
            found[path].results = len(result) if isinstance(result, tuple) else 0

        return hook

    hooks = [
        hook
        for path, block in blocks.items()
        for hook in (
            block.register_forward_pre_hook(enter(path), with_kwargs=True),
            block.register_forward_hook(leave(path)),
        )
    ]
    try:
        model(input_ids=window.unsqueeze(0), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return list(found.values())


def _split(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Rest]:
    """The hidden states that a block is given, and the rest."""
    rest: Rest = dict(enumerate(args))
    rest.update(kwargs)
    return rest.pop(0 if args else "hidden_states"), rest


def hidden_states(result: Any) -> Any:
    """The hidden states in what a block gives, alone or first of a tuple."""
    return result[0] if isinstance(result, tuple) else result
