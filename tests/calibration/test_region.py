"""A block as a region: statistics, gradients and inputs against the whole model run by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_text import windows_of
from tiny_experts import tiny as tiny_mixture
from tiny_models import tiny
from torch import Tensor, nn

from zolit.calibration.chain import Chain
from zolit.calibration.hidden_states import HiddenStates, StatesInMemory, StatesOnDisk
from zolit.calibration.layers import BlockLayer, block_layers
from zolit.calibration.region import Region
from zolit.errors import UserError
from zolit.strategies import NofM, Pattern, Pruner, Ratio, RegionalGradients, SparseGPT, Wanda
from zolit.strategies.pruner.one_shot import prune_region

WINDOWS = windows_of(3, 12)
NAMES = ["llama", "llama_tied", "gemma3", "opt", "gpt2"]


def prune_model(
    model: nn.Module, states: HiddenStates, pruner: Pruner, pattern: Pattern
) -> list[float]:
    """Prune every block in place; the output error of each."""
    layers, _ = block_layers(model)
    errors = []
    for path, _ in states.chain.blocks:
        region = Region(layers[path], states)
        found = prune_region(region, pruner, pattern)
        for parameter, value in region.held({name: one.values for name, one in found.items()}):
            parameter.copy_(value)
        errors.append(states.advance())
        states.forget()
    return errors


def inputs_of(model: nn.Module, layer: str) -> list[Tensor]:
    """The inputs of a layer for each window, the whole model being run."""
    found: list[Tensor] = []
    hook = model.get_submodule(layer).register_forward_pre_hook(
        lambda module, args: found.append(args[0].flatten(0, -2))
    )
    for window in WINDOWS:
        model(input_ids=window.ids.unsqueeze(0), use_cache=False)
    hook.remove()
    return found


def matrix(layer: BlockLayer, value: Tensor) -> Tensor:
    return value.t() if layer.transposed else value


@pytest.mark.parametrize("name", NAMES)
def test_wanda_masks_of_a_whole_model(name: str) -> None:
    """Block after block, written from the formula: inputs come from the pruned blocks before."""
    mine, plain = tiny(name), tiny(name)
    prune_model(mine, StatesInMemory(Chain(mine, WINDOWS)), Wanda(), Ratio(0.5))
    for layers in block_layers(plain)[0].values():
        masks = {}
        for layer in layers:
            x = inputs_of(plain, layer.path.removesuffix(".weight"))
            # Wanda's running mean over windows of the sum over tokens.
            norms = torch.zeros(x[0].shape[1])
            for count, one in enumerate(x):
                norms = (norms * count + one.norm(dim=0) ** 2) / (count + 1)
            weight = matrix(layer, plain.get_parameter(layer.path))
            metric = weight.abs() * norms.sqrt()
            lowest = metric.sort(dim=-1, stable=True)[1][:, : weight.shape[1] // 2]
            masks[layer.path] = torch.zeros_like(metric).scatter_(1, lowest, 1).bool()
        for layer in layers:
            matrix(layer, plain.get_parameter(layer.path))[masks[layer.path]] = 0
    for path, parameter in plain.named_parameters():
        assert torch.equal(parameter, mine.get_parameter(path)), path
    zeros = [one for layers in block_layers(mine)[0].values() for one in layers]
    assert all((mine.get_parameter(one.path) == 0).float().mean() == 0.5 for one in zeros)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_squared_gradients_of_the_output_norm(name: str) -> None:
    model = tiny(name).double()
    chain = Chain(model, WINDOWS)
    states = StatesInMemory(chain)
    layers, _ = block_layers(model)
    path, block = chain.blocks[0]
    seen = Region(layers[path], states).statistics(moments=True, gradients=True)
    for layer in layers[path]:
        weight = block.get_parameter(layer.weight_name).requires_grad_()
        squares = torch.zeros_like(weight)
        for window, hidden in enumerate(states.inputs()):
            with torch.enable_grad():
                given = chain.rest(0, window)
                named = {key: one for key, one in given.items() if isinstance(key, str)}
                rest = [given[key] for key in sorted(k for k in given if isinstance(k, int))]
                out = block(hidden, *rest, **named)
                loss = (out[0] if isinstance(out, tuple) else out).norm()
            squares += torch.autograd.grad(loss, weight)[0].square()
        weight.requires_grad_(False)
        found, wanted = seen[layer.path].gradients, matrix(layer, squares)
        assert found is not None
        assert torch.allclose(found.double(), wanted, rtol=1e-3, atol=1e-5 * float(wanted.max()))
        x = torch.cat(inputs_of(model, layer.path.removesuffix(".weight"))).double()
        assert torch.allclose(seen[layer.path].squares, x.square().sum(0), rtol=1e-5)
        moments = seen[layer.path].moments
        assert moments is not None
        assert torch.allclose(moments.double(), x.t() @ x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pruner", [Wanda(), RegionalGradients(), SparseGPT(16)])
def test_the_disk_gives_what_memory_gives(pruner: Pruner, tmp_path: Path) -> None:
    one, two = tiny("llama"), tiny("llama")
    first = prune_model(one, StatesInMemory(Chain(one, WINDOWS)), pruner, NofM(2, 4))
    second = prune_model(two, StatesOnDisk(Chain(two, WINDOWS), tmp_path), pruner, NofM(2, 4))
    assert first == second
    for path, parameter in one.named_parameters():
        assert torch.equal(parameter, two.get_parameter(path)), path
    assert [file.name for file in tmp_path.iterdir()] == ["inputs-2.bin"]


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_states_begin_at_any_block(kind: str, tmp_path: Path) -> None:
    model = tiny("llama")
    chain = Chain(model, WINDOWS)
    wanted = StatesInMemory(chain)
    wanted.advance(recorded=False)
    made = [StatesInMemory(chain, 1)] if kind == "memory" else []
    if kind == "disk":
        (tmp_path / "new").mkdir()
        begun = StatesOnDisk(chain, tmp_path)
        begun.advance(recorded=False)  # and killed before the block was safe
        made = [StatesOnDisk(chain, tmp_path, 1), StatesOnDisk(chain, tmp_path / "new", 1)]
    for states in made:
        assert states.block == 1
        for got, one in zip(states.inputs(), wanted.inputs(), strict=True):
            assert torch.equal(got, one)


def test_the_output_error_is_that_of_the_outputs() -> None:
    model, dense = tiny("llama"), tiny("llama")
    [error, *_] = prune_model(model, StatesInMemory(Chain(model, WINDOWS)), Wanda(), Ratio(0.5))

    def outputs(one: nn.Module) -> Tensor:
        found: list[Tensor] = []
        hook = one.model.layers[0].register_forward_hook(
            lambda module, args, out: found.append(out if isinstance(out, Tensor) else out[0])
        )
        for window in WINDOWS:
            one(input_ids=window.ids.unsqueeze(0), use_cache=False)
        hook.remove()
        return torch.cat([part.flatten() for part in found])

    wanted = (outputs(model) - outputs(dense)).norm() / outputs(dense).norm()
    assert error == pytest.approx(float(wanted), rel=1e-5)


def test_experts_are_named_and_left() -> None:
    layers, others = block_layers(tiny_mixture("mixtral"))
    assert len(others) == 4
    assert all(".experts." in one for one in others)
    assert all(
        "self_attn" in one.path or "gate" in one.path for some in layers.values() for one in some
    )


def test_a_block_whose_output_is_nan_is_named() -> None:
    model: Any = tiny("llama")
    model.model.layers[1].mlp.down_proj.weight[0, 0] = torch.nan
    states = StatesInMemory(Chain(model, WINDOWS))
    with pytest.raises(UserError, match=r"model\.layers\.1 gives hidden states that are NaN"):
        prune_model(model, states, Wanda(), Ratio(0.5))
