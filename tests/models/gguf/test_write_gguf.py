"""GGUF files of tiny models, read by transformers' loader and the `gguf` package."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from gguf import GGMLQuantizationType, GGUFReader, dequantize
from gguf_exports import (
    LLAMA3,
    MODELS,
    SIZES,
    YARN,
    kinds,
    loaded,
    logits,
    made_tokenizer,
    tiny,
    written,
)
from preparing import prepare
from tiny_tokenizer import byte_bpe
from tokenizers import Regex, pre_tokenizers

from zolit.errors import UserError
from zolit.formats.bit_planes import BitPlanesWeight
from zolit.formats.int8 import Int8Weight
from zolit.models.gguf.write import save_gguf
from zolit.models.gguf.write_blocks import exact_blocks
from zolit.models.gguf.write_tokenizer import pre_tokenizer
from zolit.strategies import (
    CodePerturber,
    Float8,
    Int4,
    Int8,
    NoQuantizer,
    Quantizer,
    SqueezeLLM,
)
from zolit.tensors.reading import Reading

Kind = GGMLQuantizationType


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return made_tokenizer()


@pytest.mark.parametrize("name", MODELS)
def test_architectures(name: str, tokenizer: Any, tmp_path: Path) -> None:
    expected, notes = written(tiny(name), Int8(), tokenizer, tmp_path)
    assert notes == []
    assert ("output.weight" in kinds(tmp_path)) == ("tied" not in name)
    if name == "mistral":  # llama.cpp reads it as Llama, and so does transformers then
        assert GGUFReader(tmp_path / "model.gguf").fields["general.architecture"].contents() == (
            "llama"
        )
    torch.testing.assert_close(loaded(tmp_path), expected, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(
    ("quantizer", "kind"),
    [
        (Int8(), Kind.Q8_0),
        (Int8(32), Kind.Q8_0),
        (Int4(32), Kind.Q4_1),
        (Int4(64), Kind.Q4_1),
        (Int4(64, symmetric=True), Kind.Q4_0),
        (Float8(), Kind.F32),
        (NoQuantizer(), Kind.F32),
        (SqueezeLLM(), Kind.F32),
    ],
)
def test_codes_choose_their_blocks(
    quantizer: Quantizer, kind: Kind, tokenizer: Any, tmp_path: Path
) -> None:
    expected, notes = written(tiny(), quantizer, tokenizer, tmp_path)
    found = kinds(tmp_path)
    assert found["blk.1.ffn_down.weight"] == kind
    assert found["token_embd.weight"] == Kind.F32
    assert len(notes) == isinstance(quantizer, Float8 | SqueezeLLM)
    close = 1e-5 if kind == Kind.F32 else 4e-3
    torch.testing.assert_close(loaded(tmp_path), expected, atol=close, rtol=close)


@pytest.mark.parametrize("symmetric", [False, True])
def test_blocks_far_smaller_than_the_rest_of_their_group_keep_their_codes(symmetric: bool) -> None:
    weight = 0.05 * torch.randn(64, 256, generator=torch.Generator().manual_seed(1))
    weight[:, 3::64] *= 8
    store = Int4(64, symmetric=symmetric).store(weight, "w")
    store.multiply_scales(torch.linspace(0.9, 1.1, 64).unsqueeze(1), 1e-7)
    kind = Kind.Q4_0 if symmetric else Kind.Q4_1
    made = exact_blocks(store, kind)
    assert made is not None
    decoded = torch.empty(64, 256)
    store.read(slice(0, 64), [decoded], None, "reference")
    step = store.scale.repeat_interleave(64, 1)
    there = torch.from_numpy(dequantize(made, kind))
    # float16 rounds the scale, times up to 15, and the least value, up to 16 steps away.
    assert ((there - decoded).abs() <= 31 * 2.0**-11 * step).all()


@pytest.mark.parametrize(
    ("kind", "close"), [("F16", 2e-3), ("Q8_0", 0.02), ("Q4_1", 0.4), ("Q4_0", 0.4)]
)
def test_a_type_for_all(kind: str, close: float, tokenizer: Any, tmp_path: Path) -> None:
    expected, notes = written(tiny(), Int8(32), tokenizer, tmp_path, kind)
    found = kinds(tmp_path)
    assert found["blk.0.attn_q.weight"] == Kind[kind]
    assert found["token_embd.weight"] == (Kind.F16 if kind == "F16" else Kind.Q8_0)
    assert found["output_norm.weight"] == Kind.F32
    counts = {"F16": ["16"], "Q8_0": ["2"]}.get(kind, ["2", "14"])
    assert sorted(note.split()[0] for note in notes) == sorted(counts)
    error = (loaded(tmp_path) - expected).abs().max() / expected.abs().max()
    assert close / 100 < error < close


def test_bfloat16_stands_bit_for_bit(tokenizer: Any, tmp_path: Path) -> None:
    model = tiny().to(torch.bfloat16)
    embedding = model.get_input_embeddings().weight.clone()
    _, notes = written(model, Int8(), tokenizer, tmp_path)
    assert notes == []
    (tensor,) = (
        t for t in GGUFReader(tmp_path / "model.gguf").tensors if t.name == "token_embd.weight"
    )
    assert tensor.tensor_type == Kind.BF16
    values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type))
    assert torch.equal(values.view(embedding.shape), embedding.float())


def test_blocks_hold_the_codes() -> None:
    codes = torch.randint(-127, 128, (3, 64), dtype=torch.int8)
    store = Int8Weight(codes, torch.tensor([[0.5], [0.25], [3e-4]]))
    made = exact_blocks(store, Kind.Q8_0)
    assert made is not None
    assert torch.equal(
        torch.from_numpy(made).view(3, 2, 34)[..., 2:].view(torch.int8), codes.view(3, 2, 32)
    )
    assert exact_blocks(store, Kind.Q4_0) is None


@pytest.mark.parametrize("bits", [2, 3])
def test_codes_of_few_bits_stand_in_q4_1(bits: int) -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 2**bits, (4, 64), generator=generator)
    scale, zero = 0.01 + torch.rand(4, 2, generator=generator), torch.rand(4, 2) - 0.5
    store = BitPlanesWeight.of_codes(codes, bits, scale, zero)
    made = exact_blocks(store, Kind.Q4_1)
    assert made is not None
    there = torch.from_numpy(dequantize(made, Kind.Q4_1))
    here = (codes.view(4, 2, 32) * scale.unsqueeze(2) + zero.unsqueeze(2)).view(4, 64)
    torch.testing.assert_close(there, here, atol=2e-3, rtol=2e-3)
    assert exact_blocks(store, Kind.Q8_0) is None


def test_centred_codes_keep_their_centre() -> None:
    """Q5_0's codes are counted from 16; blocks of eight bits hold them as they are."""
    codes = torch.randint(0, 32, (4, 64), generator=torch.Generator().manual_seed(0))
    scale = 0.01 + torch.rand(4, 2, generator=torch.Generator().manual_seed(1))
    made = exact_blocks(BitPlanesWeight.of_codes(codes, 5, scale, None), Kind.Q8_0)
    assert made is not None
    there = torch.from_numpy(dequantize(made, Kind.Q8_0))
    here = ((codes - 16).view(4, 2, 32) * scale.unsqueeze(2)).view(4, 64)
    torch.testing.assert_close(there, here, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scales_that_float16_cannot_hold(scale: float, tokenizer: Any, tmp_path: Path) -> None:
    codes = torch.randint(-127, 128, (3, 64), dtype=torch.int8)
    assert exact_blocks(Int8Weight(codes, torch.full((3, 1), scale)), Kind.Q8_0) is None


def test_rows_of_nothing_are_no_hindrance() -> None:
    codes = torch.zeros(2, 64, dtype=torch.int8)
    codes[0] = 100
    store = Int8Weight(codes, torch.tensor([[0.1], [1e-12]]))
    assert exact_blocks(store, Kind.Q8_0) is not None


@pytest.mark.parametrize(("columns", "group_size"), [(48, None), (64, 16)])
def test_columns_that_blocks_cannot_divide(columns: int, group_size: int | None) -> None:
    codes = torch.ones(2, columns, dtype=torch.int8)
    store = Int8Weight(codes, torch.ones(2, columns // (group_size or columns)))
    assert exact_blocks(store, Kind.Q8_0) is None


def test_llama3_frequencies(tokenizer: Any, tmp_path: Path) -> None:
    model = hf.LlamaForCausalLM(hf.LlamaConfig(**SIZES, rope_parameters=LLAMA3)).eval()
    written(model.requires_grad_(False), Int8(), tokenizer, tmp_path)
    (tensor,) = (
        t for t in GGUFReader(tmp_path / "model.gguf").tensors if t.name == "rope_freqs.weight"
    )
    # High frequencies as they are, low ones an eighth, in between a mixture (Llama 3.1).
    factors = torch.from_numpy(tensor.data.copy())
    torch.testing.assert_close(factors[:1], torch.ones(1))
    torch.testing.assert_close(factors[-1:], torch.full((1,), 8.0))
    frequencies = 10000.0 ** -(torch.arange(8) / 8)
    turns = 32 * frequencies / (2 * torch.pi)
    mixed = ((turns - 1) / 3).clamp(0, 1)
    torch.testing.assert_close(factors, 1 / ((1 - mixed) / 8 + mixed), atol=1e-4, rtol=1e-4)


def test_fields_of_a_gguf_source_are_taken_over(tokenizer: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir(), second.mkdir()
    written(tiny(), Int8(), tokenizer, first)
    perturber = CodePerturber()
    model = tiny()
    prepare(model, Int4(32), perturber, Reading(perturber.direction(), "reference"), ["linear"])
    tokenizer.save_pretrained(second)
    save_gguf(model, tokenizer, None, second, first / "model.gguf")
    before, after = (GGUFReader(one / "model.gguf").fields for one in (first, second))
    changed = {"general.file_type"}
    names = {name for name in before if not name.startswith("GGUF.")}
    assert names == {name for name in after if not name.startswith("GGUF.")}
    for name in names - changed:
        assert before[name].contents() == after[name].contents()
    torch.testing.assert_close(loaded(second), logits(model), atol=4e-3, rtol=4e-3)


def test_the_tokenizer_is_read_back(tokenizer: Any, tmp_path: Path) -> None:
    written(tiny(), Int8(), tokenizer, tmp_path)
    fields = GGUFReader(tmp_path / "model.gguf").fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    assert len(tokens) == SIZES["vocab_size"]
    assert tokens[: len(tokenizer)] == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    types = fields["tokenizer.ggml.token_type"].contents()
    assert (types[0], types[5], types[-1]) == (3, 1, 5)  # control, normal, unused
    assert fields["tokenizer.ggml.pre"].contents() == "gpt-2"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    again = hf.AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    text = "a bright film!"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]


def bytes_last(*steps: Any, regex: bool) -> Any:
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)
    return pre_tokenizers.Sequence([*steps, last])


GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.mark.parametrize(
    ("splitter", "name"),
    [
        (bytes_last(pre_tokenizers.Digits(individual_digits=True), regex=True), "smollm"),
        (
            bytes_last(pre_tokenizers.Split(Regex(GPT4 % "{1,3}"), "isolated"), regex=False),
            "llama-bpe",
        ),
        (bytes_last(pre_tokenizers.Split(Regex(GPT4 % ""), "isolated"), regex=False), "qwen2"),
        (bytes_last(pre_tokenizers.Split(Regex("x"), "isolated"), regex=False), None),
        (pre_tokenizers.Whitespace(), None),
    ],
    ids=["smollm", "llama 3", "qwen 2", "another pattern", "whitespace"],
)
def test_ways_to_split(splitter: Any, name: str | None, tokenizer: Any, tmp_path: Path) -> None:
    made = byte_bpe(["a film"], ["<s>", "</s>"], 270)
    made.pre_tokenizer = splitter
    content = json.loads(made.to_str())
    if name is None:
        with pytest.raises(UserError, match="the tokenizer cannot be written"):
            pre_tokenizer(content)
    else:
        assert pre_tokenizer(content) == name


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            hf.GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=290),
            "got a model of type 'gpt2'",
        ),
        (hf.MistralConfig(**SIZES, sliding_window=8), "attends to 8 of its 64 positions"),
        (
            hf.LlamaConfig(
                **SIZES, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
            ),
            "scales its positions by 'dynamic'",
        ),
        (hf.LlamaConfig(**{**SIZES, "vocab_size": 40}), "has number"),
        (hf.LlamaConfig(**SIZES, hidden_act="gelu"), "activation is 'gelu', llama.cpp computes"),
        (hf.Qwen2Config(**SIZES, head_dim=32), "has heads of 32 dimensions, not of 16"),
        (hf.Qwen3Config(**SIZES, attention_bias=True), "has attention_bias: true, which llama.cpp"),
        (hf.Qwen2Config(**SIZES, rope_parameters=LLAMA3), "reads for Llama and not for qwen2"),
        (
            hf.LlamaConfig(**SIZES, rope_parameters={**YARN, "truncate": False}),
            "between bounds that are not whole numbers",
        ),
        (hf.LlamaConfig(**SIZES, rope_parameters={**YARN, "beta_fast": 16.0}), "beta_fast 16"),
    ],
    ids=[
        "architecture",
        "window",
        "positions",
        "vocabulary",
        "activation",
        "width",
        "bias",
        "llama3 of another family",
        "yarn without bounds",
        "yarn with other bounds",
    ],
)
def test_models_that_have_no_place(
    config: Any, sentence: str, tokenizer: Any, tmp_path: Path
) -> None:
    model = hf.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=sentence):
        save_gguf(model, tokenizer, None, tmp_path)


def test_weights_too_large_for_float16(tokenizer: Any, tmp_path: Path) -> None:
    model = tiny()
    model.lm_head.weight[0, 0] = 1e6
    with pytest.raises(UserError, match="F16 cannot hold"):
        written(model, Int8(), tokenizer, tmp_path, "F16")
