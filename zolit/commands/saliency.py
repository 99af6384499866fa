"""``zolit saliency``: how much a model's loss depends on each weight, in a file."""

from pathlib import Path

import lightning as L

from zolit.calibration.options import SaliencyOptions
from zolit.calibration.saliency import check_options
from zolit.errors import UserError
from zolit.runs.saliency import find_windows, kept_fraction, score
from zolit.training.module import TuningModule


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
    file, keep = Path(to), kept_fraction(options)
    check_options(options.method, keep, file)
    windows = find_windows(module, data, options)
    made = score(module, windows, options, file)
    total = sum(rows * columns for rows, columns in made.facts.shapes.values())
    print(
        f"{file}: {made.method} scores of {len(made.paths)} matrices with {total:,} entries, of "
        f"which a fraction of {keep:g} is kept, from {len(windows)} windows of "
        f"{made.facts.length} tokens at most"
    )
