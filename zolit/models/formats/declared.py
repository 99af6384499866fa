"""Which quantized format a checkpoint's config.json declares."""

from typing import Any

from zolit.errors import UserError
from zolit.models.formats.aqlm import AqlmFormat, aqlm_format
from zolit.models.formats.gptq import GptqFormat, gptq_format
from zolit.models.formats.torchao import TorchaoFormat, torchao_format

Format = GptqFormat | AqlmFormat | TorchaoFormat

METHODS = ("gptq", "aqlm", "torchao")
"""Methods that zolit reads, as config.json names them."""


def declared_format(config: dict[str, Any], file: str) -> Format:
    """The format of a ``quantization_config``.

    Args:
        config: its content.
        file: that holds it, for messages.

    Raises:
        UserError: if zolit does not read the method or the variant.
    """
    method = config.get("quant_method")
    if method == "gptq":
        return gptq_format(config, file)
    if method == "aqlm":
        return aqlm_format(config, file)
    if method == "torchao":
        return torchao_format(config, file)
    raise UserError(
        f"model.source: quantization_config of {file!r} has quant_method={method!r}, expected "
        f"one of {', '.join(METHODS)}; give such a checkpoint, or the float model and one of "
        "zolit's own quantizers"
    )
