"""Adapters as folders in PEFT's format: ``adapter_config.json`` and ``adapter_model.safetensors``.

The configuration is PEFT's own class; PEFT is imported only when such a folder is read or written.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from zolit.compat import Conv1D
from zolit.errors import UserError
from zolit.extras import require_extra
from zolit.models.adapters.base import adapted, floats

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_PREFIX = "base_model.model."
# Options that do not change what an adapter computes, and options that are compared one by one.
# All others must have PEFT's defaults.
_READ = {"peft_type", "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules"}
_READ |= {"layers_to_transform", "layers_pattern", "fan_in_fan_out", "base_model_name_or_path"}
_READ |= {"revision", "task_type", "inference_mode", "auto_mapping", "peft_version"}
_READ |= {"init_lora_weights", "loftq_config", "runtime_config"}


@dataclass(frozen=True)
class AdapterFolder:
    """A LoRA adapter on disk.

    Attributes:
        path: of the folder, for messages.
        rank: of its factors.
        alpha: numerator of their scaling.
        tensors: its factors by PEFT's names.
    """

    path: str
    rank: int
    alpha: float
    tensors: Mapping[str, Tensor]

    def check(self, rank: int, alpha: float, layers: list[str]) -> None:
        """Refuse another rank or scaling, or factors for other layers than ``layers``.

        Raises:
            UserError: naming the first difference.
        """
        for name, got, theirs in (("rank", rank, self.rank), ("alpha", alpha, self.alpha)):
            if got != theirs:
                raise UserError(
                    f"adapter.{name}: got {got}, but the adapter of {self.path!r} has {theirs}; "
                    f"set {name}: {theirs}"
                )
        wanted = {_key(path, factor) for path in layers for factor in ("lora_A", "lora_B")}
        for key in sorted(wanted ^ self.tensors.keys()):
            says = "holds none of the factor" if key in wanted else "has a further factor"
            raise UserError(
                f"adapter.targets: the adapter of {self.path!r} {says} {key!r}; name the targets "
                f"of its {CONFIG}"
            )

    def tensor(self, path: str, factor: str, shape: torch.Size) -> Tensor:
        """One factor, of the layer at ``path``.

        Raises:
            UserError: if it has another shape.
        """
        found = self.tensors[_key(path, factor)]
        if found.shape != shape:
            raise UserError(
                f"adapter.start_from: {factor} of {path} is {list(found.shape)} in {self.path!r}, "
                f"the model expects {list(shape)}; give an adapter of this model"
            )
        return found


def _key(path: str, factor: str) -> str:
    return f"{_PREFIX}{path}.{factor}.weight"


def read_folder(folder: str) -> AdapterFolder:
    """A LoRA adapter in PEFT's format.

    Raises:
        UserError: if it cannot be read or is of a kind that zolit does not compute.
    """
    require_extra("peft", f"adapter.start_from: reading {folder!r}")
    from peft import LoraConfig

    place = Path(folder).expanduser()
    try:
        config: Any = json.loads((place / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(place / WEIGHTS)
        kind, rank, alpha = config["peft_type"], int(config["r"]), float(config["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(
            f"adapter.start_from: no adapter could be read from {folder!r} "
            f"({type(error).__name__}: {error}); give a folder with {CONFIG} and {WEIGHTS}"
        ) from error
    if kind != "LORA":
        raise UserError(
            f"adapter.start_from: {folder!r} holds an adapter of type {kind}, expected LORA; give "
            "a plain LoRA adapter"
        )
    if not isinstance(config.get("init_lora_weights", True), bool | None):
        raise _not_plain(folder, "init_lora_weights", config["init_lora_weights"])
    plain = LoraConfig().to_dict()
    for name in config.keys() - _READ:
        if config[name] and config[name] != plain.get(name):
            raise _not_plain(folder, name, config[name])
    return AdapterFolder(folder, rank, alpha, tensors)


def _not_plain(folder: str, name: str, value: Any) -> UserError:
    return UserError(
        f"adapter.start_from: the adapter of {folder!r} has {name} {value!r}, which zolit does not "
        "compute; give a plain LoRA adapter"
    )


def write_folder(model: nn.Module, adapter: Any, base: str, folder: Path) -> None:
    """Write a model's LoRA factors, so that ``PeftModel.from_pretrained(base, folder)`` reads them.

    Args:
        model: with the adapter attached.
        adapter: the `LoRA` that was attached.
        base: hub name or folder of the model that it belongs to.
        folder: that exists.
    """
    from peft import LoraConfig

    layers = list(adapted(model))
    alpha = adapter.alpha
    config = LoraConfig(
        base_model_name_or_path=base,
        task_type="CAUSAL_LM" if _generates(model) else None,
        inference_mode=True,
        r=adapter.rank,
        lora_alpha=int(alpha) if float(alpha).is_integer() else alpha,
        target_modules=_targets(adapter.targets, [path for path, _, _ in layers]),
        fan_in_fan_out=any(isinstance(layer, Conv1D) for _, layer, _ in layers),
    )
    tensors = {
        _key(path, name): floats(getattr(one, name).weight).contiguous()
        for path, _, one in layers
        for name in ("lora_A", "lora_B")
    }
    config.save_pretrained(str(folder))
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def _generates(model: Any) -> bool:
    return bool(getattr(model, "can_generate", lambda: False)())


def _targets(targets: list[str], paths: list[str]) -> list[str]:
    """The targets as PEFT spells them, which has no patterns."""
    if any(set(target) & set("*?[") for target in targets):
        return paths
    return targets
