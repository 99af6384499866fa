"""Exported folders, read by transformers alone."""

import sys
from pathlib import Path

import pytest
import torch
import transformers as hf
from tiny_models import MODELS, batch, prepared

from zolit.errors import UserError
from zolit.models.export import save_plain, to_plain
from zolit.strategies import Float8, Int4, Int8, NoQuantizer, Quantizer

sys.path.insert(0, str(Path(__file__).parents[1]))
from cli_recipe import changed, recipe, refusal, write

from zolit.cli import main, run


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("quantizer", [Int4(32), Int8(), Float8(), NoQuantizer()], ids=str)
def test_plain_models_read_as_stored_ones(name: str, quantizer: Quantizer, tmp_path: Path) -> None:
    model, _, _ = prepared(name, quantizer)
    one = batch(name)
    inputs = {"input_ids": one.input_ids, "attention_mask": one.attention_mask}
    with torch.no_grad():
        stored = model(**inputs).logits
        to_plain(model)
        model.save_pretrained(tmp_path)
        again = type(model).from_pretrained(tmp_path)(**inputs).logits
    torch.testing.assert_close(again, stored, atol=1e-5, rtol=1e-5)


def test_export_of_a_run(
    tmp_path: Path, tiny_llama: Path, films_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"trainer.max_steps": 3, "run.run_dir": str(tmp_path / "run")}
    options |= {"trainer.enable_progress_bar": False}
    main(
        ["fit", "--config", write(changed(recipe(tiny_llama, films_csv), options), tmp_path / "r")]
    )
    main(["export", str(tmp_path / "run"), "--to", str(tmp_path / "model")])
    capsys.readouterr()
    model = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert model.dtype == torch.float32
    best = str(tmp_path / "run" / "checkpoints" / "best.ckpt")
    config = ["--config", str(tmp_path / "run" / "config.yaml"), "--ckpt_path", best]
    tuned = run(args=["test", *config]).model.network
    inputs = tokenizer("Review: film 3 is bright\nSentiment:", return_tensors="pt")
    with torch.no_grad():
        logits = model(input_ids=inputs["input_ids"]).logits
        expected = tuned(input_ids=inputs["input_ids"]).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    start = hf.AutoModelForCausalLM.from_pretrained(tiny_llama)
    assert not torch.equal(
        model.model.layers[0].mlp.up_proj.weight, start.model.layers[0].mlp.up_proj.weight
    )
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    for text in ("Int8", "ScalePerturber (eps 0.01", "| steps | 3 |", "test accuracy", "torch"):
        assert text in card
    assert "not empty" in refusal(
        capsys, "export", str(tmp_path / "run"), "--to", str(tmp_path / "model")
    )
    assert "holds no run" in refusal(capsys, "export", str(tmp_path), "--to", str(tmp_path / "x"))


def test_a_folder_with_something_in_it_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    model, _, _ = prepared("llama", Int8())
    with pytest.raises(UserError, match="not empty"):
        save_plain(model, None, "", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
