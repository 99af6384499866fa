"""Refuses, before a run begins, callbacks and figures that would stop it later."""

from collections.abc import Iterable

from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from zolit.caller import option
from zolit.errors import UserError
from zolit.evaluations import Evaluation

_NO_GRADIENT = "it works on gradients, which zolit does not compute; leave it out"
_MOVES_WEIGHTS = (
    "it moves or replaces weights outside of the optimizer's step, which no journal could replay; "
    "leave it out"
)
_UNFIT = {
    "BackboneFinetuning": "choose what moves by tune",
    "BaseFinetuning": "choose what moves by tune",
    "BatchSizeFinder": "zolit estimate tells what memory a batch size needs; set batch_size",
    "GradientAccumulationScheduler": "set micro_batches of the module instead",
    "LearningRateFinder": _NO_GRADIENT,
    "ModelPruning": _MOVES_WEIGHTS,
    "SpikeDetection": _NO_GRADIENT,
    "StochasticWeightAveraging": _MOVES_WEIGHTS,
    "WeightAveraging": _MOVES_WEIGHTS,
}
"""Callbacks of Lightning that a zeroth-order run cannot have, and what to do instead."""

_OWN_STEPS = "it needs steps that Lightning makes, and the module makes its own; leave it out"
_LOST = (
    "it moves or replaces weights outside of the optimizer's step, which a resumed run would lose; "
    "leave it out"
)
_UNFIT_FIRST = {
    **_UNFIT,
    "LearningRateFinder": _OWN_STEPS,
    "ModelPruning": _LOST,
    "SpikeDetection": _OWN_STEPS,
    "StochasticWeightAveraging": _LOST,
    "WeightAveraging": _LOST,
}
"""The same for a first-order run."""


def check_best_by(best_by: str | None, evaluation: Evaluation | None) -> None:
    """Refuse a figure for the best checkpoint that no validation has.

    Args:
        best_by: as given; None for the figure that the evaluation names.
        evaluation: of the module; None if the module has none.

    Raises:
        UserError: naming the figures.
    """
    if best_by is None or evaluation is None:
        return
    known = [f"val_{name}" for name in evaluation.names]
    if best_by.partition("/")[0] not in known:  # of one of several loaders
        raise UserError(
            f"{option('run.best_by')}: got {best_by!r}, expected one of {', '.join(known)}"
        )


def check_callbacks(
    callbacks: Iterable[Callback], figures: Iterable[str], first: bool = False
) -> None:
    """Refuse callbacks that one of zolit's modules cannot be trained with.

    Args:
        callbacks: the user's.
        figures: that the module logs while fitting.
        first: whether its steps are along gradients (`FirstOrderModule`).

    Raises:
        UserError: naming the callback and what to do instead.
    """
    given, known = list(callbacks), list(figures)
    for one in given:
        for name, instead in (_UNFIT_FIRST if first else _UNFIT).items():
            if isinstance(one, getattr(lightning_callbacks, name)):
                raise UserError(
                    f"{option('trainer.callbacks')}: got {type(one).__name__}; {instead}"
                )
    if any(type(one).__module__.partition(".")[0] not in ("lightning", "zolit") for one in given):
        return  # a callback of the user's own may log further figures
    for one in given:
        if isinstance(one, EarlyStopping | ModelCheckpoint) and one.monitor is not None:
            allowed = known if isinstance(one, EarlyStopping) else [*known, "epoch", "step"]
            if one.monitor not in allowed:
                raise UserError(
                    f"{option('trainer.callbacks')}: {type(one).__name__} got monitor "
                    f"{one.monitor!r}, expected a figure that is logged: {', '.join(allowed)}"
                )
