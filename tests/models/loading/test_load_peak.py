"""Loading needs the stored weights and one tensor beside them, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gguf_folders import write_llama
from safetensors.torch import save_file
from transformers import LlamaConfig

HIDDEN, WIDE, LAYERS, VOCAB = 1024, 4096, 8, 1000

SCRIPT = """
import json, sys
from zolit.allocator import returning_memory
from zolit.models.loading.load import load_prepared
from zolit.models.prepare import Preparation
from zolit.tensors.weight import stored_weights
from zolit.models.source import ModelSource
from zolit.strategies import CodePerturber, Int4, Stored
from zolit.tensors.reading import Reading
import torch

small, large, file, quantizer = sys.argv[1:]

def load(folder, file):
    perturber = CodePerturber()
    form = Stored() if quantizer == "Stored" else Int4(64)
    preparation = Preparation(form, perturber, Reading(perturber.direction()), ["linear"])
    source = ModelSource(path=folder, gguf_file=file or None)
    with returning_memory():  # as a module loads
        return load_prepared(source, torch.bfloat16, preparation)[0]

def status(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))

load(small, file)
# The peak from here on; ru_maxrss would be that of the process which started this one.
open("/proc/self/clear_refs", "w").write("5")
base = status("VmRSS:")
model = load(large, file)
used = status("VmHWM:") - base
stored = sum(t.nbytes for w in stored_weights(model) for t in w.store.tensors().values())
print(json.dumps({"used": used, "stored": stored}))
"""


def write_safetensors(folder: Path, layers: int) -> None:
    """A random Llama in bfloat16, a shard a layer."""
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        intermediate_size=WIDE,
        num_hidden_layers=layers,
        num_attention_heads=8,
        tie_word_embeddings=True,
        architectures=["LlamaForCausalLM"],
    )
    config.save_pretrained(folder)
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.bfloat16).normal_(generator=generator)

    shards = [
        {"model.embed_tokens.weight": normal(VOCAB, HIDDEN), "model.norm.weight": normal(HIDDEN)}
    ]
    for layer in range(layers):
        at, square = f"model.layers.{layer}", (HIDDEN, HIDDEN)
        shapes = {f"self_attn.{name}_proj": square for name in "qkvo"}
        shapes |= {"mlp.gate_proj": (WIDE, HIDDEN), "mlp.up_proj": (WIDE, HIDDEN)}
        shapes |= {"mlp.down_proj": (HIDDEN, WIDE)}
        shard = {f"{at}.{name}.weight": normal(*shape) for name, shape in shapes.items()}
        shard[f"{at}.input_layernorm.weight"] = normal(HIDDEN)
        shard[f"{at}.post_attention_layernorm.weight"] = normal(HIDDEN)
        shards.append(shard)
    places = {}
    for number, shard in enumerate(shards):
        save_file(shard, folder / f"{number}.safetensors")
        places.update(dict.fromkeys(shard, f"{number}.safetensors"))
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts peaks anew")
@pytest.mark.parametrize(
    ("form", "quantizer"), [("safetensors", "Int4"), ("gguf", "Int4"), ("gguf", "Stored")]
)
def test_never_a_float_copy_of_the_model(form: str, quantizer: str, tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    for folder, layers in ((small, 1), (large, LAYERS)):
        if form == "safetensors":
            folder.mkdir()
            write_safetensors(folder, layers)
        else:
            write_llama(folder, hidden=HIDDEN, wide=WIDE, layers=layers)
    file = "tiny.gguf" if form == "gguf" else ""
    command = [sys.executable, "-c", SCRIPT, str(small), str(large), file, quantizer]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)  # noqa: S603
    found = json.loads(done.stdout.splitlines()[-1])
    floats = LAYERS * (4 * HIDDEN + 3 * WIDE) * HIDDEN * 2
    # Groups of 64 columns; those of a GGUF file have 32.
    assert found["stored"] < (0.38 if quantizer == "Stored" else 0.33) * floats
    # The largest matrix is 8 MB in bfloat16, 17 in float32. A mapped file would add 270 (GGUF: 84).
    assert found["used"] < found["stored"] + 45e6
