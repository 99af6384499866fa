"""What tests of the whole program share: a tiny language model and rows on disk."""

import os
from pathlib import Path

# Before torch and tqdm read them: compiled kernels are kept inside the checkout, bars are shown as
# under the command line, and waiting threads sleep, since several processes share the cores. No
# test reaches the hub: one that names a model which is not there would wait for its retries.
os.environ.setdefault(
    "TORCHINDUCTOR_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".cache" / "inductor")
)
os.environ.setdefault("TQDM_DELAY", "5")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
import transformers as hf
from hypothesis import settings
from tiny_recipes import save_tiny_roberta
from tiny_tokenizer import byte_bpe

ROOT = Path(__file__).resolve().parents[1]

# The same inputs in every run of the suite, so that it fails for a change only;
# `--hypothesis-profile=search` draws new ones, and benchmarks/fuzz.py searches for minutes.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile("suite")

# Tiny tensors: more threads than that only wait for one another. Of several processes of
# pytest-xdist each has one.
THREADS = "1" if "PYTEST_XDIST_WORKER" in os.environ else "2"
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", THREADS)))

FILMS = [f"film {n} is {'bright and short' if n % 2 else 'dull and long'}" for n in range(48)]


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Parts of zolit by their class: an address would differ between processes of a suite."""
    return type(val).__name__ if type(val).__module__.startswith("zolit.") else None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of public data sets is not there")
    return folder


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random two-layer Llama, hidden size 64, context 64, with its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny_llama")
    corpus = [*FILMS, *(["Review: Sentiment: negative positive"] * 9)]
    tokenizer = byte_bpe(corpus, ["<s>", "</s>"], 400)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    config = hf.LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hf.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random two-layer RoBERTa with its tokenizer."""
    return save_tiny_roberta(tmp_path_factory.mktemp("tiny_roberta"))


@pytest.fixture(scope="session")
def films_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 reviews with the columns of the task ``rotten_tomatoes``."""
    file = tmp_path_factory.mktemp("rows") / "films.csv"
    lines = [f"{text},{'fresh' if n % 2 else 'rotten'}" for n, text in enumerate(FILMS)]
    file.write_text("\n".join(["text,category", *lines]) + "\n", encoding="utf-8")
    return file
