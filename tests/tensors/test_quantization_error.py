"""Error feedback that starts from the quantization error follows the weight before quantization."""

import pytest
import torch
from numpy_noise import control_words

from zolit.coordinates import Elements, Site
from zolit.gradient import ProjectedGradient
from zolit.noise import Direction, coordinates
from zolit.optim import ZOSGD
from zolit.strategies import Float8, Int4, Int8, Quantizer
from zolit.tensors.feedback import Feedback, quantization_error
from zolit.tensors.reading import Reading
from zolit.tensors.update import move
from zolit.tensors.weight import PerturbedWeight

ROWS, COLUMNS = 48, 128
FORMATS = [Int8(), Int8(group_size=32), Int4(64), Int4(32, symmetric=True), Float8()]


def weight() -> torch.Tensor:
    return torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(3)) * 0.1


@pytest.mark.parametrize("quantizer", FORMATS, ids=lambda q: type(q).__name__)
def test_decoded_weight_plus_error_is_the_weight(quantizer: Quantizer) -> None:
    store = quantizer.store(weight(), "w")
    decoded = torch.empty(ROWS, COLUMNS)
    store.read(slice(0, ROWS), [decoded], None, "reference")
    scale = store.scale.repeat_interleave(COLUMNS // store.groups, dim=1)
    error = quantization_error(store, weight()).float()[:, : store.columns]
    # float16 keeps eleven bits of an error of at most half a code (16 scales for float8).
    torch.testing.assert_close(
        decoded[:, : store.columns] + scale * error,
        weight(),
        rtol=0,
        atol=float(scale.max()) * 1e-2,
    )


@pytest.mark.parametrize("quantizer", FORMATS[:4], ids=lambda q: type(q).__name__)
def test_codes_follow_the_moved_weight_within_half_a_code(quantizer: Quantizer) -> None:
    """Forty moves of a fiftieth of a code, most of which change no code by themselves."""
    direction = Direction("rademacher")
    store = quantizer.store(weight(), "w")
    error = quantization_error(store, weight())
    reading = Reading(direction, "reference")
    shape = torch.Size((ROWS, COLUMNS))
    parameter = PerturbedWeight(
        store, Site(0, Elements((1.0, 0.0))), reading, "w", shape, torch.float32
    )
    moved = torch.zeros(ROWS, COLUMNS)
    rows = torch.arange(ROWS, dtype=torch.int32)
    for step in range(40):
        words = torch.tensor(control_words(step, 0), dtype=torch.int32)
        moved += 0.02 * coordinates(direction, words, rows, 1, COLUMNS // 32).flatten(1)
        move([parameter], [step], [0.02], 7, [Feedback(error, 1.0)])
    scale = store.scale.repeat_interleave(COLUMNS // store.groups, dim=1)
    distance = (parameter.dense() - (weight() + moved * scale)) / scale
    inside = distance.abs() <= 0.5 + 40 * 2.0**-11  # forty roundings of the residual to float16
    # Codes at the end of their range cannot follow (range gating).
    low, high = (-8, 7) if isinstance(quantizer, Int4) else (-128, 127)
    codes = store.codes() if isinstance(quantizer, Int4) else store.codes
    at_the_end = (codes <= low + 1) | (codes >= high - 1)
    assert (inside | at_the_end).all()


def test_optimizer_starts_from_the_error_and_takes_it_over() -> None:
    store = Int8().store(weight(), "w")
    store.error = quantization_error(store, weight())
    kept = store.error.clone()
    shape = torch.Size((ROWS, COLUMNS))
    reading = Reading(Direction("rademacher"), "reference")
    site = Site(0, Elements((1.0, 0.0)))
    parameter = torch.nn.Parameter(
        PerturbedWeight(store, site, reading, "w", shape, torch.float32), requires_grad=False
    )
    optimizer = ZOSGD([parameter], lr=1e-12, error_feedback=True)
    optimizer.step(gradient=ProjectedGradient(torch.tensor([5]), torch.tensor([1.0]), 9))
    assert store.error is None
    jumped = (optimizer.state[parameter]["residual"] - kept).float()
    # A step of 1e-12 changes only codes that stood exactly between two.
    assert set(jumped.abs().unique().tolist()) <= {0.0, 1.0}
    assert (jumped != 0).float().mean() < 1e-3
