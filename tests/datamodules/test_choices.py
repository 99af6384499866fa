"""Options of each row: their texts, the right ones, their tokens, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from zolit.datamodules import ChoiceTask, FileRows, PromptDataModule
from zolit.datamodules.encode_own import OwnCollate, OwnEncoder, OwnExample
from zolit.datamodules.own_prompts import OWN_TASKS
from zolit.datamodules.prompts import task_named
from zolit.errors import UserError
from zolit.models.source import ModelSource

PAIR = ChoiceTask("{text} is", ["a", "b"])
ROW = {"text": "film 1", "a": "dull and long", "b": "bright", "label": 1}
COPA = {
    "premise": "The man turned on the faucet.",
    "choice1": "The toilet filled with water.",
    "choice2": "I got a glass of Water.",
    "question": "effect",
    "label": 0,
}


def test_copa_reads_as_in_mezo() -> None:
    task = task_named("copa")
    assert task.prompt(COPA) == "The man turned on the faucet so"
    assert task.prompt({**COPA, "question": "cause"}) == "The man turned on the faucet because"
    found = task.row_answers(COPA)
    assert found.options == (COPA["choice1"], COPA["choice2"])
    assert found.spoken == ("the toilet filled with water.", "I got a glass of Water.")
    assert found.right == (0,)


def test_record_fills_the_query_and_takes_several_right_entities() -> None:
    row = {
        "passage": "Ada met Bob.\n@highlight\nAda won",
        "query": "The prize of @placeholder pleased @placeholder",
        "entities": ["Ada", "Bob", "Ada", "Ada L."],
        "answers": ["Ada L.", "Ada"],
    }
    task = task_named("record")
    assert task.prompt(row) == "Ada met Bob.\n- Ada won\n-"
    found = task.row_answers(row)
    assert found.options == ("Ada", "Bob", "Ada L.")
    assert found.spoken[1] == "The prize of Bob pleased Bob"
    assert found.right == (0, 2)


def test_arc_names_its_options() -> None:
    row = {"question": "Why?", "text": ["x", "y", "z"], "label": ["1", "2", "3"], "answerKey": "3"}
    assert task_named("arc").row_answers(row).right == (2,)
    assert task_named("arc").prompt(row) == "Question: Why?\nAnswer:"
    fixed = ChoiceTask("{text}", ["a", "b"], label_as="name", names=["A", "B"])
    assert fixed.row_answers({**ROW, "label": "B"}).right == (1,)


def test_an_option_with_the_text_of_a_right_one_is_right() -> None:
    assert PAIR.row_answers({**ROW, "a": "bright"}).right == (0, 1)


def test_without_labels_nothing_is_right() -> None:
    row = {name: value for name, value in ROW.items() if name != "label"}
    assert PAIR.row_answers(row, labelled=False).right == ()


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"label": 2}, "'label' of row 7 is 2, which as label_as: index is none of its 2 options"),
        ({"label": -1}, "is -1, which as label_as: index is none"),
        ({"a": "  "}, "row 7 has an empty option in column 'a'"),
        ({"a": {"x": 1}}, "an option of row 7 in column 'a' is an object"),
    ],
)
def test_rows_that_are_refused(row: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        PAIR.row_answers({**ROW, **row}, 7)


def test_rows_without_options_are_refused() -> None:
    task = ChoiceTask("{text}", ["entities"], label_as="text")
    with pytest.raises(UserError, match=r"row 7 has 0 option\(s\) in column\(s\) entities"):
        task.row_answers({"text": "x", "entities": [], "label": "y"}, 7)
    with pytest.raises(UserError, match=r"for which task.values.question has no word .*cause"):
        task_named("copa").prompt({**COPA, "question": "couse"})
    row = {"passage": "p", "query": "q", "entities": ["a", "b"], "answers": ["a"]}
    with pytest.raises(UserError, match="row 3 has no '@placeholder'"):
        task_named("record").row_answers(row, 3)
    row = {"question": "?", "text": ["x", "y", "z"], "label": ["A", "B"], "answerKey": "A"}
    with pytest.raises(UserError, match="has 3 options and 2 names"):
        task_named("arc").row_answers(row)


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (ChoiceTask("no column", ["a"]), "names no column"),
        (ChoiceTask("{text} {mask}", ["a"]), "only masked models"),
        (ChoiceTask("{text}", []), "task.options: got none"),
        (ChoiceTask("{text}", ["a"], option="{text}"), r"has no place \{option\}"),
        (ChoiceTask("{text}", ["a"], label_as="name"), "task.names"),
        (ChoiceTask("{text}", ["a"], names=["A"]), "task.names"),
    ],
)
def test_tasks_that_are_refused(task: ChoiceTask, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        task.validate()


def test_the_ready_tasks_are_valid() -> None:
    for task in OWN_TASKS.values():
        task.validate()


def encoder(source: ModelSource, task: ChoiceTask = PAIR, **options: Any) -> OwnEncoder:
    given = {"tokenizer": source.load_tokenizer(), "kind": "causal", "limit": None, **options}
    return OwnEncoder(task, **given)


def test_tokens_are_those_of_the_whole_text(causal_source: ModelSource) -> None:
    one = encoder(causal_source)
    [example] = one.examples([ROW], [0])
    texts = ["film 1 is dull and long", "film 1 is bright"]
    for text, answer in zip(texts, example.answers, strict=True):
        whole = one.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert example.ids + answer == [one.tokenizer.bos_token_id, *whole]
    assert (example.right, example.options) == ((1,), ("dull and long", "bright"))


def test_the_longest_option_must_fit(causal_source: ModelSource) -> None:
    [example] = encoder(causal_source).examples([ROW], [0])
    need = len(example.ids) + max(map(len, example.answers))
    encoder(causal_source, limit=need).examples([ROW], [0])
    with pytest.raises(UserError, match=f"row 4 is {need} tokens long with its answer, {need - 1}"):
        encoder(causal_source, limit=need - 1).examples([ROW], [4])
    [cut] = encoder(causal_source, limit=need - 1, truncate=True).examples([ROW], [4])
    assert cut.ids == [example.ids[0], *example.ids[2:]]


def test_the_layout_of_a_batch() -> None:
    collate = OwnCollate(pad_id=9, writing=None)
    collate.width = 4
    examples = [
        OwnExample([1, 2], [[3], [4, 5], [6]], (1, 2), ("a", "b", "c")),
        OwnExample([1, 2, 7], [[3, 3], [8]], (0,), ("d", "e")),
    ]
    batch = collate(examples)
    assert batch.input_ids.tolist() == [
        [9, 9, 1, 2, 3],
        [9, 1, 2, 4, 5],
        [9, 9, 1, 2, 6],
        [1, 2, 7, 3, 3],
        [9, 1, 2, 7, 8],
    ]
    assert torch.equal(batch.attention_mask, (batch.input_ids != 9).long())
    assert batch.answer_ids.tolist() == [[3, -1], [4, 5], [6, -1], [3, 3], [8, -1]]
    assert batch.examples.tolist() == [0, 0, 0, 1, 1]
    assert batch.labels.tolist() == [1, 0]
    assert batch.right.tolist() == [False, True, True, True, False]
    assert batch.lengths.tolist() == [1, 2, 1, 2, 1]
    assert batch.right_rows.tolist() == [1, 3]
    assert batch.rows().answer_positions.tolist() == [[3, -1], [2, 3], [3, -1], [2, 3], [3, -1]]
    cut = batch.rows(torch.tensor([2, 0]), batch.used_columns(torch.tensor([2, 0])))
    assert cut.input_ids.tolist() == [[1, 2, 6], [1, 2, 3]]
    assert cut.answer_positions.tolist() == [[1], [1]]
    ids, mask = batch.prompts()
    assert [one[there.bool()].tolist() for one, there in zip(ids, mask, strict=True)] == [
        [1, 2],
        [1, 2, 7],
    ]
    assert mask.tolist() == [[0, 1, 1], [1, 1, 1]]
    scores = batch.by_example(torch.arange(5.0), absent=-7.0)
    assert scores.tolist() == [[0, 1, 2, -7], [3, 4, -7, -7]]
    assert batch.hits(torch.tensor([2, 1])).tolist() == [True, False]
    assert batch.chosen_texts(torch.tensor([2, 1])) == ["c", "e"]
    assert collate.right_answer(examples[0]) == [4, 5]


def test_the_data_module_reads_them(causal_source: ModelSource, tmp_path: Path) -> None:
    rows = [
        {"text": f"film {n}", "options": ["dull", "bright", "short"][: 2 + n % 2], "label": n % 2}
        for n in range(40)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    task = ChoiceTask("{text} is", ["options"])
    sizes = {"train_size": 20, "validation_size": 10, "test_size": 10, "batch_size": 4}
    data = PromptDataModule(task, FileRows(str(file)), causal_source, **sizes)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch.width == 3
    assert len(batch) == 4
    assert len(batch.examples) == sum(map(len, batch.options))
    assert (data.answers, data.labels) == (None, None)
    unlabelled = [{k: v for k, v in row.items() if k != "label"} for row in rows]
    file.write_text("\n".join(map(json.dumps, unlabelled)), encoding="utf-8")
    data = PromptDataModule(task, FileRows(str(file)), causal_source)
    data.predict_on(FileRows(str(file)))
    data.setup("predict")
    assert sum(map(len, data.predict_dataloader())) == 40
    with pytest.raises(UserError, match="no column 'label', which the task reads"):
        PromptDataModule(task, FileRows(str(file)), causal_source, **sizes).setup()


def test_a_masked_model_is_refused(masked_source: ModelSource) -> None:
    with pytest.raises(UserError, match="ChoiceTask needs a causal model"):
        encoder(masked_source, kind="masked").examples([ROW], [0])


def test_the_shared_files(shared_data: Path) -> None:
    task = OWN_TASKS["copa"]
    table = FileRows(str(shared_data / "superglue" / "COPA" / "train.jsonl")).read()
    rows = table.to_dict("records")
    assert {len(task.row_answers(row, n).spoken) for n, row in enumerate(rows)} == {2}
    assert {one for row in rows for one in task.row_answers(row).right} == {0, 1}
