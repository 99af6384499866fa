"""Each option of Lightning's trainer that cannot be followed is refused by name."""

from typing import Any

import pytest

from zolit.caller import as_command
from zolit.errors import UserError
from zolit.training.trainer_options import refuse_trainer_options

REFUSED: list[tuple[str, Any, str]] = [
    ("devices", 2, "one process"),
    ("devices", "2", "one process"),
    ("devices", [0, 1], "one process"),
    ("devices", "0,1", "one process"),
    ("num_nodes", 2, "one process"),
    ("strategy", "ddp", "one process"),
    ("strategy", "fsdp", "one process"),
    ("sync_batchnorm", True, "one process"),
    ("precision", "16-mixed", "dtype"),
    ("precision", "16-true", "dtype"),
    ("precision", "bf16-mixed", "dtype"),
    ("precision", "bf16-true", "dtype"),
    ("precision", 16, "dtype"),
    ("precision", "64-true", "dtype"),
    ("accumulate_grad_batches", 4, "micro_batches"),
    ("gradient_clip_val", 1.0, "ClippedTwoPoint"),
    ("gradient_clip_algorithm", "norm", "ClippedTwoPoint"),
    ("detect_anomaly", True, "no backward pass"),
    ("inference_mode", True, "inference mode forbids"),
    ("barebones", True, "metrics.csv"),
    ("reload_dataloaders_every_n_epochs", 1, "journal"),
    ("overfit_batches", 2, "limit_train_batches"),
    ("model_registry", "a/b", "zolit publish"),
    ("val_check_interval", 0, "limit_val_batches"),
    ("val_check_interval", -1, "limit_val_batches"),
    ("limit_train_batches", 0, "no step"),
    ("max_steps", 0, "no step"),
    ("max_epochs", 0, "no step"),
]
ALLOWED: dict[str, list[Any]] = {
    "devices": [None, 1, "1", "auto", -1, [0], "1,"],
    "num_nodes": [1],
    "strategy": ["auto", "single_device"],
    "precision": [None, 32, "32", "32-true"],
    "accumulate_grad_batches": [1],
    "gradient_clip_val": [None, 0.0],
    "limit_train_batches": [None, 1, 0.5],
    "max_steps": [-1, 3, "3"],
    "val_check_interval": [None, 0.5, 4, "00:01:00"],
}


@pytest.mark.parametrize(("name", "value", "instead"), REFUSED)
def test_refused(name: str, value: Any, instead: str) -> None:
    with pytest.raises(UserError, match=rf"^{name}: got .*{instead}") as said:
        refuse_trainer_options({name: value}, fits=True)
    assert "trainer." not in str(said.value)
    assert "model." not in str(said.value)
    with as_command(), pytest.raises(UserError, match=rf"^trainer\.{name}: got .*{instead}"):
        refuse_trainer_options({name: value}, fits=True)


@pytest.mark.parametrize("name", ALLOWED)
def test_allowed(name: str) -> None:
    for value in ALLOWED[name]:
        refuse_trainer_options({name: value}, fits=True)


def test_no_step_is_refused_only_where_steps_are_asked_for() -> None:
    refuse_trainer_options({"max_steps": 0, "limit_train_batches": 0}, fits=False)


def test_what_to_set_instead_is_told_as_the_reader_writes_it() -> None:
    python = "set devices=1", "set dtype='bfloat16' or float32", "estimator=zolit.ClippedTwoPoint()"
    recipe = "set trainer.devices: 1", "set model.dtype: bfloat16 or float32", "ClippedTwoPoint"
    values = {"devices": 2, "precision": 16, "gradient_clip_val": 1.0}
    for (name, value), here, there in zip(values.items(), python, recipe, strict=True):
        with pytest.raises(UserError) as said:
            refuse_trainer_options({name: value}, fits=True)
        assert here in str(said.value)
        with as_command(), pytest.raises(UserError) as said:
            refuse_trainer_options({name: value}, fits=True)
        assert there in str(said.value)
