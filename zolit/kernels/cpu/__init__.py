"""Kernels for instructions that some CPUs have; only `zolit.kernels.activations` asks for them."""
