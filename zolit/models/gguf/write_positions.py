"""Writes the fields and the tensor of a GGUF file that describe how positions are encoded.

As in llama.cpp's converter, a linear stretch and YaRN become fields, and Llama 3's frequencies a
tensor. llama.cpp reads this tensor only in files of Llama's architecture.
"""

from typing import Any

from gguf import MODEL_ARCH, GGUFWriter, RopeScalingType
from torch import Tensor, nn

from zolit.caller import export_format
from zolit.errors import UserError
from zolit.models.gguf.positions import yarn_attention

_WRITTEN = ("default", "linear", "yarn", "llama3")


def write_positions(writer: GGUFWriter, config: Any, architecture: MODEL_ARCH) -> None:
    """Write the fields of the rotation.

    Args:
        writer: of the file.
        config: transformers configuration.
        architecture: as which llama.cpp reads the model.

    Raises:
        UserError: if the format has no field for the way that positions are encoded.
    """
    parameters = config.rope_parameters
    kind = rope_type(config)
    if kind not in _WRITTEN:
        raise _refused(f"by {kind!r}, expected one of {', '.join(_WRITTEN)}")
    if kind == "llama3" and architecture != MODEL_ARCH.LLAMA:
        raise _refused(
            f"by 'llama3', which llama.cpp reads for Llama and not for {config.model_type}"
        )
    if parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise _refused("in a part of each head alone")
    writer.add_rope_freq_base(float(parameters["rope_theta"]))
    if kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(parameters["factor"]))
    elif kind == "yarn":
        _write_yarn(writer, parameters)


def rope_type(config: Any) -> str:
    """How a model's positions are scaled, as transformers names it."""
    return str((getattr(config, "rope_parameters", None) or {}).get("rope_type", "default"))


def rope_factors(model: nn.Module, config: Any) -> Tensor | None:
    """The number by which Llama 3 divides each frequency, ``[head / 2]`` float32; None for other
    models."""
    if rope_type(config) != "llama3":
        return None
    rotary: Any = model.get_submodule("model.rotary_emb")
    actual = rotary.inv_freq.float()
    base = float(config.rope_parameters["rope_theta"])
    half = actual.shape[0]
    plain = base ** -(actual.new_tensor(range(half)) / half)
    return plain / actual


def _write_yarn(writer: GGUFWriter, parameters: dict[str, Any]) -> None:
    factor = parameters.get("factor")
    if factor is None or not parameters.get("truncate", True):
        raise _refused("by 'yarn' without a factor, or between bounds that are not whole numbers")
    for name, usual in (("beta_fast", 32), ("beta_slow", 1)):
        if (parameters.get(name) or usual) != usual:
            raise _refused(f"by 'yarn' with {name} {parameters[name]:g}, llama.cpp takes {usual}")
    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_factor(float(factor))
    writer.add_rope_scaling_orig_ctx_len(parameters["original_max_position_embeddings"])
    attention = _yarn_attention(parameters, float(factor)) / yarn_attention(float(factor))
    if attention != 1:
        writer.add_rope_scaling_attn_factors(attention)


def _yarn_attention(parameters: dict[str, Any], factor: float) -> float:
    """The factor by which transformers multiplies queries and keys."""
    given = parameters.get("attention_factor")
    if given is not None:
        return float(given)
    scale, over = parameters.get("mscale"), parameters.get("mscale_all_dim")
    if scale and over and factor > 1:
        usual = yarn_attention(factor) - 1
        return (usual * scale + 1) / (usual * over + 1)
    return yarn_attention(factor)


def _refused(how: str) -> UserError:
    return UserError(
        f"{export_format('gguf')}: the model scales its positions {how}; use "
        f"{export_format('safetensors')} and convert the folder with llama.cpp's own script"
    )
