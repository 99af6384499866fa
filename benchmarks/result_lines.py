"""What the scripts that go on where they stopped have done: a line of JSON for each result."""

import json
from pathlib import Path
from typing import Any


class Results:
    """Results that are there, one JSON object a line.

    Args:
        file: is made, and only ever grows.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lines: list[dict[str, Any]] = []
        if file.is_file():
            self.lines = [
                json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()
            ]

    def find(self, **what: Any) -> dict[str, Any] | None:
        """The line with all these values."""
        return next((one for one in self.lines if what.items() <= one.items()), None)

    def add(self, line: dict[str, Any]) -> dict[str, Any]:
        """Write a line."""
        self.lines.append(line)
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        print(line, flush=True)
        return line
