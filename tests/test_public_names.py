"""The names that `import zolit` offers."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import zolit


def test_every_name_is_there():
    for name in dir(zolit):
        assert getattr(zolit, name) is not None
    assert {"ZeroOrderModule", "Int4", "TwoPoint"} <= set(dir(zolit))


def test_a_part_is_the_one_of_its_home():
    from zolit.strategies.quantizer import Int4

    assert zolit.Int4 is Int4


def test_another_name_is_none_of_them():
    with pytest.raises(AttributeError, match="no attribute 'Int5'"):
        zolit.Int5  # noqa: B018
    with pytest.raises(AttributeError):
        zolit._private  # noqa: B018


ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def documented(page: Path) -> set[str]:
    """Every name of zolit that a page speaks of, from the top."""
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w./-])zolit(?:\.\w+)+(?!\w*/)", text))
    for home, names in re.findall(r"^from (zolit[\w.]*) import ([\w, ]+)$", text, re.MULTILINE):
        named |= {f"{home}.{name.strip()}" for name in names.split(",")}
    return named


def test_every_documented_name_is_there():
    named = {name: page.name for page in PAGES for name in documented(page)}
    assert {"zolit.fit", "zolit.load", "zolit.verify", "zolit.Coordinates"} <= set(named)
    for name, page in named.items():
        found = import_module("zolit")
        for count, part in enumerate(name.split(".")[1:], 2):
            if not hasattr(found, part):  # a package that nothing has imported yet
                import_module(".".join(name.split(".")[:count]))
            found = getattr(found, part)
        assert found is not None, f"{page}: {name}"


def test_what_is_written_from_the_top_comes_from_the_top():
    shown = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    shown += (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    homes = set(re.findall(r"^from (zolit[\w.]*) import", shown, re.MULTILINE))
    assert homes == {"zolit", "zolit.noise"}


def test_the_names_that_a_checker_reads_are_those_that_are_given():
    text = (ROOT / "zolit" / "__init__.py").read_text(encoding="utf-8")
    shown = set(re.findall(r"^    from (zolit[\w.]*) import (\w+) as \2$", text, re.MULTILINE))
    assert shown == {(home, name) for name, home in zolit._HOMES.items()}


def test_the_import_waits_for_no_library():
    script = "import sys, zolit; print(zolit.__version__, 'torch' in sys.modules)"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == [zolit.__version__, "False"]
