"""Run text through a model block by block, and quantize each block on what reaches it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zolit.errors import UserError

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
    """Ends a forward once the first block was reached."""


@torch.no_grad()
def calibrate_blocks(model: nn.Module, ids: Tensor, quantize: Quantize) -> None:
    """Replace the weights of all linear layers in the model's blocks, block after block.

    Args:
        model: a transformers model, changed in place.
        ids: ``[samples, length]`` token ids.
        quantize: gives the new weights, which the blocks after it see the outputs of.

    Raises:
        UserError: if the model has no list of blocks.
    """
    prefix, blocks = find_blocks(model)
    every = _options(model, blocks, ids[:1])
    inputs = _first_inputs(model, blocks[0], ids)
    for number, (block, options) in enumerate(zip(blocks, every, strict=True)):
        layers = {
            name: layer for name, layer in block.named_modules() if isinstance(layer, nn.Linear)
        }
        moments = _moments(block, layers, inputs, options)
        for name, layer in layers.items():
            path = f"{prefix}.{number}.{name}.weight"
            layer.weight.copy_(quantize(path, layer.weight.data, moments[name]))
        inputs = [_output(block(one, **options)) for one in inputs]


def find_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The longest list of modules, with its path.

    Raises:
        UserError: if there is none.
    """
    lists = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m)]
    if not lists:
        raise UserError(
            f"quantizer GPTQ calibrates block after block, but {type(model).__name__} has no list "
            "of blocks; use quantizer Int4 or HQQ"
        )
    return max(lists, key=lambda named: len(named[1]))


def _options(model: nn.Module, blocks: nn.ModuleList, ids: Tensor) -> list[dict[str, Any]]:
    """Arguments of each block besides its input: masks and positions, alike for all windows."""
    found: list[dict[str, Any]] = []

    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append({name: value for name, value in kwargs.items() if name != "hidden_states"})

    hooks = [block.register_forward_pre_hook(record, with_kwargs=True) for block in blocks]
    try:
        model(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _first_inputs(model: nn.Module, block: nn.Module, ids: Tensor) -> list[Tensor]:
    """What reaches the first block, for each window."""
    inputs: list[Tensor] = []

    def catch(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs.append(args[0] if args else kwargs["hidden_states"])
        raise _Caught

    hook = block.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        for window in ids:
            try:
                model(input_ids=window.unsqueeze(0), use_cache=False)
            except _Caught:
                continue
    finally:
        hook.remove()
    return inputs


def _moments(
    block: nn.Module, layers: dict[str, nn.Linear], inputs: list[Tensor], options: dict[str, Any]
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
        for one in inputs:
            block(one, **options)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _output(result: Any) -> Tensor:
    hidden: Tensor = result[0] if isinstance(result, tuple) else result
    return hidden
