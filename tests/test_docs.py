"""The pages: their links, their places in the site, and the files and names that they speak of."""

import importlib
import inspect
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from zolit import strategies
from zolit.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
READ = [ROOT / "README.md", ROOT / "CHANGELOG.md", *PAGES]
IDS = [file.relative_to(ROOT).as_posix() for file in READ]

LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(r"(?:benchmarks|configs|datamodules|docs|strategies|tests|zolit)/[\w/]+\.\w+")


def prose(file: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)


@cache
def anchors(file: Path) -> set[str]:
    """The names of a page's headings, as GitHub and Python-Markdown make them."""
    found = re.findall(r"^#+ (.*)$", prose(file), flags=re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in found)
    return {re.sub(r"\s+", "-", heading) for heading in plain}


@pytest.mark.parametrize("file", READ, ids=IDS)
def test_links_lead_somewhere(file: Path) -> None:
    for link in LINK.findall(prose(file)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        assert target.exists(), f"{link}: there is no such file"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


def test_every_page_has_its_place_in_the_site() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")

    def places(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        inner = entry.values() if isinstance(entry, dict) else entry
        assert isinstance(entry, dict | list)
        return [place for one in inner for place in places(one)]

    found = places(yaml.safe_load(text)["nav"])
    assert sorted(found) == sorted(file.relative_to(ROOT / "docs").as_posix() for file in PAGES)


# The change log names files as they were.
@pytest.mark.parametrize("file", [READ[0], *PAGES], ids=[IDS[0], *IDS[2:]])
def test_files_that_are_named_exist(file: Path) -> None:
    absent = {name for name in FILE.findall(prose(file)) if not (ROOT / name).exists()}
    assert not absent


def test_names_of_the_reference_exist() -> None:
    names = [
        name
        for file in (ROOT / "docs" / "reference").glob("*.md")
        for name in re.findall(r"^::: ([\w.]+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(names) > 10
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            module, _, attribute = name.rpartition(".")
            assert hasattr(importlib.import_module(module), attribute), name


def test_the_readme_names_every_part() -> None:
    table = READ[0].read_text(encoding="utf-8").partition("## Parts")[2]
    kinds = (
        strategies.Quantizer,
        strategies.Perturber,
        strategies.Estimator,
        strategies.Mask,
        strategies.QueryScheduler,
        strategies.Pruner,
        strategies.Pattern,
        strategies.Reconstruction,
    )
    parts = [getattr(strategies, name) for name in strategies.__all__]
    shipped = [
        one.__name__ for one in parts if issubclass(one, kinds) and not inspect.isabstract(one)
    ]
    assert len(shipped) > 20
    assert [name for name in shipped if f"`{name}`" not in table] == []


def test_the_readmes_recipe_is_read(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    [recipe] = re.findall(r"```yaml\n(.*?)```", READ[0].read_text(encoding="utf-8"), re.DOTALL)
    text = recipe.replace("HuggingFaceTB/SmolLM2-135M-Instruct", str(tiny_llama))
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    rows = "".join(
        f"the screen of desk {n} flickers,outage\nbill {n} is wrong,billing\n" for n in range(9)
    )
    (tmp_path / "tickets.csv").write_text(f"body,team\n{rows}", encoding="utf-8")
    sizes = ["--data.train_size=8", "--data.validation_size=4", "--data.test_size=4"]
    small = ["--model.quantizer.group_size=32", "--model.kernels=reference"]
    steps = ["--trainer.max_steps=1", "--trainer.val_check_interval=1", "--trainer.logger=false"]
    main(["fit", "--config", "mine.yaml", *sizes, *small, *steps])
    out = capsys.readouterr().out
    assert "zero-shot: test accuracy" in out
    assert (tmp_path / "runs" / "mine" / "summary.json").is_file()
