"""The dtype that a machine multiplies faster: measured, chosen and told."""

import math

import pytest

from zolit.training import dtype
from zolit.training.dtype import faster_dtype, float32_gain, told_dtype


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> float:
    """A machine on which float32 is as many times faster as the test says, without a GPU."""
    gain: float = request.param
    monkeypatch.setattr(dtype, "float32_gain", lambda: gain)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    return gain


def test_this_machine_is_measured_once() -> None:
    gain = float32_gain()
    assert 0 < gain < math.inf
    assert float32_gain() == gain


@pytest.mark.parametrize(
    ("measured", "name"),
    [(0.3, "bfloat16"), (1.2, "bfloat16"), (1.3, "float32")],
    indirect=["measured"],
)
def test_float32_must_be_clearly_faster(measured: float, name: str) -> None:
    assert faster_dtype() == name


@pytest.mark.parametrize("measured", [4.0], indirect=True)
def test_a_gpu_takes_bfloat16(measured: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert faster_dtype() == "bfloat16"


@pytest.mark.parametrize("measured", [2.0], indirect=True)
def test_a_slow_choice_is_told(measured: float) -> None:
    line = told_dtype("bfloat16", given=True)
    assert line is not None
    assert "2.0 times as fast" in line
    assert told_dtype("float32", given=True) is None
    assert told_dtype("float32", given=False) == (
        "dtype float32: this machine multiplies float32 2.0 times as fast as bfloat16"
    )


@pytest.mark.parametrize("measured", [1.3], indirect=True)
def test_a_small_difference_is_not(measured: float) -> None:
    assert told_dtype("bfloat16", given=True) is None
