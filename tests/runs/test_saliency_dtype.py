"""Which dtype the gradients of a saliency are computed in."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tiny

import zolit.runs.saliency
from zolit.calibration.options import SaliencyOptions
from zolit.calibration.saliency import compute_saliency
from zolit.calibration.sweeps import Sweeps
from zolit.calibration.text import Window
from zolit.errors import UserError
from zolit.models.source import ModelSource
from zolit.runs.saliency import gradient_dtype
from zolit.strategies import DensePerturber, NoQuantizer
from zolit.training.zero_order import ZeroOrderModule


def chosen(to: Path, model: str = "bfloat16", **options: Any) -> str:
    module = ZeroOrderModule(ModelSource("none"), NoQuantizer(), DensePerturber(), dtype=model)
    return gradient_dtype(module, SaliencyOptions(**options), to)


@pytest.mark.parametrize(("gain", "faster"), [(2.0, "float32"), (0.2, "bfloat16")])
def test_the_faster_one_of_those_that_the_model_allows(
    gain: float, faster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zolit.runs.saliency, "float32_gain", lambda: gain)
    to = tmp_path / "scores"
    assert chosen(to) == faster
    assert chosen(to, method="mean_grad_sq") == faster
    assert chosen(to, method="grasp") == "float32"
    assert chosen(to, model="float32") == "float32"
    for given in ("float32", "bfloat16"):
        assert chosen(to, dtype=given) == given


class KilledError(Exception):
    pass


def test_what_was_begun_goes_on_in_its_dtype(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "scores"

    def compute() -> None:
        model = tiny("llama").bfloat16()
        windows = [Window(torch.arange(5, 13)), Window(torch.arange(9, 15))]
        compute_saliency(model, windows, "fisher", 0.1, to, dtype=torch.bfloat16)

    monkeypatch.setattr(zolit.runs.saliency, "float32_gain", lambda: 2.0)
    with monkeypatch.context() as patch:
        patch.setattr(Sweeps, "_back", lambda self, block: (_ for _ in ()).throw(KilledError))
        with pytest.raises(KilledError):
            compute()
    assert chosen(to) == "bfloat16"
    assert chosen(to, dtype="float32") == "float32"
    compute()
    assert chosen(to) == "bfloat16"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float16"}, "got 'float16', expected one of 'float32', 'bfloat16'"),
        ({"dtype": "bfloat16", "method": "grasp"}, "got bfloat16, but grasp takes second"),
        ({"dtype": "bfloat16", "model": "float32"}, "but the model is computed in float32; leave"),
    ],
)
def test_refusals(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        chosen(tmp_path / "scores", **options)
