import pytest

from zolit.datamodules.prompts import TASKS, task_named
from zolit.datamodules.tasks import Task, label_key
from zolit.errors import UserError

ROW = {
    "text": "a film",
    "premise": "It rains.",
    "hypothesis": "It is wet",
    "passage": "Rain.",
    "paragraph": "Rain.",
    "answer": "water",
    "question": "is it wet",
    "word": "place",
    "sentence1": "One.",
    "sentence2": "Two.",
    "span1_text": "Mark",
    "span2_text": "He",
}
MEZO = {
    "sst2": "a film It was",
    "rte": 'It rains.\nDoes this mean that "It is wet" is true? Yes or No?\n',
    "cb": 'Suppose It rains. Can we infer that "It is wet"? Yes, No, or Maybe?\n',
    "boolq": "Rain. Is it wet?",
    "wic": 'Does the word "place" have the same meaning in these two sentences? Yes, No?\n'
    "One.\nTwo.\n",
    "wsc": 'a film\nIn the previous sentence, does the pronoun "he" refer to Mark? Yes or No?\n',
    "rotten_tomatoes": "Review: a film\nSentiment:",
    "multirc": 'Rain.\nQuestion: is it wet\nI found this answer "water". Is that correct? '
    "Yes or No?\n",
}


@pytest.mark.parametrize("name", MEZO)
def test_ready_prompts(name: str) -> None:
    assert task_named(name).prompt(ROW) == MEZO[name]


@pytest.mark.parametrize("name", TASKS)
def test_every_ready_task_fills(name: str) -> None:
    task = TASKS[name]
    assert "{" not in task.prompt(ROW, mask="<mask>")
    assert task.prompt(ROW, mask="<mask>").count("<mask>") == 1
    assert [task.class_of(label) for label in task.words]


def test_masked_prompts() -> None:
    assert TASKS["sst2"].prompt(ROW, mask="<mask>") == "a film It was <mask>."
    assert TASKS["rte_masked"].prompt(ROW, mask="<mask>") == "It rains? <mask>, it is wet"


def test_text_with_braces_is_left_alone() -> None:
    task = Task("{text} It was", {"0": "a", "1": "b"})
    assert task.prompt({"text": "{text} {0}"}) == "{text} {0} It was"


def test_labels_with_one_word_are_one_class() -> None:
    task = TASKS["rotten_tomatoes"]
    assert task.answers == ["negative", "positive"]
    assert [task.class_of(label) for label in ("rotten", "fresh", 0, 1.0, "1")] == [0, 1, 0, 1, 1]
    assert task.is_ignored("plot")


def test_numbers_as_labels() -> None:
    task = Task("{text}", {"01": "a", "+1.50": "b", "TRUE": "c"})
    assert [task.class_of(one) for one in ("1", 1, "1.0", "1.5", 1.5, True, "true")] == [
        *(0, 0, 0, 1, 1, 2, 2)
    ]
    # As they were written down.
    assert task.labels == ["01", "+1.50", "TRUE"]
    assert TASKS["rotten_tomatoes"].labels == ["rotten", "fresh"]


def test_label_keys() -> None:
    assert [label_key(label) for label in (1, 1.0, " 1 ", True, "True", "true", "x", -1)] == [
        *("1", "1", "1", "true", "true", "true", "x", "-1")
    ]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: task_named("sst"), ["'sst'", "sst2", "sst5"]),
        (lambda: Task("It was", {"0": "a", "1": "b"}).validate(), ["task.template", "column"]),
        (lambda: Task("{text|lowr} was", {"0": "a", "1": "b"}).validate(), ["lowr", "lower"]),
        (lambda: Task("{text}", {"0": "a", "1": "a"}).validate(), ["task.words", "two different"]),
        (lambda: Task("{text}", {"0": "Yes", "1": False}).validate(), ["task.words", "quotes"]),
        (lambda: Task("{text}", {"0": " bad", "1": "good"}).validate(), ["' bad'", "'bad'"]),
        (lambda: Task("{text}", {"1": "a", "01": "b"}).validate(), ["'1' and '01'", "one label"]),
        (lambda: Task("{text", {"0": "a", "1": "b"}).validate(), ["task.template", "{{"]),
        (lambda: TASKS["sst2"].class_of("x"), ["'x'", "task.ignore", "0, 1"]),
        (lambda: TASKS["rte_masked"].prompt(ROW), ["{mask}", "causal"]),
    ],
)
def test_messages(make, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        make()
    for word in words:
        assert word in str(caught.value)
