"""A tiny model, and commands that fine-tune it, for `kill.py`."""

import sys
from pathlib import Path

import waiting  # noqa: F401
import torch
import transformers as hf
import yaml

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from tiny_recipes import tiny_options
from tiny_tokenizer import byte_bpe

FILMS = [f"film {n} is {'bright and short' if n % 2 else 'dull and long'}" for n in range(48)]


def make_model(folder: Path) -> None:
    """A random four-layer Llama and its tokenizer."""
    corpus = [*FILMS, *(["Review: Sentiment: negative positive"] * 9)]
    tokenizer = byte_bpe(corpus, ["<s>", "</s>"], 400)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    config = hf.LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    hf.LlamaForCausalLM(config).save_pretrained(folder)


def recipe(folder: Path, steps: int) -> list[str]:
    """Arguments of ``zolit fit``: error feedback, a schedule, short epochs, many checkpoints."""
    rows = folder / "films.csv"
    lines = [f"{text},{'fresh' if n % 2 else 'rotten'}" for n, text in enumerate(FILMS)]
    rows.write_text("\n".join(["text,category", *lines]) + "\n", encoding="utf-8")
    schedule = "--model.lr_scheduler"
    return [
        *("fit", "--model.source.path", str(folder / "model"), "--model.dtype", "float32"),
        *("--model.quantizer", "Int8", "--model.quantizer.keep_error", "true"),
        *("--model.perturber", "CodePerturber", "--model.kernels", "reference"),
        *("--model.optimizer", "ZOSGD", "--model.optimizer.lr", "30"),
        *("--model.optimizer.error_feedback", "true"),
        *(schedule, "torch.optim.lr_scheduler.StepLR", f"{schedule}.step_size", "50"),
        *("--data.task", "rotten_tomatoes", "--data.rows", "FileRows"),
        *("--data.rows.path", str(rows), "--data.train_size", "20"),
        *("--data.validation_size", "8", "--data.test_size", "8", "--data.batch_size", "4"),
        *("--trainer.max_steps", str(steps), "--trainer.val_check_interval", "7"),
        *("--trainer.check_val_every_n_epoch", "null"),
        *("--run.zero_shot", "false", "--run.test_after_fit", "false"),
    ]


def shipped(path: Path, folder: Path, steps: int) -> list[str]:
    """Arguments of ``zolit fit`` for a shipped recipe, on the tiny model and a few rows."""
    options = tiny_options(path.resolve(), folder, folder / "model", folder / "model")
    mask = yaml.safe_load(path.read_text(encoding="utf-8"))["model"].get("mask")
    if isinstance(mask, dict) and mask["class_path"] == "Sensitive":
        text = folder / "text.txt"
        text.write_text(" and ".join(FILMS * 4), encoding="utf-8")
        saliency = {"text": str(text), "samples": 40, "length": 32}
        options["model"]["mask"] = {"init_args": {"saliency": saliency, "fraction": 0.02}}
    if "query_scheduler" in options["model"]:
        options["model"]["query_scheduler"] = {"init_args": {"n": 2}}  # a short step
    options["model"]["optimizer"] = {"init_args": {"lr": 0.1}}
    options["trainer"] = {"max_steps": steps, "val_check_interval": 7}
    options["run"] = {"zero_shot": False, "test_after_fit": False}
    tiny = folder / "tiny.yaml"
    tiny.write_text(yaml.safe_dump(options), encoding="utf-8")
    return ["fit", "--config", str(path), "--config", str(tiny)]
