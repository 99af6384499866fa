"""Bytes that are alive, against sums by hand and against real kernels."""

import pytest
import torch
from torch.nn import functional as F

from zolit.memory.tracker import AsOnDevice, LiveBytes


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_counts_what_is_made_and_not_what_was_there(device: str) -> None:
    before = torch.zeros(1000, device=device)
    with LiveBytes() as made:
        a = torch.empty(1000, device=device)  # 4000 bytes
        view = before[10:].view(-1, 10)
        b = a + before  # 4000 more
        c = (b * 2).bfloat16()  # 4000 for a moment, 2000 to stay
        assert made.live == 10_000
        assert made.peak == 14_000 if device == "meta" else made.peak >= 14_000
        del a, view
        assert made.live == 6_000
        before.add_(c)
        d = c.view(torch.int16)
        del c, b
        assert made.live == 2_000  # held by its view
        del d
    assert made.live == 0
    assert made.peak == 14_000


def test_numbers_meet_weights_without_numbers() -> None:
    weight = torch.empty(100, 8, device="meta")
    ids = torch.arange(6).view(2, 3)
    with LiveBytes(), AsOnDevice():
        found = F.embedding(ids, weight)
        moved = ids.to(weight.device)
        assert bool((moved.to(dtype=torch.int32) >= 0).all())
        assert (found * moved.unsqueeze(-1)).is_meta
    assert found.shape == (2, 3, 8)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_laid_out_as_the_cpu_kernel_does(masked: bool) -> None:
    real = torch.randn(2, 40, 3, 16, dtype=torch.bfloat16).transpose(1, 2)
    mask = torch.ones(2, 1, 40, 40, dtype=torch.bool).tril()
    expected = F.scaled_dot_product_attention(real, real, real, mask if masked else None)
    query = torch.empty_like(real, device="meta")
    meta_mask = torch.empty_like(mask, device="meta") if masked else None
    with LiveBytes() as made, AsOnDevice():
        out = F.scaled_dot_product_attention(query, query, query, meta_mask)
    assert (out.shape, out.stride(), out.dtype) == (
        expected.shape,
        expected.stride(),
        expected.dtype,
    )
    size = query.numel() * 2
    # Output, packed keys and values, float32 normalizers, the mask in bfloat16. No scores.
    assert made.peak == 3 * size + 2 * 3 * 40 * 4 + (2 * 40 * 40 * 2 if masked else 0)


def test_attention_that_no_fused_kernel_takes_keeps_its_scores() -> None:
    query = torch.empty(1, 2, 64, 8, device="meta")
    with LiveBytes() as made, AsOnDevice():
        F.scaled_dot_product_attention(query, query, query, dropout_p=0.5)
    assert made.peak >= 2 * 64 * 64 * 4
