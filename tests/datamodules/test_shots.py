"""Answered examples before every prompt."""

from pathlib import Path
from typing import Any

import pytest

from zolit.datamodules import ChoiceTask, FileRows, GenerationTask, PromptDataModule, Task
from zolit.datamodules.shots import demonstrations
from zolit.errors import UserError
from zolit.models.source import ModelSource

WORDS = Task("Review: {text}\nSentiment:", {"0": "negative", "1": "positive"})
SIZES: Any = {"train_size": 20, "validation_size": 10, "test_size": 10, "batch_size": 4}


def test_examples_of_each_kind_of_task() -> None:
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 0}]
    assert demonstrations(WORDS, rows, [0, 1]) == (
        "Review: a\nSentiment: positive\n\nReview: b\nSentiment: negative\n\n"
    )
    choice = ChoiceTask("{text} is", ["x", "y"])
    assert demonstrations(choice, [{"text": "a", "x": "1", "y": "2", "label": 1}], [0]) == (
        "a is 2\n\n"
    )
    written = GenerationTask("Q: {text}\n", 4)
    assert demonstrations(written, [{"text": "a", "answer": "b"}], [0]) == "Q: a\nb\n\n"


def test_they_stand_before_every_prompt(causal_source: ModelSource, rows_file: Path) -> None:
    task = Task("{text} It was", {"0": "terrible", "1": "great"})
    rows = FileRows(str(rows_file))
    plain = PromptDataModule(task, rows, causal_source, **SIZES)
    shown = PromptDataModule(task, rows, causal_source, **SIZES, shots=2)
    plain.setup()
    shown.setup()
    assert len(shown.examples["train"]) == 18
    texts = [plain.tokenizer.decode(one.ids) for one in plain.examples["train"]]
    words = [task.answers[one.label] for one in plain.examples["train"]]
    before = "".join(
        f"{text.removeprefix('<s>')} {word}\n\n"
        for text, word in zip(texts[:2], words, strict=False)
    )
    for split in ("train", "validation", "test"):
        skipped = 2 if split == "train" else 0
        for with_examples, alone in zip(
            shown.examples[split], plain.examples[split][skipped:], strict=True
        ):
            found = shown.tokenizer.decode(with_examples.ids)
            assert found == f"<s>{before}{shown.tokenizer.decode(alone.ids).removeprefix('<s>')}"
            assert with_examples.label == alone.label
    assert shown.collate.answers == plain.collate.answers


def test_more_than_the_context_holds(causal_source: ModelSource, rows_file: Path) -> None:
    data = PromptDataModule(
        "sst2", FileRows(str(rows_file)), causal_source, **SIZES, shots=9, truncate=True
    )
    with pytest.raises(
        UserError, match=r"shots: with the examples before it row \d+ is \d+ tokens"
    ):
        data.setup()


def test_what_is_refused(
    causal_source: ModelSource, masked_source: ModelSource, rows_file: Path
) -> None:
    rows = FileRows(str(rows_file))
    with pytest.raises(UserError, match="shots: got 20 of 20 training rows"):
        PromptDataModule("sst2", rows, causal_source, **SIZES, shots=20).setup()
    with pytest.raises(UserError, match="shots: a masked model"):
        PromptDataModule("sst2", rows, masked_source, **SIZES, shots=1).setup()
    with pytest.raises(UserError, match="shots: got 1, whose rows are training rows"):
        PromptDataModule("sst2", rows, causal_source, **SIZES, shots=1).predict_on(rows)
    chat = Task("chat", {"0": "No", "1": "Yes"})
    row = {"messages": [{"role": "user", "content": "x"}], "label": 1}
    with pytest.raises(UserError, match="shots: the prompts are chat messages"):
        demonstrations(chat, [row], [0])
