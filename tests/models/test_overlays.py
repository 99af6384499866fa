"""Models of which a few entries are floats: prepared, read, tuned, checkpointed and exported."""

from pathlib import Path

import pytest
import tiny_experts
import torch
from gguf import GGMLQuantizationType as Kind
from gguf_folders import write_llama
from preparing import prepare
from tiny_models import LAYERS, LINEAR, batch, logits, prepared, tiny
from torch import nn

from zolit.checkpoints.start import start_from
from zolit.checkpoints.tensors import (
    check_fingerprint,
    fingerprint,
    load_weight_tensors,
    weight_tensors,
)
from zolit.coordinates import Elements, Entries
from zolit.errors import UserError
from zolit.export.plain import save_plain
from zolit.export.torchao import save_torchao
from zolit.formats.sparse_overlay import SparseOverlay
from zolit.gradient import ProjectedGradient
from zolit.models.loading.load import load_prepared
from zolit.models.overlay import chosen_entries
from zolit.models.plan import Planned
from zolit.models.prepare import Preparation
from zolit.objectives.option_scoring import OptionScoring
from zolit.optim import ZOSGD
from zolit.strategies import (
    Int4,
    Int8,
    Magnitude,
    RandomMask,
    ScalePerturber,
    SparsePerturber,
    Stored,
)
from zolit.tensors.reading import Reading
from zolit.tensors.weight import perturbed_weights, stored_weights

MASK = RandomMask(0.05, seed=2)


def overlaid(name: str, mask: RandomMask = MASK, tune: list[str] | None = None) -> nn.Module:
    return prepared(name, Int4(32), tune, SparsePerturber(), mask=mask)[0]


@pytest.mark.parametrize("name", ["llama", "gpt2", "roberta"])
def test_entries_of_the_model_are_read_as_they_were(name: str) -> None:
    model, floats = overlaid(name), dict(tiny(name).named_parameters())
    weights = perturbed_weights(model)
    inside, outside = LINEAR[name]
    assert len(weights) == inside * LAYERS + outside
    for weight in weights:
        store = weight.store
        assert isinstance(store, SparseOverlay)
        assert weight.site.coordinates == Entries()
        value = floats[weight.path].t() if weight.transposed else floats[weight.path]
        read = (weight * 1.0).t() if weight.transposed else weight * 1.0
        one = Planned((weight.path,), weight.site.index, True, False)
        entries = chosen_entries(MASK.choose(weight.path, store, 0, 1), store, one)
        assert len(entries) == len(store.values) > 0
        assert torch.equal(read.reshape(-1)[entries], value.reshape(-1)[entries])
        assert not torch.equal(read, value)


@torch.no_grad()
def test_steps_move_the_entries_alone_and_only_they_are_saved(tmp_path: Path) -> None:
    model, again = overlaid("llama"), overlaid("llama")
    before = {w.path: w * 1.0 for w in perturbed_weights(model)}
    optimizer = ZOSGD(perturbed_weights(model), lr=1e-2, error_feedback=True)
    gradient = ProjectedGradient(torch.tensor([3, 4]), torch.tensor([0.5, -2.0]), 9)
    optimizer.step(gradient=gradient)
    assert not optimizer.state_dict()["state"]
    saved = weight_tensors(model)
    assert set(saved) == {f"{path}.values" for path in before}
    for weight in perturbed_weights(model):
        moved = ((weight * 1.0) != before[weight.path]).view(-1)
        assert moved.nonzero().view(-1).tolist() == weight.store.positions.tolist()
    load_weight_tensors(again, saved)
    assert torch.equal(logits(again, "llama"), logits(model, "llama"))
    check_fingerprint(fingerprint(model), fingerprint(again))

    # Floats of other entries are never taken for these, whatever their number.
    other = overlaid("llama", RandomMask(0.05, seed=3))
    with pytest.raises(UserError, match=r"its mask chose other coordinates of .*"):
        check_fingerprint(fingerprint(other), fingerprint(model))
    file = tmp_path / "best.ckpt"
    content = {
        "epoch": 0,
        "global_step": 1,
        "pytorch-lightning_version": "2.6.6",
        "optimizer_states": [optimizer.state_dict()],
        "zolit_skipped_queries": 0,
        "zolit_fingerprint": fingerprint(model),
        "state_dict": saved,
    }
    torch.save(content, file)
    third = overlaid("llama")
    start_from(third, [str(file)])
    assert torch.equal(logits(third, "llama"), logits(model, "llama"))
    for weight in perturbed_weights(other):  # as many floats as the checkpoint has
        count = len(saved[f"{weight.path}.values"])
        store = weight.store
        positions = (store.positions if len(store.positions) >= count else torch.arange(count))[
            :count
        ]
        weight.store = SparseOverlay(store.inner, positions.int(), torch.zeros(count))
    with pytest.raises(UserError, match="those of other entries than the mask chooses here"):
        start_from(other, [str(file)])


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
def test_a_pair_reads_what_two_passes_read(name: str) -> None:
    perturber = SparsePerturber(1e-2)
    model = tiny_experts.tiny(name) if name == "mixtral" else tiny(name)
    reading = Reading(perturber.direction(), "reference")
    assert prepare(model, Int4(32), perturber, reading, ["linear"], mask=MASK)
    run = tiny_experts.logits if name == "mixtral" else lambda m, ids: m(input_ids=ids).logits
    ids = tiny_experts.IDS if name == "mixtral" else batch(name).input_ids
    both = []
    for eps in (1e-2, -1e-2):
        with reading.perturbed(7, eps, 1):
            both.append(run(model, ids))
    with reading.perturbed(7, 1e-2, 2):
        pair = run(model, ids.repeat(2, 1))
    torch.testing.assert_close(pair, torch.cat(both), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(both[0], both[1], atol=1e-3)


def test_floats_that_are_tuned_beside_it_move_where_the_mask_lets_them() -> None:
    model = overlaid("llama", tune=["linear", "norms"])
    kinds = {type(w.site.coordinates) for w in perturbed_weights(model)}
    assert kinds == {Entries, Elements}
    norm = next(w for w in perturbed_weights(model) if "norm" in w.path)
    assert norm.site.support.density == 0.05


def test_a_file_keeps_its_blocks_and_starts_as_it_is(tmp_path: Path) -> None:
    source = write_llama(tmp_path, Kind.Q4_1)
    models = []
    for mask in (MASK, None):
        one = SparsePerturber() if mask else ScalePerturber()
        parts = Stored(), one, Reading(one.direction(), "reference"), ["linear"], None, None, mask
        models.append(load_prepared(source, torch.float32, Preparation(*parts))[0])
    mine, plain = models
    assert {w.store.format_name for w in stored_weights(mine)} == {
        f"SparseOverlay of {w.store.format_name}" for w in stored_weights(plain)
    }
    ids = torch.arange(16).view(2, 8)
    with torch.no_grad():
        assert torch.equal(mine(input_ids=ids).logits, plain(input_ids=ids).logits)


@torch.no_grad()
def test_exports_hold_what_was_read_and_say_what_was_rounded(tmp_path: Path) -> None:
    model = overlaid("llama")
    before = logits(model, "llama")
    assert save_plain(model, tmp_path / "float32") == []
    torch.testing.assert_close(logits(model, "llama"), before)
    model, _, _ = prepared("llama", Int4(32), None, SparsePerturber(), mask=MASK)
    assert save_torchao(model, tmp_path / "torchao") == [
        "14 weights (SparseOverlay of Int4Weight) have no form that torchao loads; they are "
        "written as float32"
    ]
    half = tiny("llama").bfloat16()
    perturber = SparsePerturber()
    prepare(half, Int8(), perturber, Reading(perturber.direction()), ["linear"], mask=MASK)
    [said] = save_plain(half, tmp_path / "bfloat16")
    assert "14 weights have floats beside their codes" in said
    assert "rounded to bfloat16" in said


@torch.no_grad()
def test_a_model_is_tuned_by_it() -> None:
    model, reading, pairable = prepared("llama", Int8(), None, SparsePerturber(1e-2), mask=MASK)
    assert pairable
    optimizer = ZOSGD(perturbed_weights(model), lr=3e-3)
    first = float(OptionScoring().losses(model, batch("llama")))
    for key in range(30):
        with reading.perturbed(key, 1e-2, 2):
            plus, minus = OptionScoring().losses(model, batch("llama"), 2)
        value = ((plus - minus) / 2e-2).float().view(1)
        optimizer.step(gradient=ProjectedGradient(torch.tensor([key]), value, key))
    assert float(OptionScoring().losses(model, batch("llama"))) < 0.95 * first


def test_a_mask_is_asked_for_the_float_weights_one_by_one() -> None:
    largest = prepared("llama", Int4(32), None, SparsePerturber(), mask=Magnitude(0.03))[0]
    floats = dict(tiny("llama").named_parameters())
    for weight in perturbed_weights(largest):
        value = floats[weight.path].flatten()
        count = int(0.03 * len(value))
        assert torch.equal(
            weight.store.values.abs().sort().values, value.abs().sort().values[-count:]
        )
    whole = Magnitude(0.03, per="model")
    with pytest.raises(UserError, match=r"was asked for .* alone; use per: matrix"):
        prepared("llama", Int4(32), None, SparsePerturber(), mask=whole)
