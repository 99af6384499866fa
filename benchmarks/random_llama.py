"""Write a Llama of random weights as a sharded checkpoint, for measurements at full size.

    python benchmarks/random_llama.py 7b /tmp/zolit-llama-7b

The folder has what `from_pretrained` reads: config.json, bfloat16 safetensors and their index, but
no tokenizer. One shard is in memory at a time; a layer is one shard. Weights are normal with the
standard deviation that Llama is initialized with (0.02), norms are one.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import waiting  # noqa: F401
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaConfig


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama with as many key heads as query heads."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    vocabulary: int = 32000

    def config(self) -> LlamaConfig:
        """The transformers configuration, untied, bfloat16."""
        return LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            tie_word_embeddings=False,
            architectures=["LlamaForCausalLM"],
            dtype="bfloat16",
        )


SHAPES = {
    "tiny": Shape(256, 512, 4, 4, 1000),
    "1b": Shape(2048, 5632, 22, 32),
    "7b": Shape(4096, 11008, 32, 32),
    "13b": Shape(5120, 13824, 40, 40),
}


def shards(shape: Shape, seed: int) -> Iterator[dict[str, Tensor]]:
    """The checkpoint's tensors, bfloat16: a layer at a time, embeddings and output first."""
    generator = torch.Generator().manual_seed(seed)

    def normal(rows: int, columns: int) -> Tensor:
        weight = torch.empty(rows, columns, dtype=torch.bfloat16)
        return weight.normal_(0.0, 0.02, generator=generator)

    def norm() -> Tensor:
        return torch.ones(shape.hidden, dtype=torch.bfloat16)

    yield {"model.embed_tokens.weight": normal(shape.vocabulary, shape.hidden)}
    yield {
        "lm_head.weight": normal(shape.vocabulary, shape.hidden),
        "model.norm.weight": norm(),
    }
    wide, narrow = shape.intermediate, shape.hidden
    for layer in range(shape.layers):
        at = f"model.layers.{layer}"
        attention = {
            f"{at}.self_attn.{name}_proj.weight": normal(narrow, narrow) for name in "qkvo"
        }
        yield {
            **attention,
            f"{at}.mlp.gate_proj.weight": normal(wide, narrow),
            f"{at}.mlp.up_proj.weight": normal(wide, narrow),
            f"{at}.mlp.down_proj.weight": normal(narrow, wide),
            f"{at}.input_layernorm.weight": norm(),
            f"{at}.post_attention_layernorm.weight": norm(),
        }


def write(shape: Shape, folder: Path, seed: int = 0) -> None:
    """Write the checkpoint; files of the same names are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    shape.config().save_pretrained(folder)
    count, places, total = shape.layers + 2, {}, 0
    for number, tensors in enumerate(shards(shape, seed), start=1):
        name = f"model-{number:05d}-of-{count:05d}.safetensors"
        save_file(tensors, folder / name, metadata={"format": "pt"})
        places.update(dict.fromkeys(tensors, name))
        total += sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def main() -> None:
    """Write the shape named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write(SHAPES[options.shape], options.folder, options.seed)


if __name__ == "__main__":
    main()
