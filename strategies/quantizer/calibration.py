"""Run text through a model block by block, and quantize each block on what reaches it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.models.anatomy import named_blocks

Quantize = Callable[[str, Tensor, Tensor], Tensor]
"""``quantize(path, weight, moments)``: what to put in the place of a ``[rows, columns]`` weight,
given ``[columns, columns]`` float32, the sum of ``x x^T`` over the inputs x of its layer."""


def windows_of_text(file: Path, tokenizer: Any, samples: int, length: int) -> Tensor:
    """``[samples, length]`` token ids from the beginning of a text file.

    Raises:
        UserError: if the file is not there or too short.
    """
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(
            f"text must be a file of calibration text, got {str(file)!r} ({error.strerror}); give "
            "plain text, a document a line"
        ) from error
    # A token has fewer than 32 characters on average in any language.
    ids = tokenizer(text[: 32 * samples * length], return_tensors="pt").input_ids[0]
    if len(ids) < samples * length:
        raise UserError(
            f"text {str(file)!r} has {len(ids)} tokens, but samples={samples} windows of "
            f"length={length} need {samples * length}; lower samples"
        )
    return ids[: samples * length].view(samples, length)


class _Caught(Exception):  # noqa: N818  (not an error)
    """Ends a forward once the block that was waited for is reached."""


Rest = dict[int | str, Any]
"""Arguments of a block besides its hidden states, by place or name."""


@dataclass(frozen=True)
class _Call:
    """How the model calls a block.

    Attributes:
        path: of the block.
        block: the block.
        follows: whether its input is what the block before it gave.
        rest: its other arguments, for the first window.
        shared: those of them that the first block of its row of blocks was given too, such as what
            an encoder made of a window.
    """

    path: str
    block: nn.Module
    follows: bool
    rest: Rest
    shared: frozenset[int | str]


@torch.no_grad()
def calibrate_blocks(model: nn.Module, ids: Tensor, quantize: Quantize) -> None:
    """Replace the weights of all linear layers in the model's blocks, block after block.

    The blocks are those of `zolit.models.anatomy`, in the order in which the model calls them. One
    that takes what the block before it gave runs on that; another, as the first of a decoder behind
    an encoder, on what the model gives it when it runs with the weights that were replaced so far.

    Args:
        model: a transformers model, changed in place.
        ids: ``[samples, length]`` token ids.
        quantize: gives the new weights, which the blocks after it see the outputs of.

    Raises:
        UserError: if the model has no list of blocks.
    """
    inputs: list[Tensor] = []
    rests: list[Rest] = []
    for call in _calls(model, ids):
        layers = _linear_layers(call.block)
        if not call.follows:
            inputs, rests = _caught(model, call, ids)
        each = [{**call.rest, **{name: rest[name] for name in call.shared}} for rest in rests]
        moments = _moments(call.block, layers, inputs, each)
        for name, layer in layers.items():
            path = f"{call.path}.{name}.weight"
            layer.weight.copy_(quantize(path, layer.weight.data, moments[name]))
        inputs = [_run(call.block, *one) for one in zip(inputs, each, strict=True)]


def _linear_layers(block: nn.Module) -> dict[str, nn.Linear]:
    return {name: one for name, one in block.named_modules() if isinstance(one, nn.Linear)}


def _calls(model: nn.Module, ids: Tensor) -> list[_Call]:
    """The first call of each block that has linear layers, in their order.

    A block follows the one before it if it takes what that gave, and beside it what the first of
    its row took or what is alike for two windows.
    """
    calls: list[_Call] = []
    other = {one.path: one for one in _seen(model, ids[-1:])}
    first: Rest = {}
    for one in _seen(model, ids[:1]):
        rest = one.rest
        theirs = other[one.path].rest if one.path in other else {}
        known = {name for name, value in rest.items() if name in first and first[name] is value}
        alike = (name in known or _same(value, theirs.get(name)) for name, value in rest.items())
        follows = one.linked and all(alike)
        first, shared = (first, known) if follows else (rest, set(rest))
        calls.append(_Call(one.path, one.block, follows, rest, frozenset(shared)))
    return calls


@dataclass(frozen=True)
class _Seen:
    """A call of a block.

    Attributes:
        path: of the block.
        block: the block.
        linked: whether its input is what the block that was called before it gave.
        rest: its other arguments.
    """

    path: str
    block: nn.Module
    linked: bool
    rest: Rest


def _seen(model: nn.Module, ids: Tensor) -> list[_Seen]:
    """The first call of each block that has linear layers, in one forward."""
    blocks = {path: block for path, block in named_blocks(model).items() if _linear_layers(block)}
    if not blocks:
        raise UserError(
            f"quantizer GPTQ calibrates block after block, but {type(model).__name__} has no list "
            "of blocks; use quantizer Int4 or HQQ"
        )
    found: dict[str, _Seen] = {}
    before: Any = None

    def enter(path: str) -> Callable[..., None]:
        def hook(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden, rest = _split(args, kwargs)
            found.setdefault(path, _Seen(path, block, _same(hidden, before), rest))

        return hook

    def leave(block: nn.Module, args: Any, result: Any) -> None:
        nonlocal before
        before = _hidden(result)

    hooks = [
        hook
        for path, block in blocks.items()
        for hook in (
            block.register_forward_pre_hook(enter(path), with_kwargs=True),
            block.register_forward_hook(leave),
        )
    ]
    try:
        model(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return list(found.values())


def _caught(model: nn.Module, call: _Call, ids: Tensor) -> tuple[list[Tensor], list[Rest]]:
    """What reaches a block, for each window; what is as in the first window is kept once."""
    inputs: list[Tensor] = []
    rests: list[Rest] = []

    def catch(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden, rest = _split(args, kwargs)
        inputs.append(hidden)
        known = rests[0] if rests else call.rest
        rests.append({n: known[n] if _same(v, known.get(n)) else v for n, v in rest.items()})
        raise _Caught

    hook = call.block.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        for window in ids:
            try:
                model(input_ids=window.unsqueeze(0), use_cache=False)
            except _Caught:
                continue
    finally:
        hook.remove()
    return inputs, rests


def _split(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Rest]:
    """The hidden states that a block is given, and the rest."""
    rest: Rest = dict(enumerate(args))
    rest.update(kwargs)
    return rest.pop(0 if args else "hidden_states"), rest


def _run(block: nn.Module, hidden: Tensor, rest: Rest) -> Tensor:
    others = [rest[place] for place in sorted(one for one in rest if isinstance(one, int))]
    named = {name: value for name, value in rest.items() if isinstance(name, str)}
    return _hidden(block(hidden, *others, **named))


def _hidden(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result


def _same(one: Any, other: Any) -> bool:
    """Whether two arguments are one object, or hold the same numbers."""
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one is other or (one.dtype == other.dtype and torch.equal(one, other))
    plain = bool | int | float | str
    return one is other or (isinstance(one, plain) and isinstance(other, plain) and one == other)


def _moments(
    block: nn.Module, layers: dict[str, nn.Linear], inputs: list[Tensor], rests: list[Rest]
) -> dict[str, Tensor]:
    """Sum of ``x x^T`` over the inputs of each layer, while the block runs on all windows."""
    found = {
        name: torch.zeros(layer.in_features, layer.in_features) for name, layer in layers.items()
    }

    def add(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0].flatten(0, -2).float()
            found[name].addmm_(x.t(), x)

        return hook

    hooks = [layer.register_forward_pre_hook(add(name)) for name, layer in layers.items()]
    try:
        for one in zip(inputs, rests, strict=True):
            _run(block, *one)
    finally:
        for hook in hooks:
            hook.remove()
    return found
