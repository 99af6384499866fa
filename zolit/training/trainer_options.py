"""Options of Lightning's trainer that zolit does not follow, and what to set instead.

A step is made by the module itself, in one process and in the dtype of the model, and a
zeroth-order step has no backward pass. With the options below a run would fail after it has begun,
or nothing would change, or the result would change silently.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from zolit.caller import by_caller, option, setting
from zolit.errors import UserError


def refuse_trainer_options(options: Mapping[str, Any], fits: bool, first: bool = False) -> None:
    """Refuse what one of zolit's modules cannot be trained or measured with.

    Args:
        options: of the trainer, by name; ones that are not given may be missing.
        fits: whether steps are to be made.
        first: whether they are along gradients (`FirstOrderModule`).

    Raises:
        UserError: naming the option, what it got, and what to set instead.
    """
    for name, rule in (_RULES | _FIRST_ORDER if first else _RULES).items():
        value = options.get(name)
        if value is not None and not rule.allows(value):
            got = f"{option(f'trainer.{name}')}: got {_told(value)}"
            raise UserError(f"{got}; {rule.reason}: {rule.instead()}")
    for name in _STEPS:
        if fits and _number(options.get(name)) == 0:
            measure = by_caller("zolit test", "Trainer.test")
            raise UserError(
                f"{option(f'trainer.{name}')}: got {options[name]!r}; no step would be made: leave "
                f"it out, or measure the model as it is with {measure}"
            )


def _told(value: Any) -> str:
    written = isinstance(value, str | int | float | list | tuple)
    return repr(value) if written else type(value).__name__


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


class _Rule(NamedTuple):
    """One option of the trainer.

    Attributes:
        allows: whether a value of it is allowed.
        reason: why no other value is.
        instead: what to do, in words for whoever reads the message.
    """

    allows: Callable[[Any], bool]
    reason: str
    instead: Callable[[], str]


def _leave_out(more: str = "") -> Callable[[], str]:
    return lambda: f"leave it out{more}"


def _set(key: str, value: object) -> Callable[[], str]:
    return lambda: f"set {setting(key, value)}"


def _clipped() -> str:
    clips = by_caller("model.estimator: ClippedTwoPoint", "estimator=zolit.ClippedTwoPoint()")
    return f"{clips} clips the projected gradients"


_ONE_PROCESS = "zolit trains in one process on one device"
_NO_BACKWARD = "zolit makes no backward pass"

_RULES: dict[str, _Rule] = {
    "devices": _Rule(_one_device, _ONE_PROCESS, _set("trainer.devices", 1)),
    "num_nodes": _Rule(_one_of(1, "1"), _ONE_PROCESS, _set("trainer.num_nodes", 1)),
    "strategy": _Rule(_one_of("auto", "single_device"), _ONE_PROCESS, _leave_out()),
    "sync_batchnorm": _Rule(_one_of(False), _ONE_PROCESS, _leave_out()),
    "precision": _Rule(
        _one_of(32, "32", "32-true"),
        "zolit computes in the dtype of the model",
        lambda: f"leave it out and set {setting('model.dtype', 'bfloat16')} or float32",
    ),
    "accumulate_grad_batches": _Rule(
        _one_of(1, "1"),
        "zolit averages the losses of several batches in one step",
        lambda: f"set {option('model.micro_batches')} instead",
    ),
    "gradient_clip_val": _Rule(_one_of(0, 0.0), _NO_BACKWARD, _clipped),
    "gradient_clip_algorithm": _Rule(lambda value: False, _NO_BACKWARD, _clipped),
    "detect_anomaly": _Rule(
        _one_of(False),
        f"{_NO_BACKWARD} in which it would look for anomalies",
        _leave_out("; queries whose loss is not finite are skipped and counted as skipped_queries"),
    ),
    "inference_mode": _Rule(
        _one_of(False),
        "what evaluating keeps is written to while fitting, which inference mode forbids",
        _leave_out(", no gradient is kept in any case"),
    ),
    "barebones": _Rule(
        _one_of(False),
        "without Lightning's logging there is neither metrics.csv nor a table of results",
        lambda: (
            f"leave it out and set {setting('trainer.enable_progress_bar', False)} or "
            f"{setting('trainer.logger', False)}"
        ),
    ),
    "reload_dataloaders_every_n_epochs": _Rule(
        _one_of(0, "0"),
        "a journal counts on one loader for all epochs, which shuffles anew in each",
        _leave_out(),
    ),
    "overfit_batches": _Rule(
        _one_of(0, 0.0, "0"),
        "it replaces the order of the rows, which the journal counts on",
        lambda: (
            f"set {option('trainer.limit_train_batches')} for fewer batches, or "
            f"{option('data.train_size')} for fewer rows"
        ),
    ),
    "val_check_interval": _Rule(
        lambda value: (number := _number(value)) is None or number > 0,
        "validations come after a number of batches, or after a share of an epoch",
        lambda: f"leave it out, or set {setting('trainer.limit_val_batches', 0)} for no validation",
    ),
    "model_registry": _Rule(
        lambda value: False,
        "nothing is uploaded",
        _leave_out("; zolit publish and zolit export write what others need"),
    ),
}
"""By the option's name."""

_OWN_STEPS = "the module makes its steps itself"


def _clip() -> str:
    return f"set {option('model.gradient_clip')}, a norm, instead"


_FIRST_ORDER: dict[str, _Rule] = {
    "gradient_clip_val": _Rule(_one_of(0, 0.0), _OWN_STEPS, _clip),
    "gradient_clip_algorithm": _Rule(lambda value: False, _OWN_STEPS, _clip),
    "detect_anomaly": _Rule(_one_of(False, True), "", _leave_out()),
    "reload_dataloaders_every_n_epochs": _Rule(
        _one_of(0, "0"),
        "a resumed run counts on one loader for all epochs, which shuffles anew in each",
        _leave_out(),
    ),
    "overfit_batches": _RULES["overfit_batches"]._replace(
        reason="it replaces the order of the rows, which a resumed run counts on"
    ),
}
"""What is otherwise for `FirstOrderModule`."""

_STEPS = ("limit_train_batches", "max_epochs", "max_steps")
"""Options that leave no step to make if they are zero."""


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
