"""Masks that read their choice from a file: of saliency, or of a mask that chose before."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from preparing import prepare
from test_masks import ask, floats, largest
from tiny_models import batch, prepared, tiny

from zolit.calibration.model_digest import float_digests
from zolit.calibration.saliency_file import VERSION, Facts, kept_tensors
from zolit.errors import UserError
from zolit.formats.bit_planes import BitPlanesWeight
from zolit.formats.dense import DenseWeight
from zolit.formats.permuted import PermutedWeight
from zolit.formats.sparse_overlay import SparseOverlay
from zolit.models.parts import Candidate
from zolit.objectives.option_scoring import OptionScoring
from zolit.strategies import (
    CodePerturber,
    DensePerturber,
    FromFile,
    Int4,
    Int8,
    Magnitude,
    NoQuantizer,
    Quantizer,
    RandomMask,
    ScalePerturber,
    Sensitive,
    SparsePerturber,
    SqueezeLLM,
)
from zolit.supports import Bits
from zolit.tensors.reading import Reading
from zolit.tensors.update import move
from zolit.tensors.weight import perturbed_weights

Q_PROJ = "model.layers.0.self_attn.q_proj.weight"


def saliency(
    file: Path, model: nn.Module, keep: float, factors: Mapping[str, float] | None = None
) -> dict[str, Tensor]:
    """A file of made-up scores, with ties, of a tiny Llama's blocks; and all of the scores.

    The scores of some weights are multiplied by a factor.
    """
    generator = torch.Generator().manual_seed(7)
    scores = {
        path: torch.randint(0, 200, tuple(one.shape), generator=generator).float()
        for path, one in model.named_parameters()
        if path.endswith("_proj.weight")
    }
    for path, factor in (factors or {}).items():
        scores[path] = (scores[path] * factor).bfloat16().float()
    tensors: dict[str, Tensor] = {}
    for path, one in scores.items():
        tensors |= kept_tensors(path, one, keep)
    shapes = {path: (one.shape[0], one.shape[1]) for path, one in scores.items()}
    facts = Facts(VERSION, "fisher", "00", 2, 8, keep, shapes, float_digests(model))
    save_file(tensors, file, facts.metadata())
    return scores


@pytest.mark.parametrize("quantizer", [Int4(32), SqueezeLLM(3)])
def test_the_most_sensitive_entries_stand_beside_codes(
    quantizer: Quantizer, tmp_path: Path
) -> None:
    file, model = tmp_path / "c4.saliency", tiny("llama")
    scores = saliency(file, model, 0.1)
    mask = Sensitive(str(file), 0.05)
    overlaid = prepared("llama", quantizer, None, SparsePerturber(), mask=mask)[0]
    for weight in perturbed_weights(overlaid):
        value = scores[weight.path].numpy()
        wanted = largest(value, int(value.size * 0.05))
        assert weight.store.positions.tolist() == np.flatnonzero(wanted).tolist()
        kept = model.get_parameter(weight.path)[torch.from_numpy(wanted)]
        assert torch.equal(weight.store.values, kept)


@pytest.mark.parametrize("keep", [0.2, 1.0])
@pytest.mark.parametrize("quantizer", [Int4(32), SqueezeLLM(3)])
def test_the_most_sensitive_entries_of_the_model_stand_beside_codes(
    quantizer: Quantizer, keep: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each matrix is quantized before the next is there: the file alone says what is compared."""
    file, model = tmp_path / "c4.saliency", tiny("llama")
    scores = saliency(file, model, keep, {Q_PROJ: 1e-3})
    mask = Sensitive(str(file), 0.05, "model")
    overlaid, reading, _ = prepared("llama", quantizer, None, SparsePerturber(), mask=mask)
    weights = perturbed_weights(overlaid)
    flat = np.concatenate([scores[one.path].numpy().ravel() for one in weights])
    wanted = largest(flat, int(flat.size * 0.05))
    start = 0
    for one in weights:
        assert isinstance(one.store, SparseOverlay)
        stop = start + one.store.rows * one.store.columns
        assert one.store.positions.tolist() == np.flatnonzero(wanted[start:stop]).tolist()
        start = stop
    assert len(weights[0].store.positions) == 0  # the scores of the first matrix are the lowest
    assert f"the mask leaves no entry of {Q_PROJ} to move" in caplog.text
    with torch.no_grad():
        rest = OptionScoring().losses(overlaid, batch("llama"))
        with reading.perturbed(3, 1.0, 2):
            moved = OptionScoring().losses(overlaid, batch("llama"), 2)
        assert (moved != rest).all()
        before = [one.store.values.clone() for one in weights]
        move(weights, [5], [1.0], 7, [None] * len(weights))
    same = [torch.equal(one.store.values, old) for one, old in zip(weights, before, strict=True)]
    assert same == [not len(one.store.values) for one in weights]


def test_too_few_scores_of_the_model(tmp_path: Path) -> None:
    file = tmp_path / "c4.saliency"
    saliency(file, tiny("llama"), 0.1, {Q_PROJ: 1e3})
    for fraction, message in (
        (0.05, rf"keeps the 102 highest scores of {Q_PROJ}, and all are among the \d+ .* than 0.1"),
        (0.2, r"keeps the \d+ highest scores of the weights that tune names, but \d+ are to move"),
    ):
        for perturber, quantizer in ((SparsePerturber(), Int4(32)), (None, Int8())):
            mask = Sensitive(str(file), fraction, "model")
            with pytest.raises(UserError, match=message):
                prepared("llama", quantizer, None, perturber, mask=mask)
    for mask, message in (
        (Sensitive(str(file), 1e-6, "model"), "leaves none; use at least 1/"),
        (Magnitude(0.1, per="model"), "compares all weights of a model with per: model"),
    ):
        with pytest.raises(UserError, match=message):
            prepared("llama", Int4(32), None, SparsePerturber(), mask=mask)


def test_a_choice_of_the_whole_model_is_made_again_beside_codes(tmp_path: Path) -> None:
    """A magnitude mask of the whole model, kept in a file, of which a matrix has no entry."""
    file = str(tmp_path / "chosen.mask")
    model = tiny("llama")
    model.get_parameter(Q_PROJ).mul_(1e-3)
    perturber = DensePerturber()
    reading = Reading(perturber.direction(), "reference")
    prepare(model, NoQuantizer(), perturber, reading, ["linear"], mask=Magnitude(0.05, per="model"))
    FromFile.save(model, file)
    overlaid, _, _ = prepared("llama", Int4(32), None, SparsePerturber(), mask=FromFile(file))
    for one, two in zip(perturbed_weights(model), perturbed_weights(overlaid), strict=True):
        chosen = one.site.support.chosen().flatten().nonzero().flatten()
        assert torch.equal(two.store.positions.long(), chosen)
    assert len(two.store.positions) > 0


@pytest.mark.parametrize("quantizer", [NoQuantizer(), Int4(32)])
@pytest.mark.parametrize("keep", [0.1, 1.0])
def test_the_most_sensitive_weights_move(keep: float, quantizer: Quantizer, tmp_path: Path) -> None:
    file = tmp_path / "c4.saliency"
    scores = saliency(file, tiny("llama"), keep)
    model, reading, _ = prepared("llama", quantizer, mask=Sensitive(str(file), 0.05))
    weights = perturbed_weights(model)
    assert {weight.path for weight in weights} == scores.keys()
    for weight in weights:
        value = scores[weight.path].numpy()
        wanted = largest(value, int(value.size * 0.05))
        assert np.array_equal(weight.site.support.chosen().numpy(), wanted)
    rest = weights[0] * 1.0
    with reading.perturbed(3, 1.0, 1):
        moved = (weights[0] * 1.0 != rest).numpy()
    assert not (moved & ~weights[0].site.support.chosen().numpy()).any()
    assert moved.any()
    # The weight as it is before it is quantized, where the others are not there yet.
    alone = DenseWeight(tiny("llama").get_parameter(Q_PROJ).detach())
    support = Sensitive(str(file), 0.05).choose(Q_PROJ, alone, 0, 1)
    assert torch.equal(support.bits(), weights[0].site.support.bits())


def test_rows_the_model_and_scales_take_all_scores(tmp_path: Path) -> None:
    file = tmp_path / "c4.saliency"
    scores = saliency(file, tiny("llama"), 1.0)
    one = scores[Q_PROJ].numpy()
    store = Int4(32).store(tiny("llama").get_parameter(Q_PROJ).detach(), "w")
    by_row = Sensitive(str(file), 0.1, "row").choose(Q_PROJ, store, 0, 1)
    wanted = np.stack([largest(row, int(one.shape[1] * 0.1)) for row in one])
    assert np.array_equal(by_row.chosen().numpy(), wanted)
    shape = one.shape[0], one.shape[1] // 32
    [scales] = Sensitive(str(file), 0.25).choose_all([Candidate(Q_PROJ, store, 0, 1, shape)])
    sums = one.reshape(*shape, 32).sum(2)
    assert np.array_equal(scales.chosen().numpy(), largest(sums, int(sums.size * 0.25)))
    model, _, _ = prepared("llama", Int8(), mask=Sensitive(str(file), 0.1, "model"))
    flat = np.concatenate([scores[w.path].numpy().ravel() for w in perturbed_weights(model)])
    bits = [w.site.support.chosen().numpy().ravel() for w in perturbed_weights(model)]
    assert np.array_equal(np.concatenate(bits), largest(flat, int(flat.size * 0.1)))

    part = tmp_path / "part.saliency"
    saliency(part, tiny("llama"), 0.2)
    with pytest.raises(UserError, match="but mask Sensitive with per: row needs all"):
        prepared("llama", Int8(), mask=Sensitive(str(part), 0.1, "row"))
    again, _, _ = prepared("llama", Int8(), mask=Sensitive(str(part), 0.1, "model"))
    for one, two in zip(perturbed_weights(model), perturbed_weights(again), strict=True):
        assert torch.equal(one.site.support.bits(), two.site.support.bits())


def test_a_saliency_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "c4.saliency"
    saliency(file, tiny("llama"), 0.1)
    with pytest.raises(UserError, match=r"keeps the .* scores of .* fraction: 0.2 needs 204 of"):
        prepared("llama", Int8(), mask=Sensitive(str(file), 0.2))
    with pytest.raises(UserError, match=r"holds no scores of model.embed_tokens.weight"):
        prepared("llama", Int8(), ["embeddings"], mask=Sensitive(str(file), 0.05))
    with pytest.raises(UserError, match="of another model"):
        prepared("gpt2", Int8(), mask=Sensitive(str(file), 0.05))
    value = tiny("llama").get_parameter(Q_PROJ).detach() + 0.1
    with pytest.raises(UserError, match=r"q_proj.weight has other values"):
        Sensitive(str(file), 0.05).choose(Q_PROJ, DenseWeight(value), 0, 1)
    with pytest.raises(UserError, match=r"is of another model: .* is \[3, 40\], not \[32, 32\]"):
        Sensitive(str(file), 0.05).choose(Q_PROJ, Int8().store(floats(3, 40), "w"), 0, 1)
    with pytest.raises(UserError, match="expected a file"):
        prepared("llama", Int8(), mask=Sensitive(str(tmp_path / "none"), 0.05))
    with pytest.raises(UserError, match="fraction must be in"):
        Sensitive(str(file), 2.0)


@pytest.mark.parametrize("perturber", [CodePerturber(), ScalePerturber(granularity="group")])
def test_a_choice_is_kept_and_made_again(perturber: Any, tmp_path: Path) -> None:
    file = str(tmp_path / "chosen.mask")
    mask = Magnitude(0.2)
    model, _, _ = prepared("llama", Int4(32), None, perturber, mask=mask)
    FromFile.save(model, file)
    again, _, _ = prepared("llama", Int4(32), None, perturber, mask=FromFile(file))
    for one, two in zip(perturbed_weights(model), perturbed_weights(again), strict=True):
        assert torch.equal(one.site.support.bits(), two.site.support.bits())
        assert one.site.support.shape == two.site.support.shape
    if isinstance(perturber, CodePerturber):  # chosen of codes, moved in floats
        other, _, _ = prepared("llama", NoQuantizer(), None, DensePerturber(), mask=FromFile(file))
        first = perturbed_weights(other)[0].site.support
        assert torch.equal(first.bits(), perturbed_weights(model)[0].site.support.bits())


def test_bits_are_kept_in_the_order_of_the_model(tmp_path: Path) -> None:
    from zolit.strategies.mask.choice_file import in_model_order

    codes = torch.randint(0, 8, (6, 64), generator=torch.Generator().manual_seed(1))
    inner = BitPlanesWeight.of_codes(codes, 3, 0.5 + torch.rand(6, 2), None)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(2))
    store = PermutedWeight(inner, order)
    support = ask(Magnitude(0.25), store)
    kept = Bits(in_model_order(support, store), 64)
    sizes = torch.where(kept.chosen(), store.decoded(slice(0, 6)).abs(), 0)
    stored = torch.where(support.chosen(), inner.decoded(slice(0, 6)).abs(), 0)
    assert torch.equal(store.in_stored_order(sizes), stored)
    assert kept.count == support.count


def test_a_file_of_a_mask_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "chosen.mask"
    model, _, _ = prepared("llama", Int4(32), mask=Magnitude(0.2))
    FromFile.save(model, file)
    mask = FromFile(str(file))
    with pytest.raises(UserError, match=r"is of another model: "):
        prepared("gpt2", Int8(), mask=mask)
    with pytest.raises(UserError, match=r"holds 32x32 coordinates of .*, expected 32x1; use the"):
        prepared("llama", Int4(32), None, ScalePerturber(granularity="group"), mask=mask)
    with pytest.raises(UserError, match=r"says nothing of model.embed_tokens.weight"):
        prepared("llama", Int8(), ["embeddings"], mask=mask)
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    with pytest.raises(UserError, match="is not a whole safetensors file"):
        prepared("llama", Int8(), mask=mask)
    save_file({"a": torch.ones(1)}, file)
    with pytest.raises(UserError, match="holds no mask of zolit"):
        prepared("llama", Int8(), mask=mask)
    with pytest.raises(UserError, match="expected a file"):
        prepared("llama", Int8(), mask=FromFile(str(tmp_path / "none")))
    random, _, _ = prepared("llama", Int8(), mask=RandomMask(0.1))
    with pytest.raises(UserError, match="moves by Hashed, expected bits"):
        FromFile.save(random, file)
    with pytest.raises(UserError, match=r"got a LlamaForCausalLM of which no weight moves"):
        FromFile.save(tiny("llama"), tmp_path / "plain.mask")
    assert not (tmp_path / "plain.mask").exists()
    with pytest.raises(UserError, match="cannot be written"):
        FromFile.save(model, tmp_path / "none" / "file")


def test_estimates_need_no_numbers(tmp_path: Path) -> None:
    file = tmp_path / "c4.saliency"
    saliency(file, tiny("llama"), 0.1)
    store = Int8().store(tiny("llama").get_parameter(Q_PROJ).detach(), "w")
    there = store.replace({n: t.to("meta") for n, t in store.tensors().items()})
    meta = tiny("llama").to("meta")
    mask = Sensitive(str(file), 0.05)
    mask.look_at(meta)
    [support] = mask.choose_all([Candidate(Q_PROJ, there, 0, 1, (store.rows, store.columns))])
    assert (support.bits().is_meta, support.density) == (True, 0.05)
    # What a run is refused for without a look at numbers, an estimate is refused for too.
    small = Sensitive(str(file), 0.2)
    for mask in (small, Sensitive(str(file), 0.05, "row"), Sensitive(str(file), 0.2, "model")):
        with pytest.raises(UserError, match=r"keeps the .* highest scores"):
            mask.choose_all([Candidate(Q_PROJ, there, 0, 1, (store.rows, store.columns))])
    with pytest.raises(UserError, match=r"scores of .* but quantizer SqueezeLLM needs all"):
        SqueezeLLM(3, str(file)).store(torch.empty(32, 32, device="meta"), Q_PROJ)
    with pytest.raises(UserError, match="the model has no"):
        mask.look_at(tiny("gpt2").to("meta"))
    of_model = Sensitive(str(file), 0.05, "model")
    of_model.expect({Q_PROJ: (32, 32)})
    assert of_model.choose(Q_PROJ, there, 0, 1).density == 0.05
