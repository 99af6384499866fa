"""How a model calls its blocks: in which order, and with what beside the hidden states."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Rest = dict[int | str, Any]
"""Arguments of a block besides its hidden states, by place or name."""


@dataclass(frozen=True)
class Call:
    """How the model calls a block.

    Attributes:
        path: of the block.
        block: the block.
        follows: whether its input is what the block before it gave.
        rest: its other arguments, for the first window.
        shared: those of them that the first block of its row of blocks was given too, such as what
            an encoder made of a window.
        times: how often the model calls it in one forward.
        results: entries of the tuple that it returns, the hidden states first; 0 where it returns
            the hidden states alone.
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
            firsts: those of the first block of its row of blocks, for each window.
        """
        return [{**self.rest, **{name: one[name] for name in self.shared}} for one in firsts]


@torch.no_grad()
def find_calls(
    model: nn.Module, windows: Iterable[Tensor], blocks: Mapping[str, nn.Module]
) -> list[Call]:
    """The first call of each block, in the order of the model.

    A block follows the one before it if it takes what that gave, and beside it what the first of
    its row took or what is alike for two windows.

    Args:
        model: a transformers model.
        windows: ``[length]`` token ids of each window; the first and the last are run.
        blocks: by path, whose calls are looked for.
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
    """What reaches a block, for each window; other arguments that are as in the first window are
    the same objects.

    Args:
        model: is run up to the block.
        call: of the block.
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
    """The hidden states that a block makes.

    Args:
        block: the block, or what calls it.
        hidden: ``[1, length, columns]``.
        rest: its other arguments.
    """
    others = [rest[place] for place in sorted(one for one in rest if isinstance(one, int))]
    named = {name: value for name, value in rest.items() if isinstance(name, str)}
    states: Tensor = hidden_states(block(hidden, *others, **named))
    return states


def same(one: Any, other: Any) -> bool:
    """Whether two arguments are one object, or hold the same numbers."""
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one is other or (one.dtype == other.dtype and torch.equal(one, other))
    plain = bool | int | float | str
    return one is other or (isinstance(one, plain) and isinstance(other, plain) and one == other)


class _Caught(Exception):  # noqa: N818  (not an error)
    """Ends a forward once the block that was waited for is reached."""


@dataclass
class _Seen:
    """The first call of a block.

    Attributes:
        path: of the block.
        block: the block.
        linked: whether its input is what the block that was called before it gave.
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
