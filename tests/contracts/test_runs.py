"""What every working combination keeps on a tiny Llama: reads, replay, resume, memory."""

import io

import numpy_noise
import pytest
import torch
from recipes import (
    BY_BITS,
    SWEEP,
    Recipe,
    changed,
    estimate,
    on_llama,
    stored,
    train,
)

from zolit.coordinates import OutputScales, Scales
from zolit.formats.sparse_overlay import SparseOverlay
from zolit.supports import ALL, Bits
from zolit.tensors.weight import PerturbedWeight


def mask_of(weight: PerturbedWeight) -> torch.Tensor:
    """Where a mask lets a weight move: for RandomMask(fraction=0.25, seed=3) by numpy."""
    rows, columns = weight.store.rows, weight.store.columns
    counter, width = numpy_noise.counters(rows, columns), columns
    if isinstance(weight.site.coordinates, OutputScales):
        counter, width = numpy_noise.counters(rows, 1), 1
    elif isinstance(weight.site.coordinates, Scales):  # rows of groups, padded to a word
        width = weight.store.scale.shape[1]
        counter = numpy_noise.counters(rows, 32)[:, :width]
    if isinstance(weight.store, SparseOverlay) and weight.site.support is ALL:  # chosen by bits
        entries = torch.zeros(rows * columns, dtype=torch.bool)
        entries[weight.store.entries_in_model_order()] = True
        return entries.view(rows, columns)
    if isinstance(weight.site.support, Bits):
        inside = weight.site.support.chosen().view(rows, width)
        return inside.repeat_interleave(columns // width, 1)
    key = numpy_noise.fold(numpy_noise.fold(3, 0), weight.site.index, 5)
    inside = torch.from_numpy(numpy_noise.uniform(counter, key) < 0.25)
    return inside.repeat_interleave(columns // width, 1)


@pytest.mark.parametrize("recipe", SWEEP, ids=str)
def test_reads_change_nothing_and_updates_replay(recipe: Recipe) -> None:
    one = on_llama(recipe)
    start = stored(one)
    with torch.no_grad():
        loss = one.objective.losses(one.network, torch.arange(16).view(2, 8))
        values = estimate(one, [11, 12])
        assert values.isfinite().all()
        assert (values != 0).all()
        assert changed(start, stored(one)) == []
        assert torch.equal(one.objective.losses(one.network, torch.arange(16).view(2, 8)), loss)
    history = train(one, steps=3)
    end = stored(one)
    assert all(gradient.values.isfinite().all() for gradient in history)
    moved = changed(start, end)
    sites = {weight.path for weight in one.weights}
    assert len(sites) == (7 if recipe.mask == "DominantBlock" else 14)
    assert {name.rpartition(".")[0] for name in moved} == sites

    replayed = on_llama(recipe)
    optimizer = replayed.configure_optimizers()
    for gradient in history:
        optimizer.step(gradient=gradient)
    assert changed(end, stored(replayed)) == []

    workspace = one.reading.workspace
    largest = max(weight.store.rows * weight.store.padded_columns for weight in one.weights)
    assert workspace.bytes <= workspace.chunk_bytes + 4 * largest


@pytest.mark.parametrize("recipe", [r for r in SWEEP if r.mask == "NoMask"], ids=str)
def test_state_dict_round_trip_continues_alike(recipe: Recipe) -> None:
    one = on_llama(recipe)
    train(one, steps=2)
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    other = on_llama(recipe)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert changed(stored(one), stored(other)) == []
    train(one, steps=1)
    train(other, steps=1)
    assert changed(stored(one), stored(other)) == []


@pytest.mark.parametrize("recipe", [r for r in SWEEP if r.mask == "NoMask"], ids=str)
def test_a_pair_reads_what_two_passes_read(recipe: Recipe) -> None:
    keys = [3, 4]
    paired = estimate(on_llama(recipe), keys)
    apart = Recipe(recipe.quantizer, recipe.perturber, recipe.mask, "TwoPoint, sequential")
    sequential = on_llama(apart)
    # A difference of losses over 2 eps: float32 rounding of the losses is 1e-6 / eps.
    tolerance = 2e-6 / sequential.perturber.eps
    torch.testing.assert_close(paired, estimate(sequential, keys), atol=tolerance, rtol=1e-3)


@pytest.mark.parametrize(
    "recipe", [r for r in SWEEP if r.mask == "RandomMask" or r in BY_BITS], ids=str
)
def test_the_mask_bounds_reads_and_updates(recipe: Recipe) -> None:
    one = on_llama(recipe)
    weight = one.weights[6]
    mask, rest = mask_of(weight), weight.dense()
    assert 0.1 < mask.float().mean() < 0.4
    with one.reading.perturbed(2, 1e3 * one.perturber.eps, 1):
        read = weight.dense() != rest
    # Rounded coordinates and zero codes do not move everywhere inside the mask.
    assert read.sum() > 0.5 * mask.sum()
    assert not (read & ~mask).any()
    train(one, steps=3)
    moved = weight.dense() != rest
    assert moved.any()
    assert not (moved & ~mask).any()


COMPILED = [
    Recipe("NoQuantizer", "DensePerturber"),
    Recipe("Int8, activations int8", "CodePerturber, rademacher"),
    Recipe("Int4", "ScalePerturber"),
]
REST = [r for r in SWEEP if r.mask == "NoMask" and r not in COMPILED]


@pytest.mark.parametrize(
    "recipe", [*COMPILED, *(pytest.param(r, marks=pytest.mark.slow) for r in REST)], ids=str
)
def test_compiled_steps_equal_the_reference(recipe: Recipe) -> None:
    """The same steps taken twice; gradients of the reference, so that codes must be equal."""
    reference, compiled = on_llama(recipe), on_llama(recipe, "compiled")
    tolerance = 2e-6 / reference.perturber.eps
    torch.testing.assert_close(
        estimate(compiled, [5, 6]), estimate(reference, [5, 6]), atol=tolerance, rtol=1e-3
    )
    history = train(reference, steps=3)
    optimizer = compiled.configure_optimizers()
    for gradient in history:
        optimizer.step(gradient=gradient)
    for name, one in stored(reference).items():
        two = stored(compiled)[name]
        if one.dtype == torch.float32:
            torch.testing.assert_close(two, one, atol=2e-7, rtol=1e-6)
        else:
            # A Gaussian step may differ by an ulp and so round to the neighbour, very rarely.
            different = (one.view(torch.int8) != two.view(torch.int8)).sum().item()
            assert different <= (0 if "rademacher" in recipe.perturber else 2)
