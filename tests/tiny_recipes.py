"""Shipped recipes cut down to a tiny model and a few rows."""

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import transformers as hf
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers, processors

sys.path.insert(0, str(Path(__file__).parent / "models"))
from gguf_folders import write_llama
from quantized_folders import quantized_llama

from zolit.models.plan import KINDS

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = sorted((ROOT / "configs").rglob("*.y*ml"))
PRUNING = [path for path in SHIPPED if path.parent.name == "wandapp"]
"""Recipes of zolit prune."""
CONFIGS = [path for path in SHIPPED if path not in PRUNING]
"""Recipes of zolit fit."""
IDS = [str(path.relative_to(ROOT)) for path in CONFIGS]
MASKED = {"configs/mezo/roberta_sst2.yaml"}

MICRO_BATCHES, QUERIES = 3, 8
"""Of a step, where a recipe has more: more of the same takes time and shows nothing new."""

# Columns, and both labels, of the rows that a task reads.
COLUMNS = {
    "sst2": (("sentence", "label"), (0, 1)),
    "sst2_review": (("text", "label"), (0, 1)),
    "rotten_tomatoes": (("text", "category"), ("rotten", "fresh")),
    "trec": (("text", "label"), ("DESC", "HUM")),
}
OWN_ROWS: dict[str, Any] = {
    "copa": lambda text, n: {
        "premise": text,
        "choice1": f"it is {'bright' if n % 2 else 'dull'}",
        "choice2": "it is short .",
        "question": "cause" if n % 3 else "effect",
        "label": n % 2,
    },
    "squad": lambda text, n: {"title": "", "context": text, "question": "?", "text": str(n)},
    "gsm8k": lambda text, n: {"question": text, "answer": f"{n} films .\n#### {n}"},
}
"""Rows of tasks that bring their own answers, from a text and its number."""
WRITTEN = {"squad", "gsm8k"}
FILMS = [(f"film {n} is {'bright' if n % 2 else 'dull'} .", n % 2) for n in range(56)]


def write_rows(file: Path, task: str, part: slice = slice(None)) -> Path:
    """Reviews with the columns that the real rows of ``task`` have."""
    if task in OWN_ROWS:
        rows = [OWN_ROWS[task](text, n) for n, (text, _) in list(enumerate(FILMS))[part]]
        file = file.with_suffix(".jsonl")
        file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return file
    columns, labels = COLUMNS[task]
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows((text, labels[label]) for text, label in FILMS[part])
    return file


def save_tiny_roberta(folder: Path) -> Path:
    """Folder of a random two-layer RoBERTa whose tokenizer has one token for each word."""
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


def stored_source(kind: str, folder: Path, llama: Path) -> dict[str, str]:
    """A tiny quantized checkpoint with the tokenizer of the tiny causal model.

    Args:
        kind: gguf, gptq or aqlm.
        folder: that it is written to.
        llama: folder of the tiny causal model.
    """
    if kind == "gguf":
        source = write_llama(folder, tokenizer=llama)
        return {"path": source.path, "gguf_file": str(source.gguf_file)}
    sizes = json.loads((llama / "config.json").read_text(encoding="utf-8"))
    kept = ("vocab_size", "max_position_embeddings", "bos_token_id", "eos_token_id")
    for file in llama.glob("*token*"):
        shutil.copy(file, folder)
    form = {"gptq": "4 bits", "aqlm": "1x16"}[kind]
    quantized_llama(folder, form, **{name: sizes[name] for name in kept})
    return {"path": str(folder)}


def tiny_pruning_options(path: Path, folder: Path, llama: Path) -> dict[str, Any]:
    """Options that make a shipped pruning recipe run on a tiny model and a short text.

    Args:
        path: of the recipe.
        folder: for its text.
        llama: folder of the tiny causal model.
    """
    text = folder / "text.txt"
    text.write_text("".join(f"{one} \n" for one, _ in 20 * FILMS), encoding="utf-8")
    source = {"path": str(llama), "package": None, "gguf_file": None}
    calibration = {"text": str(text), "samples": 6, "length": 16}
    data = {"test_text": str(text), "length": 16, "test_windows": 8}
    return {
        "model": {"source": source, "calibration": calibration},
        "data": {"init_args": data},
    }


def tiny_options(path: Path, folder: Path, llama: Path, roberta: Path) -> dict[str, Any]:
    """Options that make a shipped recipe run on a tiny model and a few rows.

    Args:
        path: of the recipe.
        folder: for its rows.
        llama: folder of the tiny causal model.
        roberta: folder of the tiny masked model.
    """
    shipped = yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe = shipped["data"]["init_args"]
    masked = path.relative_to(ROOT).as_posix() in MASKED
    small: dict[str, Any] = {"train_size": 16, "validation_size": 8, "test_size": 8}
    small |= {"batch_size": 4, "eval_batch_size": 8}
    for name, part in (("rows", slice(48)), ("test_rows", slice(48, 56))):
        if name in recipe:
            file = write_rows(folder / f"{name}.csv", recipe["task"], part)
            # What the recipe says of rows besides their place (renamed columns) stays.
            small[name] = {"class_path": "FileRows", "init_args": {"path": str(file)}}
            for place in recipe[name]["init_args"].keys() & {"package", "format"}:
                small[name]["init_args"][place] = None if place == "package" else "auto"
    if recipe["task"] in WRITTEN:
        small |= {"max_new_tokens": 4, "max_length": None}
    source = {
        "path": str(roberta if masked else llama),
        "package": None,
        "gguf_file": None,
    }
    if shipped["model"]["quantizer"] == "Stored":
        kind = "gguf" if "gguf_file" in shipped["model"]["source"] else path.stem.split("_")[0]
        source |= stored_source(kind, folder, llama)
    changes: dict[str, Any] = {
        "model": {"source": source, "kernels": "reference"},
        "data": {"init_args": small},
    }
    if "class_path" not in shipped["model"]:  # first-order modules compile no blocks
        changes["model"]["compile"] = "none"
    if any("layers." in entry for entry in shipped["model"].get("tune", [])):
        # The tiny model has two layers, which patterns would miss.
        words = [word for word in shipped["model"]["tune"] if word in KINDS]
        changes["model"]["tune"] = ["linear", *words]
    if shipped["model"].get("micro_batches", 1) > MICRO_BATCHES:
        changes["model"]["micro_batches"] = MICRO_BATCHES
    scheduler = shipped["model"].get("query_scheduler")
    if isinstance(scheduler, dict) and scheduler.get("init_args", {}).get("n", 1) > QUERIES:
        changes["model"]["query_scheduler"] = {"init_args": {"n": QUERIES}}
    if "start_from" in shipped["model"]:
        changes["model"]["start_from"] = None  # the run of another recipe
    quantizer = shipped["model"]["quantizer"]
    if isinstance(quantizer, dict) and quantizer["init_args"].get("group_size"):
        # The tiny layers have 64 to 128 inputs: more than one group each.
        changes["model"]["quantizer"] = {"init_args": {"group_size": 32}}
    return changes
