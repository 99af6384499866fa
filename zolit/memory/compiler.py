"""What compiling kernels adds to a process, as it was measured."""

LEFT = 82_000_000
"""Bytes that torch's compiler leaves in the process that compiles the kernels of a step.

Resident set before and after the first step of a tiny model, all else imported, with a warm
compiler cache: `python benchmarks/memory.py --compiler` (x86-64, torch 2.13.0): 82 MB with
directions on int4 codes, 78 with directions on scales. With a cold cache 94 to 119. The C++
compiler and inductor's workers are processes of their own and are not counted.
"""

PASSING = 34_000_000
"""Bytes that it needs on top of that while it compiles (same measurement)."""
