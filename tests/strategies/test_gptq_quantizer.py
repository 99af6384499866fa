"""GPTQ against the update that it is a fast form of, and on a tiny model."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from zolit.calibration.visitors import replace_weights
from zolit.errors import UserError
from zolit.models.loading.load import load_model, load_prepared
from zolit.models.overlay import chosen_entries
from zolit.models.plan import Planned
from zolit.models.prepare import Preparation
from zolit.models.source import ModelSource
from zolit.noise import fold
from zolit.strategies import (
    GPTQ,
    HQQ,
    Int4,
    Quantizer,
    RandomMask,
    ScalePerturber,
    SparsePerturber,
)
from zolit.strategies.quantizer.gptq import GRIDS, gptq
from zolit.supports import Hashed
from zolit.tensors.reading import Reading
from zolit.tensors.weight import stored_weights


def problem(rows: int = 9, columns: int = 64) -> tuple[Tensor, Tensor]:
    """A weight and the second moments of correlated inputs."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, columns, generator=generator)
    x = x @ torch.randn(columns, columns, generator=generator) / columns**0.5 + 0.5 * x
    return torch.randn(rows, columns, generator=generator), x.t() @ x


def column_by_column(
    weight: Tensor, moments: Tensor, size: int, damping: float, act_order: bool = False
) -> Tensor:
    """Equations 2 and 3 of the paper: the inverse of what is left is made anew for each column."""
    rest, damped = weight.double().clone(), moments.double().clone()
    damped += damping * damped.diagonal().mean() * torch.eye(len(damped))
    out, first = torch.empty_like(rest), rest.clone()
    left = list(range(weight.shape[1]))
    while left:
        column = max(left, key=lambda one: moments[one, one].item()) if act_order else left[0]
        begin = column // size * size
        if act_order or column == begin:
            group = (first if act_order else rest)[:, begin : begin + size]
            low, high = group.amin(1).clamp(max=0), group.amax(1).clamp(min=0)
            scale = (high - low) / 15
            zero = torch.round(-low / scale)
        inverse = torch.linalg.inv(damped[left][:, left])[left.index(column)]
        code = torch.round(rest[:, column] / scale + zero).clamp(0, 15)
        out[:, column] = scale * (code - zero)
        error = (rest[:, column] - out[:, column]) / inverse[left.index(column)]
        rest[:, left] -= torch.outer(error, inverse)
        left.remove(column)
    return out


def decoded(parts: tuple[Tensor, ...], size: int) -> Tensor:
    codes, scale, zero = parts[:3]
    wide = [part.repeat_interleave(size, dim=1).double() for part in (scale, zero)]
    return wide[0] * (codes.double() - wide[1])


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("size", [16, 64])
def test_codes_are_those_of_the_slow_form(size: int, act_order: bool) -> None:
    weight, moments = problem()
    found = gptq(weight, moments, size, 0.01, act_order=act_order)
    wanted = column_by_column(weight, moments, size, 0.01, act_order)
    got = decoded(found, size)
    # float32 may round a tie the other way, and what follows in that row with it.
    assert ((got - wanted).abs() < 1e-4).all(1).sum() >= 8
    assert found[0].min() >= 0
    assert found[0].max() <= 15


def output_error(weight: Tensor, other: Tensor, moments: Tensor) -> float:
    rest = (weight - other).double()
    return torch.einsum("ri,ij,rj->", rest, moments.double(), rest).item()


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize(("grid", "plain"), [("range", Int4(32)), ("half_quadratic", HQQ(32))])
def test_outputs_are_kept_better_than_by_its_grid_alone(
    grid: str, plain: Quantizer, act_order: bool
) -> None:
    weight, moments = problem()
    nearest = torch.empty(9, 64)
    plain.store(weight, "w").read(slice(0, 9), [nearest], None, "reference")
    found = gptq(weight, moments, 32, 0.01, GRIDS[grid], act_order)
    mine = output_error(weight, decoded(found, 32), moments)
    assert mine < 0.75 * output_error(weight, nearest, moments)


def test_inputs_that_are_never_there() -> None:
    weight, moments = problem()
    moments[5], moments[:, 5] = 0, 0
    got = decoded(gptq(weight, moments, 32, 0.01), 32)
    assert got.isfinite().all()
    assert (got[:, 5] == 0).all()


@pytest.mark.parametrize("act_order", [False, True])
def test_excluded_entries_take_up_errors_and_widen_no_grid(act_order: bool) -> None:
    weight, moments = problem()
    excluded = torch.rand(weight.shape, generator=torch.Generator().manual_seed(8)) < 0.05
    weight[excluded] *= 100.0
    codes, scale, zero, kept = gptq(
        weight, moments, 32, 0.01, act_order=act_order, excluded=excluded
    )
    rounded = decoded((codes, scale, zero), 32).float()
    torch.testing.assert_close(kept[~excluded], rounded[~excluded], atol=1e-4, rtol=1e-4)
    assert (kept[excluded] - weight[excluded]).abs().max() < 1.0
    others = torch.where(excluded, 0, weight).abs().max()
    assert (15 * scale).max() < 3 * others
    # Better than the same codes beside floats that take up nothing.
    apart = torch.where(excluded, weight, rounded)
    assert output_error(weight, kept, moments) < output_error(weight, apart, moments)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("\n".join(f"film {n} is bright and short" for n in range(400)))
    return file


def prepared(folder: Path, quantizer: Quantizer) -> torch.nn.Module:
    perturber = ScalePerturber()
    reading = Reading(perturber.direction(), "reference")
    preparation = Preparation(quantizer, perturber, reading, ["linear"])
    return load_prepared(ModelSource(str(folder)), torch.float32, preparation)[0]


def test_a_model_is_calibrated_block_after_block(tiny_llama: Path, text: Path) -> None:
    quantizer = GPTQ(str(text), samples=6, length=16, group_size=32)
    model = prepared(tiny_llama, quantizer)
    assert {weight.store.describe()["format"] for weight in stored_weights(model)} == {"Int4Weight"}
    # The second block again, by hand: the float model with the first block as it is now stored.
    other = load_model(ModelSource(str(tiny_llama)), torch.float32)
    for name, parameter in other.model.layers[0].named_parameters():
        parameter.copy_(model.model.layers[0].get_parameter(name) * 1.0)
    tokenizer = ModelSource(str(tiny_llama)).load_tokenizer()
    ids = tokenizer(text.read_text(), return_tensors="pt").input_ids[0, : 6 * 16].view(6, 16)
    layer = other.model.layers[1].self_attn.q_proj
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda module, args: seen.append(args[0].flatten(0, 1)))
    with torch.no_grad():
        other(input_ids=ids)
    hook.remove()
    moments = seen[0].t() @ seen[0]
    wanted = decoded(gptq(layer.weight.data, moments, 32, 0.01), 32).float()
    got = model.model.layers[1].self_attn.q_proj.weight * 1.0
    assert ((got - wanted).abs() < 1e-5).float().mean() > 0.99


def test_floats_of_an_overlay_are_those_of_the_calibration(tiny_llama: Path, text: Path) -> None:
    quantizer = GPTQ(str(text), samples=6, length=16, group_size=32)
    perturber = SparsePerturber()
    reading = Reading(perturber.direction(), "reference")
    how = ["linear"], None, None, RandomMask(0.05)
    preparation = Preparation(quantizer, perturber, reading, *how)
    source = ModelSource(str(tiny_llama))
    model = load_prepared(source, torch.float32, preparation)[0]
    floats = load_model(source, torch.float32)
    weights = list(stored_weights(model))
    assert {weight.store.format_name for weight in weights} == {"SparseOverlay of Int4Weight"}
    for weight in weights:
        one = Planned((weight.path,), weight.site.index, True, False)
        entries = chosen_entries(Hashed(0.05, fold(0, 0)), weight.store, one)
        before = floats.get_parameter(weight.path).flatten()
        now = (weight * 1.0).flatten()
        assert torch.equal(now[entries], weight.store.values)
        assert (now - before)[entries].abs().mean() < (now - before).abs().mean()


def test_each_layer_of_the_blocks_is_asked_for_once(tiny_llama: Path) -> None:
    model = load_model(ModelSource(str(tiny_llama)), torch.float32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    paths = []

    def same(path: str, weight: Tensor, moments: Tensor) -> Tensor:
        paths.append(path)
        assert moments.shape == (weight.shape[1],) * 2
        assert torch.linalg.eigvalsh(moments).min() > -1e-3 * moments.diagonal().max()
        return weight

    replace_weights(model, torch.arange(48).view(3, 16), same)
    assert len(paths) == len(set(paths)) == 14
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_bad_arguments(tiny_llama: Path, text: Path) -> None:
    for options, message in (
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"length": 0}, "length must be at least 1, got 0"),
        ({"grid": "float"}, "got 'float', expected one of 'range', 'half_quadratic'"),
        ({"damping": 0.0}, r"damping must be in \(0, 1\), got 0.0"),
    ):
        with pytest.raises(UserError, match=message):
            GPTQ(str(text), **options)
    with pytest.raises(UserError, match=r"text must be a file of calibration text, got .*missing"):
        prepared(tiny_llama, GPTQ("missing.txt"))
    with pytest.raises(UserError, match=r"windows of length=64 need 64000; lower samples"):
        prepared(tiny_llama, GPTQ(str(text), samples=1000, length=64))
    with pytest.raises(UserError, match="GPTQ was not calibrated on w"):
        GPTQ(str(text)).store(torch.ones(2, 64), "w")
