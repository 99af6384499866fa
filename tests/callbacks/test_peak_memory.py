import torch

from zolit.callbacks.peak_memory import memory_kind, peak_memory, reset_peak_memory

BYTES = 1 << 28


def test_peak_rises_with_what_is_allocated() -> None:
    if memory_kind() == "cuda":
        reset_peak_memory()
    before = peak_memory()
    held = torch.ones(BYTES, dtype=torch.uint8, device="cuda" if memory_kind() == "cuda" else "cpu")
    after = peak_memory()
    del held
    assert before > 0
    assert after >= before
    reset_peak_memory()
    assert peak_memory() <= after
