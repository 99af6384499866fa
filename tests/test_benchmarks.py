"""Every script of benchmarks/ still finds what it imports, and builds its parser. None is run."""

import ast
import importlib
import sys
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scipy.optimize import minimize_scalar

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


def test_rates_are_those_of_the_best_single_step(scripts: dict[str, ModuleType]) -> None:
    """Against a numerical search over the change of the loss, from one batch's step on another."""
    generator = torch.Generator().manual_seed(0)
    slopes = 1 + torch.randn(5, 3, generator=generator, dtype=torch.float64)
    curvatures = 1 + torch.rand(5, 3, generator=generator, dtype=torch.float64)

    def change(rate: float) -> float:
        changes = []
        for mine, theirs in permutations(range(3), 2):
            step = -rate * slopes[:, mine]
            changes.append(slopes[:, theirs] * step + curvatures[:, theirs] * step.square() / 2)
        return float(torch.stack(changes).mean())

    found = minimize_scalar(change, bounds=(0.0, 10.0), method="bounded")
    lr, gain = scripts["rates"].best_rate(slopes, curvatures)
    assert lr == pytest.approx(found.x, rel=1e-4)
    assert gain == pytest.approx(-found.fun, rel=1e-6)
    assert gain > 0
