"""Every shipped recipe runs: parsed by the real command line, then two steps on a tiny model."""

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from zolit.cli import run

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.y*ml"))
IDS = [str(path.relative_to(ROOT)) for path in CONFIGS]
MASKED = {"configs/mezo/roberta_sst2.yaml"}

# Columns, and both labels, of the rows that a task reads.
COLUMNS = {
    "sst2": (("sentence", "label"), (0, 1)),
    "rotten_tomatoes": (("text", "category"), ("rotten", "fresh")),
}
FILMS = [(f"film {n} is {'bright' if n % 2 else 'dull'} .", n % 2) for n in range(56)]


def byte_tokenizer(special: list[str]) -> Tokenizer:
    """Byte-level BPE that knows the words of the tasks; sentences stand between special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = "Review: Sentiment: negative positive It was terrible great"
    tokenizer.train_from_iterator([*(text for text, _ in FILMS), words, words], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return tokenizer


def save_tiny_model(folder: Path, masked: bool = False) -> Path:
    """A random Llama, or RoBERTa, of two narrow layers with its tokenizer."""
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    if masked:
        names["mask_token"] = "<mask>"  # noqa: S105
    tokenizer = byte_tokenizer(["<s>", "</s>", "<pad>", *(["<mask>"] if masked else [])])
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.save_pretrained(folder)
    sizes: dict[str, Any] = {
        "vocab_size": len(fast),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 96,
        "pad_token_id": 2,
    }
    torch.manual_seed(0)
    model = (
        hf.RobertaForMaskedLM(hf.RobertaConfig(**sizes))
        if masked
        else hf.LlamaForCausalLM(hf.LlamaConfig(**sizes))
    )
    model.save_pretrained(folder)
    return folder


def write_rows(file: Path, task: str, part: slice = slice(None)) -> Path:
    """Reviews with the columns that the real rows of ``task`` have."""
    columns, labels = COLUMNS[task]
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows((text, labels[label]) for text, label in FILMS[part])
    return file


def fit(*args: Any) -> Any:
    """``zolit fit``, in this process; errors are raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run(args=["fit", *map(str, args)])


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Folders of a causal (False) and a masked (True) model."""
    return {
        masked: save_tiny_model(tmp_path_factory.mktemp("model"), masked)
        for masked in (False, True)
    }


def test_recipes_are_found() -> None:
    folders = {str(path.parent.relative_to(ROOT)) for path in CONFIGS}
    assert folders >= {"configs", "configs/mezo", "configs/quzo"}
    files = [p for p in (ROOT / "configs").rglob("*") if p.is_file()]
    assert sorted(files) == CONFIGS, "a file in configs/ that no test reads"
    assert set(IDS) >= MASKED


@pytest.mark.parametrize("path", CONFIGS, ids=IDS)
def test_header(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    name = path.relative_to(ROOT).as_posix()
    assert lines[0] == f"# zolit fit --config {name}"
    header = [line for line in lines[: lines.index("model:")] if line.startswith("#")]
    assert any("arXiv" in line for line in header)
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("path", CONFIGS, ids=IDS)
def test_two_steps(path: Path, tmp_path: Path, tiny_models: dict[bool, Path]) -> None:
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))["data"]["init_args"]
    masked = path.relative_to(ROOT).as_posix() in MASKED
    small: dict[str, Any] = {"train_size": 16, "validation_size": 8, "test_size": 8}
    small |= {"batch_size": 4, "eval_batch_size": 8}
    for name, part in (("rows", slice(48)), ("test_rows", slice(48, 56))):
        if name in recipe:
            file = write_rows(tmp_path / f"{name}.csv", recipe["task"], part)
            # What the recipe says of rows besides their place (renamed columns) stays.
            small[name] = {"class_path": "FileRows", "init_args": {"path": str(file)}}
            if "package" in recipe[name]["init_args"]:
                small[name]["init_args"]["package"] = None
    source = {"path": str(tiny_models[masked]), "package": None, "gguf_file": None}
    changes = {
        "model": {"source": source, "kernels": "reference"},
        "data": {"init_args": small},
        "trainer": {"max_steps": 2, "val_check_interval": 2},
        "run": {"run_dir": str(tmp_path / "run")},
    }
    override = tmp_path / "tiny.yaml"
    override.write_text(yaml.safe_dump(changes), encoding="utf-8")
    cli = fit("--config", path, "--config", override)
    assert cli.trainer.global_step == 2
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "finished"
    assert summary["steps"] == 2
    assert summary["skipped_queries"] == 0
    assert 0 <= summary["final"]["test_accuracy"] <= 1


def test_parts_are_swapped_on_the_command_line(
    tmp_path: Path, tiny_models: dict[bool, Path]
) -> None:
    rows = write_rows(tmp_path / "rows.csv", "rotten_tomatoes")
    data = tmp_path / "data.yaml"
    where = {"path": str(rows), "package": None}
    own = {"class_path": "FileRows", "init_args": where}
    data.write_text(yaml.safe_dump({"data": {"init_args": {"rows": own}}}), encoding="utf-8")
    cli = fit(
        *("--config", ROOT / "configs" / "quickstart.yaml"),
        *("--model.perturber", "CodePerturber", "--model.perturber.eps", "0.5"),
        *("--model.quantizer", "Int4", "--model.quantizer.group_size", "32"),
        *("--model.optimizer", "ZOSignSGD", "--model.optimizer.lr", "1e-3"),
        *("--model.query_scheduler", "ConstantQueries", "--model.query_scheduler.n", "2"),
        *("--model.source.path", tiny_models[False], "--model.source.package", "null"),
        *("--model.source.gguf_file", "null", "--model.kernels", "reference"),
        # A string option two classes deep would read null as "None", so the data stand in a file.
        *("--config", data, "--data.train_size", "16"),
        *("--data.validation_size", "8", "--data.test_size", "8", "--data.batch_size", "4"),
        *("--trainer.max_steps", "1", "--trainer.val_check_interval", "1"),
        *("--run.run_dir", tmp_path / "run"),
    )
    parts = (cli.model.perturber, cli.model.quantizer, cli.trainer.optimizers[0])
    assert [type(part).__name__ for part in parts] == ["CodePerturber", "Int4", "ZOSignSGD"]
    assert cli.model.perturber.eps == 0.5
    assert cli.model.quantizer.group_size == 32
    assert cli.trainer.optimizers[0].param_groups[0]["lr"] == 1e-3
    assert cli.model.query_scheduler.n == 2
