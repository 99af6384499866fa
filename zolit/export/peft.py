"""The adapter of a run in PEFT's format."""

from pathlib import Path

from zolit.caller import export_format
from zolit.checkpoints.start import moved_weights
from zolit.checkpoints.tensors import moving_weights
from zolit.errors import UserError
from zolit.models.adapters import LoRA
from zolit.models.adapters.base import adapted
from zolit.models.adapters.peft_format import write_folder
from zolit.training.module import TuningModule


def save_peft(module: TuningModule, folder: Path) -> list[str]:
    """Write the factors and PEFT's configuration.

    Args:
        module: with a checkpoint's weights.
        folder: that exists.

    Returns:
        Sentences for the user.

    Raises:
        UserError: if the run has no adapter that PEFT knows, or moved other weights as well: an
            adapter cannot hold these.
    """
    adapter, source = module.adapter, module.source
    if not isinstance(adapter, LoRA):
        has = "no adapter" if adapter is None else f"a {type(adapter).__name__}"
        raise UserError(
            f"{export_format('peft')}: the run has {has}; use {export_format('safetensors')}, or "
            "tune a LoRA"
        )
    factors = {
        f"{path}.adapter.{name}"
        for path, _, one in adapted(module.network)
        for name, _ in one.named_parameters()
    }
    moved = moving_weights(module.network).keys() | moved_weights(module.start_files)
    if others := sorted(moved - factors):
        raise UserError(
            f"{export_format('peft')}: the run moved weights of the model itself ({others[0]} and "
            f"{len(others) - 1} more), which an adapter does not hold; use "
            f"{export_format('safetensors')}, which merges the adapter"
        )
    local = source.package is not None or Path(source.path).expanduser().exists()
    write_folder(module.network, adapter, source.resolved_path() if local else source.path, folder)
    if not module.quantizer.quantized:
        return []
    return [
        f"the adapter was tuned beside {type(module.quantizer).__name__} weights; beside others, "
        "such as the floats that they were made from, its logits differ by the rounding"
    ]
