"""Run by .ci/run inside the clean environment: what the wheel brings, and that it needs no extra.

Usage: python check_installed.py ENVIRONMENT FOLDER, from FOLDER, which has packages named
`strategies` and `datamodules` of its own.
"""

import importlib
import pkgutil
import sys
from pathlib import Path


def main(environment: Path, folder: Path) -> None:
    # A script's own folder heads sys.path; `python -m` and a user's script would put theirs there.
    sys.path[0] = str(folder)
    for name in ("zolit", "zolit.strategies", "zolit.datamodules", "zolit.cli"):
        origin = Path(str(importlib.import_module(name).__file__)).resolve()
        if environment.resolve() not in origin.parents:
            sys.exit(f"{name} was imported from {origin}, not from {environment}")
    for name in ("strategies", "datamodules"):
        if getattr(importlib.import_module(name), "OWNER", None) != "user":
            sys.exit(f"{name} is no longer the user's own package")
    installed = {path.name for path in environment.glob("lib/python*/site-packages/*")}
    if stray := installed & {"strategies", "datamodules", "tests", "benchmarks"}:
        sys.exit(f"the wheel put {sorted(stray)} in site-packages")
    check_extras(installed)


def check_extras(installed: set[str]) -> None:
    """Only modules that are about an extra's package may need it."""
    import zolit
    from zolit.extras import EXTRAS

    if brought := installed & set(EXTRAS.values()):
        sys.exit(f"the bare wheel brought the packages of extras: {sorted(brought)}")
    for found in pkgutil.walk_packages(zolit.__path__, "zolit."):
        if found.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            if error.name not in EXTRAS.values():
                sys.exit(f"{found.name} needs {error.name}, which the bare wheel does not bring")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
