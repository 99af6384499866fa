"""Kernels: plain torch functions of tensors, which run compiled or as they are."""
