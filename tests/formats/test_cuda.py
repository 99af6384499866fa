"""The same kernels on a CUDA device (Triton through inductor): equal to the CPU's reference.

Skipped where there is none. `torch._int_mm` and the compiled blocks are exercised by the step.
"""

import pytest
import torch
from format_cases import DIRECTIONS, FORMATS, perturbation

from zolit.formats.base import StoredWeight
from zolit.kernels.arguments import Perturbation, Query, Update
from zolit.kernels.dispatch import Preference

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SHAPE = (70, 128)
INTEGER_DIRECTIONS = ("rademacher", "sparse_rademacher")


def on(device: str, store: StoredWeight) -> StoredWeight:
    return store.replace({name: t.clone().to(device) for name, t in store.tensors().items()})


def read(
    store: StoredWeight, noise: Perturbation | None, kernels: Preference
) -> list[torch.Tensor]:
    outs = [torch.empty(store.rows, store.padded_columns, device=store.device) for _ in range(2)]
    if noise is None:
        store.read(slice(0, store.rows), outs[:1], None, kernels)
        return outs[:1]
    there = Perturbation(
        noise.direction, noise.control.to(store.device), noise.amplitude.to(store.device)
    )
    store.read(slice(0, store.rows), outs, there, kernels)
    return outs


def applied(store: StoredWeight, name: str, kernels: Preference) -> dict[str, torch.Tensor]:
    noise = perturbation(DIRECTIONS[name], (1.0, 0.0))
    device = store.device
    update = Update(
        None,
        torch.tensor([1.0, 0.0] if store.quantized else [0.0, 1.0], device=device),
        torch.tensor([3, 4], dtype=torch.int32, device=device),
        query=Query(noise.direction, noise.control.to(device), torch.tensor(0.7, device=device)),
    )
    store.apply(slice(0, store.rows), update, kernels)
    return {key: value.cpu() for key, value in store.tensors().items()}


@pytest.mark.parametrize("kernels", ["reference", "compiled"])
@pytest.mark.parametrize("name", [None, *DIRECTIONS])
@pytest.mark.parametrize("form", FORMATS)
def test_reads_equal_those_of_the_cpu(form: str, name: str | None, kernels: Preference) -> None:
    store = FORMATS[form](*SHAPE).store
    noise = None if name is None else perturbation(DIRECTIONS[name], (0.75, 0.125))
    wanted = read(store, noise, "reference")
    for got, want in zip(read(on("cuda", store), noise, kernels), wanted, strict=True):
        # Logarithm and cosine of another library: one unit in the last place of float32.
        torch.testing.assert_close(got.cpu(), want, rtol=1e-6, atol=2e-5)


@pytest.mark.parametrize("kernels", ["reference", "compiled"])
@pytest.mark.parametrize("name", INTEGER_DIRECTIONS)
@pytest.mark.parametrize("form", [form for form in FORMATS if "int" in form])
def test_updates_of_integers_equal_those_of_the_cpu_bit_for_bit(
    form: str, name: str, kernels: Preference
) -> None:
    store = FORMATS[form](*SHAPE).store
    there = applied(on("cuda", store), name, kernels)
    here = applied(on("cpu", store), name, "reference")
    assert all(torch.equal(there[key], here[key]) for key in here)
