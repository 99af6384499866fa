"""Short runs whose losses are on record: ``python tests/contracts/golden.py`` writes them anew.

A change that should not change results (speed, memory, structure) leaves the record as it is. One
that means to change them says why in its commit, next to the new record.
"""

import json
from pathlib import Path

import torch
from recipes import TOKENS, Recipe, estimate, on_llama

from zolit.gradient import ProjectedGradient
from zolit.noise import fold, signed

RECORD = Path(__file__).with_name("golden.json")
STEPS, QUERIES = 4, 2
GOLDEN = [
    Recipe("NoQuantizer", "DensePerturber"),
    Recipe("NoQuantizer", "DensePerturber, rademacher"),
    Recipe("Int8", "CodePerturber"),
    Recipe("Int8", "CodePerturber, rademacher"),
    Recipe("Int8, activations int8", "CodePerturber, rademacher"),
    Recipe("Int4", "CodePerturber, rademacher"),
    Recipe("Float8", "CodePerturber, rademacher"),
    Recipe("Int8", "ScalePerturber"),
    Recipe("Int4", "ScalePerturber"),
    Recipe("Int4", "CodePerturber", "RandomMask"),
]


def losses(recipe: Recipe) -> list[float]:
    """Loss before the first step and after each, by the reference kernels in float32."""
    one = on_llama(recipe)
    optimizer = one.configure_optimizers()
    found = []
    with torch.no_grad():
        found.append(float(one.objective.losses(one.network, TOKENS)))
        for step in range(STEPS):
            keys = [fold(one.seed, 0, step, query) for query in range(QUERIES)]
            values = estimate(one, keys)
            signs = torch.tensor([signed(key) for key in keys])
            optimizer.step(gradient=ProjectedGradient(signs, values, fold(one.seed, 1, step)))
            found.append(float(one.objective.losses(one.network, TOKENS)))
    return found


if __name__ == "__main__":
    found = {str(recipe): losses(recipe) for recipe in GOLDEN}
    RECORD.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
