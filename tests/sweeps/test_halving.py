"""When points are stopped, and which."""

from hypothesis import given
from hypothesis import strategies as st

from zolit.sweeps.halving import budgets, ordered, survivors


def test_the_numbers_of_hyperbands_table() -> None:
    """arXiv 1603.06560, table 1, bracket s = 4: 81 points with 1, 3, 9, 27 and 81 units."""
    assert budgets(81, 81, 3, None) == [1, 3, 9, 27, 81]
    left, counts = {f"{n}": (float(n),) for n in range(81)}, [81]
    while len(left) > 1:
        left = {name: left[name] for name in survivors(left, 3)}
        counts.append(len(left))
    assert counts == [81, 27, 9, 3, 1]
    assert [*left] == ["80"]


def test_first_steps_and_validations() -> None:
    assert budgets(9, 200, 3, 20) == [20, 60, 180, 200]
    assert budgets(9, 200, 2, 50, each=30) == [60, 120, 200]
    assert budgets(4, 100, 3, None, each=100) == [100], "there is no validation before the end"


@given(
    st.integers(1, 200), st.integers(1, 5000), st.integers(2, 6), st.integers(1, 500), st.booleans()
)
def test_numbers_grow_to_the_full_one(
    points: int, steps: int, reduction: int, each: int, is_first: bool
) -> None:
    found = budgets(points, steps, reduction, each if is_first else None, each)
    assert found[-1] == steps
    assert found == sorted({*found})
    assert all(one % each == 0 for one in found[:-1])


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), min_size=1), st.integers(2, 6))
def test_the_best_part_goes_on(scores: dict[str, float], reduction: int) -> None:
    ranks = {name: (score,) for name, score in scores.items()}
    kept = survivors(ranks, reduction)
    assert 0 <= len(kept) * reduction - len(ranks) < reduction
    rest = [scores[name] for name in scores if name not in kept]
    assert not rest or min(scores[name] for name in kept) >= max(rest)


def test_the_first_of_equals_is_better() -> None:
    assert ordered({"a": (1.0, 0.0), "b": (1.0, 1.0), "c": (1.0, 1.0)}) == ["b", "c", "a"]
