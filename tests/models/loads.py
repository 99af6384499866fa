"""Models loaded whole, to compare with models that are loaded tensor by tensor."""

from pathlib import Path

import torch
from tiny_models import tiny
from torch import Tensor, nn

from zolit.models.loading.load import load_model
from zolit.models.prepare import Preparation
from zolit.models.source import ModelSource
from zolit.strategies import DensePerturber, Quantizer, ScalePerturber
from zolit.tensors.reading import Reading
from zolit.tensors.weight import perturbed_weights


def saved(name: str, folder: Path, shard: str = "1GB") -> ModelSource:
    tiny(name).save_pretrained(folder, max_shard_size=shard)
    return ModelSource(path=str(folder))


def preparation(quantizer: Quantizer, tune: list[str] | None = None) -> Preparation:
    perturber = ScalePerturber() if quantizer.quantized else DensePerturber()
    return Preparation(
        quantizer, perturber, Reading(perturber.direction(), "reference"), tune or ["linear"]
    )


def whole(
    source: ModelSource, quantizer: Quantizer, dtype: torch.dtype, tune: list[str] | None = None
) -> tuple[nn.Module, bool]:
    """The same model by transformers' loader, prepared afterwards."""
    model = load_model(source, dtype)
    prepare = preparation(quantizer, tune)
    plan = prepare.plan(model)
    prepare.apply(model, plan)
    return model, plan.pairable


def contents(model: nn.Module) -> dict[str, Tensor]:
    """Every number of a model: stored tensors, plain parameters, buffers."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        store = getattr(parameter, "store", None)
        if store is None:
            tensors[name] = parameter.data
            continue
        tensors |= {f"{name}.{key}": value for key, value in store.tensors().items()}
        if store.error is not None:
            tensors[f"{name}.error"] = store.error
    return tensors | {f"buffer {name}": value for name, value in model.named_buffers()}


def assert_same(got: nn.Module, expected: nn.Module) -> None:
    mine, theirs = contents(got), contents(expected)
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        assert mine[name].dtype == value.dtype, name
        assert mine[name].device.type == "cpu", name
        assert torch.equal(mine[name], value), name
    sites = [(w.path, w.site, w.dtype, w.shape) for w in perturbed_weights(got)]
    assert sites == [(w.path, w.site, w.dtype, w.shape) for w in perturbed_weights(expected)]
    assert not got.training
    assert not any(p.requires_grad for p in got.parameters())
    assert got.config.to_dict() == expected.config.to_dict()
    assert got.config.name_or_path == expected.config.name_or_path
    assert got.name_or_path == expected.name_or_path
