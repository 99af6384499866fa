"""Products of the Hessian with the gradient block by block, against those of the whole model."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from preparing import prepare
from test_text import windows_of
from tiny_models import tiny
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from zolit.calibration.curvature import BlockCurvature
from zolit.calibration.saliency import compute_saliency
from zolit.calibration.saliency_file import Saliency
from zolit.errors import UserError
from zolit.strategies import Int8, ScalePerturber
from zolit.tensors.reading import Reading
from zolit.tensors.weight import PerturbedWeight

WINDOWS = windows_of(3, 12)


def scored(model: nn.Module, to: Path, **options: Any) -> Saliency:
    return compute_saliency(model, WINDOWS, "grasp", options.pop("keep", 1.0), to, **options)


def whole_scores(model: nn.Module, paths: list[str]) -> dict[str, Tensor]:
    """``w * (H g)`` of the mean loss of the windows, by `hvp` on the whole model in float64."""
    copy = deepcopy(model).double()
    weights = tuple(copy.get_parameter(path).detach() for path in paths)

    def loss(*values: Tensor) -> Tensor:
        each = []
        for window in WINDOWS:
            given = dict(zip(paths, values, strict=True))
            options = {"input_ids": window.ids.unsqueeze(0), "use_cache": False}
            logits = functional_call(copy, given, (), options).logits[0]
            each.append(F.cross_entropy(logits[window.start - 1 : -1], window.ids[window.start :]))
        return torch.stack(each).mean()

    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        leaves = tuple(one.requires_grad_() for one in weights)
        gradient = torch.autograd.grad(loss(*leaves), leaves)
        _, products = torch.autograd.functional.hvp(loss, weights, gradient)
    return {
        path: (weight * product).detach()
        for path, weight, product in zip(paths, weights, products, strict=True)
    }


def close(found: Saliency, wanted: dict[str, Tensor]) -> None:
    for path, one in wanted.items():
        got = found.all_scores(path).double()
        # The file has bfloat16, which rounds by 2^-9 at most.
        assert (got - one).abs().max() <= 5e-3 * one.abs().max(), path
        assert (got - one).norm() <= 4e-3 * one.norm(), path


@pytest.mark.parametrize("name", ["llama", "gemma3", "opt"])
def test_scores_are_those_of_the_whole_model(name: str, tmp_path: Path) -> None:
    model = tiny(name)
    found = scored(model, tmp_path / "scores")
    assert found.method == "grasp"
    close(found, whole_scores(model, found.paths))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["scores"]


def test_float32_scores_are_exact_to_their_rounding(tmp_path: Path) -> None:
    """The file keeps float32 of a part of the scores, the highest ones: both signs occur."""
    model = tiny("llama")
    found = scored(model, tmp_path / "scores", keep=0.7)
    for path, wanted in whole_scores(model, found.paths).items():
        positions, scores = found.scores(path)
        assert scores.min() < 0 < scores.max()
        apart = (scores.double() - wanted.flatten()[positions]).norm() / wanted.norm()
        assert apart < 1e-4, path
        assert torch.equal(found.top(path, 3), wanted.flatten().topk(3).indices)


def test_stored_weights_are_read_as_they_are_stored(tmp_path: Path) -> None:
    model, plain, perturber = tiny("llama"), tiny("llama"), ScalePerturber()
    prepare(model, Int8(), perturber, Reading(perturber.direction(), "reference"), ["linear"])
    for path, parameter in model.named_parameters():
        if isinstance(parameter, PerturbedWeight):
            plain.get_parameter(path).copy_(parameter.dense())
    found = scored(model, tmp_path / "scores")
    close(found, whole_scores(plain, found.paths))


def test_a_bfloat16_model(tmp_path: Path) -> None:
    model = tiny("llama").bfloat16()
    found = scored(model, tmp_path / "scores")
    for path, wanted in whole_scores(model, found.paths).items():
        assert (found.all_scores(path).double() - wanted).norm() < 0.2 * wanted.norm(), path


class KilledError(Exception):
    pass


@pytest.mark.parametrize("stop", ["tangent", "back"])
def test_a_killed_run_goes_on_at_its_block(
    stop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("llama")
    wanted = scored(model, tmp_path / "wanted")
    inner, calls = getattr(BlockCurvature, stop), []

    def counted(self: Any, *args: Any) -> Any:
        calls.append(args)
        if len(calls) == limit:
            raise KilledError
        return inner(self, *args)

    monkeypatch.setattr(BlockCurvature, stop, counted)
    limit = 5
    with pytest.raises(KilledError):
        scored(model, tmp_path / "found")
    limit, before = -1, len(calls)
    found = scored(model, tmp_path / "found")
    assert len(calls) - before == 3  # the block that was left, on three windows
    assert found.file.read_bytes() == wanted.file.read_bytes()


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    scored(tiny("llama"), tmp_path / "scores", report=lambda *numbers: told.append(numbers))
    assert told == [(number, 8) for number in range(9)]


def test_a_block_without_second_derivatives(tmp_path: Path) -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 1.0

        @staticmethod
        def backward(ctx: Any, slope: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                raise RuntimeError("derivative for once is not implemented")
            return slope

    model = tiny("llama")
    model.model.layers[1].register_forward_hook(lambda block, args, out: Once.apply(out))
    with pytest.raises(UserError, match=r"grasp takes second derivatives, which Llama"):
        scored(model, tmp_path / "scores")
