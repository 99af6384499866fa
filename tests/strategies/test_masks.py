"""Masks that choose single coordinates, beside numpy; what they refuse; that they answer alike."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from tiny_models import prepared
from tiny_runs import module

from zolit.checkpoints import start
from zolit.checkpoints.tensors import fingerprint, weight_tensors
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.formats.bit_planes import BitPlanesWeight
from zolit.formats.dense import DenseWeight
from zolit.formats.permuted import PermutedWeight
from zolit.models.prepare import Preparation
from zolit.strategies import (
    DensePerturber,
    Int4,
    Int8,
    LowRankPerturber,
    Magnitude,
    NoQuantizer,
    Outliers,
    ScalePerturber,
)
from zolit.strategies.mask import Candidate, outliers, scored
from zolit.supports import Bits, Support
from zolit.tensors.update import move
from zolit.tensors.weight import perturbed_weights


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a matrix takes several."""
    for where in (scored, outliers):
        monkeypatch.setattr(where, "_CHUNK_ELEMENTS", 700)


def floats(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def ask(mask: Any, store: StoredWeight, shape: tuple[int, int] | None = None) -> Support:
    one = Candidate("w", store, 0, 1, shape or (store.rows, store.columns))
    [support] = mask.choose_all([one])
    return support


def largest(scores: np.ndarray, count: int) -> np.ndarray:
    order = np.argsort(-scores.ravel(), kind="stable")
    found = np.zeros(scores.size, dtype=bool)
    found[order[:count]] = True
    return found.reshape(scores.shape)


def size_of(store: StoredWeight) -> np.ndarray:
    return store.decoded(slice(0, store.rows)).abs().numpy()


@pytest.mark.parametrize("which", ["largest", "smallest"])
@pytest.mark.parametrize("quantizer", [NoQuantizer(), Int8(), Int4(32)])
def test_magnitude_of_each_matrix_and_row(quantizer: Any, which: str) -> None:
    """int4 codes tie often: the count is exact, of equal ones the first move."""
    store = quantizer.store(floats(30, 96), "w")
    sign = 1.0 if which == "largest" else -1.0
    support = ask(Magnitude(0.123, which), store)
    assert support.count == int(30 * 96 * 0.123)
    assert np.array_equal(support.chosen().numpy(), largest(sign * size_of(store), support.count))
    assert torch.equal(Magnitude(0.123, which).choose("w", store, 0, 1).bits(), support.bits())
    by_row = ask(Magnitude(0.123, which, "row"), store)
    wanted = [largest(sign * row, int(96 * 0.123)) for row in size_of(store)]
    assert np.array_equal(by_row.chosen().numpy(), np.stack(wanted))


def test_everything_moves_at_1() -> None:
    for per in ("matrix", "row"):
        assert ask(Magnitude(1.0, per=per), DenseWeight(floats(5, 40))).density == 1.0


def test_a_vector_is_one_row() -> None:
    store = DenseWeight(floats(1, 40))
    for per in ("matrix", "row"):
        found = ask(Magnitude(0.1, per=per), store).chosen().numpy()
        assert np.array_equal(found, largest(size_of(store), 4))


def test_magnitude_over_the_whole_model(caplog: pytest.LogCaptureFixture) -> None:
    stores = [DenseWeight(scale * floats(20, 50, seed)) for seed, scale in enumerate((1, 0.1, 1.1))]
    asked = [Candidate(f"w{n}", one, 0, 1, (20, 50)) for n, one in enumerate(stores)]
    found = Magnitude(0.05, per="model").choose_all(asked)
    wanted = largest(np.stack([size_of(one) for one in stores]), 150)
    for support, part in zip(found, wanted, strict=True):
        assert np.array_equal(support.chosen().numpy(), part)
    assert "Magnitude moves 150 of the model's 3000 coordinates, and none of 1 weights (w1)" in (
        caplog.text
    )
    with pytest.raises(UserError, match="asked for w0 alone; use per: matrix"):
        Magnitude(0.05, per="model").choose("w0", stores[0], 0, 1)


def test_scales_are_chosen_by_the_sum_of_their_weights() -> None:
    store = Int4(32).store(floats(40, 96), "w")
    sizes = size_of(store).astype(np.float64)
    groups = sizes.reshape(40, 3, 32).sum(2).astype(np.float32)
    each = ask(Magnitude(0.2), store, (40, 3))
    assert np.array_equal(each.chosen().numpy(), largest(groups, 24))
    rows = ask(Magnitude(0.2), store, (1, 40))
    assert np.array_equal(rows.chosen().numpy(), largest(sizes.sum(1)[None].astype(np.float32), 8))
    by_row = ask(Magnitude(0.4, per="row"), store, (40, 3))
    assert np.array_equal(by_row.chosen().sum(1).numpy(), np.ones(40))
    assert ask(Magnitude(0.2, per="row"), store, (1, 40)).count == 8


def test_bits_of_permuted_columns_lie_as_they_are_stored() -> None:
    codes = torch.randint(0, 8, (6, 64), generator=torch.Generator().manual_seed(1))
    inner = BitPlanesWeight.of_codes(codes, 3, 0.5 + torch.rand(6, 2), None)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(2))
    store = PermutedWeight(inner, order)
    support = ask(Magnitude(0.25), store)
    assert torch.equal(support.bits(), ask(Magnitude(0.25), inner).bits())
    sizes = store.decoded(slice(0, 6)).abs()
    assert torch.equal(store.in_stored_order(sizes), inner.decoded(slice(0, 6)).abs())


@pytest.mark.parametrize("reach", [0.5, 1.8])
def test_outliers_lie_beyond_the_range_of_their_matrix(reach: float) -> None:
    value = floats(30, 96) + 0.2
    w = value.double().numpy()
    low, high = np.quantile(w, 0.25), np.quantile(w, 0.75)
    bound = max(abs(low - reach * (high - low)), abs(high + reach * (high - low)))
    support = Outliers(reach).choose("w", DenseWeight(value), 0, 1)
    assert np.array_equal(support.chosen().numpy(), np.abs(w) >= bound)
    assert 0 < support.density < (0.5 if reach < 1 else 0.02)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Magnitude(0.0), r"fraction must be in \(0, 1\], got 0.0"),
        (lambda: Magnitude(1.5), r"fraction must be in \(0, 1\], got 1.5"),
        (lambda: Magnitude(float("nan")), r"fraction must be in \(0, 1\], got nan"),
        (lambda: Outliers(0.0), "reach must be a positive number, got 0.0"),
        (lambda: ask(Magnitude(1e-3), DenseWeight(floats(3, 40))), "120 coordinates of w leaves"),
        (
            lambda: ask(Magnitude(0.02, per="row"), DenseWeight(floats(3, 40))),
            "40 coordinates of a row of w leaves none; use at least 1/40",
        ),
        (
            lambda: ask(Magnitude(1e-3, per="model"), DenseWeight(floats(3, 40))),
            "120 coordinates of the model leaves none",
        ),
        (
            lambda: ask(Magnitude(0.1), DenseWeight(floats(3, 40) * torch.nan)),
            "a score of w is NaN",
        ),
        (lambda: ask(Magnitude(0.1), DenseWeight(torch.ones(3, 40))), "all scores of w are equal"),
        (lambda: ask(Outliers(), DenseWeight(torch.ones(3, 40))), "half of the weights of w are"),
        (
            lambda: ask(Outliers(9.0), DenseWeight(floats(3, 40))),
            "the least size of an outlier of w, which none",
        ),
        (lambda: ask(Outliers(), Int8().store(floats(3, 40), "w"), (1, 3)), "of w scales move"),
    ],
)
def test_refusals(make: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make()


def test_directions_of_low_rank_have_no_single_coordinates() -> None:
    for mask in (Magnitude(0.1), Outliers()):
        with pytest.raises(
            UserError, match=f"mask {type(mask).__name__} leaves single coordinates"
        ):
            mask.check(LowRankPerturber())
        mask.check(DensePerturber())
    with pytest.raises(UserError, match=r"names single coordinates of .*q_proj.weight"):
        prepared("llama", NoQuantizer(), None, LowRankPerturber(), mask=Magnitude(1.0))


class Misshapen(Magnitude):
    """A mask of elements whatever moves."""

    def choose_all(self, candidates: Any) -> list[Support]:
        return [self.choose(one.path, one.weight, one.block, one.blocks) for one in candidates]

    def choose(self, path: str, weight: StoredWeight, block: int, blocks: int) -> Support:
        return Bits.of(torch.ones(weight.rows, weight.columns, dtype=torch.bool))


def test_a_mask_of_elements_where_scales_move_is_refused() -> None:
    with pytest.raises(UserError, match=r"gives .*q_proj.weight bits for 32x32 .* expected 1x32"):
        prepared("llama", Int8(), None, ScalePerturber(), mask=Misshapen(0.1))


def test_a_model_on_the_meta_device_gets_supports_of_the_right_size() -> None:
    for mask in (Magnitude(0.1), Magnitude(0.1, per="model"), Outliers()):
        store = Int8().store(floats(3, 40), "w")
        there = store.replace({n: t.to("meta") for n, t in store.tensors().items()})
        support = ask(mask, there)
        assert support.bits().is_meta
        assert support.bits().shape == (3, 2)


def bits_of(one: Any) -> list[Tensor]:
    return [weight.site.support.bits() for weight in one.weights]


def test_a_mask_answers_for_the_weights_that_a_run_starts_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another run's checkpoint, not of the model that was loaded before it."""
    perturber = DensePerturber()
    first, _, _ = prepared("llama", NoQuantizer(), None, perturber)
    tuned = perturbed_weights(first)
    move(tuned, [3], [0.5], 1, [None] * len(tuned))
    content = {"state_dict": weight_tensors(first), "zolit_fingerprint": fingerprint(first)}
    file = tmp_path / "first.ckpt"
    file.write_bytes(b"")
    monkeypatch.setattr(start, "_read", lambda name: content)
    options = {"mask": Magnitude(0.1), "dtype": "float32"}
    second = module("dense", **options, start_from=str(file))
    alone = module("dense", **options)
    for weight, mine, other in zip(tuned, second.weights, bits_of(alone), strict=True):
        count = int(weight.store.rows * weight.store.columns * 0.1)
        wanted = largest(size_of(weight.store), count)
        assert np.array_equal(mine.site.support.chosen().numpy(), wanted)
        assert not torch.equal(mine.site.support.bits(), other)


def test_a_checkpoint_of_other_coordinates_is_refused() -> None:
    """A mask that had looked at weights that have moved would leave others alone than the run."""
    one, other = module("magnitude"), module("magnitude")
    checkpoint: dict[str, Any] = {}
    one.on_save_checkpoint(checkpoint)
    other.on_load_checkpoint(checkpoint)
    keys = list(range(5))
    move(other.weights, keys, [30.0] * 5, 1, [None] * len(other.weights))
    Preparation(*other.parts()).choose(other.network)
    other._fingerprint = None
    with pytest.raises(UserError, match="its mask chose other coordinates of model"):
        other.on_load_checkpoint(checkpoint)


def test_masks_hold_for_the_factors_of_an_adapter() -> None:
    from zolit.models.adapters import LoRA

    options = {"adapter": LoRA(rank=4), "dtype": "float32"}
    one = module("dense", mask=Magnitude(0.25), tune=["*.lora_A.*"], **options)
    assert all(weight.site.support.density == 0.25 for weight in one.weights)
    with pytest.raises(UserError, match=r"all scores of .*lora_B.* are equal"):
        module("dense", mask=Magnitude(0.25), **options)
