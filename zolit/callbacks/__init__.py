"""Ordinary Lightning callbacks: progress and the report of a run."""

from zolit.callbacks.journal import Journal
from zolit.callbacks.peak_memory import peak_memory, reset_peak_memory
from zolit.callbacks.progress import Progress
from zolit.callbacks.prune_report import PruneReport
from zolit.callbacks.run_report import RunReport
from zolit.callbacks.stop import StopBetweenSteps, StopRequested

__all__ = [
    "Journal",
    "Progress",
    "PruneReport",
    "RunReport",
    "StopBetweenSteps",
    "StopRequested",
    "peak_memory",
    "reset_peak_memory",
]
