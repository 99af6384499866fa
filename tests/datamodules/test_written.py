"""Rows whose answers are written: their texts, their tokens, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from zolit.datamodules import BenchmarkRows, FileRows, GenerationTask, PromptDataModule
from zolit.datamodules.own_answers import RowAnswers
from zolit.datamodules.prompts import task_named
from zolit.errors import UserError
from zolit.models.source import ModelSource
from zolit.objectives.answer_text import final_number

TASK = GenerationTask("{text} is", max_new_tokens=6)
ROW = {"text": "film 1", "answer": ["bright", "short", "bright"]}


def test_mezo_s_prompts() -> None:
    row = {"title": "T", "context": "C.", "passage": "P.", "question": "Q?"}
    assert task_named("squad").prompt(row) == "Title: T\nContext: C.\nQuestion: Q?\nAnswer:"
    assert task_named("drop").prompt(row) == "Passage: P.\nQuestion: Q?\nAnswer:"
    assert task_named("gsm8k").prompt(row) == "Question: Q?\nAnswer:"


def test_the_first_answer_is_learnt_with_its_end() -> None:
    found = TASK.row_answers(ROW)
    assert found == RowAnswers(("bright\n",), (0,), accepted=(("bright",), ("short",)))
    parts = TASK.row_answers({"text": "x", "answer": [["Ada", "Bob"], "Eve"]})
    assert parts == RowAnswers(("Ada, Bob\n",), (0,), accepted=(("Ada", "Bob"), ("Eve",)))
    assert TASK.row_answers({"text": "x", "answer": 3}).accepted == (("3",),)
    assert TASK.row_answers({"text": "x"}, labelled=False) == RowAnswers((), ())


@pytest.mark.parametrize("answer", ["", "  ", [], ["bright", ""], [["Ada", " "]]])
def test_a_missing_answer_is_refused(answer: Any) -> None:
    with pytest.raises(UserError, match="row 7 has an empty answer in column 'answer'"):
        TASK.row_answers({"text": "x", "answer": answer}, 7)


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (GenerationTask("x", 3), "names no column"),
        (GenerationTask("{text}", 0), "task.max_new_tokens must be at least 1, got 0"),
        (GenerationTask("{text}", 3, stop=["\n", ""]), "task.stop: got an empty text"),
    ],
)
def test_tasks_that_are_refused(task: GenerationTask, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        task.validate()


def rows_file(folder: Path) -> FileRows:
    rows = [{"text": f"film {n}", "answer": ["dull and long", "long"]} for n in range(30)]
    file = folder / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return FileRows(str(file))


SIZES: Any = {"train_size": 10, "validation_size": 10, "test_size": 10, "batch_size": 4}


def test_batches_hold_prompts_answers_and_how_they_are_written(
    causal_source: ModelSource, tmp_path: Path
) -> None:
    data = PromptDataModule(TASK, rows_file(tmp_path), causal_source, **SIZES)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    ids, mask = batch.prompts()
    [tokens] = {tuple(row[row >= 0].tolist()) for row in batch.answer_ids}
    assert data.tokenizer.decode(tokens) == " dull and long\n"
    prompt = ids[0][mask[0].bool()]
    assert data.tokenizer.decode(prompt).startswith("<s>film")
    assert torch.equal(batch.input_ids[0][-len(tokens) :], torch.tensor(tokens))
    assert batch.accepted[0] == (("dull and long",), ("long",))
    assert (batch.writing.most, batch.writing.stops) == (6, ("\n",))
    assert batch.writing.ends == (data.tokenizer.eos_token_id,)


def test_what_is_written_must_fit(causal_source: ModelSource, tmp_path: Path) -> None:
    long = GenerationTask("{text} is", max_new_tokens=62)
    data = PromptDataModule(long, rows_file(tmp_path), causal_source, **SIZES)
    with pytest.raises(UserError, match=r"tokens long with its answer, 64 fit"):
        data.setup()


def test_the_shared_files(shared_data: Path) -> None:
    rows = BenchmarkRows(str(shared_data / "drop/drop_contrast_first38.json"), "drop").read()
    task = task_named("drop")
    parts = [task.row_answers(row, n) for n, row in enumerate(rows.to_dict("records"))]
    assert any(len(answer) > 1 for one in parts for answer in one.accepted)
    rows = FileRows(str(shared_data / "gsm8k/train_first3000.jsonl")).read()
    numbers = [final_number(answer) for answer in rows["answer"]]
    assert len(numbers) == 3000
    assert None not in numbers
    assert FileRows(str(shared_data / "squad/squad_subset_4330.json")).read().notna().all(axis=None)
