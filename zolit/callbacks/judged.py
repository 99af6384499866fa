"""Which figures a run is judged by, for modules with an `Evaluation` and for others."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import lightning as L

from zolit.evaluations import Evaluation, Mode

VAL, TEST = "val_", "test_"

_Figure = TypeVar("_Figure")


def evaluation_of(module: L.LightningModule) -> Evaluation | None:
    """The evaluation of a module; None for modules without one, which are not zolit's."""
    found = getattr(module, "evaluation", None)
    return found if isinstance(found, Evaluation) else None


def validation_figures(metrics: Mapping[str, _Figure]) -> dict[str, _Figure]:
    """The figures of a validation among all that are logged, in their order.

    With several validation loaders only the means over them.
    """
    return {n: v for n, v in metrics.items() if n.startswith(VAL) and "/" not in n}


def primary(evaluation: Evaluation | None, figures: Iterable[str]) -> str | None:
    """The figure that progress lines and curves show, without the name of its stage.

    Args:
        evaluation: of the module. Without one it is the first figure that is no loss.
        figures: names of all figures of a validation or test, with the name of their stage.
    """
    if evaluation is not None:
        return evaluation.primary
    names = [name.partition("_")[2] for name in figures]
    return next((name for name in names if name != "loss"), names[0] if names else None)


def judged(evaluation: Evaluation | None, figures: Iterable[str]) -> dict[str, Any]:
    """What a run is judged by, as summary.json keeps it for those who compare runs.

    Args:
        evaluation: of the module.
        figures: names of the figures of its validations and tests, with the name of their stage.

    Returns:
        ``primary``, and ``modes``: of each figure, without its stage, ``min`` or ``max``.
    """
    staged = [name for name in figures if name.startswith((VAL, TEST)) and "/" not in name]
    plain = dict.fromkeys(name.partition("_")[2] for name in staged)
    modes = {name: direction(evaluation, name) for name in plain}
    return {"primary": primary(evaluation, staged), "modes": modes}


def chooser(evaluation: Evaluation | None) -> str:
    """The figure of validation that chooses the best checkpoint, if the user names none."""
    if evaluation is None:
        return f"{VAL}loss"
    return f"{VAL}{evaluation.chooser or evaluation.primary}"


def direction(evaluation: Evaluation | None, figure: str) -> Mode:
    """Whether a figure is better when it is smaller or larger.

    Args:
        evaluation: of the module. Without one a loss is minimized and anything else maximized.
        figure: its name, with the name of its stage.
    """
    if evaluation is not None:
        return evaluation.direction(figure.removeprefix(VAL).partition("/")[0])
    return "min" if figure.endswith("loss") else "max"
