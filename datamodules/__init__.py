"""Data modules: rows from anywhere to batches that objectives read."""

from zolit.datamodules.benchmark_rows import BenchmarkRows
from zolit.datamodules.choices import ChoiceTask
from zolit.datamodules.prompt import PromptDataModule
from zolit.datamodules.rows import FileRows, HubRows, RowSource, TableRows
from zolit.datamodules.tasks import Task
from zolit.datamodules.text import TextDataModule
from zolit.datamodules.written import GenerationTask

__all__ = [
    "BenchmarkRows",
    "ChoiceTask",
    "FileRows",
    "GenerationTask",
    "HubRows",
    "PromptDataModule",
    "RowSource",
    "TableRows",
    "Task",
    "TextDataModule",
]
