"""The estimate beside a module that is loaded and stepped for real."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf_folders import write_llama
from quantized_folders import quantized_llama

from zolit.checkpoints.tensors import weight_tensors
from zolit.gradient import ProjectedGradient
from zolit.memory.batches import PER_SHAPE, Batches, prompts
from zolit.memory.estimate import Estimate, estimate_memory
from zolit.memory.tracker import LiveBytes
from zolit.models.source import ModelSource
from zolit.objectives.prompt_batch import PromptBatch
from zolit.optim import ZOSGD, ZOMomentum
from zolit.strategies import (
    SVRG,
    CodePerturber,
    ConstantQueries,
    DensePerturber,
    Float8,
    Int4,
    Int8,
    LowRankPerturber,
    Magnitude,
    Mask,
    NoQuantizer,
    Perturber,
    Quantizer,
    RandomMask,
    ScalePerturber,
    SparsePerturber,
    SqueezeLLM,
    Stored,
)
from zolit.training.zero_order import ZeroOrderModule

CODES = CodePerturber(1.0, distribution="rademacher")
RECIPES: list[tuple[Quantizer, Perturber, bool]] = [
    (Int8(), CODES, False),
    (Int8(keep_error=True), CODES, True),
    (Int8(activations="int8"), CODES, False),
    (Int4(64), ScalePerturber(1e-2), False),
    (Float8(keep_error=True), CODES, True),
    (NoQuantizer(), DensePerturber(), True),
    (SqueezeLLM(3), ScalePerturber(1e-2), False),
]


def module(
    folder: Path, parts: tuple[Quantizer, Perturber, bool], mask: Mask | None = None
) -> ZeroOrderModule:
    quantizer, perturber, feedback = parts
    return ZeroOrderModule(
        ModelSource(str(folder)),
        quantizer,
        perturber,
        mask=mask,
        query_scheduler=ConstantQueries(2),
        optimizer=lambda weights: ZOSGD(weights, lr=1e-6, error_feedback=feedback),
        kernels="reference",
    )


def batch(rows: int, padded: bool) -> PromptBatch:
    mask = torch.ones(rows, 48, dtype=torch.int64)
    mask[0, : 5 * padded] = 0
    return PromptBatch(
        input_ids=torch.arange(rows * 48).view(rows, 48) % 300,
        attention_mask=mask,
        answer_positions=torch.full((rows, 1), 47),
        answer_ids=torch.tensor([[10], [20]]),
        labels=torch.zeros(rows, dtype=torch.int64),
    )


def step(real: ZeroOrderModule, optimizer: ZOSGD, rows: PromptBatch) -> None:
    estimate = real.estimate(rows, [0, 1])
    optimizer.step(gradient=ProjectedGradient(torch.tensor([0, 1]), 0 * estimate.values, 1))


def gptq(folder: Path) -> ModelSource:
    quantized_llama(folder, "4 bits, act-order")
    return ModelSource(str(folder))


CHECKPOINTS = {
    "GPTQ": gptq,
    # Layers of one shape in two formats.
    "GGUF": lambda folder: write_llama(folder, Kind.Q4_1, kinds={"ffn_up": Kind.Q8_0}),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_layers_that_a_checkpoint_keeps(name: str, tmp_path: Path) -> None:
    def made() -> ZeroOrderModule:
        return ZeroOrderModule(
            CHECKPOINTS[name](tmp_path), Stored(), ScalePerturber(1e-2), kernels="reference"
        )

    rows = prompts(4, 24)
    found = estimate_memory(made(), Batches(rows, None, ""), base=0)
    real = made()
    real.configure_model()
    stores = [p.store for p in real.network.parameters() if hasattr(p, "store")]
    scales = sum(t.nbytes for s in stores for t in s.scales().values())
    assert found.scales == scales
    assert found.codes == sum(t.nbytes for s in stores for t in s.tensors().values()) - scales
    plain = [p.nbytes for p in real.network.parameters() if not hasattr(p, "store")]
    assert found.floats == sum(plain) + sum(b.nbytes for b in real.network.buffers())


@pytest.mark.parametrize(
    ("parts", "padded"),
    [
        (RECIPES[3], True),
        (RECIPES[5], False),
        *(pytest.param(parts, True, marks=pytest.mark.slow) for parts in RECIPES),
        *(pytest.param(parts, False, marks=pytest.mark.slow) for parts in RECIPES),
    ],
    ids=lambda p: f"{type(p[0]).__name__}-{p[2]}" if isinstance(p, tuple) else None,
)
@torch.no_grad()
def test_agrees_with_a_real_step(
    parts: tuple[Quantizer, Perturber, bool], padded: bool, tiny_llama: Path
) -> None:
    train, evaluation = batch(4, padded), batch(6, padded)
    found = estimate_memory(module(tiny_llama, parts), Batches(train, evaluation, ""), base=0)

    real = module(tiny_llama, parts)
    real.configure_model()
    real.network.eval()
    optimizer = ZOSGD(real.weights, lr=1e-6, error_feedback=parts[2])
    step(real, optimizer, train)  # what stays is made now
    with LiveBytes() as stepped:
        step(real, optimizer, train)
    with LiveBytes() as evaluated:
        real.objective.scores(real.network, evaluation)

    stores = [p.store for p in real.network.parameters() if hasattr(p, "store")]
    quantized = [store for store in stores if store.quantized]
    kept = [store.tensors().values() for store in quantized]
    assert found.codes + found.scales == sum(t.nbytes for tensors in kept for t in tensors)
    assert found.scales == sum(t.nbytes for s in quantized for t in s.scales().values())
    residuals = [state["residual"].nbytes for state in optimizer.state.values() if state]
    assert found.feedback == sum(residuals)
    total = sum(p.numel() for p in real.network.parameters())
    coded = sum(store.rows * store.columns for store in quantized)
    buffers = sum(b.nbytes for b in real.network.buffers())
    assert found.floats == 2 * (total - coded) + buffers
    assert found.workspace == real.reading.workspace.bytes
    assert max(found.step, found.update) == pytest.approx(stepped.peak, rel=0.05)
    assert found.evaluation == pytest.approx(evaluated.peak, rel=0.05)


@torch.no_grad()
@pytest.mark.parametrize("mask", [RandomMask(0.05), Magnitude(0.05)], ids=["random", "largest"])
def test_an_overlay_is_counted(mask: Mask, tiny_llama: Path) -> None:
    """As many entries as a mask is expected to choose: about 3000 of them, 10 % is five sigma."""

    parts, rows = (Int4(64), SparsePerturber(), False), batch(4, False)
    found = estimate_memory(module(tiny_llama, parts, mask), Batches(rows, None, ""), base=0)
    real = module(tiny_llama, parts, mask)
    real.configure_model()
    real.network.eval()
    optimizer = ZOSGD(real.weights, lr=1e-6)
    step(real, optimizer, rows)
    with LiveBytes() as stepped:
        step(real, optimizer, rows)
    stores = [weight.store for weight in real.weights]
    held = sum(t.nbytes for store in stores for t in store.tensors().values())
    floats = sum(len(store.values) for store in stores)
    assert floats > 2000
    assert abs(found.codes + found.scales - held) < 0.1 * 8 * floats
    assert found.workspace == real.reading.workspace.bytes
    assert max(found.step, found.update) == pytest.approx(stepped.peak, rel=0.1)


@torch.no_grad()
def test_what_an_optimizer_and_an_estimator_keep_is_counted(tiny_llama: Path) -> None:
    """Momentum with error feedback along low rank, at the steps of an anchor and after it."""

    def made() -> ZeroOrderModule:
        one = module(tiny_llama, (Int8(), LowRankPerturber(), True))
        one.estimator = SVRG()
        options = {"lr": 1e-6, "tolerance": 0.5, "error_feedback": True}
        one.optimizer_factory = lambda weights: ZOMomentum(weights, **options)
        return one

    rows = batch(4, False)
    found = estimate_memory(made(), Batches(rows, None, ""), base=0)
    real = made()
    real.configure_model()
    real.network.eval()
    optimizer = real.configure_optimizers()
    for first in range(8):  # seven are remembered
        keys = real.estimator.directions([2 * first, 2 * first + 1])
        with LiveBytes() as read:
            values = real.estimate(rows, keys).values
        gradient = ProjectedGradient(torch.tensor(keys), real.estimator.finish(0 * values), 1)
        if first < 2:
            real.estimator.before_step(gradient, real.weights)
        with LiveBytes() as moved:
            optimizer.step(gradient=gradient)
    assert found.anchors == sum(t.nbytes for t in weight_tensors(real.network).values())
    assert found.feedback == sum(optimizer.state[one]["residual"].nbytes for one in real.weights)
    assert 0 < found.states < 1000
    assert found.update == pytest.approx(moved.peak, rel=0.05)
    assert found.step == pytest.approx(read.peak, rel=0.05)
    kept = found.feedback + found.states + found.anchors + found.masks
    assert found.weights == found.codes + found.scales + found.floats + kept


def test_compiled_kernels_keep_no_temporaries(tiny_llama: Path) -> None:
    rows = Batches(batch(4, False), None, "")
    parts = (Int8(), CODES, False)
    plain = estimate_memory(module(tiny_llama, parts), rows, base=0)
    compiled = module(tiny_llama, parts)
    compiled.reading.preference = "compiled"
    found = estimate_memory(compiled, rows, base=0)
    assert found.step < plain.step
    assert found.update < plain.update
    assert (plain.compiler, plain.compiling) == (0, 0)
    assert found.compiler > 0
    assert (found.codes, found.workspace) == (plain.codes, plain.workspace)


def test_each_further_shape_of_batch_adds_to_the_process(tiny_llama: Path) -> None:
    parts = (Int8(), CODES, False)
    rows = Batches(batch(4, False), None, "", shapes=7)
    one = estimate_memory(module(tiny_llama, parts), replace(rows, shapes=1), base=100)
    found = estimate_memory(module(tiny_llama, parts), rows, base=100)
    assert found.shapes == found.total - one.total == 6 * PER_SHAPE
    assert estimate_memory(module(tiny_llama, parts), rows, base=0).shapes == 0


def test_parts_make_the_peak() -> None:
    parts = dict.fromkeys(Estimate.__dataclass_fields__, 0)
    some = Estimate(**{**parts, "base": 100, "codes": 40, "step": 7, "update": 5, "loading": 9})
    assert some.total == some.peak_loading == 149
    more = Estimate(**{**parts, "base": 100, "codes": 40, "step": 7, "workspace": 3, "loading": 9})
    assert more.total == more.peak_running == 150


def test_bits_of_a_mask_are_counted(tiny_llama: Path) -> None:
    rows = Batches(batch(4, False), None, "")
    parts = (Int8(), CODES, False)
    plain = estimate_memory(module(tiny_llama, parts), rows, base=0)
    real, counted = (module(tiny_llama, parts, Magnitude(0.01)) for _ in range(2))
    found = estimate_memory(counted, rows, base=0)
    real.configure_model()
    assert plain.masks == 0
    assert found.masks == sum(weight.site.support.bits().nbytes for weight in real.weights)
    assert found.weights == plain.weights + found.masks
    coordinates = sum(weight.store.rows * weight.store.columns for weight in real.weights)
    assert found.masks == coordinates / 8
