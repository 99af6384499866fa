"""Exported folders, read by transformers alone."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from tiny_models import MODELS, batch, prepared

from zolit.export.plain import to_plain
from zolit.strategies import Float8, Int4, Int8, NoQuantizer, Quantizer


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("quantizer", [Int4(32), Int8(), Float8(), NoQuantizer()])
def test_plain_models_read_as_stored_ones(name: str, quantizer: Quantizer, tmp_path: Path) -> None:
    model, _, _ = prepared(name, quantizer)
    one = batch(name)
    inputs = {"input_ids": one.input_ids, "attention_mask": one.attention_mask}
    with torch.no_grad():
        stored = model(**inputs).logits
        to_plain(model)
        model.save_pretrained(tmp_path)
        again = type(model).from_pretrained(tmp_path)(**inputs).logits
    torch.testing.assert_close(again, stored, atol=1e-5, rtol=1e-5)
