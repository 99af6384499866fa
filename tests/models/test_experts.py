"""Mixture-of-experts models: experts are stored, read, paired and moved like linear layers."""

import copy

import pytest
import torch
from preparing import prepare
from tiny_experts import IDS, MODELS, eager, expert_weights, logits, prepared, tiny
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.models.families import last_logits
from zolit.models.passes.compiled_blocks import compile_blocks
from zolit.models.trials.pairs import Trial, try_pairs
from zolit.strategies import (
    CodePerturber,
    DensePerturber,
    Float8,
    Int4,
    Int8,
    LowRankPerturber,
    Magnitude,
    NoQuantizer,
    Perturber,
    Quantizer,
    ScalePerturber,
    SqueezeLLM,
)
from zolit.strategies.quantizer.hqq import HQQ
from zolit.tensors.experts import sort_choices
from zolit.tensors.reading import Reading
from zolit.tensors.update import move
from zolit.tensors.weight import PerturbedWeight, perturbed_weights, stored_weights

QUANTIZERS: dict[str, Quantizer] = {
    "int8": Int8(),
    "int4": Int4(32),
    "float8": Float8(),
    "hqq": HQQ(32),
    "tables": SqueezeLLM(4),
}
RECIPES: dict[str, tuple[Quantizer, Perturber]] = {
    "MeZO": (NoQuantizer(), DensePerturber(1e-2)),
    "QuZO int8": (Int8(), CodePerturber(1.0)),
    "QuZO W8A8": (Int8(activations="int8"), CodePerturber(1.0, distribution="rademacher")),
    "scales of W8A8": (Int8(activations="int8"), ScalePerturber(0.05)),
    "rank 2 of W8A8": (Int8(activations="int8"), LowRankPerturber(0.02, 2)),
    "output channels of int8": (Int8(), ScalePerturber(0.05)),
    "each scale of int4": (Int4(32), ScalePerturber(0.05, granularity="group")),
    "rank 2": (NoQuantizer(), LowRankPerturber(0.02, 2)),
    "rank 1 of int4": (Int4(32), LowRankPerturber(0.02)),
}


@pytest.mark.parametrize("name", MODELS)
def test_experts_count_as_linear_layers(name: str) -> None:
    model, _ = prepared(name, Int8(), CodePerturber())
    experts = expert_weights(model)
    assert len(experts) == 4
    tuned = {weight.path for weight in perturbed_weights(model)}
    assert tuned == {weight.path for weight in stored_weights(model)}
    for path, weight in experts.items():
        assert isinstance(weight, PerturbedWeight)
        assert weight.store.quantized
        assert path in tuned
    # Routers and the output layer stay as they are.
    names = ("mlp.router.weight", "mlp.gate.weight", "lm_head.weight")
    routers = [p for path, p in model.named_parameters() if path.endswith(names)]
    assert len(routers) == 3
    assert not any(isinstance(router, PerturbedWeight) for router in routers)


@pytest.mark.parametrize("name", MODELS)
def test_unquantized_experts_at_rest_equal_those_of_transformers(name: str) -> None:
    model, _ = prepared(name, NoQuantizer(), DensePerturber())
    torch.testing.assert_close(logits(model), logits(eager(name)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("name", MODELS)
def test_quantized_experts_equal_their_decoded_floats(name: str, quantizer: str) -> None:
    model, _ = prepared(name, QUANTIZERS[quantizer], ScalePerturber())
    plain = eager(name)
    original = logits(plain)
    parameters = dict(plain.named_parameters())
    for path, weight in expert_weights(model).items():
        decoded = weight.dense()  # type: ignore[attr-defined]
        # Nearer than a third of the largest weight, so no matrix and no axis is in another place.
        assert (decoded - parameters[path]).abs().max() < parameters[path].abs().max() / 3
    for weight in stored_weights(model):
        parameters[weight.path].copy_(weight.dense())
    got = logits(model)
    torch.testing.assert_close(got, logits(plain), atol=2e-5, rtol=1e-4)
    assert (got - original).abs().max() > 1e-4


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", MODELS)
def test_a_pair_equals_two_passes(name: str, recipe: str) -> None:
    quantizer, perturber = RECIPES[recipe]
    # The experts alone, so that a difference is theirs.
    model, reading = prepared(name, quantizer, perturber, ["*.experts.*_proj"])
    rest = logits(model)
    with reading.perturbed(5, perturber.eps, 2):
        both = logits(model, torch.cat((IDS, IDS))).chunk(2)
    for sign, paired in zip((1, -1), both, strict=True):
        with reading.perturbed(5, sign * perturber.eps, 1):
            torch.testing.assert_close(paired, logits(model), atol=2e-5, rtol=1e-4)
    assert (both[0] - both[1]).abs().max() > 1e-3
    assert torch.equal(logits(model), rest)


@pytest.mark.parametrize("recipe", ["MeZO", "QuZO W8A8", "output channels of int8"])
def test_a_mask_by_bits_leaves_entries_of_experts_alone(recipe: str) -> None:
    quantizer, perturber = RECIPES[recipe]
    where = ["*.experts.*_proj"]
    model, reading = prepared(
        "mixtral", quantizer, perturber, where, chunk_bytes=3000, mask=Magnitude(0.25)
    )
    rest = [weight.dense() * 1.0 for weight in perturbed_weights(model)]
    with reading.perturbed(5, perturber.eps, 2):
        both = logits(model, torch.cat((IDS, IDS))).chunk(2)
    for sign, paired in zip((1, -1), both, strict=True):
        with reading.perturbed(5, sign * perturber.eps, 1):
            torch.testing.assert_close(paired, logits(model), atol=2e-5, rtol=1e-4)
            read = [weight.dense() * 1.0 for weight in perturbed_weights(model)]
    for weight, one, two in zip(perturbed_weights(model), rest, read, strict=True):
        chosen = weight.site.support.chosen().view(weight.store.rows, -1)
        mask = chosen.repeat_interleave(weight.store.columns // chosen.shape[1], 1)
        moved = (one != two).view(mask.shape)
        assert not (moved & ~mask).any()
        assert moved.sum() > 0.5 * mask.sum()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("recipe", ["MeZO", "output channels of int8", "rank 1 of int4"])
def test_a_perturbed_read_equals_the_perturbed_weights_in_transformers(
    name: str, recipe: str
) -> None:
    quantizer, perturber = RECIPES[recipe]
    model, reading = prepared(name, quantizer, perturber)
    plain = eager(name)
    parameters = dict(plain.named_parameters())
    with reading.perturbed(9, -perturber.eps, 1):
        got = logits(model)
        for weight in stored_weights(model):
            parameters[weight.path].copy_(weight.dense())
    torch.testing.assert_close(got, logits(plain), atol=5e-5, rtol=5e-4)


@pytest.mark.parametrize("rows", [8, 40, 128, 200])
@pytest.mark.parametrize("recipe", ["QuZO int8", "QuZO W8A8"])
def test_chunks_of_a_part_of_an_expert_or_of_several(recipe: str, rows: int) -> None:
    quantizer, perturber = RECIPES[recipe]
    tokens = torch.cat((IDS, IDS))
    whole, reading = prepared("mixtral", quantizer, perturber)
    width = 1 if quantizer.integer_products else 4
    parts, in_chunks = prepared("mixtral", quantizer, perturber, chunk_bytes=2 * 32 * width * rows)
    with reading.perturbed(3, perturber.eps, 2), in_chunks.perturbed(3, perturber.eps, 2):
        torch.testing.assert_close(logits(parts, tokens), logits(whole, tokens))
    assert in_chunks.workspace.bytes < reading.workspace.bytes


@pytest.mark.parametrize("name", MODELS)
def test_the_estimate_is_the_derivative_along_the_direction(name: str) -> None:
    """Central difference of the loss against autograd, over experts alone."""
    perturber = DensePerturber(1e-4)  # so small that no token goes to another expert
    model, reading = prepared(name, NoQuantizer(), perturber, ["*.experts.*_proj"])
    labels = IDS.roll(-1, 1)

    def loss(of: nn.Module, ids: Tensor) -> Tensor:
        each = nn.functional.cross_entropy(
            of(input_ids=ids).logits.mT, labels.repeat(len(ids) // 4, 1), reduction="none"
        )
        return each.view(len(ids) // 4, -1).double().mean(dim=1)

    with torch.no_grad(), reading.perturbed(7, perturber.eps, 2):
        plus, minus = loss(model, torch.cat((IDS, IDS)))
    plain = eager(name).requires_grad_(True)
    loss(plain, IDS)[0].backward()
    with reading.perturbed(7, 1.0, 1):
        moved = {weight.path: weight.dense() for weight in perturbed_weights(model)}
    wanted = sum(
        ((moved[path] - parameter.detach()) * parameter.grad).double().sum()
        for path, parameter in plain.named_parameters()
        if path in moved
    )
    assert abs(wanted) > 1e-3
    torch.testing.assert_close((plus - minus) / (2 * perturber.eps), wanted, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("recipe", ["MeZO", "QuZO int8", "output channels of int8", "rank 2"])
@pytest.mark.parametrize("name", ["mixtral", "gpt_oss"])
def test_a_step_moves_all_experts(name: str, recipe: str) -> None:
    quantizer, perturber = RECIPES[recipe]
    model, reading = prepared(name, quantizer, perturber)
    before = {weight.path: weight.dense() for weight in perturbed_weights(model)}
    with reading.perturbed(3, perturber.eps, 1):
        read = {weight.path: weight.dense() for weight in perturbed_weights(model)}
    weights = perturbed_weights(model)
    move(weights, [3], [perturber.eps], 1, [None] * len(weights))
    for weight in weights:
        change = weight.dense() - before[weight.path]
        if weight.path in expert_weights(model):
            # Every expert, none left out.
            assert (change.abs().amax(dim=(1, 2)) > 0).all()
        if quantizer.quantized and isinstance(perturber, CodePerturber):
            continue  # the update rounds by a draw of its own
        torch.testing.assert_close(weight.dense(), read[weight.path], atol=1e-6, rtol=1e-5)


def test_biases_of_experts_move_in_pairs() -> None:
    perturber = DensePerturber(0.05)
    model, reading = prepared("gpt_oss", NoQuantizer(), perturber, ["*_proj_bias"])
    tuned = {weight.path for weight in perturbed_weights(model)}
    assert {f"model.layers.1.mlp.experts.{one}_proj_bias" for one in ("gate_up", "down")} < tuned
    with reading.perturbed(5, perturber.eps, 2):
        both = logits(model, torch.cat((IDS, IDS))).chunk(2)
    for sign, paired in zip((1, -1), both, strict=True):
        with reading.perturbed(5, sign * perturber.eps, 1):
            torch.testing.assert_close(paired, logits(model), atol=2e-5, rtol=1e-4)
    assert (both[0] - both[1]).abs().max() > 1e-3


def test_compiled_kernels_read_what_the_reference_reads() -> None:
    quantizer, perturber = RECIPES["QuZO int8"]
    tokens = torch.cat((IDS, IDS))
    read = []
    for kernels in ("reference", "compiled"):
        model, reading = prepared("mixtral", quantizer, perturber, kernels=kernels)  # type: ignore[arg-type]
        with reading.perturbed(3, perturber.eps, 2):
            read.append(logits(model, tokens))
    torch.testing.assert_close(*read, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "name",
    ["mixtral", *[pytest.param(n, marks=pytest.mark.slow) for n in MODELS if n != "mixtral"]],
)
def test_compiled_blocks_hold_experts(name: str) -> None:
    quantizer, perturber = RECIPES["QuZO int8"]
    tokens = torch.cat((IDS, IDS))
    plain, reading = prepared(name, quantizer, perturber, kernels="compiled")
    model, mine = prepared(name, quantizer, perturber, kernels="compiled")
    paths = {path for path, _ in model.named_parameters()}
    assert compile_blocks(model) == 2
    assert {path for path, _ in model.named_parameters()} == paths
    torch.testing.assert_close(logits(model), logits(plain), atol=2e-5, rtol=1e-4)
    for key in (5, 6):
        with reading.perturbed(key, 1.4, 2), mine.perturbed(key, 1.4, 2):
            expected = logits(plain, tokens)
            torch.testing.assert_close(logits(model, tokens), expected, atol=2e-5, rtol=1e-4)
    experts = model.model.layers[0].mlp.experts
    twin, given = copy.deepcopy(experts), (torch.ones(2, 32), IDS[:2, :2] % 4, torch.ones(2, 2))
    before = experts(*given)
    twin.down_proj.store.scale.zero_()
    assert torch.equal(experts(*given), before)
    assert not torch.equal(twin(*given), before)


def test_pairs_of_experts_are_found_by_trial() -> None:
    for name in MODELS:
        model, _ = prepared(name, Int8(), CodePerturber())
        trial = try_pairs(model, last_logits, planned=True, tell=True)
        assert trial == Trial(pairable=True), name


@pytest.mark.parametrize("shape", [(6,), (4, 6), (3, 4, 6), (3, 4, 2, 2)])
def test_other_parameters_of_any_shape_are_read_whole(shape: tuple[int, ...]) -> None:
    """Convolutions, and experts of a model's own code."""
    model, perturber = nn.Module(), DensePerturber()
    value = torch.randn(shape)
    model.odd = nn.Parameter(value.clone(), requires_grad=False)
    prepare(model, NoQuantizer(), perturber, Reading(perturber.direction(), "reference"), ["odd"])
    assert torch.equal(model.odd.dense(), value)  # type: ignore[operator]


def test_an_odd_number_of_tokens_has_no_halves() -> None:
    quantizer, perturber = RECIPES["QuZO int8"]
    model, reading = prepared("mixtral", quantizer, perturber, ["*.experts.*"])
    with reading.perturbed(3, 1.0, 2), pytest.raises(UserError, match="even number of tokens"):
        logits(model, IDS[:1, :7])


@pytest.mark.parametrize("halves", [1, 2])
def test_choices_are_sorted_by_half_and_expert(halves: int) -> None:
    experts = torch.tensor([2, 0, 7, 2, 0, 2, 2, 1])  # of 3; 7 names none
    found = sort_choices(experts, 3, halves)
    half_of = torch.arange(8) * halves // 8
    seen = []
    for part in found.parts:
        places = found.order[part.tokens]
        assert (experts[places] == part.expert).all()
        assert (half_of[places] == part.half).all()
        seen += places.tolist()
    for span in found.left:
        assert experts[found.order[span]].tolist() == [7]
        seen += found.order[span].tolist()
    assert sorted(seen) == list(range(8))


def test_tokens_that_no_expert_gets_come_out_as_zero() -> None:
    model, _ = prepared("mixtral", Int8(), CodePerturber())
    experts = (
        model.model.layers[0].block_sparse_moe.experts
        if hasattr(model.model.layers[0], "block_sparse_moe")
        else model.model.layers[0].mlp.experts
    )
    hidden, factors = torch.randn(6, 32), torch.rand(6, 2)
    index = torch.tensor([[0, 1], [4, 4], [2, 3], [3, 4], [1, 0], [4, 2]])  # 4 names none
    got = experts(hidden, index, factors)
    assert (got[1] == 0).all()
    alone = experts(hidden[3:4], index[3:4, :1], factors[3:4, :1])
    torch.testing.assert_close(got[3:4], alone)
    assert tiny("mixtral").config._experts_implementation != "zolit"
