"""`PerturbedWeight` in the operations of a network, whole and in chunks, single and paired."""

import copy

import pytest
import torch
from numpy_noise import control_words
from torch import Tensor, nn
from torch.nn import functional as F

from zolit.coordinates import Coordinates, Elements, LowRank, OutputScales, Scales, Site
from zolit.errors import UserError
from zolit.formats.dense import DenseWeight
from zolit.noise import Direction, coordinates
from zolit.strategies import Float8, Int4, Int8, NoQuantizer, Quantizer
from zolit.tensors.reading import Reading
from zolit.tensors.update import move
from zolit.tensors.weight import PerturbedWeight, perturbed_weights

KEY, EPS = 77, 0.25
QUANTIZERS = {
    "none": NoQuantizer(),
    "int8": Int8(),
    "int8_group": Int8(32),
    "int4": Int4(32),
    "float8": Float8(),
}
BITS4 = Direction("gaussian", 4)
RANK2 = Direction("gaussian", rank=2)


def matrix(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows + columns))


def wrap(
    value: Tensor,
    quantizer: Quantizer,
    reading: Reading,
    kind: str = "elements",
    transposed: bool = False,
    index: int = 0,
) -> PerturbedWeight:
    store = quantizer.store(value.t().contiguous() if transposed else value, "w")
    kinds: dict[str, Coordinates] = {
        "elements": Elements((1.0, 0.0) if store.quantized else (0.0, 1.0)),
        "low_rank": LowRank((0.0, 1.0)),
        "output_scales": OutputScales(),
        "scales": Scales((1.0, 0.0)),
    }
    site = Site(index, kinds[kind])
    return PerturbedWeight(store, site, reading, "w", value.shape, value.dtype, transposed)


def reader(direction: Direction = BITS4, **options: int) -> Reading:
    return Reading(direction, "reference", **options)


def plus_and_minus(weight: PerturbedWeight) -> tuple[Tensor, Tensor]:
    """The two weights in single mode, by the generic operation."""
    values = []
    for sign in (1, -1):
        with weight.reading.perturbed(KEY, sign * EPS, 1):
            values.append(weight * 1.0)
    assert not torch.equal(*values)
    return values[0], values[1]


@pytest.mark.parametrize("name", QUANTIZERS)
def test_single_read_is_the_weight_plus_noise(name: str) -> None:
    weight = wrap(matrix(6, 64), QUANTIZERS[name], reader())
    rest = weight + 0.0
    words = torch.tensor(control_words(KEY, 0), dtype=torch.int32)
    z = coordinates(BITS4, words, torch.arange(6, dtype=torch.int32), 1, 2).view(6, 64)
    unit = 1.0
    if weight.store.quantized:
        unit = weight.store.scale.repeat_interleave(64 // weight.store.scale.shape[1], 1)
    plus, minus = plus_and_minus(weight)
    torch.testing.assert_close(plus, rest + EPS * unit * z)
    torch.testing.assert_close(minus, rest - EPS * unit * z)


@pytest.mark.parametrize("kind", ["elements", "low_rank", "output_scales", "scales"])
@pytest.mark.parametrize("chunk_bytes", [1, 1000, 1 << 20])
@pytest.mark.parametrize("name", QUANTIZERS)
def test_linear_pairs_and_chunks(name: str, chunk_bytes: int, kind: str) -> None:
    if name == "none" and "scales" in kind:
        return
    reading = reader(RANK2 if kind == "low_rank" else BITS4, chunk_bytes=chunk_bytes)
    weight = wrap(matrix(11, 96), QUANTIZERS[name], reading, kind)
    bias = torch.randn(11, generator=torch.Generator().manual_seed(2))
    x = torch.randn(4, 3, 96, generator=torch.Generator().manual_seed(3))
    plus, minus = plus_and_minus(weight)
    rest = F.linear(x, weight + 0.0, bias)
    torch.testing.assert_close(F.linear(x, weight, bias), rest)
    wanted = torch.cat((F.linear(x[:2], plus, bias), F.linear(x[2:], minus, bias)))
    with reading.perturbed(KEY, EPS, 2):
        torch.testing.assert_close(F.linear(x, weight, bias), wanted)
    with reading.perturbed(KEY, -EPS, 1):
        torch.testing.assert_close(F.linear(x, weight, bias), F.linear(x, minus, bias))
    row = weight.store.padded_columns * 4
    assert reading.workspace.bytes <= max(chunk_bytes, 2 * row)


@pytest.mark.parametrize("columns", [50, 7])
@pytest.mark.parametrize("name", ["none", "int8", "float8"])
def test_odd_columns(name: str, columns: int) -> None:
    reading = reader(chunk_bytes=700)
    weight = wrap(matrix(5, columns), QUANTIZERS[name], reading)
    x = torch.randn(4, columns, generator=torch.Generator().manual_seed(3))
    plus, minus = plus_and_minus(weight)
    with reading.perturbed(KEY, EPS, 2):
        torch.testing.assert_close(
            F.linear(x, weight), torch.cat((x[:2] @ plus.T, x[2:] @ minus.T))
        )


@pytest.mark.parametrize("kind", ["elements", "low_rank"])
@pytest.mark.parametrize("name", ["none", "int8", "int4"])
def test_conv1d_of_gpt2(name: str, kind: str) -> None:
    reading = reader(RANK2 if kind == "low_rank" else BITS4, chunk_bytes=1000)
    weight = wrap(matrix(64, 10), QUANTIZERS[name], reading, kind, transposed=True)
    bias, x = torch.arange(10.0), torch.randn(4, 64, generator=torch.Generator().manual_seed(3))
    plus, minus = plus_and_minus(weight)
    assert plus.shape == weight.shape == (64, 10)
    torch.testing.assert_close(torch.addmm(bias, x, weight), torch.addmm(bias, x, weight + 0.0))
    with reading.perturbed(KEY, EPS, 2):
        got = torch.addmm(bias, x, weight)
    torch.testing.assert_close(got, torch.cat((bias + x[:2] @ plus, bias + x[2:] @ minus)))


@pytest.mark.parametrize("kind", ["elements", "low_rank"])
def test_embedding(kind: str) -> None:
    reading = reader(RANK2 if kind == "low_rank" else BITS4)
    weight = wrap(matrix(9, 40), NoQuantizer(), reading, kind)
    ids = torch.tensor([[1, 8, 1], [0, 2, 3], [8, 8, 5], [7, 1, 4]])
    plus, minus = plus_and_minus(weight)
    assert torch.equal(F.embedding(ids, weight), F.embedding(ids, weight + 0.0))
    with reading.perturbed(KEY, EPS, 1):
        torch.testing.assert_close(F.embedding(ids, weight), plus[ids])
    with reading.perturbed(KEY, EPS, 2):
        got = F.embedding(ids, weight)
        torch.testing.assert_close(got, torch.cat((plus[ids[:2]], minus[ids[2:]])))
        with pytest.raises(UserError, match="paired: false"):
            F.embedding(ids[:3], weight)
    with pytest.raises(UserError, match="max_norm"):
        F.embedding(ids, weight, max_norm=1.0)


@pytest.mark.parametrize("plain_weight", [True, False])
def test_a_tuned_bias_in_a_pair(plain_weight: bool) -> None:
    reading = reader()
    value = DenseWeight(torch.arange(5.0).view(1, 5))
    site = Site(1, Elements((0.0, 1.0)))
    shape = torch.Size((5,))
    bias = PerturbedWeight(value, site, reading, "b", shape, torch.float32)
    weight = matrix(5, 32)
    if not plain_weight:
        weight = wrap(weight, Int8(), reading)
    x = torch.randn(4, 32, generator=torch.Generator().manual_seed(3))
    halves = []
    for sign, part in ((1, x[:2]), (-1, x[2:])):
        with reading.perturbed(KEY, sign * EPS, 1):
            halves.append(F.linear(part, weight, bias))
    with reading.perturbed(KEY, EPS, 2):
        torch.testing.assert_close(F.linear(x, weight, bias), torch.cat(halves))


def test_an_operation_that_cannot_read_two_versions_is_refused() -> None:
    weight = wrap(matrix(5, 32), Int8(), reader())
    with weight.reading.perturbed(KEY, EPS, 2):
        with pytest.raises(UserError, match="w is used by an operation"):
            weight * 2.0
        with pytest.raises(UserError, match="even batch"):
            F.linear(torch.ones(3, 32), weight)
        with (
            pytest.raises(RuntimeError, match="nest"),
            weight.reading.perturbed(KEY, EPS, 1),
        ):
            pass


def test_integer_products_are_exact() -> None:
    """W8A8 equals the product of the integers in float64, at rest and in a pair."""
    reading = Reading(Direction("rademacher"), "reference", chunk_bytes=640)
    weight = wrap(matrix(11, 64), Int8(activations="int8"), reading)
    x = torch.randn(6, 64, generator=torch.Generator().manual_seed(3))
    size = x.abs().amax(1, keepdim=True) / 127
    codes = (x / size).round().double()

    def product(rows: slice, weight_codes: Tensor) -> Tensor:
        return size[rows] * (codes[rows] @ weight_codes.double().T) * weight.store.scale.T

    stored = weight.store.codes
    words = torch.tensor(control_words(KEY, 0), dtype=torch.int32)
    index = torch.arange(11, dtype=torch.int32)
    jump = 3 * coordinates(reading.direction, words, index, 1, 2).view(11, 64)
    jump = jump.where(stored.abs() <= 124, 0.0)
    torch.testing.assert_close(
        F.linear(x, weight), product(slice(0, 6), stored).float(), rtol=1e-5, atol=1e-5
    )
    with reading.perturbed(KEY, 3.0, 2):
        got = F.linear(x, weight)
    plus, minus = product(slice(0, 3), stored + jump), product(slice(3, 6), stored - jump)
    torch.testing.assert_close(got, torch.cat((plus, minus)).float(), rtol=1e-5, atol=1e-5)
    assert (stored.abs() > 124).any()


@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_parameter_moves_detaches_and_copies(name: str) -> None:
    reading = reader()
    layer = nn.Linear(32, 4, bias=False)
    layer.weight = nn.Parameter(wrap(matrix(4, 32), QUANTIZERS[name], reading), False)
    assert isinstance(layer.weight, PerturbedWeight)
    assert isinstance(layer.weight, nn.Parameter)
    assert perturbed_weights(layer)[0] is layer.weight
    assert layer.weight.detach().store.tensors().keys() == layer.weight.store.tensors().keys()
    other = layer.weight.clone()
    for key, tensor in other.store.tensors().items():
        mine = layer.weight.store.tensors()[key]
        assert torch.equal(tensor.view(torch.uint8), mine.view(torch.uint8))
        assert tensor.data_ptr() != mine.data_ptr()
    before = layer.weight + 0.0
    assert isinstance(layer.to("cpu").weight, PerturbedWeight)
    torch.testing.assert_close(layer.weight + 0.0, before)
    moved = copy.copy(layer).to("meta")
    assert moved.weight.device.type == "meta"
    assert moved.weight.site == other.site


@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_copy_reads_its_own_codes(name: str) -> None:
    mine = wrap(matrix(4, 32), QUANTIZERS[name], reader())
    before = mine + 0.0  # views of the codes are kept from here on
    other = copy.deepcopy(mine)
    move([other], [5], [0.5], 1, [None])
    assert not torch.equal(other + 0.0, before)
    assert torch.equal(mine + 0.0, before)


def test_a_cast_reads_the_weight() -> None:
    weight = wrap(matrix(4, 32), Int8(), reader())
    cast = weight.double()
    assert type(cast) is Tensor
    assert cast.dtype == torch.float64
    torch.testing.assert_close(cast.float(), weight + 0.0)


def test_a_model_that_changes_a_stored_weight_in_place_is_refused() -> None:
    """RWKV divides some of its weights when it is first evaluated; nothing came of it."""
    weight = wrap(matrix(8, 32), Int8(), reader())
    before = weight.dense().clone()
    with torch.no_grad(), pytest.raises(UserError, match=r"w is changed in place.*div_"):
        weight.div_(2)
    assert torch.equal(weight.dense(), before)
    assert torch.equal(weight.div(2), before / 2)
