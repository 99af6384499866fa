"""Where the parts of a model are: its word embeddings, its output layer, its blocks.

All of zolit finds these parts by the functions here, so that the part that is quantized is also the
one that is tuned, compiled, shared and calibrated.
"""

from typing import Any

from torch import Tensor, nn


def input_embeddings(model: nn.Module) -> nn.Module | None:
    """The layer that turns token ids into vectors; None if the model declares none."""
    try:
        found: Any = getattr(model, "get_input_embeddings", lambda: None)()
    # Models whose input is not tokens raise this.
    except NotImplementedError:
        return None
    return found if isinstance(found, nn.Module) else None


def word_embeddings(model: nn.Module) -> Tensor | None:
    """The embeddings of tokens, ``[words, columns]``; None if the model is no language model."""
    weight = getattr(input_embeddings(model), "weight", None)
    return weight if isinstance(weight, Tensor) and weight.dim() == 2 else None


def output_layer(model: nn.Module) -> nn.Module | None:
    """The layer that makes the logits of the vocabulary; None if the model declares none."""
    found: Any = getattr(model, "get_output_embeddings", lambda: None)()
    return found if isinstance(found, nn.Module) else None


def block_lists(model: nn.Module) -> list[nn.ModuleList]:
    """The lists of a model whose elements are its blocks, in the order of the model.

    A list of blocks is an outermost ``nn.ModuleList``. If all elements of such a list are lists
    themselves, these are the lists of blocks. An encoder-decoder model has two lists.

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
