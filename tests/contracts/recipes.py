"""Every combination of the strategies, as data: a new strategy is a line in one table."""

import itertools
import tempfile
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import save_file
from torch import Tensor, nn

from zolit.calibration.model_digest import float_digests
from zolit.calibration.saliency_file import VERSION, Facts, kept_tensors
from zolit.errors import UserError
from zolit.gradient import ProjectedGradient
from zolit.kernels.dispatch import Preference
from zolit.models.source import ModelSource
from zolit.noise import fold, signed
from zolit.objectives.base import Objective
from zolit.optim import HiZOO, ZOSignSGD
from zolit.strategies import FromFile, Mask, Perturber, Quantizer
from zolit.tensors.weight import PerturbedWeight
from zolit.training.zero_order import ZeroOrderModule

_SCRATCH = tempfile.TemporaryDirectory()

Config = dict[str, Any]
"""A part as YAML has it: short class name and arguments."""


def part(class_path: str, **init_args: Any) -> Config:
    return {"class_path": class_path, "init_args": init_args}


QUANTIZERS = {
    "NoQuantizer": part("NoQuantizer"),
    "Int8": part("Int8"),
    "Int8, groups": part("Int8", group_size=32),
    "Int8, activations int8": part("Int8", activations="int8"),
    "Int4": part("Int4", group_size=32),
    "Int4, symmetric": part("Int4", group_size=64, symmetric=True),
    "HQQ": part("HQQ", group_size=32),
    "Float8": part("Float8"),
    "Float8, activations float8": part("Float8", activations="float8"),
    "SqueezeLLM": part("SqueezeLLM", bits=3),
}
OPTIONS = {
    "SqueezeLLM, 4 bits": part("SqueezeLLM", bits=4, zeros_weigh=False),
    "Int8, keep_error": part("Int8", keep_error=True),
    "Int4, keep_error": part("Int4", group_size=32, keep_error=True),
    "HQQ, keep_error": part("HQQ", group_size=32, keep_error=True),
    "Float8, keep_error": part("Float8", keep_error=True),
}
"""Options that store weights in a format of the quantizers above: a few combinations will do. With
``keep_error`` the optimizer has error feedback."""
# The learning rate of each is for ZOSignSGD: about half a code, or a small part of a weight.
PERTURBERS = {
    "DensePerturber": part("DensePerturber"),
    "DensePerturber, rademacher": part("DensePerturber", distribution="rademacher"),
    "CodePerturber": part("CodePerturber", eps=1.4),
    "CodePerturber, rademacher": part("CodePerturber", distribution="rademacher"),
    "CodePerturber, unrounded": part("CodePerturber", perturb_bits=None),
    "CodePerturber, unit weight": part("CodePerturber", eps=1e-3, unit="weight"),
    "LowRankPerturber": part("LowRankPerturber"),
    "LowRankPerturber, gaussian": part("LowRankPerturber", rank=3, distribution="gaussian"),
    "ScalePerturber": part("ScalePerturber"),
    "ScalePerturber, rademacher": part("ScalePerturber", distribution="rademacher"),
    "ScalePerturber, group": part("ScalePerturber", granularity="group"),
    "ScalePerturber, absolute": part(
        "ScalePerturber", eps=3e-5, granularity="group", eps_unit="absolute"
    ),
    "SparsePerturber": part("SparsePerturber"),
}
MASKS = {
    "NoMask": part("NoMask"),
    "RandomMask": part("RandomMask", fraction=0.25, seed=3),
    "RandomBlocks": part("RandomBlocks", blocks=1),
}
BITS = {
    "Magnitude": part("Magnitude", fraction=0.25),
    "Outliers": part("Outliers", reach=0.5),
    "SmallWeights": part("SmallWeights", fraction=0.25),
}
"""Masks whose supports are bits, which kernels read all alike: a few combinations will do."""
ONE_BLOCK = {"DominantBlock": part("DominantBlock", block=1)}
"""A mask under which a run is that of a shorter `tune`: a few combinations will do."""
FILES = {
    "Sensitive": part("Sensitive", fraction=0.25),
    "FromFile": part("FromFile", file=""),
}
"""Masks of bits that read a file, which is made for each model (`file_of`)."""
ESTIMATORS = {
    "TwoPoint": part("TwoPoint"),
    "TwoPoint, sequential": part("TwoPoint", paired=False),
    "ClippedTwoPoint": part("ClippedTwoPoint"),
    "ClippedTwoPoint, fixed": part("ClippedTwoPoint", limit=100.0),
    "GaussNewton": part("GaussNewton"),
    "OneSided": part("OneSided"),
    "SVRG": part("SVRG", every=2, batches=1),
}
OPTIMIZERS: dict[str, Config] = {
    "ZOMomentum": part("ZOMomentum", momentum=0.5, tolerance=0.2),
    "ZOAdam": part("ZOAdam", beta1=0.5, tolerance=0.2),
    "FZOO": part("FZOO"),
}
"""Beside `ZOSignSGD`, which makes the steps of all others: one recipe of each kind will do."""
OF_HIZOO = {"SecondDifference": part("SecondDifference")}
"""Estimators that go with `HiZOO` alone: a few combinations will do."""
APART = {"LayerLengths": part("LayerLengths"), "PerExample": part("PerExample")}
"""Estimators with tests of their own: test_dizo.py and test_per_example.py."""


@dataclass(frozen=True)
class Recipe:
    """One combination, by name."""

    quantizer: str
    perturber: str
    mask: str = "NoMask"
    estimator: str = "TwoPoint"

    def __str__(self) -> str:
        return " + ".join((self.quantizer, self.perturber, self.mask, self.estimator))


MATRIX = [
    Recipe(q, p, "RandomMask" if p == "SparsePerturber" else "NoMask")
    for q, p in itertools.product(QUANTIZERS, PERTURBERS)
]
"""Each quantizer with each perturber, with the mask that it needs."""
RECIPES = [Recipe(*names) for names in itertools.product(QUANTIZERS, PERTURBERS, MASKS, ESTIMATORS)]


def built(config: Config) -> Any:
    import zolit.strategies as strategies

    return getattr(strategies, config["class_path"])(**config["init_args"])


def learning_rate(recipe: Recipe) -> float:
    if "Scale" in recipe.perturber:
        return 1e-5 if "absolute" in recipe.perturber else 1e-2
    return 0.6 if "Code" in recipe.perturber and "weight" not in recipe.perturber else 1e-3


def module(
    recipe: Recipe,
    kernels: Preference = "reference",
    model: nn.Module | None = None,
    **options: Any,
) -> ZeroOrderModule:
    """The module of a recipe, in float32; raises UserError where the parts do not combine.

    ``model`` is the one that it will adopt, for masks that read a file.
    """
    lr, feedback = learning_rate(recipe), "keep_error" in recipe.quantizer
    defaults: dict[str, Any] = {
        "dtype": "float32",
        "seed": 17,
        "optimizer": lambda params: ZOSignSGD(params, lr=lr, error_feedback=feedback),
    }
    if recipe.estimator in OF_HIZOO:
        defaults["optimizer"] = lambda params: HiZOO(params, lr=100 * lr, smooth=1e-3)
    quantizer: Quantizer = built((QUANTIZERS | OPTIONS)[recipe.quantizer])
    perturber: Perturber = built(PERTURBERS[recipe.perturber])
    mask: Mask = built((MASKS | BITS | ONE_BLOCK | FILES)[recipe.mask])
    if recipe.mask in FILES and model is not None:
        mask.file = file_of(recipe, model)
    return ZeroOrderModule(
        ModelSource("unused"),
        quantizer,
        perturber,
        estimator=built((ESTIMATORS | OF_HIZOO)[recipe.estimator]),
        mask=mask,
        kernels=kernels,
        **{**defaults, **options},
    )


def file_of(recipe: Recipe, model: nn.Module) -> str:
    """A file for the mask of a recipe: of made-up scores, or of what `Magnitude` chose."""
    file = Path(tempfile.mkdtemp(dir=_SCRATCH.name)) / recipe.mask
    if recipe.mask == "FromFile":
        alike = module(replace(recipe, mask="Magnitude"))
        alike.adopt(deepcopy(model))
        FromFile.save(alike.network, file)
        return str(file)
    scores = {path: one for path, one in model.named_parameters() if path.endswith("weight")}
    scores = {path: one for path, one in scores.items() if one.dim() == 2}
    generator = torch.Generator().manual_seed(5)
    made = {path: torch.rand(one.shape, generator=generator) for path, one in scores.items()}
    shapes = {path: (one.shape[0], one.shape[1]) for path, one in scores.items()}
    facts = Facts(VERSION, "fisher", "00", 2, 8, 1.0, shapes, float_digests(model))
    kept = [kept_tensors(path, one, 1.0) for path, one in made.items()]
    save_file({name: one for part in kept for name, one in part.items()}, file, facts.metadata())
    return str(file)


def refusal(recipe: Recipe) -> str | None:
    """The sentence that refuses a combination, None if it works."""
    try:
        module(recipe)
    except UserError as error:
        return str(error)
    return None


WORKING = [recipe for recipe in RECIPES if refusal(recipe) is None]
BY_BITS = [
    Recipe("NoQuantizer", "DensePerturber", "Outliers"),
    Recipe("Int8, activations int8", "CodePerturber, rademacher", "Magnitude"),
    Recipe("Int4", "CodePerturber", "Magnitude"),
    Recipe("NoQuantizer", "DensePerturber", "SmallWeights"),
    Recipe("Int8, activations int8", "CodePerturber", "SmallWeights"),
    Recipe("Int4", "ScalePerturber", "Magnitude"),
    Recipe("Int4", "ScalePerturber, group", "Magnitude"),
    Recipe("Int4", "SparsePerturber", "Magnitude"),
    Recipe("SqueezeLLM", "SparsePerturber", "Outliers"),
    Recipe("HQQ", "SparsePerturber", "Sensitive"),
    Recipe("Int8, groups", "SparsePerturber", "FromFile"),
    Recipe("NoQuantizer", "DensePerturber", "Sensitive"),
    Recipe("Float8", "CodePerturber, rademacher", "Sensitive"),
    Recipe("Int8", "CodePerturber", "FromFile"),
    Recipe("Int4", "ScalePerturber, group", "Sensitive"),
    Recipe("Int8", "ScalePerturber", "FromFile"),
]
OF_A_BLOCK = [
    Recipe("NoQuantizer", "DensePerturber", "DominantBlock", "OneSided"),
    Recipe("NoQuantizer", "LowRankPerturber", "DominantBlock"),
    Recipe("Int8, activations int8", "CodePerturber, rademacher", "DominantBlock"),
    Recipe("Int4", "ScalePerturber, group", "DominantBlock", "GaussNewton"),
]
BY_OPTIONS = [
    Recipe("SqueezeLLM, 4 bits", "ScalePerturber"),
    Recipe("SqueezeLLM, 4 bits", "SparsePerturber", "RandomMask"),
    *(Recipe(name, "CodePerturber", "RandomMask") for name in OPTIONS if "keep_error" in name),
]
BY_CURVATURE = [
    Recipe("NoQuantizer", "DensePerturber", "RandomMask", "SecondDifference"),
    Recipe("Int8", "CodePerturber", "Magnitude", "SecondDifference"),
    Recipe("Int4", "CodePerturber, unrounded", "RandomBlocks", "SecondDifference"),
    Recipe("Int4", "ScalePerturber", "RandomMask", "SecondDifference"),
    Recipe("Int8, activations int8", "ScalePerturber", "Magnitude", "SecondDifference"),
    Recipe("Float8", "ScalePerturber, group", "Magnitude", "SecondDifference"),
    Recipe("Int4", "SparsePerturber", "Magnitude", "SecondDifference"),
]
_OTHERS = [name for name in ESTIMATORS if name != "TwoPoint"]
_TURN = {
    Recipe(pair.quantizer, pair.perturber, mask): _OTHERS[(i + shift) % len(_OTHERS)]
    for i, pair in enumerate(MATRIX)
    for shift, mask in enumerate(MASKS)
    if mask != "NoMask"
}
_OVERLAYS = ("Int4", "Float8, activations float8")
SWEEP = [
    r
    for r in WORKING
    if r.estimator == _TURN.get(Recipe(r.quantizer, r.perturber, r.mask), "TwoPoint")
    and (r.perturber != "SparsePerturber" or r.quantizer in _OVERLAYS)
] + [*BY_BITS, *OF_A_BLOCK, *BY_OPTIONS, *BY_CURVATURE]
"""Each working pair of quantizer and perturber with each mask; under masks that leave something
out the other estimators take turns. And a few of each kind of coordinates under masks of bits, of
a block, and of options. Overlays are over some formats: they share their reads."""


OF_EACH_KIND = [
    Recipe("NoQuantizer", "DensePerturber"),
    Recipe("NoQuantizer", "DensePerturber, rademacher", "RandomBlocks", "OneSided"),
    Recipe("Int8", "CodePerturber", "NoMask", "ClippedTwoPoint"),
    Recipe("Int8, activations int8", "CodePerturber, rademacher"),
    Recipe("Int4", "CodePerturber", "RandomMask"),
    Recipe("Int4, keep_error", "CodePerturber", "RandomMask"),
    Recipe("Float8", "CodePerturber, rademacher"),
    Recipe("Int8", "LowRankPerturber, gaussian"),
    Recipe("Int4", "ScalePerturber", "RandomMask"),
    Recipe("Int4", "ScalePerturber, group"),
    Recipe("SqueezeLLM", "ScalePerturber"),
    Recipe("Int4", "SparsePerturber", "RandomMask", "OneSided"),
    Recipe("Float8", "SparsePerturber", "Magnitude"),
]
"""Each format and each kind of coordinates once, for what does not depend on both together."""


def tiny_llama() -> nn.Module:
    torch.manual_seed(0)
    config = hf.LlamaConfig(
        vocab_size=128,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
    )
    model = hf.LlamaForCausalLM(config).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.add_(0.05 * torch.randn_like(weight))
    return model


TOKENS = torch.arange(4 * 8).view(4, 8) * 5 % 128


class NextToken(Objective):
    """Cross-entropy of the next token; a batch is ``[B, T]`` token ids."""

    def losses(self, model: nn.Module, batch: Tensor, copies: int = 1) -> Tensor:
        ids = batch.repeat(copies, 1)
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        loss = nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        )
        return loss.view(copies, -1).mean(1)


class LastToken(NextToken):
    """Every token of the vocabulary is a candidate for the last place, for `GaussNewton`."""

    def scores(self, model: nn.Module, batch: Tensor) -> Tensor:
        return model(input_ids=batch, use_cache=False).logits[:, -2]

    def targets(self, batch: Tensor) -> Tensor:
        return batch[:, -1]


def on_llama(recipe: Recipe, kernels: Preference = "reference", **options: Any) -> ZeroOrderModule:
    objective = LastToken() if recipe.estimator == "GaussNewton" else NextToken()
    model = tiny_llama()
    one = module(recipe, kernels, model, objective=objective, **options)
    one.adopt(model)
    return one


def estimate(one: ZeroOrderModule, keys: list[int], batch: Any = TOKENS) -> Tensor:
    """Projected gradients ``[Q]``."""
    with torch.no_grad():
        return one.estimator.combine([one.estimate(batch, keys)])


def train(one: ZeroOrderModule, steps: int, queries: int = 2) -> list[ProjectedGradient]:
    """A run without a Trainer; returns its gradients."""
    optimizer = one.configure_optimizers()
    history = []
    for step in range(steps):
        keys = [fold(one.seed, 0, step, query) for query in range(queries)]
        keys = one.estimator.directions(keys)
        values = one.estimator.finish(estimate(one, keys))
        named = torch.tensor([signed(key) for key in keys * one.estimator.measures])
        gradient = ProjectedGradient(named, values, fold(one.seed, 1, step))
        one.estimator.before_step(gradient, one.weights)
        optimizer.step(gradient=gradient)
        history.append(gradient)
    return history


def stored(one: ZeroOrderModule) -> dict[str, Tensor]:
    """Copies of every tensor of the model: stored weights, and floats that stay as they were."""
    tensors = {}
    for name, weight in one.network.named_parameters():
        parts = weight.store.tensors() if isinstance(weight, PerturbedWeight) else {"": weight}
        tensors.update({f"{name}.{key}": value.detach().clone() for key, value in parts.items()})
    return tensors


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    """Names of the tensors that are not equal bit for bit."""
    assert before.keys() == after.keys()
    return [
        name
        for name, value in before.items()
        if not torch.equal(value.view(torch.uint8), after[name].view(torch.uint8))
    ]
