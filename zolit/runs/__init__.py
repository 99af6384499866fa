"""The life of a run: its folder, its records, and how it is resumed."""
