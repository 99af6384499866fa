"""The life of a run: its folder, what it writes down, and how it goes on."""
