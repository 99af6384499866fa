"""First-order runs by the command line: kept, resumed, answered, exported, refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_recipe import DELETE, changed, recipe, refusal, write

from zolit.cli import main, run

FIRST: dict[str, Any] = {
    "model.class_path": "FirstOrderModule",
    "model.perturber": DELETE,
    "model.quantizer": {"class_path": "NoQuantizer"},
    "model.optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
    "trainer.max_steps": 4,
    "trainer.val_check_interval": 2,
    "trainer.check_val_every_n_epoch": None,
}
STE = {"model.quantizer": {"class_path": "Int8", "init_args": {"activations": "int8"}}}
QLORA = {
    "model.quantizer": {"class_path": "Int4", "init_args": {"group_size": 32}},
    "model.adapter": {"class_path": "LoRA", "init_args": {"rank": 2}},
}


def first(llama: Path, rows: Path, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    return changed(recipe(llama, rows), {**FIRST, **(changes or {})})


def test_a_run_is_kept_resumed_listed_and_answers(
    tmp_path: Path, tiny_llama: Path, films_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(first(tiny_llama, films_csv, STE), tmp_path / "recipe.yaml")
    folder = tmp_path / "run"
    run(args=["fit", "--config", config, "--run.run_dir", str(folder)])
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "finished"
    assert summary["steps"] == 4
    assert summary["best"]["step"] in (2, 4)
    assert not (folder / "journal.bin").exists()
    assert (folder / "curves.png").is_file()
    kept = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["model"]
    assert kept["class_path"] == "FirstOrderModule"

    assert "no journal, as these steps do not follow" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        run(args=["fit", "--resume", str(folder)])
    assert stop.value.code == 0
    assert "finished after 4 steps, nothing to do" in capsys.readouterr().out
    again = run(args=["fit", "--resume", str(folder), "--trainer.max_steps", "6"])
    assert again.trainer.global_step == 6
    whole = tmp_path / "whole"
    longer = ["--config", config, "--trainer.max_steps", "6"]
    straight = run(args=["fit", *longer, "--run.run_dir", str(whole)])
    one, two = again.model.state_dict(), straight.model.state_dict()
    assert all((tensor == two[name]).all() for name, tensor in one.items())
    ends = [json.loads((path / "summary.json").read_text()) for path in (folder, whole)]
    for name in ("zero_shot", "best", "final", "steps", "text_loss"):
        assert ends[0][name] == ends[1][name]

    capsys.readouterr()
    main(["runs", str(tmp_path)])
    listed = capsys.readouterr().out
    assert listed.count("finished") == 2
    answers = tmp_path / "answers.csv"
    main(["predict", str(folder), "--rows", str(films_csv), "--to", str(answers)])
    lines = answers.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "row,label,word,p_rotten,p_fresh"
    assert len(lines) == 49


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [({}, ["safetensors"]), (STE, ["safetensors", "torchao"]), (QLORA, ["peft", "safetensors"])],
    ids=["full", "straight-through", "QLoRA"],
)
def test_export_gives_the_model_that_was_measured(
    changes: dict[str, Any],
    kinds: list[str],
    tmp_path: Path,
    tiny_llama: Path,
    films_csv: Path,
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    import zolit

    if "peft" in kinds:
        pytest.importorskip("peft")
    made = changed(first(tiny_llama, films_csv, changes), {"trainer.max_steps": 2})
    folder = tmp_path / "run"
    quick = ["--run.zero_shot=false", "--run.test_after_fit=false"]
    config = write(made, tmp_path / "recipe.yaml")
    run(args=["fit", "--config", config, "--run.run_dir", str(folder), *quick])
    for kind in kinds:
        main(["export", str(folder), "--format", kind, "--to", str(tmp_path / kind)])
        card = (tmp_path / kind / "README.md").read_text(encoding="utf-8")
        assert "# Fine-tuned by gradients" in card
        assert "zeroth-order" not in card
        assert "AdamW" in card
    ids = torch.arange(20).view(2, 10) % 300
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "safetensors", dtype=torch.float32)
    mine: Any = zolit.load(folder).network
    with torch.no_grad():
        theirs = plain(ids).logits
        ours = mine(ids).logits
    # Products of integers round activations, which plain floats do not.
    close = 0.1 if changes is STE else 1e-4
    assert float((ours - theirs).abs().max()) < close * float(theirs.abs().max())


def test_another_recipe_does_not_go_on(
    tmp_path: Path, tiny_llama: Path, films_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = changed(first(tiny_llama, films_csv), {"trainer.max_steps": 2})
    config, folder = write(made, tmp_path / "recipe.yaml"), tmp_path / "run"
    quick = ["--run.zero_shot=false", "--run.test_after_fit=false"]
    run(args=["fit", "--config", config, "--run.run_dir", str(folder), *quick])
    more = ["fit", "--resume", str(folder), "--trainer.max_steps", "3"]
    said = refusal(capsys, *more, "--model.optimizer.lr", "1e-2")
    assert "were made with another recipe (model.optimizer.init_args.lr 0.001 -> 0.01" in said
    other = changed(made, {"model.seed": 5, "trainer.max_steps": 3})
    again = write(other, tmp_path / "other.yaml")
    assert "ask for the change by name: --model.seed 5" in refusal(
        capsys, "fit", "--resume", str(folder), "--config", again
    )
    main([*more, "--model.micro_batches", "2"])
    assert "follow other options than the run so far: model.micro_batches 1 -> 2" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"model.optimizer": {"class_path": "ZOSGD", "init_args": {"lr": 1e-3}}},
            "model.optimizer: got 'zolit.ZOSGD', which steps along directions that "
            "FirstOrderModule does not have; use an optimizer of torch",
        ),
        ({"trainer.gradient_clip_val": 1.0}, "set model.gradient_clip"),
        ({"trainer.accumulate_grad_batches": 2}, "model.micro_batches"),
        ({"model.perturber": {"class_path": "ScalePerturber"}}, "perturber"),
        ({"model.quantizer": {"class_path": "HQQ"}}, "tune: got linear with quantizer HQQ"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_recipe_is_read(
    changes: dict[str, Any],
    said: str,
    tmp_path: Path,
    tiny_llama: Path,
    films_csv: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = write(first(tiny_llama, films_csv, changes), tmp_path / "recipe.yaml")
    folder = tmp_path / "run"
    assert said in refusal(capsys, "fit", "--config", config, "--run.run_dir", str(folder))
    assert not folder.exists()


def test_a_zeroth_order_recipe_with_adamw_names_the_module_that_takes_it(
    tmp_path: Path, tiny_llama: Path, films_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = changed(recipe(tiny_llama, films_csv), {"model.optimizer": FIRST["model.optimizer"]})
    config = write(wrong, tmp_path / "recipe.yaml")
    said = refusal(capsys, "fit", "--config", config, "--run.run_dir", str(tmp_path / "run"))
    assert "which steps on gradients that ZeroOrderModule does not compute" in said
    assert "model.class_path: FirstOrderModule" in said


def test_commands_that_need_a_journal_say_why_there_is_none(
    tmp_path: Path, tiny_llama: Path, films_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = changed(first(tiny_llama, films_csv), {"trainer.max_steps": 1})
    config, folder = write(made, tmp_path / "recipe.yaml"), tmp_path / "run"
    quick = ["--run.zero_shot=false", "--run.test_after_fit=false"]
    run(args=["fit", "--config", config, "--run.run_dir", str(folder), *quick])
    capsys.readouterr()
    for command in (
        ["verify", str(folder)],
        ["replay", str(folder), "--to", str(tmp_path / "to")],
        ["publish", str(folder), "--to", str(tmp_path / "published.zolit")],
    ):
        assert "is of FirstOrderModule, whose steps" in refusal(capsys, *command)
