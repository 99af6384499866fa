"""What compiling kernels adds to a process, as it was measured."""

LEFT = 82_000_000
"""Bytes that torch's compiler leaves in the process that compiles the kernels of a step.

Resident set before and after the first step of a tiny model, all else imported:
`python benchmarks/memory.py --compiler --perturber codes scales` (x86-64, torch 2.13.0).
Directions on int4 codes 82 MB, with a warm or a cold compiler cache alike; on scales 54 and 71.
The C++ compiler and inductor's workers are processes of their own and are not counted.
"""

PASSING = 34_000_000
"""Bytes that it needs on top of that while it compiles (same measurement)."""
