"""Experts in files: checkpoints of both layouts, exports, checkpoints of zolit, estimates."""

import json
import logging
import shutil
import sys
from pathlib import Path

import pytest
import torch
import transformers as hf
from tiny_experts import MODELS, expert_weights, logits, prepared, tiny
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from cli_recipe import changed, recipe, refusal, write
from preparing import prepare

from zolit.checkpoints import start
from zolit.checkpoints.tensors import fingerprint, weight_tensors
from zolit.cli import main
from zolit.export.plain import save_plain
from zolit.export.torchao import save_torchao
from zolit.models.experts import expert_paths, joined_experts
from zolit.models.loading.load import load_prepared
from zolit.models.plan import make_plan
from zolit.models.prepare import Preparation
from zolit.models.source import ModelSource
from zolit.models.untouched import untouched
from zolit.strategies import (
    GPTQ,
    CodePerturber,
    DensePerturber,
    Int4,
    Int8,
    NoQuantizer,
    Quantizer,
    ScalePerturber,
    Stored,
)
from zolit.tensors.reading import Reading
from zolit.tensors.update import move
from zolit.tensors.weight import perturbed_weights, stored_weights


def preparation(quantizer: Quantizer) -> Preparation:
    perturber = ScalePerturber()
    return Preparation(
        quantizer, perturber, Reading(perturber.direction(), "reference"), ["linear"]
    )


@pytest.mark.parametrize("each_expert_apart", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_checkpoints_of_both_layouts_are_streamed(
    name: str, each_expert_apart: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny(name).save_pretrained(tmp_path, save_original_format=each_expert_apart)
    wanted, _ = prepared(name, Int8(), ScalePerturber())
    with caplog.at_level(logging.INFO, "zolit"):
        model, pairable = load_prepared(
            ModelSource(str(tmp_path)), torch.float32, preparation(Int8())
        )
    assert not caplog.records  # not loaded whole
    assert pairable
    for path, weight in expert_weights(wanted).items():
        got = model.get_parameter(path).store.tensors()
        for part, tensor in weight.store.tensors().items():  # type: ignore[attr-defined]
            assert torch.equal(got[part], tensor), path
    assert torch.equal(logits(model), logits(wanted))


@pytest.mark.parametrize("kind", ["safetensors", "torchao"])
@pytest.mark.parametrize("quantizer", [Int8(), Int4(32), NoQuantizer()])
@pytest.mark.parametrize("name", MODELS)
def test_exports_read_as_the_tuned_model(
    name: str, quantizer: Quantizer, kind: str, tmp_path: Path
) -> None:
    perturber = CodePerturber() if quantizer.quantized else DensePerturber(1e-2)
    model, _ = prepared(name, quantizer, perturber)
    weights = perturbed_weights(model)
    move(weights, [3], [perturber.eps], 1, [None] * len(weights))
    before = logits(model)
    assert (before - logits(tiny(name))).abs().max() > 1e-2
    if kind == "safetensors":
        save_plain(model, tmp_path)
    else:
        notes = save_torchao(model, tmp_path)
        told = any("4 weights" in note and "no form that torchao loads" in note for note in notes)
        assert told == quantizer.quantized
    again, report = hf.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not {*report["missing_keys"], *report["unexpected_keys"]}
    torch.testing.assert_close(logits(again), before, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("quantizer", [Stored(), Int8()], ids=["kept", "anew"])
def test_torchao_exports_are_loaded_again(quantizer: Quantizer, tmp_path: Path) -> None:
    model, _ = prepared("mixtral", Int8(), CodePerturber())
    before = logits(model)
    save_torchao(model, tmp_path)
    again, pairable = load_prepared(
        ModelSource(str(tmp_path)), torch.float32, preparation(quantizer)
    )
    assert pairable
    # Experts are floats in the export: kept as such, or rounded onto the grid that they are on.
    torch.testing.assert_close(logits(again), before, atol=1e-4, rtol=1e-3)
    quantized = sum(weight.store.quantized for weight in stored_weights(again))
    assert quantized == (8 if isinstance(quantizer, Stored) else 12)


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss"])
def test_a_run_starts_from_experts_that_another_tuned(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    perturber = DensePerturber(0.05)
    first, _ = prepared(name, NoQuantizer(), perturber, ["*.experts.*_proj"])
    weights = perturbed_weights(first)
    move(weights, [3], [perturber.eps], 1, [None] * len(weights))
    # What else a checkpoint holds is of no use here.
    content = {"state_dict": weight_tensors(first), "zolit_fingerprint": fingerprint(first)}
    file = tmp_path / "first.ckpt"
    file.write_bytes(b"")
    monkeypatch.setattr(start, "_read", lambda name: content)
    for tune in (["*.experts.*_proj"], ["*.self_attn.*_proj.weight"]):
        second, _ = prepared(name, NoQuantizer(), perturber, tune)
        start.start_from(second, [str(file)])
        torch.testing.assert_close(logits(second), logits(first), atol=2e-5, rtol=1e-4)


def test_what_zolit_does_not_know_is_told_with_its_share(caplog: pytest.LogCaptureFixture) -> None:
    config = hf.Llama4TextConfig(
        vocab_size=96, hidden_size=32, intermediate_size=64, intermediate_size_mlp=64,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        num_local_experts=4, interleave_moe_layer_step=1, pad_token_id=1,
    )  # fmt: skip
    model: nn.Module = hf.Llama4ForCausalLM(config)
    sizes = {path: p.numel() for path, p in model.named_parameters()}
    share = sum(n for path, n in sizes.items() if ".experts." in path) / sum(sizes.values())
    assert share > 0.5
    perturber = CodePerturber()
    with caplog.at_level(logging.WARNING, "zolit"):
        prepare(model, Int8(), perturber, Reading(perturber.direction()), ["linear"])
    (line,) = caplog.messages
    name = "model.layers.*.feed_forward.experts.gate_up_proj"
    assert line.startswith(f"{share:.0%} of the parameters are in weights that are no linear")
    assert f"tune: [linear, '{name}']" in line
    # Nothing is said of what is tuned, and nothing of routers.
    every = hf.Llama4ForCausalLM(config)
    assert untouched(every, make_plan(every, ["linear", "*.feed_forward.experts.*"])) is None
    for known in MODELS:
        assert untouched(tiny(known), make_plan(tiny(known), ["linear"])) is None


@pytest.fixture
def folder(tmp_path: Path, tiny_llama: Path) -> Path:
    """A random Mixtral with a tokenizer."""
    made = tmp_path / "mixtral"
    shutil.copytree(tiny_llama, made, ignore=shutil.ignore_patterns("*.safetensors"))
    words = hf.AutoConfig.from_pretrained(tiny_llama).vocab_size
    torch.manual_seed(0)
    model_class, config_class, options = MODELS["mixtral"]
    config = config_class(**{**options, "vocab_size": words, "max_position_embeddings": 64})
    model_class(config).save_pretrained(made)
    return made


def test_gptq_rounds_experts_to_nearest_and_says_so(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"film {n} is bright and short" for n in range(400)))
    quantizer = GPTQ(str(text), samples=6, length=16, group_size=32)
    with caplog.at_level(logging.WARNING, "zolit"):
        model, _ = load_prepared(ModelSource(str(folder)), torch.float32, preparation(quantizer))
    assert any("experts" in line and "rounded to nearest" in line for line in caplog.messages)
    original = hf.AutoModelForCausalLM.from_pretrained(folder)
    for path, weight in expert_weights(model).items():
        was = original.get_parameter(path)
        error = (weight.dense() - was).abs()  # type: ignore[attr-defined]
        groups = was.view(*was.shape[:2], -1, 32)
        # The grid spans the weights of a group and 0; nearest is half a step away at most, and the
        # zero point is rounded as well.
        step = (groups.amax(-1).clamp(min=0) - groups.amin(-1).clamp(max=0)) / 15
        assert (error.view(groups.shape) <= 1.01 * step.unsqueeze(-1)).all()
        assert error.max() > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_estimate_counts_experts(
    folder: Path, films_csv: Path, dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(changed(recipe(folder, films_csv), {"model.dtype": dtype}), tmp_path / "c.yaml")
    main(["estimate", "--config", config, "--json", "true"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    model, _ = load_prepared(ModelSource(str(folder)), torch.float32, preparation(Int8()))
    original = hf.AutoModelForCausalLM.from_pretrained(folder)
    stores = [weight.store for weight in perturbed_weights(model)]
    assert len(stores) == 12
    assert found["codes"] == sum(store.codes.nbytes for store in stores)
    assert found["scales"] == sum(store.scale.nbytes for store in stores)
    assert found["step"] > 0
    # An expert's own tensors, and all of them joined.
    joined = original.model.layers[0].mlp.experts.gate_up_proj
    assert found["loading"] >= 2 * joined.numel() * (4 if dtype == "float32" else 2)


def test_experts_that_a_checkpoint_holds_apart() -> None:
    for name, apart in (("mixtral", True), ("qwen2_moe", True), ("gpt_oss", False)):
        model = tiny(name)
        assert joined_experts(model) == (expert_paths(model) if apart else set())
        assert len(expert_paths(model)) == 4


def test_resumed_and_replayed_runs_end_as_the_undisturbed(
    folder: Path, films_csv: Path, tmp_path: Path
) -> None:
    base = changed(
        recipe(folder, films_csv),
        {
            "model.perturber": {"class_path": "CodePerturber"},
            "model.optimizer": {"class_path": "ZOSGD", "init_args": {"lr": 1.0}},
            "trainer.max_steps": 4,
            "trainer.val_check_interval": 2,
            "run": {"zero_shot": False, "test_after_fit": False},
        },
    )
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    config = write(base, tmp_path / "c.yaml")
    main(["fit", "--config", config, "--run.run_dir", str(whole)])
    main(["fit", "--config", config, "--run.run_dir", str(cut), "--trainer.max_steps", "2"])
    main(["fit", "--config", config, "--run.run_dir", str(cut), "--resume", str(cut)])

    def last(run: Path) -> dict[str, torch.Tensor]:
        saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        found: dict[str, torch.Tensor] = saved["state_dict"]
        return found

    wanted, resumed = last(whole), last(cut)
    assert any(".experts." in name for name in wanted)
    assert wanted.keys() == resumed.keys()
    assert all(torch.equal(wanted[name], resumed[name]) for name in wanted)
    float_model, _ = load_prepared(ModelSource(str(folder)), torch.float32, preparation(Int8()))
    weights = perturbed_weights(float_model)
    moved = {f"{weight.path}.codes": weight.store.codes for weight in weights}
    assert any(not torch.equal(moved[name], wanted[name]) for name in moved if "experts" in name)
    shutil.rmtree(whole / "checkpoints")
    main(["replay", str(whole), "--to", str(tmp_path / "again")])
    file = tmp_path / "again" / "step=4.ckpt"
    replayed = torch.load(file, weights_only=True)["state_dict"]
    assert all(torch.equal(wanted[name], replayed[name]) for name in wanted)


def test_gguf_is_refused_in_a_sentence(
    folder: Path, films_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(recipe(folder, films_csv), tmp_path / "c.yaml")
    main(["fit", "--config", config, "--run.run_dir", str(tmp_path / "run")])
    capsys.readouterr()
    said = refusal(
        capsys, "export", str(tmp_path / "run"), "--format", "gguf", "--to", str(tmp_path / "x")
    )
    assert "got a model of type 'mixtral'" in said
    assert not (tmp_path / "x").exists()
