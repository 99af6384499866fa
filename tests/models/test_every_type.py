"""Every type of transformers' causal and masked models: right, or refused in a sentence."""

import pytest
from type_checks import examine
from type_walk import walk

SAMPLE = [("llama", "causal"), ("gpt2", "causal"), ("bert", "masked")]


@pytest.mark.slow
def test_types_are_equal_or_refused() -> None:
    for row in walk(SAMPLE, examine):
        assert row.pop("built") == "yes", row
        results = {name: str(value) for name, value in row.items()}
        assert not {n: v for n, v in results.items() if "FAILED" in v}, row
