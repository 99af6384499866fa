"""Scores the weights of a recipe's model, on a text or on the recipe's own training rows."""

from dataclasses import replace
from pathlib import Path

import lightning as L
import torch
from torch import nn

from zolit.allocator import returning_memory
from zolit.arguments import at_least
from zolit.calibration.options import SaliencyOptions
from zolit.calibration.saliency import There, begun_in, compute_saliency
from zolit.calibration.saliency_file import Saliency
from zolit.calibration.text import Window, windows_of_file
from zolit.datamodules import PromptDataModule
from zolit.errors import UserError
from zolit.models.loading.load import load_model, load_prepared
from zolit.models.prepare import Preparation
from zolit.runs.block_bar import block_bar
from zolit.runs.text_windows import text_windows
from zolit.strategies import ScalePerturber
from zolit.training.dtype import DTYPES, float32_gain
from zolit.training.module import TuningModule

_TEXT_SAMPLES, _ROW_SAMPLES, _KEEP = 100, 16, 0.01


def score(
    module: TuningModule,
    windows: list[Window],
    options: SaliencyOptions,
    file: Path,
    there: There = "refuse",
) -> Saliency:
    """Compute a saliency of a module's model, whose weights are loaded for this.

    Args:
        module: not loaded yet, or loaded; not changed.
        windows: of `find_windows`.
        options: how entries are scored.
        file: where the scores are written.
        there: see `compute_saliency`.

    Raises:
        UserError: whatever the user can mend.
    """
    keep = kept_fraction(options)
    dtype = DTYPES[gradient_dtype(module, options, file)]
    with returning_memory():
        model = _model(module, options.stored)
        with block_bar("saliency") as report:
            return compute_saliency(
                model, windows, options.method, keep, file, report, there, dtype
            )


def gradient_dtype(module: TuningModule, options: SaliencyOptions, file: Path) -> str:
    """The dtype in which gradients are computed: as told, as begun, or the faster one.

    Args:
        module: whose model is scored.
        options: of the saliency.
        file: where the scores are written, or were begun to be.

    Returns:
        ``float32`` or ``bfloat16``.

    Raises:
        UserError: if the option names no dtype, or one in which the gradients cannot be taken.
    """
    given, model = options.dtype, module.dtype_name
    if given is None:
        if model == "float32" or options.method == "grasp":
            return "float32"
        begun = begun_in(file)
        faster = "float32" if float32_gain() >= 1 else "bfloat16"
        return faster if begun is None else begun
    if given == "bfloat16" and options.method == "grasp":
        raise UserError(
            "saliency.dtype: got bfloat16, but grasp takes second derivatives in float32; leave it "
            "out, or use saliency.method fisher"
        )
    if given == "bfloat16" and model == "float32":
        raise UserError(
            "saliency.dtype: got bfloat16, but the model is computed in float32; leave it out, or "
            "set model.dtype: bfloat16"
        )
    return given


def kept_fraction(options: SaliencyOptions) -> float:
    """Which share of the scores of a matrix is written."""
    return _KEEP if options.keep is None else options.keep


def find_windows(
    module: TuningModule, data: L.LightningDataModule, options: SaliencyOptions
) -> list[Window]:
    """The text that weights are scored on.

    Args:
        module: its tokenizer is loaded, its weights are not.
        data: whose training rows are taken where no text is given.
        options: which text, and how much of it.

    Raises:
        UserError: if the text is not there, too short, or not of the model's vocabulary.
    """
    for name in ("samples", "length"):
        if (given := getattr(options, name)) is not None:
            at_least(f"saliency.{name}", given, 1 if name == "samples" else 2, "try 16")
    if options.text is None:
        return row_windows(data, options.samples or _ROW_SAMPLES)
    return text_windows(
        module.source,
        "saliency",
        options.text,
        options.package,
        options.samples or _TEXT_SAMPLES,
        options.length,
        options.seed,
        windows_of_file,
    )


def row_windows(data: L.LightningDataModule, samples: int) -> list[Window]:
    """Training rows of a task, each with the tokens of its right answer, whose loss counts alone.

    Args:
        data: of prompts; it is set up for this.
        samples: the first so many training rows, which are drawn at random already.

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
    # Nothing will move: coordinates that every format has stand for those of the recipe.
    preparation = replace(
        Preparation(*module.parts()),
        perturber=ScalePerturber(),
        tune=["linear"],
        adapter=None,
        forward=None,
        mask=None,
    )
    return load_prepared(module.source, dtype, preparation)[0]
