"""All names of transformers and torchao that zolit imports from below their stable top level.

When a release moves a name, only this module changes. Importing torchao through this module
also silences two messages that no user can act on; every other message of both libraries is
shown.
"""

import logging
from collections.abc import Callable

from torch import Tensor

from zolit.quiet import DropMessages

# torchao tries every binary library in its wheel, those for CUDA and for other Python versions
# included. zolit brings its own kernels and calls none of them.
logging.getLogger("torchao").addFilter(DropMessages("Failed to load ", "torchao/_C"))
# torchao registers an Enum in a way torch has deprecated: theirs to settle.
logging.getLogger("torch.utils._pytree").addFilter(
    DropMessages("%s is an Enum subclass", "register_constant()")
)

from torchao.core.config import AOBaseConfig  # noqa: E402  (the filters come first)
from torchao.quantization import (  # noqa: E402
    Float8WeightOnlyConfig,
    Granularity,
    Int8DynamicActivationInt8WeightConfig,
    Int8WeightOnlyConfig,
    IntxUnpackedToInt8Tensor,
    IntxWeightOnlyConfig,
    MappingType,
    PerAxis,
    PerGroup,
    PerRow,
    PerTensor,
    PerToken,
)
from torchao.quantization.quant_primitives import (  # noqa: E402
    choose_qparams_affine,
    dequantize_affine,
    quantize_affine,
)
from torchao.quantization.quantize_.common import (  # noqa: E402
    KernelPreference,
    QuantizeTensorKwargs,
)
from torchao.quantization.quantize_.workflows import (  # noqa: E402
    Float8Tensor,
    Int8Tensor,
    QuantizeTensorToFloat8Kwargs,
    QuantizeTensorToInt8Kwargs,
)
from torchao.utils import TorchAOBaseTensor  # noqa: E402
from transformers import GgufConfig  # noqa: E402
from transformers.cache_utils import Cache, DynamicCache  # noqa: E402
from transformers.conversion_mapping import get_model_conversion_mapping  # noqa: E402
from transformers.core_model_loading import (  # noqa: E402
    Concatenate,
    ConversionOps,
    MergeModulelist,
    WeightConverter,
    WeightRenaming,
    rename_source_key,
)
from transformers.integrations.gguf import (  # noqa: E402
    get_gguf_conversion_mapping,
    is_gguf_arch_supported,
)
from transformers.modeling_gguf_pytorch_utils import (  # noqa: E402
    TENSOR_PROCESSORS,
    TensorProcessor,
    get_gguf_hf_weights_map,
)
from transformers.pytorch_utils import Conv1D  # noqa: E402
from transformers.quantizers import AutoHfQuantizer, HfQuantizer, register_quantizer  # noqa: E402
from transformers.utils.hub import cached_file  # noqa: E402
from transformers.utils.loading_report import LoadStateDictInfo  # noqa: E402
from transformers.utils.quantization_config import QuantizationConfigMixin  # noqa: E402

__all__ = [
    "TENSOR_PROCESSORS",
    "AOBaseConfig",
    "AutoHfQuantizer",
    "Cache",
    "Concatenate",
    "Conv1D",
    "ConversionOps",
    "DynamicCache",
    "Float8Tensor",
    "Float8WeightOnlyConfig",
    "GgufConfig",
    "Granularity",
    "HfQuantizer",
    "Int8DynamicActivationInt8WeightConfig",
    "Int8Tensor",
    "Int8WeightOnlyConfig",
    "IntxUnpackedToInt8Tensor",
    "IntxWeightOnlyConfig",
    "KernelPreference",
    "LoadStateDictInfo",
    "MappingType",
    "MergeModulelist",
    "PerAxis",
    "PerGroup",
    "PerRow",
    "PerTensor",
    "PerToken",
    "QuantizationConfigMixin",
    "QuantizeTensorKwargs",
    "QuantizeTensorToFloat8Kwargs",
    "QuantizeTensorToInt8Kwargs",
    "TensorProcessor",
    "TorchAOBaseTensor",
    "WeightConverter",
    "WeightRenaming",
    "cached_file",
    "choose_qparams_affine",
    "dequantize_affine",
    "get_gguf_conversion_mapping",
    "get_gguf_hf_weights_map",
    "get_model_conversion_mapping",
    "is_gguf_arch_supported",
    "quantize_affine",
    "register_experts",
    "register_quantizer",
    "rename_source_key",
]


def register_experts(name: str, function: Callable[..., Tensor]) -> None:
    """Let transformers multiply experts by a function, where a configuration names it.

    Args:
        name: for the configuration.
        function: takes an experts module, hidden states, and each token's experts and factors.
    """
    # Not above: it looks for packages that few installations and configurations need.
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    ALL_EXPERTS_FUNCTIONS.register(name, function)
