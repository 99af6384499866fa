"""Which quantized format a checkpoint's config.json declares."""

from collections.abc import Callable
from typing import Any

from zolit.errors import UserError
from zolit.models.loading.prequantized import fp8
from zolit.models.loading.prequantized.aqlm import AqlmFormat, aqlm_format
from zolit.models.loading.prequantized.awq import AwqFormat, awq_format
from zolit.models.loading.prequantized.compressed import CompressedFormat, compressed_format
from zolit.models.loading.prequantized.fp8 import Fp8Format, fp8_format
from zolit.models.loading.prequantized.gptq import GptqFormat, gptq_format
from zolit.models.loading.prequantized.torchao import TorchaoFormat, torchao_format

Format = GptqFormat | AqlmFormat | TorchaoFormat | Fp8Format | CompressedFormat | AwqFormat

_READERS: dict[str, Callable[[dict[str, Any], str], Format]] = {
    "gptq": gptq_format,
    "aqlm": aqlm_format,
    "torchao": torchao_format,
    "awq": awq_format,
    "compressed-tensors": compressed_format,
    **dict.fromkeys(fp8.METHODS, fp8_format),
}

METHODS = tuple(_READERS)
"""Methods that zolit reads, as config.json names them."""

_INSTEAD = {
    "bitsandbytes": "give the float model with quantizer Int8 or Int4, or what dequantize() and "
    "save_pretrained of transformers make of this one where bitsandbytes runs",
    "auto-round": "export it again with --format auto_gptq, or give the float model with quantizer "
    "GPTQ",
    "hqq": "give the float model with quantizer HQQ",
    "mxfp4": "give the float model: load this one with Mxfp4Config(dequantize=True) of "
    "transformers and save_pretrained it",
    "gguf": "give the GGUF file itself in model.source.gguf_file",
}
"""Advice for a checkpoint that zolit does not read."""


def declared_format(config: dict[str, Any], file: str) -> Format:
    """The format of a ``quantization_config``.

    Args:
        config: its content.
        file: that holds it, for messages.

    Raises:
        UserError: if zolit does not read the method or the variant.
    """
    method = config.get("quant_method")
    if method is None and (config.get("load_in_4bit") or config.get("load_in_8bit")):
        method = "bitsandbytes"
    if isinstance(method, str) and method in _READERS:
        return _READERS[method](config, file)
    instead = _INSTEAD.get(
        str(method), "give such a checkpoint, or the float model and one of zolit's own quantizers"
    )
    raise UserError(
        f"model.source: quantization_config of {file!r} has quant_method={method!r}, expected "
        f"one of {', '.join(METHODS)}; {instead}"
    )
