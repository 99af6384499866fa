"""The sweep back block by block against autograd on the whole model in float64."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from preparing import prepare
from test_text import windows_of
from tiny_experts import prepared as prepared_mixture
from tiny_experts import tiny as tiny_mixture
from tiny_models import tiny
from torch import nn
from two_stacks import encoder_decoder, two_stacks
from whole_gradients import whole_scores

from zolit.calibration.chain import Chain
from zolit.calibration.ending import Ending
from zolit.calibration.saliency import begun_in, compute_saliency
from zolit.calibration.saliency_file import Saliency
from zolit.calibration.sweeps import Sweeps
from zolit.calibration.text import Window
from zolit.errors import UserError
from zolit.strategies import (
    DensePerturber,
    Float8,
    Int4,
    Int8,
    NoQuantizer,
    Quantizer,
    ScalePerturber,
)
from zolit.tensors.reading import Reading
from zolit.tensors.weight import PerturbedWeight

WINDOWS = windows_of(3, 12)


def scored(model: nn.Module, to: Path, method: Any = "fisher", **options: Any) -> Saliency:
    options = {"windows": WINDOWS, "keep": 1.0, **options}
    return compute_saliency(model, method=method, to=to, **options)


def close(found: Saliency, wanted: dict[str, torch.Tensor]) -> None:
    assert set(found.paths) == wanted.keys()
    for path in found.paths:
        got = found.all_scores(path)
        assert got.shape == wanted[path].shape
        # The file has bfloat16, which rounds by 2^-9 at most.
        assert (got.double() - wanted[path]).abs().max() <= 5e-3 * wanted[path].max(), path
        ratio = got.double() / wanted[path]
        large = wanted[path] > 1e-4 * wanted[path].max()
        assert (ratio[large] - 1).abs().max() < 0.02, path


@pytest.mark.parametrize("method", ["fisher", "mean_grad_sq"])
@pytest.mark.parametrize("name", ["llama", "llama_tied", "gemma3", "opt", "gpt2"])
def test_scores_are_those_of_the_whole_model(name: str, method: str, tmp_path: Path) -> None:
    model = tiny(name)
    found = scored(model, tmp_path / "scores", method)
    assert found.method == method
    close(found, whole_scores(model, WINDOWS, method, transposed=name == "gpt2"))
    found.check(model)


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss"])
def test_experts(name: str, tmp_path: Path) -> None:
    """Stacks of matrices come one below the other; gpt-oss holds them the other way round."""
    model = tiny_mixture(name)
    found = scored(model, tmp_path / "scores")
    wanted = whole_scores(model, WINDOWS, "fisher")
    for path in found.paths:
        if ".experts." in path and name == "gpt_oss":
            count, columns = model.get_parameter(path).shape[:2]
            wanted[path] = wanted[path].view(count, columns, -1).mT.reshape(-1, columns)
    close(found, {path: wanted[path] for path in found.paths})
    assert sum(".experts." in path for path in found.paths) == 4


@pytest.mark.parametrize("quantizer", [NoQuantizer(), Int8(), Int4(32), Float8()])
def test_stored_weights_are_read_as_they_are_stored(quantizer: Quantizer, tmp_path: Path) -> None:
    model, plain = tiny("llama"), tiny("llama")
    perturber = ScalePerturber() if quantizer.quantized else DensePerturber()
    reading = Reading(perturber.direction(), "reference")
    prepare(model, quantizer, perturber, reading, ["linear", "norms"])
    for path, parameter in model.named_parameters():
        if isinstance(parameter, PerturbedWeight):
            plain.get_parameter(path).copy_(parameter.dense())
    close(scored(model, tmp_path / "scores"), whole_scores(plain, WINDOWS, "fisher"))


def test_stored_experts(tmp_path: Path) -> None:
    model, _ = prepared_mixture("mixtral", Int8(), ScalePerturber())
    plain = tiny_mixture("mixtral")
    for path, parameter in model.named_parameters():
        if isinstance(parameter, PerturbedWeight):
            plain.get_parameter(path).copy_(parameter.dense())
    found = scored(model, tmp_path / "scores")
    close(found, whole_scores(plain, WINDOWS, "fisher", found.paths))
    assert model.config._experts_implementation == "zolit"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", ["fisher", "mean_grad_sq"])
@pytest.mark.parametrize("name", ["llama_tied", "gemma3", "gpt2"])
def test_a_bfloat16_model(name: str, method: Any, dtype: torch.dtype, tmp_path: Path) -> None:
    model = tiny(name).bfloat16()
    found = scored(model, tmp_path / "scores", method, dtype=dtype)
    assert found.facts.computed == str(dtype).removeprefix("torch.")
    for path, wanted in whole_scores(model, WINDOWS, method, transposed=name == "gpt2").items():
        got = found.all_scores(path)
        apart = (got.double().sqrt() - wanted.sqrt()).norm() / wanted.sqrt().norm()
        assert apart < 0.1, path
    # Loaded in float32 it is the same model.
    found.check(model.float())


def test_sums_of_bfloat16_gradients_are_float32(tmp_path: Path) -> None:
    """Of 300 equal windows each adds its gradient; in bfloat16 they would stop at 256 times it."""
    model, one = tiny("llama").bfloat16(), windows_of(1, 12)
    sums = {}
    for count in (1, 300):
        to = tmp_path / f"{count}"
        made = scored(model, to, windows=one * count, keep=0.1, dtype=torch.bfloat16)
        sums[count] = made.scores(made.paths[0])[1]
    assert torch.allclose(sums[300], 300 * sums[1], rtol=1e-4)


def test_bfloat16_gradients_of_stored_weights(tmp_path: Path) -> None:
    model, plain = tiny("llama").bfloat16(), tiny("llama").bfloat16()
    reading = Reading(ScalePerturber().direction(), "reference")
    prepare(model, Int8(), ScalePerturber(), reading, ["linear", "norms"])
    for path, parameter in model.named_parameters():
        if isinstance(parameter, PerturbedWeight):
            plain.get_parameter(path).copy_(parameter.dense())
    stored, floats = (
        scored(one, tmp_path / name, keep=0.1, dtype=torch.bfloat16)
        for name, one in (("stored", model), ("floats", plain))
    )
    for path in stored.paths:
        assert torch.equal(stored.scores(path)[1], floats.scores(path)[1])


def test_another_dtype_is_another_file(tmp_path: Path) -> None:
    model, to = tiny("llama").bfloat16(), tmp_path / "scores"
    scored(model, to, dtype=torch.bfloat16)
    assert begun_in(to) == "bfloat16"
    scored(model, to, dtype=torch.bfloat16, there="take")
    with pytest.raises(UserError, match="of another model, text or method"):
        scored(model, to, there="take")
    scored(model, to, there="replace")
    assert begun_in(to) == "float32"


def test_the_largest_scores_alone(tmp_path: Path) -> None:
    model = tiny("llama")
    whole = scored(model, tmp_path / "whole")
    some = scored(model, tmp_path / "some", keep=0.1)
    for path in whole.paths:
        wanted = whole_scores(model, WINDOWS, "fisher")[path].flatten()
        positions, scores = some.scores(path)
        assert len(positions) == int(0.1 * wanted.numel())
        assert torch.equal(scores, scores.sort(descending=True).values)
        assert torch.allclose(scores.double(), wanted[positions], rtol=1e-3)
        assert scores.min() >= wanted.topk(len(positions)).values.min() * (1 - 1e-3)
        assert torch.equal(some.top(path, 7), positions[:7])
        with pytest.raises(UserError, match=r"keeps the .* needs all .*--saliency.keep 1"):
            some.all_scores(path)
        kept = set(whole.top(path, len(positions)).tolist())
        assert len(kept & set(positions.tolist())) > 0.9 * len(kept)  # ties of bfloat16
    path = whole.paths[0]
    with pytest.raises(UserError, match=r"keeps the \d+ highest scores of .* --saliency.keep"):
        some.top(path, len(some.scores(path)[0]) + 1)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("stop", ["_back", "step", "gradient"])
def test_a_killed_run_goes_on_at_its_block(
    stop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("llama")
    wanted = scored(model, tmp_path / "wanted", keep=0.5)
    owner: Any = {"_back": Sweeps, "step": Chain, "gradient": Ending}[stop]
    inner: Callable[..., Any] = getattr(owner, stop)
    calls: list[Any] = []

    def counted(self: Any, *args: Any) -> Any:
        calls.append(args)
        if len(calls) == limit:
            raise KilledError
        return inner(self, *args)

    monkeypatch.setattr(owner, stop, counted)
    limit = {"_back": 2, "step": 5, "gradient": 2}[stop]
    with pytest.raises(KilledError):
        scored(model, tmp_path / "found", keep=0.5)
    assert not (tmp_path / "found").exists()
    limit, before = -1, len(calls)
    found = scored(model, tmp_path / "found", keep=0.5)
    again = {"_back": 1, "step": 3, "gradient": 3}[stop]
    assert len(calls) - before == again
    assert found.file.read_bytes() == wanted.file.read_bytes()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["found", "wanted"]


def test_other_questions_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    wanted = scored(model, tmp_path / "wanted", "mean_grad_sq")
    with monkeypatch.context() as patch:
        patch.setattr(Sweeps, "_back", lambda self, block: (_ for _ in ()).throw(KilledError))
        with pytest.raises(KilledError):
            scored(model, tmp_path / "found", "fisher")
    found = scored(model, tmp_path / "found", "mean_grad_sq")
    assert found.file.read_bytes() == wanted.file.read_bytes()


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    scored(tiny("llama"), tmp_path / "scores", report=lambda *numbers: told.append(numbers))
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_models_that_cannot_be_walked(tmp_path: Path) -> None:
    to = tmp_path / "scores"
    for model, why in (
        (tiny("roberta"), "RobertaForMaskedLM fills in masks"),
        (encoder_decoder(), "fills in masks"),
        (two_stacks(), "cannot be walked one after another: second.0 reads more than the"),
    ):
        with pytest.raises(UserError, match=why):
            scored(model, to)
    model = tiny("llama")
    model.model.layers[1] = model.model.layers[0]
    with pytest.raises(UserError, match="some of its blocks are the same module"):
        scored(model, to)
    model = tiny("llama")
    model.model.layers[1].mlp.up_proj.weight = model.model.layers[0].mlp.up_proj.weight
    with pytest.raises(UserError, match=r"share model.layers.0.mlp.up_proj.weight"):
        scored(model, to)
    assert not list(tmp_path.iterdir())


def test_hidden_states_that_are_not_one_for_each_token(tmp_path: Path) -> None:
    model = tiny("llama")
    model.model.embed_tokens.register_forward_hook(
        lambda module, args, out: out.repeat_interleave(2, dim=1)
    )
    with pytest.raises(UserError, match="the first is not given one vector for each token"):
        scored(model, tmp_path / "scores")


def test_an_output_layer_that_reads_another_block(tmp_path: Path) -> None:
    model = tiny("llama")
    model.lm_head.register_forward_pre_hook(lambda module, args: (args[0] + first[-1],))
    first: list[torch.Tensor] = []
    model.model.layers[0].register_forward_hook(lambda module, args, out: first.append(out))
    with pytest.raises(
        UserError, match="gives other logits than its blocks, norm and output layer"
    ):
        scored(model, tmp_path / "scores")


def test_numbers_that_are_none(tmp_path: Path) -> None:
    model = tiny("llama")
    model.lm_head.weight[3, 0] = torch.nan
    with pytest.raises(
        UserError, match="output layer of LlamaForCausalLM gives logits that are NaN"
    ):
        scored(model, tmp_path / "one")
    for name in ("embed_tokens", "layers.1.mlp.up_proj"):
        model = tiny("llama")
        model.get_parameter(f"model.{name}.weight")[:] = torch.nan
        block = "what comes before model.layers.0" if name == "embed_tokens" else "model.layers.1"
        with pytest.raises(UserError, match=f"{block} gives hidden states that are NaN"):
            scored(model, tmp_path / "states")
    # A product of zero and infinity: the loss is a number, the gradient is none.
    model = tiny("llama")
    model.model.layers[0].mlp.down_proj.weight.zero_()
    model.model.layers[0].mlp.up_proj.weight.mul_(1e30)
    with pytest.raises(UserError, match=r"the gradient of model.layers.0.mlp.\w+.weight is NaN or"):
        scored(model, tmp_path / "two")
    assert not list(tmp_path.iterdir())


def test_bad_options(tmp_path: Path) -> None:
    model = tiny("llama")
    (tmp_path / "there").write_text("")
    for name, options, message in (
        (
            "a",
            {"method": "snip"},
            "method must be one of fisher, mean_grad_sq, grasp, got .snip",
        ),
        ("a", {"keep": 0.0}, r"saliency.keep must be in \(0, 1\], got 0.0"),
        ("there", {}, "there is a .*there' already"),
        (
            "a",
            {"windows": [Window(torch.tensor([3]))]},
            "window 0 has 1 tokens and none",
        ),
    ):
        with pytest.raises(UserError, match=message):
            scored(model, tmp_path / name, **options)
    with pytest.raises(UserError, match="cannot be written"):
        scored(model, tmp_path / "there" / "scores")


def test_a_matrix_without_gradient_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny("llama")
    model.model.layers[1].mlp.down_proj.weight.zero_()
    scored(model, tmp_path / "scores", keep=0.1)
    assert "model.layers.1.mlp.up_proj.weight has no gradient" in caplog.text


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(UserError, match=r"hidden states of the text take 0\.0 GB on the disk"):
        scored(tiny("llama"), tmp_path / "scores")
