"""Quantizers: the storage formats of weights, and how weights are rounded to them."""

from zolit.strategies.quantizer.base import Quantizer
from zolit.strategies.quantizer.float8 import Float8
from zolit.strategies.quantizer.gptq import GPTQ
from zolit.strategies.quantizer.hqq import HQQ
from zolit.strategies.quantizer.int4 import Int4
from zolit.strategies.quantizer.int8 import Int8
from zolit.strategies.quantizer.none import NoQuantizer
from zolit.strategies.quantizer.squeezellm import SqueezeLLM
from zolit.strategies.quantizer.stored import Stored

__all__ = [
    "GPTQ",
    "HQQ",
    "Float8",
    "Int4",
    "Int8",
    "NoQuantizer",
    "Quantizer",
    "SqueezeLLM",
    "Stored",
]
