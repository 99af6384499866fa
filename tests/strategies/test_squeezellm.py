"""SqueezeLLM: tables against the clusters of each row, scores, left-out weights, refusals."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from zolit.calibration.saliency_file import Facts, kept_tensors
from zolit.errors import UserError
from zolit.formats.row_tables import RowTablesWeight
from zolit.strategies import (
    CodePerturber,
    DensePerturber,
    Int8,
    LowRankPerturber,
    ScalePerturber,
    SqueezeLLM,
)
from zolit.strategies.quantizer.kmeans import nearest, weighted_kmeans_1d


def decoded(store: Any) -> Tensor:
    out = torch.empty(store.rows, store.padded_columns)
    store.read(slice(0, store.rows), [out], None, "reference")
    return out[:, : store.columns]


def matrix(rows: int = 5, columns: int = 60) -> Tensor:
    return 0.02 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))


def tables(store: RowTablesWeight) -> Tensor:
    return store.table.float() * store.scale


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_tables_are_the_clusters_of_each_row(bits: int, dtype: torch.dtype) -> None:
    weight = matrix().to(dtype)
    store = SqueezeLLM(bits).store(weight, "w")
    centres, _ = weighted_kmeans_1d(weight, torch.ones(5, 60), 2**bits)
    largest = centres.abs().amax(1, keepdim=True)
    assert ((tables(store) - centres).abs() <= 2.0**-11 * largest).all()
    found = tables(store).gather(1, nearest(weight.float(), tables(store)))
    assert torch.equal(decoded(store), found)


def test_chunks_of_rows_make_the_same_weight() -> None:
    weight = matrix(600, 512)
    whole, part = (decoded(SqueezeLLM(3).store(w, "w")) for w in (weight, weight[590:]))
    torch.testing.assert_close(whole[590:], part)


def test_a_table_a_row_is_nearer_than_a_grid() -> None:
    weight = matrix(16, 256) * (1 + matrix(16, 256).abs() * 50)
    step = weight.abs().amax(1, keepdim=True) / 7
    grid = (weight / step).round() * step
    error = (decoded(SqueezeLLM(4).store(weight, "w")) - weight).square().mean()
    assert error < 0.6 * (grid - weight).square().mean()


def test_a_row_of_zeros() -> None:
    weight = matrix()
    weight[2] = 0
    store = SqueezeLLM(3).store(weight, "w")
    assert torch.equal(decoded(store)[2], torch.zeros(60))
    assert (store.scale > 0).all()


def test_weights_that_are_left_out_have_no_influence() -> None:
    weight, excluded = matrix(), torch.zeros(5, 60, dtype=torch.bool)
    excluded[:, ::7] = True
    other = torch.where(excluded, 100.0, weight)
    stores = [SqueezeLLM(3).store(one, "w", excluded) for one in (weight, other)]
    torch.testing.assert_close(tables(stores[0]), tables(stores[1]))
    short = weight[~excluded].view(5, -1)
    torch.testing.assert_close(tables(stores[0]), tables(SqueezeLLM(3).store(short, "w")))


def test_zeros_weigh_unless_they_are_told_not_to() -> None:
    weight = matrix(5, 48)
    sparse = torch.cat((weight, torch.zeros(5, 12)), 1)
    without = SqueezeLLM(3, zeros_weigh=False).store(sparse, "w")
    torch.testing.assert_close(tables(without), tables(SqueezeLLM(3).store(weight, "w")))
    assert decoded(SqueezeLLM(3).store(sparse, "w"))[:, 48:].abs().max() < 3e-3


def saliency(folder: Path, scores: Tensor, keep: float = 1.0) -> str:
    """A file of scores of a matrix ``w``."""
    rows, columns = scores.shape
    facts = Facts(1, "fisher", "ab", 1, 8, keep, {"w": (rows, columns)}, {})
    save_file(kept_tensors("w", scores, keep), folder / "s.safetensors", facts.metadata())
    return str(folder / "s.safetensors")


def test_scores_weigh_the_fit(tmp_path: Path) -> None:
    weight = matrix()
    scores = torch.randn(5, 60, generator=torch.Generator().manual_seed(4)).mul(3).exp().bfloat16()
    scores[3] = 0  # counts alike
    store = SqueezeLLM(3, saliency(tmp_path, scores.float())).store(weight, "w")
    counted = scores.float()
    counted[3] = 1
    centres, _ = weighted_kmeans_1d(weight, counted, 8)
    assert ((tables(store) - centres).abs() <= 2.0**-11 * centres.abs().amax(1, True)).all()
    plain = SqueezeLLM(3).store(weight, "w")
    losses = [(counted * (decoded(one) - weight).square()).sum() for one in (store, plain)]
    assert losses[0] < 0.5 * losses[1]


@pytest.mark.parametrize(
    ("scores", "keep", "path", "message"),
    [
        (
            torch.ones(5, 60),
            0.5,
            "w",
            "scores of w, but quantizer SqueezeLLM needs all 300; .*--saliency.keep 1",
        ),
        (torch.ones(5, 61), 1.0, "w", "is of another model"),
        (torch.ones(5, 60), 1.0, "v", "no scores of v"),
        (-torch.ones(5, 60), 1.0, "w", "scores of w that are not finite or below 0"),
        (torch.full((5, 60), torch.nan), 1.0, "w", "scores of w that are not finite or below 0"),
    ],
)
def test_scores_that_do_not_fit_are_refused(
    tmp_path: Path, scores: Tensor, keep: float, path: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        SqueezeLLM(3, saliency(tmp_path, scores, keep)).store(matrix(), path)


def test_estimates_make_it_on_the_meta_device() -> None:
    store = SqueezeLLM(3).store(torch.empty(40, 100, device="meta"), "w")
    assert sum(one.nbytes for one in store.tensors().values()) == 40 * (3 * 16 + 8 * 2 + 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SqueezeLLM(2), "bits must be 3 or 4, got 2"),
        (lambda: SqueezeLLM().store(matrix() / 0, "a.weight"), "a.weight has weights that are not"),
    ],
)
def test_refusals(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("perturber", [DensePerturber(), CodePerturber(), LowRankPerturber()])
def test_indices_do_not_move(perturber: Any) -> None:
    with pytest.raises(UserError, match=r"got quantizer SqueezeLLM.* use ScalePerturber"):
        perturber.check(SqueezeLLM())
    ScalePerturber().check(SqueezeLLM())
    if not isinstance(perturber, DensePerturber):
        perturber.check(Int8())
        with pytest.raises(UserError, match="indices of a table; use ScalePerturber"):
            perturber.quantized_coordinates(SqueezeLLM().store(matrix(), "w"))


def test_codes_are_those_of_their_version() -> None:
    """Runs of this version are made again from weights: other codes are another version.

    The second matrix is longer than what is searched whole.
    """
    assert SqueezeLLM.version == 1
    digests = []
    for bits, columns in ((3, 40), (4, 300)):
        n = torch.arange(2 * columns).view(2, columns)
        store = SqueezeLLM(bits).store((n * n * 37 % 10007 - 5003).float(), "weight")
        digests.append(hashlib.sha256(bytes(store.codes().flatten().tolist())).hexdigest())
    assert digests == [
        "345d68e6772c67648587677e2b49ec0761a3e2d47f7c8921a6bc028d2d1400a8",
        "75d67f09c85ce7aec73a6f0f2d9f8a428f8a4965e85c59d073e324d6ab53d382",
    ]
