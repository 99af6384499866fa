"""What a wheel holds, and that the tested versions are ones that it accepts."""

import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NEEDED = PROJECT["project"]["dependencies"]


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    found = {}
    for one in wanted:
        (version,) = one.specifier
        assert version.operator == "==", f"{name}: {one} is no exact version"
        found[one.name.lower()] = version.version
    return found


def test_every_package_is_listed() -> None:
    found = {"zolit"}
    for folder, name in (
        ("zolit", "zolit"),
        ("strategies", "zolit.strategies"),
        ("datamodules", "zolit.datamodules"),
    ):
        for file in (ROOT / folder).rglob("__init__.py"):
            parts = file.parent.relative_to(ROOT / folder).parts
            found.add(".".join((name, *parts)))
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


def test_files_beside_the_modules_are_listed() -> None:
    """Setuptools takes ``py.typed`` by itself, and nothing else."""
    listed = PROJECT["tool"]["setuptools"]["package-data"]
    found = {
        (".".join(("zolit", *file.parent.relative_to(ROOT / "zolit").parts)), f"*{file.suffix}")
        for file in (ROOT / "zolit").rglob("*.*")
        if file.suffix not in (".py", ".pyc", ".typed")
    }
    assert {(name, one) for name, kinds in listed.items() for one in kinds} == found


def test_tested_versions_lie_in_the_ranges() -> None:
    tested = pins("constraints.txt")
    groups = [
        PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"].values(),
    ]
    for line in (line for group in groups for line in group):
        wanted = Requirement(line)
        assert wanted.specifier.contains(tested[wanted.name.lower()]), line
        operators = {one.operator for one in wanted.specifier}
        assert operators <= {">=", "<"}, f"{line}: ranges here, exact versions in constraints.txt"


def test_a_newer_torch_is_accepted() -> None:
    torch = next(
        Requirement(line) for line in PROJECT["project"]["dependencies"] if line[:6] == "torch>"
    )
    assert torch.specifier.contains("99.0")


def test_demo_packages_are_pinned_alike() -> None:
    tested = pins("constraints.txt")
    for name, version in pins("demo-requirements.txt").items():
        assert tested[name] == version


@pytest.mark.parametrize("text", ["://", "/" + "work/", "/" + "root/", "/" + "home/"])
def test_set_up_files_name_no_machine(text: str) -> None:
    for name in ("Makefile", "constraints.txt", "demo-requirements.txt", ".ci/run"):
        assert text not in (ROOT / name).read_text(encoding="utf-8"), name


def test_recipes_and_pages_name_nothing_beside_the_repository() -> None:
    for folder, ending in (("configs", "*.yaml"), ("docs", "*.md"), ("benchmarks", "*.py")):
        for file in (ROOT / folder).rglob(ending):
            assert ".." + "/shared" not in file.read_text(encoding="utf-8"), file


def test_ci_script_is_sound() -> None:
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)  # noqa: S603, S607
