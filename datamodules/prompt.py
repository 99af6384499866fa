"""The data module of prompt tasks."""

from typing import Any, ClassVar, Literal

import lightning as L
import pandas as pd
import torch
from torch.utils.data import DataLoader

from zolit.arguments import Checked, at_least
from zolit.datamodules.choices import ChoiceTask
from zolit.datamodules.epochs import EpochSampler, ResumableLoader
from zolit.datamodules.limits import context_length, most_tokens, padding_id, vocabulary_of
from zolit.datamodules.prompts import task_named
from zolit.datamodules.readers import Reader, reader_of
from zolit.datamodules.rows import RowSource
from zolit.datamodules.shots import demonstrations
from zolit.datamodules.splits import SPLITS, split_rows
from zolit.datamodules.tables import checked_table, empty_notes, table_notes, template_notes
from zolit.datamodules.tasks import Task
from zolit.datamodules.written import GenerationTask, with_length
from zolit.errors import UserError, tell
from zolit.models.source import ModelSource
from zolit.objectives.prompt_batch import PromptBatch


class PromptDataModule(Checked, L.LightningDataModule):
    """Rows as prompts with candidate answers.

    The default sizes are MeZO's protocol: 1000 rows to train, 500 to validate, 1000 to test, all
    disjoint. Batches are `PromptBatch`, or `AnswerBatch` if each row has answers of its own.

    Args:
        task: name of a ready task (``sst2``, ``sst2_review``, ``sst5``, ``rotten_tomatoes``,
            ``trec``, ``rte``, ``cb``, ``snli``, ``boolq``, ``wic``, ``wsc``, ``multirc``,
            ``trec_masked``, ``rte_masked``, ``snli_masked``; with options in each row ``copa``,
            ``record``, ``piqa``, ``arc``; with written answers ``squad``, ``drop``, ``gsm8k``), or
            a template with words (`Task`), options (`ChoiceTask`) or `GenerationTask`.
        rows: where the training rows come from; validation and test rows are set aside from them
            unless given separately.
        source: the model whose tokenizer, context length and kind are used. The command line
            links it from ``model.source``, so it stands only once in a recipe.
        validation_rows: separate validation rows; at most validation_size of them are used.
        test_rows: separate test rows; ``zolit predict`` answers every one of them, and needs no
            labels and no training rows for it.
        train_size: number of training rows; null for all that are left.
        validation_size: number of validation rows; null for all of validation_rows; 0 for none.
        test_size: number of test rows; null for all of test_rows; 0 for none; ``auto`` for all of
            test_rows, or 1000 set aside from rows.
        batch_size: prompts in a training batch.
        eval_batch_size: prompts in a validation or test batch.
        length_pool: training batches whose prompts are sorted by length together, so that less
            padding is computed; 1 draws the prompts of a batch wholly at random.
        shots: training rows that stand before every prompt with their answers, drawn by the seed;
            they are not trained on. 0 for none.
        max_new_tokens: most tokens of a written answer, instead of the task's own.
        max_length: most tokens of a prompt with its answer; null for the model's context.
        truncate: cut prompts that are too long, at the end farther from the answer's place,
            instead of refusing them.
        seed: of the splits and of the order of training rows.
        num_workers: processes that collate batches; rows are tokenized once, at the start.

    Raises:
        UserError: unknown task, missing column, too few rows, label without a word, words that
            read alike, prompt too long.

    Example:
        ::

            data:
              class_path: PromptDataModule
              init_args:
                task:
                  template: "{text} It was"
                  words:
                    0: terrible
                    1: great
                rows:
                  class_path: FileRows
                  init_args:
                    path: reviews.csv
    """

    published: ClassVar[tuple[str, ...]] = ("task", "rows", "train_size", "batch_size", "seed")
    """Arguments that are written into a published run."""

    def __init__(
        self,
        task: Task | ChoiceTask | GenerationTask | str,
        rows: RowSource,
        source: ModelSource | None = None,
        validation_rows: RowSource | None = None,
        test_rows: RowSource | None = None,
        train_size: int | None = 1000,
        validation_size: int | None = 500,
        test_size: int | Literal["auto"] | None = "auto",
        batch_size: int = 16,
        eval_batch_size: int = 32,
        length_pool: int = 16,
        shots: int = 0,
        max_new_tokens: int | None = None,
        max_length: int | None = None,
        truncate: bool = False,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.task = task_named(task) if isinstance(task, str) else task
        if max_new_tokens is not None:
            self.task = with_length(self.task, max_new_tokens)
        self.task.validate()
        given = {"train": rows, "validation": validation_rows, "test": test_rows}
        self.row_sources = {split: one for split, one in given.items() if one is not None}
        self._arguments = {split: f"{split}_rows" for split in given} | {"train": "rows"}
        # Optional in the signature, because jsonargparse cannot link into a required data class.
        if source is None:
            raise UserError("source: got none, a model is expected; set its path.")
        self.source = source
        if test_size == "auto":
            test_size = 1000 if test_rows is None else None
        self.sizes = {"train": train_size, "validation": validation_size, "test": test_size}
        self.batch_size = at_least("batch_size", batch_size)
        self.eval_batch_size = at_least("eval_batch_size", eval_batch_size)
        self.length_pool = at_least("length_pool", length_pool)
        self.shots = at_least("shots", shots, 0)
        self.max_length = max_length
        self.truncate = truncate
        self.seed = at_least("seed", seed, 0)
        self.num_workers = at_least("num_workers", num_workers, 0)
        for split, size in self.sizes.items():
            if size is not None:
                at_least(f"{split}_size", size, 1 if split == "train" else 0)
        self.tokenizer: Any = None
        self.examples: dict[str, list[Any]] = {}
        self.collate: Any = None
        self._test_numbers: list[int] = []
        self.predicted_rows: list[int] = []
        """For each row of `predict_dataloader`, in its order: the row's number in the file."""

    @property
    def answers(self) -> list[str] | None:
        """Answer words; a batch's labels and an objective's scores index into them. None if each
        row has answers of its own."""
        return self.task.answers

    @property
    def labels(self) -> list[str] | None:
        """The label of each answer; None if each row has answers of its own."""
        return self.task.labels

    def predict_on(self, rows: RowSource) -> None:
        """Let the stage ``predict`` answer all of these rows instead of test_rows.

        Raises:
            UserError: if examples stand before each prompt, which are training rows.
        """
        if self.shots:
            raise UserError(
                f"shots: got {self.shots}, whose rows are training rows and not in this file; use "
                "zolit predict --config RUN/config.yaml --ckpt_path FILE with data.test_rows"
            )
        self.row_sources["test"] = rows
        self.sizes["test"] = None
        self._arguments["test"] = "rows"

    def setup(self, stage: str | None = None) -> None:
        """Read, split and tokenize all rows, once; for ``predict`` only the rows of test_rows."""
        if stage == "predict" and "test" in self.row_sources:
            if "predict" not in self.examples:
                self._prepare_prediction(self._table("test", labelled=False))
        elif self.collate is None:
            self._prepare_splits()
        if stage == "predict" and "predict" not in self.examples:
            self._order_prediction(self.examples["test"], self._test_numbers)

    def _prepare_splits(self) -> None:
        tables = {split: self._table(split) for split in self.row_sources}
        chosen = split_rows(tables, self.sizes, self.task.columns, self.seed)
        for note in table_notes(self.task, tables, chosen, self.sizes):
            tell(note)
        shown, chosen["train"] = self._shown(chosen["train"])
        reader = self._reader(shown)
        rows = {split: _records(table) for split, table in chosen.items()}
        reader.learn(rows["train"], _numbers(chosen["train"]))
        for split in SPLITS:
            self.examples[split] = reader.examples(rows[split], _numbers(chosen[split]))
        self._test_numbers = _numbers(chosen["test"])
        self.collate = reader.collate

    def _prepare_prediction(self, table: pd.DataFrame) -> None:
        size = self.sizes["test"]
        if size is not None and size < len(table):
            tell(
                f"test_rows: all {len(table)} rows are answered, test_size={size} is for zolit "
                "test alone"
            )
        for note in (*template_notes(self.task, table), *empty_notes(self.task, table, "rows")):
            tell(note)
        reader = self._reader()
        rows, numbers = _records(table), _numbers(table)
        reader.learn(rows, numbers)
        self._order_prediction(reader.examples(rows, numbers, labelled=False), numbers)
        self.collate = reader.collate

    def _order_prediction(self, examples: list[Any], numbers: list[int]) -> None:
        order = sorted(range(len(examples)), key=lambda index: _length(examples[index]))
        self.examples["predict"] = [examples[index] for index in order]
        self.predicted_rows = [numbers[index] for index in order]

    def _shown(self, train: pd.DataFrame) -> tuple[str, pd.DataFrame]:
        """The text before every prompt, and the training rows that are left."""
        if not self.shots:
            return "", train
        if self.shots >= len(train):
            raise UserError(
                f"shots: got {self.shots} of {len(train)} training rows, fewer are expected; lower "
                "it, or raise train_size"
            )
        chosen = train.iloc[: self.shots]
        return demonstrations(self.task, _records(chosen), _numbers(chosen)), train.iloc[
            self.shots :
        ]

    def _reader(self, shown: str = "") -> Reader:
        config = self.source.load_config()
        self.tokenizer = self.source.load_tokenizer()
        return reader_of(self.task)(
            self.task,
            padding_id(self.tokenizer, config),
            tokenizer=self.tokenizer,
            kind=self.source.resolved_kind(config),
            limit=most_tokens(self.max_length, context_length(config)),
            truncate=self.truncate,
            vocabulary=vocabulary_of(config),
            shown=shown,
        )

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled anew each epoch; see ``epochs`` for the order and for resuming."""
        examples: Any = self.examples["train"]
        return ResumableLoader(
            examples,
            batch_size=self.batch_size,
            sampler=EpochSampler(
                [_length(example) for example in examples],
                self.seed,
                self.batch_size,
                self.length_pool,
            ),
            **self._loader_options(),
        )

    def val_dataloader(self) -> DataLoader[PromptBatch] | list[Any]:
        """In order of length, which saves padding; no loader where validation_size is 0."""
        return self._eval_loader(sorted(self.examples["validation"], key=_length))

    def test_dataloader(self) -> DataLoader[PromptBatch] | list[Any]:
        """In order of length, which saves padding; no loader where test_size is 0."""
        return self._eval_loader(sorted(self.examples["test"], key=_length))

    def predict_dataloader(self) -> DataLoader[PromptBatch] | list[Any]:
        """Every row of test_rows, or the test rows drawn from rows, in order of length.

        `predicted_rows` has their numbers in the file.
        """
        return self._eval_loader(self.examples["predict"])

    def _eval_loader(self, examples: list[Any]) -> DataLoader[PromptBatch] | list[Any]:
        if not examples:
            return []
        rows: Any = examples
        return DataLoader(rows, batch_size=self.eval_batch_size, **self._loader_options())

    def _loader_options(self) -> dict[str, Any]:
        return {
            "collate_fn": self.collate,
            "num_workers": self.num_workers,
            # Without its own generator a loader draws from the global one at every epoch.
            "generator": torch.Generator().manual_seed(self.seed),
        }

    def _table(self, split: str, labelled: bool = True) -> pd.DataFrame:
        table = self.row_sources[split].read()
        return checked_table(table, self._arguments[split], self.task, labelled)


def _length(example: Any) -> int:
    return len(example.ids)


def _numbers(table: pd.DataFrame) -> list[int]:
    return [int(number) for number in table.index]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.itertuples(index=False)]
