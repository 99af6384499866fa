"""The readers against the packages that write the formats, where those are installed.

Neither is a dependency: GPTQModel asks for a newer torch than zolit's constraints. Run by hand in
an environment that has them; GPTQModel's modules work on the CPU.
"""

import numpy as np
import pytest
import torch
from checkpoint_layers import aqlm_layer, gptq_layer, layer
from test_aqlm import decoded as aqlm_decoded
from test_gptq import decoded as gptq_decoded
from torch import nn

from zolit.models.loading.prequantized.aqlm import AqlmFormat, read_aqlm
from zolit.models.loading.prequantized.gptq import GptqFormat, read_gptq


@pytest.mark.parametrize("v2", [True, False])
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("group_size", [32, 128, -1])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gptqmodel_writes_what_is_read(
    bits: int, group_size: int, act_order: bool, v2: bool
) -> None:
    qlinear = pytest.importorskip("gptqmodel.nn_modules.qlinear.torch")
    convert = pytest.importorskip("gptqmodel.utils.model")
    rows, columns = 96, 256
    one = gptq_layer(bits, rows, columns, group_size, act_order, v2=v2, zero_low=0)
    group = one.tensors["g_idx"]
    draw = np.random.default_rng(1)
    zeros = torch.from_numpy(draw.integers(0, 2**bits, one.tensors["scales"].shape)).float()
    theirs = qlinear.TorchLinear(
        bits, group_size, sym=False, desc_act=act_order, in_features=columns, out_features=rows
    )
    linear = nn.Linear(columns, rows, bias=False)
    scales = one.tensors["scales"].float()
    theirs.pack_original(linear, scales.t(), zeros.t(), group)
    theirs.eval()
    weight = qlinear.PackableQuantLinear.dequantize_weight(theirs).t()  # float16
    if not v2:
        options = type("Options", (), {"bits": bits, "pack_dtype": torch.int32})
        convert.convert_gptq_v2_to_v1_format_module(theirs, options)
    names = ("qweight", "qzeros", "scales", "g_idx")
    tensors = {name: getattr(theirs, name).detach().clone() for name in names}
    found = read_gptq(layer(tensors), GptqFormat(bits, group_size, not v2), rows, columns)
    np.testing.assert_array_equal(gptq_decoded(found).astype(np.float16), weight.numpy())


@pytest.mark.parametrize(("codebooks", "bits"), [(1, 16), (2, 8)])
def test_aqlm_decodes_what_is_read(codebooks: int, bits: int) -> None:
    utils = pytest.importorskip("aqlm.utils")
    tensors, _ = aqlm_layer(codebooks, bits, rows=40, columns=128)
    index = utils.unpack_int_data(tensors["codes"], bits)
    wide = {name: tensors[name].double() for name in ("codebooks", "scales")}
    weight = utils._dequantize_weight(index, wide["codebooks"], wide["scales"])
    found = read_aqlm(layer(tensors), AqlmFormat(codebooks, bits, 8), 40, 128)
    np.testing.assert_allclose(aqlm_decoded(found), weight.numpy(), rtol=1e-12)
