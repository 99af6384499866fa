"""Data modules: rows from anywhere to batches that objectives read."""

from zolit.datamodules.prompt import PromptDataModule
from zolit.datamodules.rows import FileRows, HubRows, RowSource, TableRows
from zolit.datamodules.tasks import Task

__all__ = ["FileRows", "HubRows", "PromptDataModule", "RowSource", "TableRows", "Task"]
