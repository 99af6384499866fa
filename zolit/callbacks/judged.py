"""Which figures of a validation count, for modules with an `Evaluation` and for others."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import lightning as L

from zolit.evaluations import Evaluation, Mode

VAL = "val_"

_Figure = TypeVar("_Figure")


def evaluation_of(module: L.LightningModule) -> Evaluation | None:
    """What a module reports; None if it does not say, as modules that are not zolit's."""
    found = getattr(module, "evaluation", None)
    return found if isinstance(found, Evaluation) else None


def validation_figures(metrics: Mapping[str, _Figure]) -> dict[str, _Figure]:
    """Figures of a validation, among others that are logged, in their order; of several loaders
    their means."""
    return {n: v for n, v in metrics.items() if n.startswith(VAL) and "/" not in n}


def primary(evaluation: Evaluation | None, figures: Iterable[str]) -> str | None:
    """The figure that a run is told and drawn by, without its stage.

    Args:
        evaluation: of the module. Without one it is the first figure that is no loss.
        figures: of a validation or test that are known, with their stage.
    """
    if evaluation is not None:
        return evaluation.primary
    names = [name.partition("_")[2] for name in figures]
    return next((name for name in names if name != "loss"), names[0] if names else None)


def chooser(evaluation: Evaluation | None) -> str:
    """The figure of validation that the best checkpoint is chosen by, where none is asked for."""
    if evaluation is None:
        return f"{VAL}loss"
    return f"{VAL}{evaluation.chooser or evaluation.primary}"


def direction(evaluation: Evaluation | None, figure: str) -> Mode:
    """Whether a figure is better when it is smaller or larger.

    Args:
        evaluation: of the module. Without one a loss is minimized and anything else maximized.
        figure: with its stage.
    """
    if evaluation is not None:
        return evaluation.direction(figure.removeprefix(VAL).partition("/")[0])
    return "min" if figure.endswith("loss") else "max"
