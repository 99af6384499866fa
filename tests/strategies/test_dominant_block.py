"""One block moves: how it is found, that it is a run of this block alone, and what is refused."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from preparing import prepare
from test_random_blocks import PERTURBERS
from tiny_models import batch, prepared, tiny

from zolit.calibration.activation_sizes import activation_sizes
from zolit.checkpoints.tensors import weight_tensors
from zolit.errors import UserError
from zolit.models.adapters import LoRA
from zolit.models.anatomy import named_blocks
from zolit.models.loading.load import load_prepared
from zolit.models.prepare import Preparation
from zolit.models.source import ModelSource
from zolit.objectives.option_scoring import OptionScoring
from zolit.strategies import (
    DensePerturber,
    DominantBlock,
    Int8,
    Losses,
    NoQuantizer,
    ScalePerturber,
    SparsePerturber,
    TwoPoint,
)
from zolit.tensors.reading import Reading
from zolit.tensors.update import move
from zolit.tensors.weight import PerturbedWeight, perturbed_weights

WINDOWS = [torch.arange(start, start + 12) for start in (2, 20, 45)]


class Words:
    """A tokenizer of numbers."""

    def __call__(self, text: str, **options: Any) -> Any:
        found = torch.tensor([[int(word) for word in text.split()]])
        return type("Encoded", (), {"input_ids": found})()


@pytest.fixture
def text(tmp_path: Path) -> str:
    file = tmp_path / "text.txt"
    file.write_text(" ".join(str(int(one)) for window in WINDOWS for one in window))
    return str(file)


def folder_with_outlier(folder: Path, to: Path, block: int) -> Path:
    """A copy of a Llama's folder, with `with_outlier`."""
    shutil.copytree(folder, to)
    model = with_outlier(hf.AutoModelForCausalLM.from_pretrained(to).requires_grad_(False), block)
    model.save_pretrained(to)
    return to


def with_outlier(model: nn.Module, block: int, column: int = 5, size: float = 3e5) -> nn.Module:
    """The model, with one large output channel of a block's last layer."""
    model.get_parameter(f"model.layers.{block}.mlp.down_proj.weight")[column].mul_(size)
    return model


@torch.no_grad()
def test_sizes_are_those_of_the_hidden_states() -> None:
    """`output_hidden_states` has what reaches each block; the last of them is behind the norm."""
    model = with_outlier(tiny("llama"), 0)
    found = activation_sizes(model, WINDOWS, named_blocks(model))
    assert [one.path for one in found] == ["model.layers.0", "model.layers.1"]
    sizes = []
    for window in WINDOWS:
        states = model(input_ids=window.unsqueeze(0), output_hidden_states=True).hidden_states[1]
        sizes.append((states.abs().max(), states.abs().flatten().sort().values[12 * 32 // 2 - 1]))
    largest, median = (torch.stack(each).double().mean() for each in zip(*sizes, strict=True))
    assert found[0].largest == pytest.approx(float(largest), rel=1e-6)
    assert found[0].median == pytest.approx(float(median), rel=1e-6)
    assert found[0].ratio == pytest.approx(float(largest / median), rel=1e-6)


@pytest.mark.parametrize("block", [0, 1])
def test_the_first_block_with_an_outlier_is_found(
    block: int, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    mask = DominantBlock(text=text, samples=3, length=12)
    model = with_outlier(tiny("llama"), block)
    assert mask.part(model) is None
    mask.watch(model, Words)
    assert mask.part(model) == f"model.layers.{block}"
    assert mask.settled == {"block": block}
    assert f"model.layers.{block} is the first block behind which" in caplog.text
    model = with_outlier(with_outlier(tiny("llama"), 0), 1)
    mask.watch(model, Words)
    assert mask.settled == {"block": 0}


def test_what_an_outlier_is(text: str) -> None:
    model = with_outlier(tiny("llama"), 1)
    how = {"text": text, "samples": 3, "length": 12}
    one, two = activation_sizes(model, WINDOWS, named_blocks(model))
    assert one.ratio < 1000 < two.ratio
    lower = DominantBlock(**how, ratio=one.ratio * 0.99, size=one.largest * 0.99)
    lower.watch(model, Words)
    assert lower.settled == {"block": 0}
    for bounds in ({"ratio": one.ratio * 1.01, "size": 0}, {"ratio": 1, "size": one.largest}):
        higher = DominantBlock(**how, **bounds)
        higher.watch(model, Words)
        assert higher.settled == {"block": 1}
    with pytest.raises(UserError, match=r"the largest ratio is .* behind model.layers.1 \(.*lower"):
        DominantBlock(**how, ratio=two.ratio * 1.01).watch(model, Words)


@torch.no_grad()
@pytest.mark.parametrize("name", PERTURBERS)
def test_a_run_is_one_of_this_block_alone(name: str) -> None:
    quantizer, perturber = PERTURBERS[name]
    tune = ["model.layers.1.*_proj.weight"]
    model, reading, pairable = prepared(
        "llama", quantizer, None, perturber, mask=DominantBlock(block=1)
    )
    other, alone, wanted = prepared("llama", quantizer, tune, perturber)
    assert pairable == wanted
    weights, others = perturbed_weights(model), perturbed_weights(other)
    assert [w.path for w in weights] == [w.path for w in others]
    assert len(weights) == 7
    found = []
    for one, its in ((model, reading), (other, alone)):
        losses = Losses(OptionScoring(), one, batch("llama"))
        found.append(TwoPoint().estimate(losses, its, [11, 12], 0.05, pairable).values)
        moving = perturbed_weights(one)
        move(moving, [11], [0.5], 5, [None] * len(moving))
    assert torch.equal(*found)
    mine, theirs = weight_tensors(model), weight_tensors(other)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_what_does_not_move_is_as_it_was() -> None:
    """Floats outside of the block stay plain parameters, and errors of rounding are not kept."""
    model, _, _ = prepared(
        "llama", NoQuantizer(), ["linear", "embeddings"], mask=DominantBlock(block=0)
    )
    stored = {path for path, one in model.named_parameters() if isinstance(one, PerturbedWeight)}
    assert len(stored) == 7
    assert all(path.startswith("model.layers.0.") for path in stored)


def test_found_while_a_checkpoint_is_read(tiny_llama: Path, tmp_path: Path) -> None:
    """The plan of the files is of all weights; what is found then takes sites and errors away."""
    folder = folder_with_outlier(tiny_llama, tmp_path / "model", block=1)
    (tmp_path / "text.txt").write_text(20 * "a film is bright and short ")
    perturber = ScalePerturber()
    mask = DominantBlock(text=str(tmp_path / "text.txt"), samples=3, length=12)
    reading = Reading(perturber.direction(), "reference")
    how = Preparation(Int8(keep_error=True), perturber, reading, ["linear"], mask=mask)
    model, pairable = load_prepared(ModelSource(str(folder)), torch.float32, how)
    assert pairable
    moving = {one.path for one in perturbed_weights(model)}
    assert len(moving) == 7
    assert all(path.startswith("model.layers.1.") for path in moving)
    stored = [one for one in model.parameters() if isinstance(one, PerturbedWeight)]
    assert {one.path for one in stored if one.store.error is not None} == moving
    assert len(stored) == 14


def test_factors_of_an_adapter() -> None:
    model, perturber = tiny("llama"), DensePerturber()
    reading = Reading(perturber.direction(), "reference")
    mask = DominantBlock(block=1)
    prepare(model, Int8(), perturber, reading, ["adapter"], LoRA(rank=2), mask=mask)
    paths = [one.path for one in perturbed_weights(model)]
    assert paths
    assert all(path.startswith("model.layers.1.") for path in paths)


def test_refusals(text: str, tmp_path: Path) -> None:
    for options, message in (
        ({}, "got neither block nor text"),
        ({"block": -1}, "block must be at least 0, got -1"),
        ({"text": text, "samples": 0}, "samples must be at least 1, got 0"),
        ({"text": text, "length": 0}, "length must be at least 1, got 0"),
        ({"text": text, "ratio": 0.5}, r"ratio must be at least 1, got 0.5"),
        ({"text": text, "size": float("nan")}, "size must be at least 0, got nan"),
    ):
        with pytest.raises(UserError, match=message):
            DominantBlock(**options)
    with pytest.raises(UserError, match="block must be below 2, the number of blocks of Llama"):
        prepared("llama", Int8(), mask=DominantBlock(block=2))
    with pytest.raises(UserError, match=r"tune: names nothing in model.layers.1, which the mask"):
        prepared("llama", Int8(), ["model.layers.0.*"], mask=DominantBlock(block=1))
    with pytest.raises(UserError, match="moves entries that a mask chooses one by one, got mask D"):
        DominantBlock(block=1).check(SparsePerturber())
    mask = DominantBlock(text=text, samples=3, length=12)
    with pytest.raises(UserError, match="a model in memory has no tokenizer"):
        prepared("llama", Int8(), mask=mask)
    with pytest.raises(UserError, match="Linear has no list of blocks"):
        mask.watch(nn.Linear(2, 2), Words)
    with pytest.raises(UserError, match=r"has 36 tokens, but samples=8 windows of length=12 need"):
        DominantBlock(text=text, length=12).watch(tiny("llama"), Words)
    with pytest.raises(UserError, match="text must be a file of calibration text"):
        DominantBlock(text=str(tmp_path / "none")).watch(tiny("llama"), Words)
    model = tiny("llama")
    model.model.layers[0].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(UserError, match=r"activations behind model.layers.0 are not finite"):
        mask.watch(model, Words)
    model = tiny("llama")
    model.model.layers[0].register_forward_hook(lambda block, args, out: (None, out))
    with pytest.raises(UserError, match=r"model.layers.0 gives a NoneType, not hidden states"):
        mask.watch(model, Words)
