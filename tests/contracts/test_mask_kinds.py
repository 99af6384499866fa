"""Each mask with each kind of coordinates: it keeps the contracts, or is refused in a sentence."""

from typing import Any

import pytest
import torch
from recipes import (
    BITS,
    FILES,
    MASKS,
    NextToken,
    Recipe,
    changed,
    file_of,
    module,
    stored,
    tiny_llama,
    train,
)

from zolit.errors import UserError
from zolit.models.adapters import LoRA
from zolit.training.zero_order import ZeroOrderModule

KINDS = {
    "elements": ("NoQuantizer", "DensePerturber"),
    "codes": ("Int4", "CodePerturber"),
    "factors of rows": ("Int4", "ScalePerturber"),
    "scales": ("Int4", "ScalePerturber, group"),
    "entries": ("Int4", "SparsePerturber"),
    "low rank": ("NoQuantizer", "LowRankPerturber"),
    "an adapter": ("NoQuantizer", "DensePerturber"),
}
REFUSED = {
    ("low rank", "RandomMask"): "leaves single coordinates out, which a direction of low rank",
    ("low rank", "Magnitude"): "leaves single coordinates out, which a direction of low rank",
    ("low rank", "Outliers"): "leaves single coordinates out, which a direction of low rank",
    ("low rank", "SmallWeights"): "leaves single coordinates out, which a direction of low rank",
    ("low rank", "Sensitive"): "leaves single coordinates out, which a direction of low rank",
    ("low rank", "FromFile"): "leaves single coordinates out, which a direction of low rank",
    ("entries", "NoMask"): "moves entries that a mask chooses one by one, got mask NoMask",
    ("entries", "RandomBlocks"): "moves entries that a mask chooses one by one, got mask",
    ("factors of rows", "Outliers"): "names single weights, but of",
    ("scales", "Outliers"): "names single weights, but of",
    ("entries", "SmallWeights"): "got perturber SparsePerturber, whose entries are chosen once",
    ("factors of rows", "SmallWeights"): "got perturber ScalePerturber, which moves scales",
    ("scales", "SmallWeights"): "got perturber ScalePerturber, which moves scales",
    ("an adapter", "SmallWeights"): "all weights of .* are of one size",
    ("an adapter", "Magnitude"): "all scores of .* are equal",
    ("an adapter", "Outliers"): "the least size of an outlier of .*, which none of its weights has",
    ("an adapter", "Sensitive"): "holds no scores of",
    ("an adapter", "FromFile"): "says nothing of",
}
"""What has no such subset, and a part of the sentence that says so."""


def made(kind: str, mask: str) -> ZeroOrderModule:
    recipe, model = Recipe(*KINDS[kind], mask), tiny_llama()
    adapter: dict[str, Any] = {"adapter": LoRA(rank=2)} if kind == "an adapter" else {}
    one = module(recipe, "reference", None if adapter else model, objective=NextToken(), **adapter)
    if adapter and mask in FILES:  # of the model without its adapter
        one.mask.file = file_of(recipe, model)
    one.adopt(model)
    return one


@pytest.mark.parametrize("mask", [*MASKS, *BITS, *FILES])
@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_keeps_the_contracts_or_is_refused(kind: str, mask: str) -> None:
    if (kind, mask) in REFUSED:
        with pytest.raises(UserError, match=REFUSED[kind, mask]) as said:
            made(kind, mask)
        assert "\n" not in str(said.value)
        return
    one, again = made(kind, mask), made(kind, mask)
    start = stored(one)
    with torch.no_grad(), one.reading.perturbed(5, one.perturber.eps, 2):
        one.objective.losses(one.network, torch.arange(16).view(2, 8), 2)
    assert changed(start, stored(one)) == []
    history = train(one, steps=2)
    assert changed(start, stored(one))
    optimizer = again.configure_optimizers()
    for gradient in history:
        optimizer.step(gradient=gradient)
    assert changed(stored(one), stored(again)) == []
