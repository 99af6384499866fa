"""Every shipped recipe runs: parsed by the real command line, then two steps on a tiny model."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers, processors

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


def write_rows(file: Path, task: str, part: slice = slice(None)) -> Path:
    """Reviews with the columns that the real rows of ``task`` have."""
    columns, labels = COLUMNS[task]
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows((text, labels[label]) for text, label in FILMS[part])
    return file


@pytest.fixture(scope="module")
def tiny_roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random two-layer RoBERTa whose tokenizer has one token for each word."""
    folder = tmp_path_factory.mktemp("tiny_roberta")
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    special["mask_token"] = "<mask>"  # noqa: S105
    words = " ".join([*(text for text, _ in FILMS), "It was terrible great ."]).split()
    vocabulary = {word: index for index, word in enumerate([*special.values(), *sorted({*words})])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.save_pretrained(folder)
    config = hf.RobertaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=66,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hf.RobertaForMaskedLM(config).save_pretrained(folder)
    return folder


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
    assert lines[1].startswith("# Measured: ")
    header = [line for line in lines[: lines.index("model:")] if line.startswith("#")]
    assert any("arXiv" in line for line in header)
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("path", CONFIGS, ids=IDS)
def test_two_steps(path: Path, tmp_path: Path, tiny_llama: Path, tiny_roberta: Path) -> None:
    shipped = yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe = shipped["data"]["init_args"]
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
    source = {
        "path": str(tiny_roberta if masked else tiny_llama),
        "package": None,
        "gguf_file": None,
    }
    changes: dict[str, Any] = {
        "model": {"source": source, "kernels": "reference"},
        "data": {"init_args": small},
        "trainer": {"max_steps": 2, "val_check_interval": 2},
        "run": {"run_dir": str(tmp_path / "run")},
    }
    if "tune" in shipped["model"]:
        changes["model"]["tune"] = ["linear"]  # the tiny model has two layers
    quantizer = shipped["model"]["quantizer"]
    if isinstance(quantizer, dict) and quantizer["init_args"].get("group_size"):
        # The tiny layers have 64 to 128 inputs: more than one group each.
        changes["model"]["quantizer"] = {"init_args": {"group_size": 32}}
    override = tmp_path / "tiny.yaml"
    override.write_text(yaml.safe_dump(changes), encoding="utf-8")
    cli = run(args=["fit", "--config", str(path), "--config", str(override)])
    assert cli.trainer.global_step == 2
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "finished"
    assert summary["steps"] == 2
    assert summary["skipped_queries"] == 0
    assert 0 <= summary["final"]["test_accuracy"] <= 1


def test_parts_are_swapped_on_the_command_line(tmp_path: Path, tiny_llama: Path) -> None:
    rows = write_rows(tmp_path / "rows.csv", "rotten_tomatoes")
    data = tmp_path / "data.yaml"
    where = {"path": str(rows), "package": None}
    own = {"class_path": "FileRows", "init_args": where}
    data.write_text(yaml.safe_dump({"data": {"init_args": {"rows": own}}}), encoding="utf-8")
    args = (
        *("--config", str(ROOT / "configs" / "quickstart.yaml")),
        *("--model.perturber", "CodePerturber", "--model.perturber.eps", "0.5"),
        *("--model.quantizer", "Int4", "--model.quantizer.group_size", "32"),
        *("--model.optimizer", "ZOSignSGD", "--model.optimizer.lr", "1e-3"),
        *("--model.query_scheduler", "ConstantQueries", "--model.query_scheduler.n", "2"),
        *("--model.source.path", str(tiny_llama), "--model.source.package", "null"),
        *("--model.source.gguf_file", "null", "--model.kernels", "reference"),
        *("--model.tune", "[linear]"),
        # A string option two classes deep would read null as "None", so the data stand in a file.
        *("--config", str(data), "--data.train_size", "16"),
        *("--data.validation_size", "8", "--data.test_size", "8", "--data.batch_size", "4"),
        *("--trainer.max_steps", "1", "--trainer.val_check_interval", "1"),
        *("--run.run_dir", str(tmp_path / "run")),
    )
    cli = run(args=["fit", *args])
    parts = (cli.model.perturber, cli.model.quantizer, cli.trainer.optimizers[0])
    assert [type(part).__name__ for part in parts] == ["CodePerturber", "Int4", "ZOSignSGD"]
    assert cli.model.perturber.eps == 0.5
    assert cli.model.quantizer.group_size == 32
    assert cli.trainer.optimizers[0].defaults["lr"] == 1e-3
    assert cli.model.query_scheduler.n == 2
