"""Runs with adapters from the command line: two stages, resume, estimate, export, refusals."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as hf
from lora_runs import (
    LORA,
    OTHERS,
    QUIET,
    Files,
    content,
    first_stage,
    fitted,
    logits,
    model_of,
    second_stage,
)
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from cli_recipe import changed, recipe, refusal, write

from zolit.cli import main
from zolit.runs.journal import read_journal


@pytest.fixture(scope="module")
def given(tiny_llama: Path, films_csv: Path) -> Files:
    return tiny_llama, films_csv


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, given: Files) -> Path:
    return first_stage(given, tmp_path_factory.mktemp("lora_first"))


@pytest.fixture(scope="module")
def second(first: Path, given: Files) -> Path:
    return second_stage(given, first)


def test_a_checkpoint_is_the_adapter(first: Path) -> None:
    state = content(first)["state_dict"]
    assert len(state) == 8
    for layer in (0, 1):
        for target in ("q_proj", "v_proj"):
            prefix = f"model.layers.{layer}.self_attn.{target}.adapter"
            assert state[f"{prefix}.lora_A.weight.weight"].shape == (4, 64)
            assert state[f"{prefix}.lora_B.weight.weight"].shape == (64, 4)
            assert state[f"{prefix}.lora_B.weight.weight"].any()
    assert max(path.stat().st_size for path in (first / "checkpoints").iterdir()) < 60_000
    assert read_journal(first / "journal.bin").end == 3


def test_two_stages(first: Path, second: Path) -> None:
    one, two = content(first)["state_dict"], content(second)["state_dict"]
    assert not set(one) & set(two)
    assert len(two) == 2 * 5  # one scale tensor of five layers in two blocks
    network = model_of(second)
    for name, tensor in one.items():
        weight = network.get_parameter(name.removesuffix(".weight"))
        assert torch.equal(weight.data, tensor)
    # What stage two tuned is on top; without it the model is that of stage one.
    assert not torch.equal(logits(network), logits(model_of(first)))


def test_stage_two_is_verified_resumed_and_replayed(
    second: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["verify", str(second)])
    assert "3 steps, intact" in capsys.readouterr().out
    main(["replay", str(second), "--until", "3", "--to", str(tmp_path)])
    again = torch.load(tmp_path / "step=3.ckpt", weights_only=True)
    for name, tensor in content(second)["state_dict"].items():
        assert torch.equal(again["state_dict"][name], tensor)
    copied = Path(shutil.copytree(second, tmp_path / "run"))
    config = ["--config", str(copied / "config.yaml"), "--resume", str(copied)]
    main(["fit", *config, "--trainer.max_steps", "5"])
    assert read_journal(copied / "journal.bin").end == 5


def test_scales_first_then_lora_and_both_jointly(given: Files, tmp_path: Path) -> None:
    scales = fitted(given, tmp_path, "scales", **{"model.adapter": None})
    start = str(scales / "checkpoints" / "last.ckpt")
    both = fitted(given, tmp_path, "lora", **{"model.start_from": start})
    network = model_of(both)
    for name, tensor in content(scales)["state_dict"].items():
        weight = network.get_parameter(name.removesuffix(".scale"))
        assert torch.equal(weight.store.scale, tensor)
    jointly = fitted(given, tmp_path, "jointly", **{"model.tune": ["linear", "adapter"]})
    state = content(jointly)["state_dict"]
    assert sum("lora_" in name for name in state) == 8
    assert sum(name.endswith(".scale") for name in state) == 14
    # A third stage must be told of both before it.
    third = {"model.start_from": str(both / "checkpoints" / "last.ckpt"), "model.tune": OTHERS}
    with pytest.raises(SystemExit):
        fitted(given, tmp_path, "third", **third)
    third["model.start_from"] = [start, third["model.start_from"]]
    assert len(content(fitted(given, tmp_path, "third", **third))["zolit_started"]) == 2


def test_estimate_counts_the_factors(
    given: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    floats = {}
    for name, adapter in (("with", LORA), ("without", None)):
        tune = {} if adapter else {"model.tune": ["linear"]}
        options = {"model.adapter": adapter, **tune}
        file = write(changed(recipe(*given), options), tmp_path / f"{name}.yaml")
        capsys.readouterr()
        main(["estimate", "--config", file, "--json", "true"])
        floats[name] = json.loads(capsys.readouterr().out.splitlines()[-1])["floats"]
    assert floats["with"] - floats["without"] == 4 * 2 * (4 * 64) * 4


def adapter_folder(given: Files, folder: Path, **config: Any) -> Path:
    base = hf.AutoModelForCausalLM.from_pretrained(given[0])
    options = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **config}
    peft.get_peft_model(base, peft.LoraConfig(**options)).save_pretrained(folder)
    return folder


FOLDERS = {
    "rank": ({"r": 2}, "adapter.rank: got 4, but the adapter of"),
    "alpha": ({"lora_alpha": 16}, "adapter.alpha: got 8.0, but the adapter of"),
    "targets": ({"target_modules": ["q_proj"]}, "holds none of the factor"),
    "further targets": ({"target_modules": ["q_proj", "v_proj", "k_proj"]}, "a further factor"),
    "a scaling of its own": ({"use_rslora": True}, "has use_rslora True"),
    "magnitudes": ({"use_dora": True}, "has use_dora True"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_refused_adapter_folders(
    case: str, given: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, said = FOLDERS[case]
    folder = adapter_folder(given, tmp_path / "adapter", **options)
    assert said in told(given, tmp_path, capsys, folder)


def told(given: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: Path) -> str:
    lora = changed({"a": LORA}, {"a.init_args.start_from": str(folder)})["a"]
    file = write(changed(recipe(*given), {**QUIET, "model.adapter": lora}), tmp_path / "r.yaml")
    capsys.readouterr()
    return refusal(capsys, "fit", "--config", file, "--run.run_dir", str(tmp_path / "run"))


def test_adapters_of_other_shapes_and_no_adapters(
    given: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = adapter_folder(given, tmp_path / "adapter")
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if "layers.1.self_attn.v_proj.lora_A" in name)
    save_file({**tensors, name: torch.zeros(4, 32)}, file)
    said = told(given, tmp_path, capsys, folder)
    assert "lora_A of model.layers.1.self_attn.v_proj is [4, 32] in" in said
    assert "the model expects [4, 64]" in said
    file.write_bytes(b"\xff" * 40)
    assert "no adapter could be read" in told(given, tmp_path, capsys, folder)
    file.unlink()
    assert "no adapter could be read" in told(given, tmp_path, capsys, folder)
    assert not (tmp_path / "run").exists()


def test_a_source_with_an_adapter_is_refused(
    given: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copytree(given[0], tmp_path / "model"))
    (model / "adapter_config.json").write_text("{}")
    file = write(changed(recipe(model, given[1]), {"model.adapter": LORA}), tmp_path / "r.yaml")
    assert "holds an adapter already" in refusal(capsys, "fit", "--config", file)


def test_refused_starts(
    first: Path, second: Path, given: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(**changes: Any) -> str:
        options = {**QUIET, "model.adapter": LORA, "run.run_dir": str(tmp_path / "run")}
        made = changed(recipe(*given), {**options, **changes})
        capsys.readouterr()
        return refusal(capsys, "fit", "--config", write(made, tmp_path / "r.yaml"))

    one = str(first / "checkpoints" / "last.ckpt")
    assert "there is no checkpoint 'nowhere.ckpt'" in said(**{"model.start_from": "nowhere.ckpt"})
    assert "which the model lacks" in said(**{"model.start_from": one, "model.adapter": None})
    other = changed({"a": LORA}, {"a.init_args.rank": 2})["a"]
    assert "is (4, 64) torch.float32 in" in said(
        **{"model.start_from": one, "model.adapter": other}
    )
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(Path(one).read_bytes()[:-900])
    assert "cannot be read" in said(**{"model.start_from": str(damaged)})
    plain = {"epoch": 0, "global_step": 1, "pytorch-lightning_version": "2.6.0", "state_dict": {}}
    torch.save(plain, damaged)
    assert "is not a checkpoint of zolit" in said(**{"model.start_from": str(damaged)})
    torch.save(torch.load(one, weights_only=True) | {"zolit_started": [{"path": 3}]}, damaged)
    assert "says in no known way" in said(**{"model.start_from": str(damaged)})
    two = str(second / "checkpoints" / "last.ckpt")
    assert "itself started from" in said(**{"model.start_from": two})
    assert not (tmp_path / "run").exists()


def test_another_stage_one_is_noticed(
    first: Path, second: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file that stage two names was written anew since."""
    file = first / "checkpoints" / "last.ckpt"
    kept = file.read_bytes()
    content = torch.load(file, weights_only=True)
    next(iter(content["state_dict"].values())).mul_(2)
    torch.save(content, file)
    try:
        last = ["--ckpt_path", str(second / "checkpoints" / "last.ckpt")]
        capsys.readouterr()
        said = refusal(capsys, "test", "--config", str(second / "config.yaml"), *last)
    finally:
        file.write_bytes(kept)
    assert "with other content" in said


def test_resume_with_another_adapter_is_refused(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = Path(shutil.copytree(first, tmp_path / "run"))
    args = ["fit", "--config", str(copied / "config.yaml"), "--resume", str(copied)]
    said = refusal(capsys, *args, "--model.adapter.alpha", "4")
    assert "model.adapter.init_args.alpha 8.0 -> 4.0" in said
