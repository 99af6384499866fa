"""Options of Lightning's trainer that zolit does not follow, and what to set instead.

A zeroth-order step has no backward pass and is made in one process, in the dtype of the model. With
the options below a run would fail after it has begun, or nothing would change, or the result would
change silently.
"""

from collections.abc import Callable, Mapping
from typing import Any

from zolit.errors import UserError

_ONE_PROCESS = "zolit trains in one process on one device"
_NO_BACKWARD = "zolit makes no backward pass"


def refuse_trainer_options(options: Mapping[str, Any], fits: bool) -> None:
    """Refuse what a `ZeroOrderModule` cannot be trained or measured with.

    Args:
        options: of the trainer, by name; ones that are not given may be missing.
        fits: whether steps are to be made.

    Raises:
        UserError: naming the option, what it got, and what to set instead.
    """
    for name, (allowed, instead) in _RULES.items():
        value = options.get(name)
        if value is not None and not allowed(value):
            raise UserError(f"trainer.{name}: got {_told(value)}; {instead}")
    for name in _STEPS:
        if fits and _number(options.get(name)) == 0:
            raise UserError(f"trainer.{name}: got {options[name]!r}; {_NO_STEP}")


def _told(value: Any) -> str:
    class_path = getattr(value, "class_path", None)
    return repr(class_path if class_path is not None else value)


def _one_device(value: Any) -> bool:
    """Whether one device is asked for; a number of a device (``[1]``, ``"1,"``) is one."""
    if isinstance(value, str):
        named = [part for part in value.split(",") if part.strip()]
        return value in ("auto", "-1", "1") or ("," in value and len(named) == 1)
    if isinstance(value, list | tuple):
        return len(value) == 1
    return value in (1, -1)


def _one_of(*values: Any) -> Callable[[Any], bool]:
    # By type as well: True is not 1 here.
    return lambda value: any(type(value) is type(one) and value == one for one in values)


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "devices": (_one_device, f"{_ONE_PROCESS}: set trainer.devices: 1"),
    "num_nodes": (_one_of(1, "1"), f"{_ONE_PROCESS}: set trainer.num_nodes: 1"),
    "strategy": (
        _one_of("auto", "single_device"),
        f"{_ONE_PROCESS}: leave trainer.strategy out",
    ),
    "sync_batchnorm": (_one_of(False), f"{_ONE_PROCESS}: leave trainer.sync_batchnorm out"),
    "precision": (
        _one_of(32, "32", "32-true"),
        "zolit computes in the dtype of the model: leave trainer.precision out and set "
        "model.dtype: bfloat16 or float32",
    ),
    "accumulate_grad_batches": (
        _one_of(1, "1"),
        "zolit averages the losses of several batches in one step by model.micro_batches: set that "
        "instead",
    ),
    "gradient_clip_val": (
        _one_of(0, 0.0),
        f"{_NO_BACKWARD}: model.estimator: ClippedTwoPoint clips the projected gradients",
    ),
    "gradient_clip_algorithm": (
        lambda value: False,
        f"{_NO_BACKWARD}: model.estimator: ClippedTwoPoint clips the projected gradients",
    ),
    "detect_anomaly": (
        _one_of(False),
        f"{_NO_BACKWARD} in which it would look for anomalies: leave it out; queries whose loss is "
        "not finite are skipped and counted as skipped_queries",
    ),
    "inference_mode": (
        _one_of(False),
        "what evaluating keeps is written to while fitting, which inference mode forbids: leave "
        "trainer.inference_mode out, no gradient is kept in any case",
    ),
    "barebones": (
        _one_of(False),
        "without Lightning's logging there is neither metrics.csv nor a table of results: leave it "
        "out and set trainer.enable_progress_bar: false or trainer.logger: false",
    ),
    "reload_dataloaders_every_n_epochs": (
        _one_of(0, "0"),
        "a journal counts on one loader for all epochs, which shuffles anew in each: leave it out",
    ),
    "overfit_batches": (
        _one_of(0, 0.0, "0"),
        "it replaces the order of the rows, which the journal counts on: set "
        "trainer.limit_train_batches for fewer batches, or data.train_size for fewer rows",
    ),
    "model_registry": (
        lambda value: False,
        "nothing is uploaded: leave it out; zolit publish and zolit export write what others need",
    ),
}
"""For each option the values that are allowed, and the advice for any other value."""

_NO_STEP = "no step would be made: leave it out, or measure the model as it is with zolit test"
_STEPS = ("limit_train_batches", "max_epochs", "max_steps")
"""Options that leave no step to make if they are zero."""


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
