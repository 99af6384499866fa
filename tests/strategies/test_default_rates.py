"""Rates and eps that a perturber brings, on real stores."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from preparing import prepare
from tiny_models import prepared, tiny

from zolit.errors import UserError
from zolit.models.adapters import LoRA
from zolit.models.source import ModelSource
from zolit.optim import ZOSGD, ZOSignSGD
from zolit.runs.settled import settled_options
from zolit.strategies import (
    CodePerturber,
    ConstantQueries,
    DensePerturber,
    Float8,
    GaussNewton,
    Int4,
    Int8,
    LowRankPerturber,
    NoQuantizer,
    Perturber,
    Quantizer,
    ScalePerturber,
)
from zolit.strategies.perturber import base
from zolit.tensors.extent import extent, relative_direction
from zolit.tensors.reading import Reading
from zolit.tensors.update import move
from zolit.tensors.weight import PerturbedWeight, perturbed_weights
from zolit.training.zero_order import ZeroOrderModule

Parts = tuple[Quantizer, Perturber]
PARTS: dict[str, Parts] = {
    "dense": (NoQuantizer(), DensePerturber()),
    "codes of int8": (Int8(), CodePerturber()),
    "codes of int4": (Int4(group_size=32), CodePerturber()),
    "codes of float8": (Float8(), CodePerturber()),
    "codes, unit weight": (Int8(), CodePerturber(unit="weight")),
    "low rank": (Int8(), LowRankPerturber()),
    "rows": (Int4(group_size=32), ScalePerturber()),
    "groups": (Int4(group_size=32), ScalePerturber(granularity="group")),
    "absolute": (Int4(group_size=32), ScalePerturber(granularity="group", eps_unit="absolute")),
}


def weights_of(parts: Parts, **options: list[str]) -> list[PerturbedWeight]:
    quantizer, perturber = parts
    model, _, _ = prepared("llama", quantizer, perturber=perturber, **options)
    return perturbed_weights(model)


def values(weights: list[PerturbedWeight]) -> list[torch.Tensor]:
    return [weight.dense().double() for weight in weights]


@pytest.mark.parametrize("name", PARTS)
def test_the_length_of_a_direction_is_that_of_a_step(name: str) -> None:
    """The update itself, over some directions, beside what `relative_direction` foretells."""
    quantizer, perturber = PARTS[name]
    weights = weights_of(PARTS[name])
    size = sum(float(value.square().sum()) for value in values(weights))
    step = 1e-5 if name == "absolute" else 1e-3
    if name in ("codes, unit weight", "low rank"):
        step = 2e-2  # several codes, which are whole: short steps are rounding
    elif name.startswith("codes of"):
        step = 20.0
    moved, tries = 0.0, 12
    for key in range(tries):
        before = values(weights)
        move(weights, [key], [step], 7 + key, [None] * len(weights))
        moved += sum(
            float((new - old).square().sum())
            for new, old in zip(values(weights), before, strict=True)
        )
        weights = weights_of((quantizer, perturber))
    found = (moved / tries / size) ** 0.5 / step
    # Codes at the end of their range stay where they are; int4 has many of those.
    tolerance = 0.9 if name.startswith("codes of") else 0.15
    assert found == pytest.approx(relative_direction(weights), rel=tolerance)


def test_a_longer_direction_gets_a_shorter_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    all_layers = weights_of(PARTS["rows"])
    perturber = PARTS["rows"][1]
    assert sum(extent(weight).coordinates for weight in all_layers) == sum(
        weight.store.rows for weight in all_layers
    )
    # Few coordinates count as 40000.
    expected = ScalePerturber.reach["scales"] / 40_000
    assert perturber.default_lr(all_layers, 1) == pytest.approx(expected, rel=0.1)
    assert perturber.default_lr(all_layers, 8) == pytest.approx(8 * expected, rel=0.1)
    monkeypatch.setitem(base._FEWEST, "scales", 1)
    rows = sum(weight.store.rows for weight in all_layers)
    by_length = perturber.default_lr(all_layers, 1)
    assert by_length == pytest.approx(ScalePerturber.reach["scales"] / rows, rel=0.1)
    half = perturber.default_lr(all_layers[: len(all_layers) // 2], 1)
    assert half == pytest.approx(2 * by_length, rel=0.1)


def test_units_of_the_rate() -> None:
    """A rate in codes is that in weights over the squared scale."""
    in_weights = PARTS["codes, unit weight"][1].default_lr(
        weights_of(PARTS["codes, unit weight"]), 1
    )
    weights = weights_of(PARTS["codes of int8"])
    every = [(weight.store.scales()["scale"].double(), weight.store) for weight in weights]
    squares = sum(float(scale.square().sum()) * store.columns for scale, store in every)
    in_codes = PARTS["codes of int8"][1].default_lr(weights, 1)
    expected = in_weights * sum(store.rows * store.columns for _, store in every) / squares
    assert in_codes == pytest.approx(expected, rel=0.15), "both have two digits"


@pytest.mark.parametrize(
    ("quantizer", "options", "eps"),
    [
        (Int8(), {}, 1.0),
        (Int8(activations="int8"), {}, 1.4),
        (Int8(activations="int8"), {"distribution": "rademacher"}, 1.0),
        (Int4(group_size=32), {}, 0.1),
        (Float8(), {}, 2.0),
        (Int8(), {"unit": "weight"}, 1e-3),
        (Int8(), {"eps": 3.0}, 3.0),
    ],
)
def test_eps_of_a_format(quantizer: Quantizer, options: dict, eps: float) -> None:
    perturber = CodePerturber(**options)
    perturber.check(quantizer)
    weights_of((quantizer, perturber))
    assert perturber.eps == pytest.approx(eps)
    assert perturber.eps_given == ("eps" in options)
    CodePerturber(**{**options, "eps": perturber.eps}).check(quantizer)


@pytest.mark.parametrize(
    ("quantizer", "perturber", "tune", "eps"),
    [
        (NoQuantizer(), DensePerturber(), ["linear"], 1e-3),
        (Int8(), DensePerturber(), ["adapter"], 1e-2),
        (Int8(), CodePerturber(), ["adapter"], 10.0),  # times float_unit, 1e-3
        (Int8(), CodePerturber(), ["linear", "adapter"], 1.0),
    ],
)
def test_eps_of_an_adapter(
    quantizer: Quantizer, perturber: Perturber, tune: list[str], eps: float
) -> None:
    adapter = LoRA(targets=["q_proj"]) if "adapter" in tune else None
    prepare(tiny("llama"), quantizer, perturber, Reading(perturber.direction()), tune, adapter)
    assert perturber.eps == pytest.approx(eps)


def test_eps_is_chosen_anew_for_another_model() -> None:
    perturber = CodePerturber()
    for quantizer, eps in ((Int8(), 1.0), (Int4(group_size=32), 0.1), (Int8(), 1.0)):
        weights_of((quantizer, perturber))
        assert perturber.eps == pytest.approx(eps)


def module(**options: object) -> ZeroOrderModule:
    settings = {"quantizer": Int4(group_size=32), "perturber": ScalePerturber()}
    settings |= {"dtype": "float32", "kernels": "reference", **options}
    one = ZeroOrderModule(ModelSource("unused"), **settings)  # type: ignore[arg-type]
    one.adopt(tiny("llama"))
    return one


def test_an_optimizer_without_a_rate_gets_the_perturbers() -> None:
    one = module(query_scheduler=ConstantQueries(4))
    optimizer = one.configure_optimizers()
    assert one.default_lr == optimizer.param_groups[0]["lr"]
    assert one.default_lr == one.perturber.default_lr(one.weights, 4)
    move(one.weights, [1], [0.5], 2, [None] * len(one.weights))
    assert one.configure_optimizers().param_groups[0]["lr"] == one.default_lr, "chosen once"
    assert settled_options(one) == {"model.optimizer.init_args.lr": one.default_lr}
    given = module(optimizer=lambda params: ZOSGD(params, lr=0.25))
    assert given.configure_optimizers().param_groups[0]["lr"] == 0.25
    assert settled_options(given) == {}


def test_an_estimator_can_bring_the_rate() -> None:
    one = module(estimator=GaussNewton(), query_scheduler=ConstantQueries(4))
    assert one.configure_optimizers().param_groups[0]["lr"] == 1.0


def test_signs_need_a_rate() -> None:
    one = module(optimizer=lambda params: ZOSignSGD(params))
    with pytest.raises(UserError, match=r"ZOSignSGD needs an lr, got none.*try 0"):
        one.configure_optimizers()
