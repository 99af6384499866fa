"""Supports as data: what kernels are told of them, and how often a direction moves a weight."""

import doctest

import numpy as np
import numpy_noise
import pytest
import torch

from zolit import supports
from zolit.errors import UserError
from zolit.noise import DRAWS, Direction, control_table, coordinates, split_key
from zolit.supports import ALL, Bits, Blocks, Hashed, check_shape, support_table


def test_examples() -> None:
    assert doctest.testmod(supports).failed == 0


@pytest.mark.parametrize("fraction", [1e-9, 0.05, 0.25, 0.3, 0.999])
def test_draws_below_the_fraction_move(fraction: float) -> None:
    """As float32 compares a draw on a grid of 2**-24 with the fraction."""
    high, low, inside = Hashed(fraction, 7).words(3)
    assert (high, low) == split_key(supports.fold(7, 3, 5))
    draws = np.array([0, 1, inside - 1, inside, DRAWS - 1])
    below = (draws * 2.0**-24).astype(np.float32) < np.float32(fraction)
    assert ((draws < inside) == below).all()


def test_a_table_for_weights_of_several_supports() -> None:
    assert support_table([(0, ALL), (1, Blocks(0, 4, 1)), (2, Hashed(1.0, 5))]) is None
    table = support_table([(0, ALL), (4, Hashed(0.5, 9))])
    assert table.tolist() == [[0, 0, DRAWS], list(Hashed(0.5, 9).words(4))]


@pytest.mark.parametrize("distribution", ["gaussian", "rademacher"])
def test_all_beside_a_random_subset_moves_whole(distribution: str) -> None:
    words = control_table(11, [0, 4])
    table = support_table([(0, ALL), (4, Hashed(0.5, 9))])
    rows, direction = torch.zeros(2, dtype=torch.int32), Direction(distribution)
    plain = coordinates(direction, words, rows, 1, 8)
    masked = coordinates(direction, torch.cat((words, table), dim=1), rows, 1, 8)
    assert torch.equal(masked[0], plain[0])
    kept = masked[1] != 0
    assert 0.3 < kept.float().mean() < 0.7
    assert torch.equal(masked[1][kept], plain[1][kept])


def test_directions_that_move_a_block_count_for_those_that_do_not() -> None:
    assert (ALL.importance_weight, Hashed(0.1, 0).importance_weight) == (1.0, 1.0)
    assert Blocks(0, 3, 5).importance_weight == 1.0
    support = Blocks(block=2, count=4, moving=1)
    hits = [support.includes(key) for key in range(2000)]
    # Five standard errors of 2000 draws with odds of a quarter.
    assert abs(np.mean(hits) - 1 / support.importance_weight) < 5 * (0.25 * 0.75 / 2000) ** 0.5


def chosen(rows: int, columns: int, share: float = 0.3) -> torch.Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(columns)) < share


@pytest.mark.parametrize("columns", [1, 32, 50, 64, 100])
def test_bits_lie_as_noise_counts_columns(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supports, "_CHUNK_ELEMENTS", 3 * columns)
    mask = chosen(7, columns)
    support = Bits.of(mask)
    wide = np.zeros((7, -(-columns // 32), 32), dtype=np.uint32)
    wide.reshape(7, -1)[:, :columns] = mask.numpy()
    words = (wide << np.arange(32, dtype=np.uint32)).sum(2, dtype=np.uint32)
    assert np.array_equal(support.bits().numpy().view(np.uint32), words)
    assert support.shape == (7, columns)
    assert torch.equal(support.chosen(), mask)
    assert torch.equal(support.chosen(slice(2, 5)), mask[2:5])
    assert support.count == mask.sum()
    assert support.density == float(mask.double().mean())
    values = torch.ones(7, 32 * words.shape[1], dtype=torch.float16)
    support.clear_others(values, site=0)
    assert torch.equal(values[:, :columns] != 0, mask)
    assert not values[:, columns:].any()


@pytest.mark.parametrize("columns", [32, 96])
def test_what_a_hash_leaves_out_is_cleared(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The subset as numpy draws it, in chunks that end within the matrix."""
    monkeypatch.setattr(supports, "_CHUNK_ELEMENTS", 3 * columns)
    support, site = Hashed(0.25, 7), 5
    key = numpy_noise.fold(7, site, 5)
    mask = numpy_noise.uniform(numpy_noise.counters(50, columns), key) < 0.25
    values = torch.ones(50, columns, dtype=torch.float16)
    support.clear_others(values, site)
    assert np.array_equal(values.numpy() != 0, mask)
    for whole in (ALL, Blocks(0, 3, 1), Hashed(1.0, 7), Hashed(0.25, 7, spares_others=False)):
        values = torch.ones(50, columns)
        whole.clear_others(values, site)
        assert values.all()


def test_bits_on_another_device() -> None:
    support = Bits.of(chosen(3, 40))
    assert support.on(torch.device("cpu")) is support
    there = support.on(torch.device("meta"))
    assert (there.shape, there.bits().device.type, there.density) == ((3, 40), "meta", 1.0)


@pytest.mark.parametrize(
    "direction",
    [Direction("rademacher"), Direction("gaussian"), Direction("gaussian", bits=4)],
    ids=str,
)
@pytest.mark.parametrize("groups", [1, 3])
def test_coordinates_without_their_bit_are_zero(direction: Direction, groups: int) -> None:
    """Beside a direction of all coordinates: exactly, and no coordinate differs in another way."""
    mask = chosen(5, 96)
    rows = torch.arange(2, 7, dtype=torch.int32)
    words = 3 // groups
    control = control_table(11, [4])[0]
    whole = coordinates(direction, control, rows, groups, words)
    got = coordinates(direction, control, rows, groups, words, Bits.of(mask).bits())
    assert torch.equal(got, torch.where(mask.view(got.shape), whole, 0.0))
    by_hash = torch.cat((control, torch.tensor(Hashed(0.5, 9).words(4), dtype=torch.int32)))
    both = coordinates(direction, by_hash, rows, groups, words, Bits.of(mask).bits())
    alone = coordinates(direction, by_hash, rows, groups, words)
    assert torch.equal(both, torch.where(mask.view(got.shape), alone, 0.0))


@pytest.mark.parametrize(
    ("support", "shape", "said"),
    [
        (Bits.of(chosen(3, 40)), None, "names single coordinates of w, .* use NoMask"),
        (Bits.of(chosen(3, 40)), (3, 41), "gives w bits for 3x40 .* expected 3x41 in .3, 2."),
        (Bits.of(chosen(3, 64)), (3, 2), "expected 3x2"),
        (Bits(torch.zeros(3, 2, dtype=torch.int64), 40), (3, 40), "torch.int64, expected"),
        (Bits(torch.zeros(3, 2, dtype=torch.int32)), (3, 40), "gives w bits for 3x64"),
    ],
)
def test_bits_of_other_coordinates_are_refused(
    support: Bits, shape: tuple[int, int] | None, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        check_shape("w", support, shape)
    check_shape("w", ALL, shape)
