"""Pruners against their formulas, written again in float64, and what patterns promise."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from zolit.calibration.layer_statistics import LayerStatistics
from zolit.errors import UserError
from zolit.strategies import (
    ALPS,
    MagnitudePruner,
    NofM,
    Pattern,
    Pruner,
    Ratio,
    RegionalGradients,
    SparseGPT,
    Wanda,
)

PATTERNS = [Ratio(0.5), Ratio(0.3), Ratio(0.5, per="matrix"), NofM(2, 4), NofM(4, 8), NofM(1, 3)]
ROWS, COLUMNS, WINDOWS, TOKENS = 7, 48, 5, 40


def problem(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A weight, windows of correlated inputs, and gradients of each window."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(COLUMNS, COLUMNS, generator=generator) / COLUMNS**0.5
    sizes = torch.rand(COLUMNS, generator=generator) + 0.1
    x = torch.randn(WINDOWS, TOKENS, COLUMNS, generator=generator)
    x = (x @ mix + 0.5 * x) * sizes
    weight = torch.randn(ROWS, COLUMNS, generator=generator)
    return weight, x, torch.randn(WINDOWS, ROWS, COLUMNS, generator=generator)


def statistics(x: Tensor, gradients: Tensor | None = None) -> LayerStatistics:
    flat = x.flatten(0, 1)
    return LayerStatistics(
        flat.double().square().sum(0),
        len(x),
        flat.t() @ flat,
        None if gradients is None else gradients.square().sum(0),
    )


def kept_by_loops(scores: Tensor, pattern: Pattern) -> Tensor:
    """The lowest scores are left out, one after another."""
    kept = torch.ones(scores.shape, dtype=torch.bool)
    rows, columns = scores.shape
    if isinstance(pattern, NofM):
        groups = [
            [(row, start + j) for j in range(pattern.m)]
            for row in range(rows)
            for start in range(0, columns, pattern.m)
        ]
        count = pattern.m - pattern.n
    else:
        assert isinstance(pattern, Ratio)
        groups = [[(row, column) for column in range(columns)] for row in range(rows)]
        if pattern.per == "matrix":
            groups = [[place for group in groups for place in group]]
        count = int(len(groups[0]) * pattern.ratio)
    for group in groups:
        for place in sorted(group, key=lambda one: scores[one].item())[:count]:
            kept[place] = False
    return kept


def scores_of(pruner: Pruner, weight: Tensor, x: Tensor, gradients: Tensor) -> Tensor:
    """The published scores in float64, by explicit sums over windows and tokens."""
    columns = weight.shape[1]
    squares = [
        [sum(float(v) ** 2 for v in window[:, column].double()) for column in range(columns)]
        for window in x
    ]
    mean = torch.tensor(squares).double().mean(0).sqrt()
    every = torch.tensor(squares).double().sum(0).sqrt()
    size = weight.double().abs()
    if isinstance(pruner, MagnitudePruner):
        return size
    if isinstance(pruner, Wanda):
        return size * mean
    assert isinstance(pruner, RegionalGradients)
    slope = gradients.double().square().mean(0).sqrt()
    norm = mean if pruner.norm == "sample_mean" else every
    return (pruner.alpha * slope + norm) * size


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda one: one.title)
@pytest.mark.parametrize(
    "pruner",
    [
        MagnitudePruner(),
        Wanda(),
        RegionalGradients(),
        RegionalGradients(3.0, "all_tokens"),
        RegionalGradients(0.0),
    ],
)
def test_masks_are_those_of_the_formulas(pruner: Pruner, pattern: Pattern) -> None:
    for seed in range(3):
        weight, x, gradients = problem(seed)
        found = pruner.prune(weight, statistics(x, gradients), pattern)
        wanted = kept_by_loops(scores_of(pruner, weight, x, gradients), pattern)
        assert torch.equal(found.kept, wanted)
        assert torch.equal(found.values, weight.float() * wanted)


def test_without_gradients_the_score_is_wandas() -> None:
    weight, x, gradients = problem()
    seen = statistics(x, gradients)
    one = RegionalGradients(0.0).prune(weight, seen, Ratio(0.5)).kept
    assert torch.equal(one, Wanda().prune(weight, seen, Ratio(0.5)).kept)
    other = RegionalGradients().prune(weight, seen, Ratio(0.5)).kept
    assert not torch.equal(one, other)


def test_the_two_norms_differ_by_the_root_of_the_windows() -> None:
    _, x, _ = problem()
    seen = statistics(x)
    ratio = seen.input_norms("all_tokens") / seen.input_norms("sample_mean")
    assert torch.allclose(ratio, torch.full_like(ratio, WINDOWS**0.5))


def column_by_column(
    weight: Tensor, x: Tensor, pattern: Pattern, block: int, damping: float
) -> tuple[Tensor, Tensor]:
    """SparseGPT in float64 by equations 3 and 4 of the paper: for each column the inverse of the
    moments of those columns that are still free is made anew."""
    flat = x.flatten(0, 1).double()
    moments = flat.t() @ flat
    moments += damping * moments.diagonal().mean() * torch.eye(len(moments)).double()
    rest, columns = weight.double().clone(), weight.shape[1]
    kept = torch.ones(weight.shape, dtype=torch.bool)
    group = pattern.m if isinstance(pattern, NofM) else block
    for column in range(columns):
        if column % group == 0:
            some = range(column, min(column + group, columns))
            # [H^-1]_jj once the columns before j are gone, for each j of the group
            sizes = torch.stack([torch.linalg.inv(moments[j:, j:])[0, 0] for j in some])
            scores = rest[:, list(some)].square() / sizes
            kept[:, list(some)] = kept_by_loops(scores, pattern)
        inverse = torch.linalg.inv(moments[column:, column:])
        error = rest[:, column].masked_fill(kept[:, column], 0) / inverse[0, 0]
        rest[:, column:] -= torch.outer(error, inverse[0])
        rest[:, column].masked_fill_(~kept[:, column], 0)
    return rest, kept


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda one: one.title)
@pytest.mark.parametrize("block", [16, 48, 1000])
def test_sparse_gpt_is_its_equations(pattern: Pattern, block: int) -> None:
    weight, x, _ = problem(1)
    found = SparseGPT(block, 0.01).prune(weight, statistics(x), pattern)
    values, kept = column_by_column(weight, x, pattern, block, 0.01)
    assert torch.equal(found.kept, kept)
    assert (found.values - values).abs().max() < 2e-4 * values.abs().max()
    assert not found.values[~found.kept].any()


def test_sparse_gpt_changes_outputs_less_than_wanda() -> None:
    weight, x, _ = problem(2)
    seen, flat = statistics(x), x.flatten(0, 1)
    errors = [
        ((one.prune(weight, seen, Ratio(0.5)).values - weight) @ flat.t()).norm()
        for one in (SparseGPT(), Wanda(), MagnitudePruner())
    ]
    assert errors[0] < errors[1] < errors[2]


def test_columns_without_inputs_go_first() -> None:
    weight, x, _ = problem(3)
    x[:, :, :24] = 0
    for pruner in (SparseGPT(), Wanda()):
        found = pruner.prune(weight, statistics(x), Ratio(0.5))
        assert not found.values[:, :24].any()
        assert found.kept[:, 24:].all()
        assert torch.allclose(found.values[:, 24:], weight[:, 24:], atol=1e-6)


@pytest.mark.parametrize("pattern", [Ratio(0.0), NofM(4, 4)], ids=lambda one: one.title)
def test_nothing_is_pruned(pattern: Pattern) -> None:
    weight, x, gradients = problem()
    for pruner in (SparseGPT(), Wanda(), RegionalGradients(), MagnitudePruner()):
        found = pruner.prune(weight.bfloat16(), statistics(x, gradients), pattern)
        assert found.kept.all()
        assert torch.equal(found.values, weight.bfloat16().float())


def test_counts() -> None:
    scores = torch.rand(3, 100, generator=torch.Generator().manual_seed(0))
    assert (~Ratio(0.29).keep(scores)).sum(1).tolist() == [29, 29, 29]
    assert (~Ratio(0.999).keep(scores)).sum(1).tolist() == [99, 99, 99]
    assert (~Ratio(0.5, "matrix").keep(scores)).sum() == 150
    kept = NofM(3, 5).keep(scores).view(3, 20, 5).sum(2)
    assert torch.equal(kept, torch.full_like(kept, 3))
    # Of equal scores the first are pruned.
    assert Ratio(0.5).keep(torch.zeros(1, 4)).tolist() == [[False, False, True, True]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ratio(1.0), "ratio: got 1.0, expected the fraction that becomes zero"),
        (lambda: Ratio(-0.1), "ratio: got -0.1"),
        (lambda: Ratio(float("nan")), "ratio: got nan"),
        (lambda: Ratio(0.5, "layer"), "per: got 'layer', expected row or matrix"),
        (lambda: NofM(5, 4), "n: got 5, expected how many of m=4 entries are left, from 1 to 4"),
        (lambda: NofM(0, 4), "n: got 0"),
        (lambda: NofM(1, 0), "m: got 0"),
        (lambda: NofM(2, 4).check("h.0.w", 50), "m: got 4, which does not divide the 50 input"),
        (lambda: RegionalGradients(-1.0), "alpha: got -1.0"),
        (lambda: RegionalGradients(norm="mean"), "got 'mean', expected one of 'sample_mean'"),
        (lambda: ALPS(rho=0.0), "rho: got 0.0"),
        (lambda: ALPS(iterations=0), "iterations: got 0"),
        (lambda: SparseGPT(0), "block_size: got 0"),
        (lambda: SparseGPT(damping=0.0), "damping: got 0.0"),
    ],
)
def test_refusals(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("pruner", [ALPS(), SparseGPT(), RegionalGradients()])
def test_statistics_that_are_missing_are_named(pruner: Pruner) -> None:
    weight, x, _ = problem()
    seen = LayerStatistics(x.flatten(0, 1).double().square().sum(0), WINDOWS)
    with pytest.raises(UserError, match=f"pruner {type(pruner).__name__}: got no"):
        pruner.prune(weight, seen, Ratio(0.5))


def distance(values: Tensor, weight: Tensor, x: Tensor, damping: float = 0.0) -> Tensor:
    """``||(values - weight) X||^2`` of each row, with damped moments, float64."""
    flat = x.flatten(0, 1).double()
    moments = flat.t() @ flat
    moments += damping * moments.diagonal().mean() * torch.eye(len(moments)).double()
    change = (values - weight).double()
    return ((change @ moments) * change).sum(1)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda one: one.title)
def test_alps_keeps_outputs_best(pattern: Pattern) -> None:
    for seed in range(3):
        weight, x, _ = problem(seed)
        seen = statistics(x)
        found = ALPS().prune(weight, seen, pattern)
        assert int(found.kept.sum()) == int(pattern.keep(weight).sum())
        assert not found.values[~found.kept].any()
        errors = [distance(found.values, weight, x).sum()]
        for other in (SparseGPT(), Wanda()):
            errors.append(distance(other.prune(weight, seen, pattern).values, weight, x).sum())
        assert errors == sorted(errors)


def test_alps_solves_for_what_is_left() -> None:
    """With steps enough the values are those of least squares on the entries that are left."""
    weight, x, _ = problem(4)
    found = ALPS(gradient_steps=200).prune(weight, statistics(x), Ratio(0.5))
    flat = x.flatten(0, 1).double()
    moments = flat.t() @ flat
    moments += 0.01 * moments.diagonal().mean() * torch.eye(COLUMNS).double()
    for row in range(ROWS):
        left = found.kept[row].nonzero().flatten()
        right = (weight[row].double() @ moments)[left]
        values = torch.linalg.solve(moments[left][:, left], right)
        assert torch.allclose(found.values[row, left].double(), values, atol=2e-3)


def test_alps_finds_what_a_search_of_all_supports_finds() -> None:
    """Of one row with eight entries: how far from the best of all 70 choices of four."""
    ratios = []
    for seed in range(20):
        weight, x, _ = problem(seed)
        weight, x = weight[:1, :8], x[:, :, :8]
        flat = x.flatten(0, 1).double()
        moments = flat.t() @ flat
        moments += 0.01 * moments.diagonal().mean() * torch.eye(8).double()
        best = torch.tensor(float("inf")).double()
        for left in itertools.combinations(range(8), 4):
            some = torch.tensor(left)
            values = torch.zeros(1, 8).double()
            values[0, some] = torch.linalg.solve(
                moments[some][:, some], (weight[0].double() @ moments)[some]
            )
            best = torch.minimum(best, distance(values, weight, x, 0.01)[0])
        found = ALPS().prune(weight, statistics(x), Ratio(0.5))
        ratios.append(float(distance(found.values, weight, x, 0.01)[0] / best))
    assert min(ratios) > 1 - 1e-4
    assert sum(one < 1.001 for one in ratios) >= 8
    assert sorted(ratios)[10] < 1.15


def test_alps_of_inputs_that_do_not_depend_on_each_other() -> None:
    """Nothing can be made up for: about the smallest go, the others stay as they are."""
    weight = problem()[0]
    seen = LayerStatistics(torch.ones(COLUMNS).double(), 1, torch.eye(COLUMNS))
    found = ALPS().prune(weight, seen, Ratio(0.5))
    assert torch.allclose(found.values, weight * found.kept, atol=1e-6)
    best = weight * ~Ratio(0.5).keep(weight.abs())
    assert (found.values - weight).norm() < 1.02 * best.norm()
