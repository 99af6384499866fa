"""Embeddings, output layer and blocks: one answer for whoever asks."""

import pytest
import torch
from preparing import prepare
from tiny_experts import tiny as tiny_mixture
from tiny_models import LAYERS, MODELS, tiny
from torch import Tensor, nn
from two_stacks import encoder_decoder, two_stacks

from zolit.calibration.visitors import replace_weights
from zolit.models.anatomy import (
    block_lists,
    input_embeddings,
    named_blocks,
    output_layer,
    word_embeddings,
)
from zolit.models.passes.compiled_blocks import compile_blocks
from zolit.models.passes.prefix import prefix_blocks
from zolit.strategies import Int8, RandomBlocks, ScalePerturber
from zolit.tensors.reading import Reading
from zolit.tensors.weight import perturbed_weights

TWO = {"encoder-decoder": encoder_decoder, "two stacks": two_stacks}


def ids_of(windows: int) -> Tensor:
    return torch.arange(windows * 8).view(windows, 8) * 7 % 90 + 5


@pytest.mark.parametrize("name", MODELS)
def test_one_list_of_blocks(name: str) -> None:
    model = tiny(name)
    (blocks,) = block_lists(model)
    assert len(blocks) == LAYERS
    assert list(named_blocks(model).values()) == list(blocks)
    assert output_layer(model) is model.get_output_embeddings()
    assert word_embeddings(model) is model.get_input_embeddings().weight


def test_experts_are_inside_of_blocks() -> None:
    model = tiny_mixture("mixtral")
    assert block_lists(model) == [model.model.layers]


@pytest.mark.parametrize("name", TWO)
def test_two_lists_in_the_order_of_the_model(name: str) -> None:
    model = TWO[name]()
    assert [len(blocks) for blocks in block_lists(model)] == [2, 3]
    for path, block in named_blocks(model).items():
        assert model.get_submodule(path) is block


def test_lists_of_lists_and_empty_ones() -> None:
    inner = [nn.ModuleList(nn.Linear(2, 2) for _ in range(count)) for count in (2, 1)]
    model = nn.ModuleDict({"none": nn.ModuleList(), "stages": nn.ModuleList(inner)})
    assert block_lists(model) == inner
    assert list(named_blocks(model)) == ["stages.0.0", "stages.0.1", "stages.1.0"]


def test_a_model_that_says_of_nothing() -> None:
    class Refuses(nn.Module):
        def get_input_embeddings(self) -> nn.Module:
            raise NotImplementedError

    for model in (nn.Linear(2, 2), Refuses()):
        assert input_embeddings(model) is word_embeddings(model) is output_layer(model) is None


@pytest.mark.parametrize("name", TWO)
def test_whoever_asks_takes_the_same_blocks(name: str) -> None:
    """Numbers of blocks, compiled blocks, the shared prefix and GPTQ's calibration."""
    model = TWO[name]()
    linear = {
        f"{path}.{inside}.weight"
        for path, block in named_blocks(model).items()
        for inside, layer in block.named_modules()
        if isinstance(layer, nn.Linear)
    }
    asked = []
    ids = ids_of(3)
    replace_weights(model, ids, lambda path, weight, moments: asked.append(path) or weight)
    assert len(asked) == len(set(asked))
    assert set(asked) == linear

    perturber = ScalePerturber()
    reading = Reading(perturber.direction(), "reference")
    prepare(model, Int8(), perturber, reading, ["linear"], mask=RandomBlocks(1))
    weights = perturbed_weights(model)
    assert {weight.path for weight in weights} == linear
    numbers = {
        weight.path: weight.site.support.block for weight in weights if weight.site is not None
    }
    for number, path in enumerate(named_blocks(model)):
        assert {n for p, n in numbers.items() if p.startswith(f"{path}.")} == {number}
    assert prefix_blocks(model, reading) == []  # several lists have no one prefix
    assert compile_blocks(model) == 5


@pytest.mark.parametrize("name", TWO)
def test_calibration_sees_what_the_model_gives_each_layer(name: str) -> None:
    model, ids = TWO[name](), ids_of(4)
    wanted: dict[str, list[Tensor]] = {}
    hooks = [
        layer.register_forward_pre_hook(
            lambda module, args, path=path: wanted.setdefault(path, []).append(args[0])
        )
        for path, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and layer is not output_layer(model)
    ]
    for window in ids:
        model(input_ids=window.unsqueeze(0), use_cache=False)
    for hook in hooks:
        hook.remove()
    seen = {}
    replace_weights(
        model, ids, lambda path, weight, moments: seen.setdefault(path, moments) is None or weight
    )
    assert seen.keys() == {f"{path}.weight" for path in wanted}
    for path, inputs in wanted.items():
        moments = sum(x.flatten(0, -2).T @ x.flatten(0, -2) for x in inputs)
        assert (seen[f"{path}.weight"] - moments).abs().max() <= 1e-4 * moments.abs().max(), path
