"""Every script of benchmarks/ still finds what it imports, and builds its parser. None is run."""

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("*.py"))


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    """The scripts as modules, by name; gone from this process afterwards."""
    names = [one.stem for one in SCRIPTS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(FOLDER), *sys.path])
        for name in names:  # folders of tests have some of these names
            patch.delitem(sys.modules, name, raising=False)
        yield {name: importlib.import_module(name) for name in names}
        for name in names:
            sys.modules.pop(name, None)


def imported(script: Path) -> Iterator[tuple[str, str]]:
    """What a script imports of zolit and of its neighbours, in functions as well."""
    own = {one.stem for one in SCRIPTS}
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            if node.module.partition(".")[0] in {"zolit", *own}:
                yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((one.name, "") for one in node.names if one.name.startswith("zolit"))


def test_what_they_import_is_there(scripts: dict[str, ModuleType]) -> None:
    for script in SCRIPTS:
        assert Path(str(scripts[script.stem].__file__)) == script
        for module, name in imported(script):
            found = scripts.get(module) or importlib.import_module(module)
            if name and not hasattr(found, name):
                importlib.import_module(f"{module}.{name}")


def test_their_parsers_are_built(
    scripts: dict[str, ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = 0
    for script in SCRIPTS:
        main = getattr(scripts[script.stem], "main", None)
        own = main is not None and main.__module__ == script.stem
        if not own or "ArgumentParser(" not in script.read_text(encoding="utf-8"):
            continue
        monkeypatch.setattr(sys, "argv", [script.name, "--help"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0, script.name
        assert capsys.readouterr().out.startswith(f"usage: {script.name}")
        asked += 1
    assert asked > 20


def test_the_readmes_picture_is_of_the_pages_figures(scripts: dict[str, ModuleType]) -> None:
    picture = scripts["picture"]
    page = picture.DOCS / "performance.md"
    for row in picture.STEPS:
        assert 0.5 < picture.column(page, row, "/ two bf16 forwards") < 10
    with pytest.raises(LookupError, match="no figure of 'none'"):
        picture.column(page, "none", "forward")
    assert len(picture.picture().axes) == 2


def test_rates_give_the_effect_and_the_fall(scripts: dict[str, ModuleType]) -> None:
    """Slopes along 20000 directions: a read by eps, and a step by lr, do as they should."""
    generator = torch.Generator().manual_seed(0)
    gradient = torch.tensor([3.0, -4.0], dtype=torch.float64)
    slopes = torch.randn(20000, 2, generator=generator, dtype=torch.float64) @ gradient
    found = scripts["rates"].rates_for(slopes, effect=0.1, fall=0.02)
    assert found.slope == pytest.approx(5.0, rel=0.03)  # six standard errors
    assert float((found.eps * slopes).square().mean()) == pytest.approx(0.1**2)
    assert float((found.lr * slopes.square()).mean()) == pytest.approx(0.02)
