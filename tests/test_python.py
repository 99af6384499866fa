"""zolit from Python: a model in memory, a loss of the user's own, a plain Trainer."""

import re
import shutil
from pathlib import Path

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from tiny_models import tiny
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

import zolit
from zolit.cli import main


def next_token_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    ids = batch["input_ids"]
    logits = model(input_ids=ids, attention_mask=batch["attention_mask"]).logits[:, :-1]
    losses = F.cross_entropy(logits.transpose(1, 2).float(), ids[:, 1:], reduction="none")
    return losses.mean(dim=1)


def rows() -> list[dict[str, Tensor]]:
    ids = torch.arange(24).view(4, 6) % 11 + 3
    return [{"input_ids": one, "attention_mask": torch.ones_like(one)} for one in ids]


@pytest.mark.parametrize(
    ("quantizer", "perturber"),
    [(zolit.Int8(), zolit.ScalePerturber()), (zolit.NoQuantizer(), zolit.DensePerturber())],
)
def test_a_model_in_memory_with_a_loss_of_ones_own(quantizer, perturber):
    model = tiny("llama").float()
    batch = next(iter(DataLoader(rows(), batch_size=4)))
    plain = next_token_loss(model, batch)
    module = zolit.wrap(
        model,
        quantizer,
        perturber,
        objective=zolit.LossFunction(next_token_loss),
        optimizer=lambda weights: zolit.ZOSGD(weights, lr=1e-3),
        query_scheduler=zolit.ConstantQueries(4),
        dtype="float32",
        kernels="reference",
    )
    read = module.objective.losses(module.network, batch)
    torch.testing.assert_close(read, plain.mean().reshape(1), rtol=0.02, atol=0)
    before = {name: one.clone() for name, one in module.state_dict().items()}
    trainer = L.Trainer(
        max_steps=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(module, DataLoader(rows(), batch_size=2), DataLoader(rows(), batch_size=4))
    assert trainer.global_step == 3
    assert "val_loss" in trainer.callback_metrics
    after = module.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_loss_that_ignores_the_model_is_refused_at_the_first_step():
    module = zolit.wrap(
        tiny("llama").float(),
        zolit.Int8(),
        zolit.CodePerturber(),
        objective=zolit.LossFunction(lambda model, batch: batch["input_ids"].float().mean(dim=1)),
        dtype="float32",
        kernels="reference",
    )
    trainer = L.Trainer(
        max_steps=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    with pytest.raises(zolit.UserError, match="the same loss for both reads"):
        trainer.fit(module, DataLoader(rows(), batch_size=2))


def test_batches_without_answers_need_an_objective():
    objective = zolit.OptionScoring()
    with pytest.raises(zolit.UserError, match=r"PromptBatch, got .* dict; .*LossFunction"):
        objective.losses(nn.Identity(), {"input_ids": torch.ones(2, 3)})


def test_a_loader_alone_keeps_no_run(tmp_path):
    sentence = r"data of fit: got a DataLoader, .*whose train_dataloader"
    with pytest.raises(zolit.UserError, match=sentence):
        zolit.fit(L.LightningModule(), DataLoader(rows()), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


ROOT = Path(__file__).resolve().parents[1]


def blocks(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def run(block: str, folder: Path, **names: object) -> dict[str, object]:
    """A block with a tiny model in the place of the hub's, and two steps."""
    block = block.replace("HuggingFaceTB/SmolLM2-135M-Instruct", str(folder))
    block = re.sub(r"max_steps=\d+", "max_steps=2, logger=False", block)
    block = block.replace("source)\nmodule", "source, None, None, 24, 8, 8)\nmodule")
    block = block.replace("val_check_interval=50", "val_check_interval=2")
    scope = {"lightning": L, "F": F, "zolit": zolit, **names}
    exec(compile(block, "page", "exec"), scope)  # noqa: S102
    return scope


def test_the_pages_examples_run(tiny_llama, films_csv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(films_csv, "reviews.csv")
    first, second = blocks("docs/python.md")
    scope = run(first, tiny_llama)
    assert scope["trainer"].global_step == 2
    assert "val_accuracy" in scope["trainer"].callback_metrics
    scope = run(second, tiny_llama, loader=DataLoader(rows(), batch_size=2))
    assert scope["module"].trainer.global_step == 2


def test_the_readmes_example_runs(tiny_llama, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [block] = blocks("README.md")
    labelled = [{**row, "label": torch.tensor(number)} for number, row in enumerate(rows())]
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    scope = run(block, tiny_llama, model=model, loader=DataLoader(labelled, batch_size=2))
    assert scope["module"].trainer.global_step == 2


def made(folder: Path, films: Path) -> tuple[L.LightningModule, L.LightningDataModule]:
    source = zolit.ModelSource(str(folder))
    data = zolit.PromptDataModule(
        "rotten_tomatoes", zolit.FileRows(str(films)), source, None, None, 24, 8, 8, 8
    )
    module = zolit.ZeroOrderModule(
        source, zolit.Int8(), zolit.CodePerturber(), dtype="float32", kernels="reference"
    )
    return module, data


def test_a_run_from_python_is_kept_and_resumed(tiny_llama, films_csv, tmp_path, recwarn):
    options = {"val_check_interval": 1, "enable_progress_bar": False, "accelerator": "cpu"}
    whole = zolit.fit(*made(tiny_llama, films_csv), tmp_path / "whole", max_steps=4, **options)
    assert whole["status"] == "finished"
    assert whole["steps"] == 4
    assert {"test_loss", "test_accuracy"} <= set(whole["zero_shot"])
    zolit.fit(*made(tiny_llama, films_csv), tmp_path / "parts", max_steps=2, **options)
    module, data = made(tiny_llama, films_csv)
    parts = zolit.fit(module, data, tmp_path / "parts", resume=True, max_steps=4, **options)
    assert not [one for one in recwarn if "exists and is not empty" in str(one.message)]
    assert parts["final"] == whole["final"]
    last = torch.load(tmp_path / "whole" / "checkpoints" / "last.ckpt", weights_only=True)
    mine = torch.load(tmp_path / "parts" / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(torch.equal(one, mine["state_dict"][n]) for n, one in last["state_dict"].items())


@pytest.fixture(scope="module")
def kept(
    tiny_llama: Path, films_csv: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Tensor]]:
    """Folder of a run from Python, and its weights at the end."""
    folder = tmp_path_factory.mktemp("kept") / "run"
    module, data = made(tiny_llama, films_csv)
    zolit.fit(
        module,
        data,
        folder,
        options=zolit.RunOptions(zero_shot=False),
        max_steps=4,
        val_check_interval=2,
        check_val_every_n_epoch=None,
        enable_progress_bar=False,
        accelerator="cpu",
    )
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return folder, last["state_dict"]


def test_a_run_from_python_is_replayed_and_verified(kept, tiny_llama, films_csv, tmp_path, capsys):
    folder, weights = kept
    assert zolit.verify(folder, made(tiny_llama, films_csv)[0]) == [2, 4]
    assert zolit.verify(folder, records_only=True) == []
    module = made(tiny_llama, films_csv)[0]
    file = zolit.replay(folder, tmp_path / "again", until=4, module=module)
    assert [one.name for one in file.parent.iterdir()] == ["step=4.ckpt"]
    assert f"zolit.load({str(folder)!r}, {str(file)!r}, module=module)" in capsys.readouterr().out
    again = made(tiny_llama, films_csv)[0]
    assert zolit.load(folder, file, module=again) is again
    assert all(torch.equal(one, weights[name]) for name, one in again.state_dict().items())


def test_a_module_that_has_moved_already_is_no_start(kept, tiny_llama, films_csv):
    folder, _ = kept
    module = zolit.load(folder, module=made(tiny_llama, films_csv)[0])
    with pytest.raises(zolit.UserError, match="make the module anew, as for the run"):
        zolit.verify(folder, module)


def test_the_model_of_a_run_from_python_is_exported(kept, tiny_llama, films_csv, tmp_path):
    folder, _ = kept
    last = folder / "checkpoints" / "last.ckpt"
    tuned = zolit.load(folder, last, module=made(tiny_llama, films_csv)[0])
    with pytest.raises(zolit.UserError, match="kind: got 'onnx', expected one of safetensors"):
        zolit.export_model(folder, tmp_path / "model", "onnx")
    module = made(tiny_llama, films_csv)[0]
    zolit.export_model(folder, tmp_path / "model", ckpt_path=last, module=module)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    ids = rows()[0]["input_ids"][None]
    with torch.no_grad():
        mine, theirs = (one(input_ids=ids).logits for one in (model, tuned.network))
    torch.testing.assert_close(mine, theirs)
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    for line in ("| weights while tuned | Int8 |", "| optimizer | ZOSGD |", "| steps | 4 |"):
        assert line in card


@pytest.mark.parametrize(
    ("command", "call"),
    [
        (["replay", "RUN", "--to", "TO"], "zolit.replay("),
        (["verify", "RUN"], "zolit.verify("),
        (["export", "RUN", "--to", "TO"], "zolit.export_model("),
        (["publish", "RUN", "--to", "TO"], "zolit.export_model("),
        (["predict", "RUN", "--rows", "ROWS"], "zolit.load("),
        (["fit", "--resume", "RUN"], "zolit.fit(module, data, "),
    ],
)
def test_commands_name_the_call_from_python(command, call, kept, films_csv, tmp_path, capsys):
    places = {"RUN": str(kept[0]), "TO": str(tmp_path / "to"), "ROWS": str(films_csv)}
    with pytest.raises(SystemExit) as ended:
        main([places.get(word, word) for word in command])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "made from Python" in told
    assert call in told
    assert list(tmp_path.iterdir()) == []


def test_what_python_needs_a_module_for_is_said(kept):
    with pytest.raises(zolit.UserError, match=r"has no recipe.*zolit\.load\("):
        zolit.load(kept[0])


def test_a_folder_with_a_run_is_refused(tiny_llama, films_csv, tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 0\n", encoding="utf-8")
    with pytest.raises(zolit.UserError, match="not empty"):
        zolit.fit(*made(tiny_llama, films_csv), tmp_path, max_steps=2)
    with pytest.raises(zolit.UserError, match="holds no run"):
        zolit.load(tmp_path / "none")


def test_messages_name_arguments_and_not_options(kept, tiny_llama, films_csv, tmp_path):
    folder, _ = kept
    module, data = made(tiny_llama, films_csv)
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes").touch()
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    journal = broken / "journal.bin"
    journal.write_bytes(journal.read_bytes()[:-3])
    new = tmp_path / "new"
    best = zolit.RunOptions(best_by="val_f1")
    calls = {
        "replace it with overwrite=True": lambda: zolit.fit(module, data, full),
        "the folder that run_dir named": lambda: zolit.fit(module, data, new, resume=True),
        "devices: got 2; .* set devices=1": lambda: zolit.fit(module, data, new, devices=2),
        "best_by: got 'val_f1'": lambda: zolit.fit(module, data, new, options=best),
        "check_val_every_n_epoch=None": lambda: zolit.fit(
            module, data, new, val_check_interval=50, accelerator="cpu"
        ),
        "until: got 99": lambda: zolit.replay(folder, new, until=99, module=module),
        "use the intact part, .* add salvage=True": lambda: zolit.verify(broken, module),
        "ckpt_path: there is no file": lambda: zolit.load(folder, "none", module=module),
        "zolit.replay, or name a file with ckpt_path": lambda: zolit.load(new, module=module),
        "to: got .*, which is not empty": lambda: zolit.export_model(folder, full, module=module),
        "gguf_type: got F16 beside kind='torchao'": lambda: zolit.export_model(
            folder, new, "torchao", gguf_type="F16", module=module
        ),
        "kind='peft': the run has no adapter; use kind='safetensors'": lambda: zolit.export_model(
            folder, new, "peft", module=made(tiny_llama, films_csv)[0]
        ),
    }
    for words, call in calls.items():
        with pytest.raises(zolit.UserError, match=words) as said:
            call()
        assert not re.search(
            r" --?\w|\brun\.\w|\btrainer\.\w|zolit (fit|rep|exp)", str(said.value)
        ), said.value
        assert not new.exists()


def test_another_mask_than_the_runs_is_told(kept, tiny_llama, films_csv):
    options = {"dtype": "float32", "kernels": "reference"}
    source = zolit.ModelSource(str(tiny_llama))
    parts = source, zolit.Int8(), zolit.CodePerturber()
    module = zolit.ZeroOrderModule(*parts, mask=zolit.Magnitude(0.5), **options)
    with pytest.raises(zolit.UserError, match="its mask chose other coordinates of model"):
        zolit.verify(kept[0], module)


def test_a_run_of_the_command_line_is_loaded(tiny_llama, films_csv, tmp_path):
    recipe = f"""
model:
  source: {{path: {tiny_llama}}}
  quantizer: Int8
  perturber: CodePerturber
  dtype: float32
  kernels: reference
data:
  class_path: PromptDataModule
  init_args:
    task: rotten_tomatoes
    rows: {{class_path: FileRows, init_args: {{path: {films_csv}}}}}
    train_size: 24
    validation_size: 8
    test_size: 8
trainer: {{max_steps: 2, accelerator: cpu, enable_progress_bar: false}}
run: {{run_dir: {tmp_path / "run"}, zero_shot: false}}
"""
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    main(["fit", "--config", str(tmp_path / "recipe.yaml")])
    module = zolit.load(tmp_path / "run")
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(
        torch.equal(one, saved["state_dict"][name]) for name, one in module.state_dict().items()
    )
    assert not module.network.training
