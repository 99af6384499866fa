"""What a step costs on mixture-of-experts models: recipes beside plain forwards, in one process.

    OMP_NUM_THREADS=2 python benchmarks/experts.py --json experts.jsonl

Random models of four types, small but not trivial. The baseline is ``two bf16 forwards`` of
transformers with its own default way of multiplying experts, the same loss and batch; ``matrix
products`` are those of one expert after another on the doubled batch, tokens spread evenly, with
the other linear layers: the floor. Repeats are interleaved and medians taken, as in `step.py`.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import waiting  # noqa: F401
import torch
import transformers as hf
from step import RECIPES, Entry, Row, copied, forwards, make_batch, recipe, rows, show
from torch import Tensor, nn

from zolit.models.plan import find_parameters, is_transposed
from zolit.quiet import quiet_libraries

SIZES = {
    "vocab_size": 32000,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "num_experts_per_tok": 2,
    "pad_token_id": 0,
    "max_position_embeddings": 512,
}
KINDS: dict[str, tuple[type, Callable[[int, int, int], dict[str, object]]]] = {
    "mixtral": (
        hf.MixtralConfig,
        lambda hidden, wide, experts: {"intermediate_size": wide, "num_local_experts": experts},
    ),
    "qwen2_moe": (
        hf.Qwen2MoeConfig,
        lambda hidden, wide, experts: {
            "moe_intermediate_size": wide,
            "shared_expert_intermediate_size": wide,
            "num_experts": experts,
        },
    ),
    "qwen3_moe": (
        hf.Qwen3MoeConfig,
        lambda hidden, wide, experts: {
            "moe_intermediate_size": wide,
            "num_experts": experts,
            "head_dim": hidden // 8,
        },
    ),
    "gpt_oss": (
        hf.GptOssConfig,
        lambda hidden, wide, experts: {
            "intermediate_size": wide,
            "num_local_experts": experts,
            "head_dim": hidden // 8,
        },
    ),
}
CHOSEN = ("MeZO dense, rademacher", "QuZO int8", "QuZO int4", "scales of int8", "rank 1 of int8")


def make(kind: str, hidden: int, wide: int, experts: int, layers: int) -> nn.Module:
    """A random model in bfloat16."""
    config_class, own = KINDS[kind]
    sizes = {"hidden_size": hidden, "num_hidden_layers": layers, **SIZES}
    config = config_class(**{**sizes, **own(hidden, wide, experts)})
    torch.manual_seed(0)
    model: nn.Module = hf.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return model.eval().requires_grad_(False)


def products(model: nn.Module, tokens: int, chosen: int) -> Callable[[], object]:
    """The products of linear layers and experts, each on its share of the tokens."""
    found = [one for one in find_parameters(model) if one.kind == "linear"]
    factors: list[tuple[Tensor, Tensor]] = []
    for one in found:
        weight = one.parameter.mT if is_transposed(one.modules[0]) else one.parameter
        stack = weight if weight.dim() == 3 else weight.unsqueeze(0)
        count = tokens * chosen // len(stack) if weight.dim() == 3 else tokens
        x = torch.randn(count, stack.shape[2], dtype=weight.dtype)
        factors += [(x, matrix) for matrix in stack]

    def multiply() -> None:
        for x, matrix in factors:
            torch.nn.functional.linear(x, matrix)

    return multiply


def measure(kind: str, arguments: argparse.Namespace) -> list[Row]:
    """Medians of one type of model."""
    shape = (arguments.hidden, arguments.wide, arguments.experts, arguments.layers)
    model = make(kind, *shape)
    batch = make_batch(arguments.batch, arguments.length)
    tokens = 2 * arguments.batch * arguments.length
    entries = [
        Entry("two bf16 forwards", forwards(model, batch)),
        Entry("matrix products", products(model, tokens, 2)),
    ]
    for name in arguments.only or CHOSEN:
        options: dict[str, object] = {"compile": arguments.compile}
        own = copied(model, shared=RECIPES[name][0].quantized)
        entries.append(recipe(name, own, batch, 1, options))
    for entry in entries:
        entry.measure()
        entry.times.clear()
    for _ in range(arguments.repeats):
        for entry in entries:
            entry.measure()
    return rows(entries, tokens)


@torch.no_grad()
def main() -> None:
    """Measure the types asked for and print them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kind", nargs="*", choices=[*KINDS], default=[*KINDS])
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--wide", type=int, default=512, help="of an expert")
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=64, help="tokens of a prompt")
    parser.add_argument("--threads", type=int, help="by default OMP_NUM_THREADS")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--compile", choices=["none", "blocks"], default="none")
    parser.add_argument("--only", nargs="*", choices=[*RECIPES], help="recipes to measure")
    parser.add_argument("--json", type=Path, help="file for one JSON line a row")
    arguments = parser.parse_args()
    quiet_libraries()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    threads, lines = torch.get_num_threads(), []
    for kind in arguments.kind:
        found = measure(kind, arguments)
        show(
            found,
            f"{kind}, hidden {arguments.hidden}, {arguments.experts} experts of {arguments.wide}, "
            f"{arguments.layers} layers, {arguments.batch} x {arguments.length} tokens, compile "
            f"{arguments.compile}, {threads} threads, medians of {arguments.repeats}",
        )
        lines += [json.dumps({"kind": kind, **asdict(row), "threads": threads}) for row in found]
    if arguments.json:
        arguments.json.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
