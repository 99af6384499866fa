"""Types of transformers' models that do something of their own: right, or refused in a sentence.

`benchmarks/every_type.py` walks all of them.
"""

import pytest
from type_checks import examine
from type_walk import walk

SAMPLE = [
    ("llama", "causal"),
    ("gpt2", "causal"),  # matrices the other way round
    ("gemma3", "causal"),  # a vision tower
    ("bart", "causal"),  # positions that count padding
    ("mixtral", "causal"),  # experts
    ("falcon", "causal"),  # layers that are multiplied by hand
    ("bert", "masked"),
    ("esm", "masked"),  # a bias behind the output layer
    ("longformer", "masked"),  # windows
    ("big_bird", "masked"),  # a pooler that nobody reads
]


@pytest.mark.slow
def test_types_are_equal_or_refused() -> None:
    for row in walk(SAMPLE, examine):
        assert row.pop("built") == "yes", row
        results = {name: str(value) for name, value in row.items()}
        assert not {n: v for n, v in results.items() if "FAILED" in v}, row
