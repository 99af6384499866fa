"""How often a run compiles: the layers of a model, whatever their shapes, share compilations."""

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

from zolit.gradient import ProjectedGradient
from zolit.kernels.cpu.amx import tiles_found
from zolit.models.source import ModelSource
from zolit.optim import ZOSGD
from zolit.strategies import (
    CodePerturber,
    DensePerturber,
    Float8,
    Int4,
    Int8,
    NoQuantizer,
    Perturber,
    Quantizer,
    ScalePerturber,
)
from zolit.training.zero_order import ZeroOrderModule

LIMIT = 8
# Where the processor has no tiles, torch multiplies codes, which takes one compilation more.
W8A8_LIMIT = LIMIT if tiles_found() else LIMIT + 1
PARTS: dict[str, tuple[Quantizer, Perturber]] = {
    "dense": (NoQuantizer(), DensePerturber()),
    "int8": (Int8(), CodePerturber()),
    "int4": (Int4(64), CodePerturber()),
    "float8": (Float8(), CodePerturber()),
    "W8A8": (Int8(activations="int8"), CodePerturber(eps=1.4)),
    "scales": (Int4(64), ScalePerturber()),
}


def llama() -> nn.Module:
    """Five shapes of linear layers; no dimension equals another by chance."""
    torch.manual_seed(0)
    config = hf.LlamaConfig(
        vocab_size=512,
        hidden_size=192,
        intermediate_size=320,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
    )
    return hf.LlamaForCausalLM(config).to(torch.bfloat16).eval().requires_grad_(False)


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
@torch.no_grad()
def test_a_llama_needs_few_compilations(name: str) -> None:
    quantizer, perturber = PARTS[name]
    module = ZeroOrderModule(
        ModelSource("unused"), quantizer, perturber, kernels="compiled", compile="blocks"
    )
    module.adopt(llama())
    module.network.eval()
    optimizer = ZOSGD(module.weights, lr=1e-6)
    torch._dynamo.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]

    def losses(ids: Tensor, copies: int) -> Tensor:
        logits = module.network(input_ids=ids.repeat(copies, 1), use_cache=False).logits
        return logits.float().logsumexp(-1).view(copies, -1).mean(1)

    for step, shape in enumerate([(4, 16), (3, 21), (7, 33)]):
        ids = torch.arange(shape[0] * shape[1]).view(shape) % 512
        values = module.estimator.finish(
            module.estimator.estimate(
                lambda copies, ids=ids: losses(ids, copies),
                module.reading,
                [step],
                perturber.eps,
                module.pairable,
            ).values
        )
        optimizer.step(gradient=ProjectedGradient(torch.tensor([step]), values, step))
        losses(ids, 1)  # as validation reads the weights
    found = torch._dynamo.utils.counters["stats"]["unique_graphs"] - before
    assert 0 < found <= (W8A8_LIMIT if name == "W8A8" else LIMIT)
