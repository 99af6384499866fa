"""What the command line answers without waiting for libraries."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import zolit
from zolit.commands.help import COMMANDS, help_text

HEAVY = ("torch", "lightning", "transformers", "datasets", "matplotlib", "peft", "pandas", "numpy")

WATCHED = """
import sys
from zolit.cli import main
try:
    main(sys.argv[1:])
finally:
    print("LOADED", *(name for name in {heavy!r} if name in sys.modules))
"""


def answered(*args: str, cwd: Path | None = None) -> tuple[int, str, str, list[str]]:
    """Exit code, output, errors, and the heavy libraries that the process loaded."""
    command = [sys.executable, "-c", WATCHED.format(heavy=HEAVY), *args]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)  # noqa: S603
    out, _, loaded = done.stdout.rpartition("LOADED")
    return done.returncode, out, done.stderr, loaded.split()


def test_help_lists_every_command_and_loads_nothing() -> None:
    code, out, errors, loaded = answered("--help")
    assert (code, errors, loaded) == (0, "", [])
    assert out == help_text()
    for name, what in COMMANDS.items():
        assert f"  {name:<10}{what}" in out
    assert "Lightning" not in out
    assert max(map(len, out.splitlines())) <= 100


def test_version() -> None:
    assert answered("--version") == (0, f"zolit {zolit.__version__}\n", "", [])


@pytest.mark.parametrize("command", ["predict", "replay", "verify", "export", "publish", "apply"])
def test_help_of_a_small_command(command: str) -> None:
    code, out, errors, loaded = answered(command, "--help")
    assert (code, errors, loaded) == (0, "", [])
    assert out.startswith(f"usage: zolit {command}")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ([], "a command is missing"),
        (["fitt"], "there is no command 'fitt' (nearest: fit"),
        (["dance"], "there is no command 'dance'"),
        (["--config", "a.yaml", "fit"], "expected the command first"),
    ],
)
def test_a_command_that_is_none_names_all(args: list[str], sentence: str) -> None:
    code, out, errors, loaded = answered(*args)
    assert (code, out, loaded) == (2, "", [])
    assert len(errors.splitlines()) == 1
    assert sentence in errors
    assert all(f"{name}" in errors for name in COMMANDS)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["export", "run"], "zolit export: the following arguments are required: --to"),
        (["verify"], "zolit verify: the following arguments are required: RUN"),
        (["replay", "run", "--to", "a", "--untl", "3"], "unrecognized arguments: --untl"),
        (["apply", "a.zolit", "--to", "b", "--revision", "c"], "go with --model"),
    ],
)
def test_options_of_small_commands(args: list[str], sentence: str) -> None:
    code, _, errors, loaded = answered(*args)
    assert (code, loaded) == (2, [])
    assert sentence in errors


def test_as_a_module() -> None:
    command = [sys.executable, "-m", "zolit", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)  # noqa: S603
    assert done.stdout == f"zolit {zolit.__version__}\n"


def test_a_log_file_holds_no_bars() -> None:
    others = {name: value for name, value in os.environ.items() if not name.startswith("TQDM")}
    script = "import os, zolit.cli; print(os.environ['TQDM_DISABLE'])"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script], env=others, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "1\n", done.stderr
