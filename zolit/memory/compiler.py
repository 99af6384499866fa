"""Memory that compiling kernels adds to a process, as measured."""

LEFT = 82_000_000
"""Bytes of torch's compiler that stay in the process after the kernels of a step are compiled.

Resident set before and after the first step of a tiny model, all else imported:
`python benchmarks/memory.py --compiler --perturber codes scales` (x86-64, torch 2.13.0).
Directions on int4 codes 82 MB, with a warm or a cold compiler cache alike; on scales 54 and 71.
The C++ compiler and inductor's workers are processes of their own and are not counted.
"""

PASSING = 34_000_000
"""Further bytes that it needs while it compiles (same measurement)."""
