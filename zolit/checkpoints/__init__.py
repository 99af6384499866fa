"""Checkpoint files: what they hold, how they are read and written, how a run starts from one."""
