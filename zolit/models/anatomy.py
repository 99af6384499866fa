"""Where the parts of a model are: its word embeddings, its output layer, its blocks.

Everything that asks a model for one of these asks here, so that what is quantized, tuned, compiled,
shared and calibrated is the same part.
"""

from typing import Any

from torch import Tensor, nn


def input_embeddings(model: nn.Module) -> nn.Module | None:
    """The layer that turns token ids into vectors; None where a model says of none."""
    try:
        found: Any = getattr(model, "get_input_embeddings", lambda: None)()
    # Of models that are given something else than tokens.
    except NotImplementedError:
        return None
    return found if isinstance(found, nn.Module) else None


def word_embeddings(model: nn.Module) -> Tensor | None:
    """``[words, columns]`` of a language model's tokens; None for another model."""
    weight = getattr(input_embeddings(model), "weight", None)
    return weight if isinstance(weight, Tensor) and weight.dim() == 2 else None


def output_layer(model: nn.Module) -> nn.Module | None:
    """The layer that makes logits of the vocabulary; None where a model says of none."""
    found: Any = getattr(model, "get_output_embeddings", lambda: None)()
    return found if isinstance(found, nn.Module) else None


def block_lists(model: nn.Module) -> list[nn.ModuleList]:
    """The lists of a model whose elements are its blocks, in the order of the model.

    A list of blocks is an outermost ``nn.ModuleList``. Where all of its elements are lists
    themselves, these are the lists of blocks. An encoder-decoder model has two.

    Args:
        model: on any device.

    Example:
        >>> stack = lambda count: nn.ModuleList(nn.Linear(2, 2) for _ in range(count))
        >>> [len(blocks) for blocks in block_lists(nn.ModuleDict({"a": stack(3), "b": stack(5)}))]
        [3, 5]
    """
    return [blocks for _, blocks in _lists(model, "")]


def named_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Every block of a model by its path, list after list."""
    return {
        f"{path}.{number}": block
        for path, blocks in _lists(model, "")
        for number, block in enumerate(blocks)
    }


def _lists(module: nn.Module, path: str) -> list[tuple[str, nn.ModuleList]]:
    children = list(module.named_children())
    if isinstance(module, nn.ModuleList):
        if not children:
            return []
        if not all(isinstance(child, nn.ModuleList) for _, child in children):
            return [(path, module)]
    start = f"{path}." if path else ""
    return [found for name, child in children for found in _lists(child, start + name)]
