"""Ordinary Lightning callbacks: progress and the report of a run."""

from zolit.callbacks.peak_memory import peak_memory, reset_peak_memory
from zolit.callbacks.progress import Progress
from zolit.callbacks.run_report import RunReport

__all__ = ["Progress", "RunReport", "peak_memory", "reset_peak_memory"]
