"""Runs of the tiny model, and tasks in the harness's own format."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_recipe import changed, recipe, write

from zolit.cli import main

GOALS = ["open the door", "see the film", "write a short and bright text", "sleep"]


def fitted(folder: Path, quantizer: dict[str, Any], model: Path, rows: Path) -> Path:
    """Folder of a run of three steps on quantized weights."""
    changes = {
        "model.quantizer": quantizer,
        "model.optimizer.init_args.lr": 0.2,
        "run.run_dir": str(folder / "run"),
        "run.zero_shot": False,
    }
    main(["fit", "--config", write(changed(recipe(model, rows), changes), folder / "r")])
    return folder / "run"


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path, films_csv: Path) -> Path:
    """Folder of a run on int8 weights."""
    int8 = {"class_path": "Int8"}
    return fitted(tmp_path_factory.mktemp("int8"), int8, tiny_llama, films_csv)


@pytest.fixture(scope="session")
def finished_int4(
    tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path, films_csv: Path
) -> Path:
    """Folder of a run on int4 weights."""
    int4 = {"class_path": "Int4", "init_args": {"group_size": 32}}
    return fitted(tmp_path_factory.mktemp("int4"), int4, tiny_llama, films_csv)


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of three tasks with their rows: options, whole texts, and answers to write."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = [
        {
            "goal": goal,
            "sol1": f"take the {word} way",
            "sol2": f"film {n} is {word} and long",
            "label": n % 2,
            "text": f"{goal} and film {n} is bright. " * (n + 1),
            "answer": "dull",
        }
        for n, goal in enumerate(GOALS * 3)
        for word in ("short", "dull")
    ]
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    shared = {
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"validation": str(file)},
            "cache_dir": str(folder / "cache"),
        },
        "validation_split": "validation",
        "fewshot_split": "validation",
    }
    options = {
        "task": "tiny_options",
        "output_type": "multiple_choice",
        "doc_to_text": "Question: {{goal}}\nAnswer:",
        "doc_to_choice": "{{[sol1, sol2]}}",
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    text = {
        "task": "tiny_text",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    }
    written = {
        "task": "tiny_written",
        "output_type": "generate_until",
        "doc_to_text": "Review: {{text}}\nSentiment:",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8, "do_sample": False},
        "metric_list": [{"metric": "bleu"}],
    }
    for one in (options, text, written):
        (folder / f"{one['task']}.yaml").write_text(yaml.safe_dump({**shared, **one}))
    return folder
