"""Files of installed packages, found without importing anything."""

import pytest

from zolit.errors import UserError
from zolit.packages import find_in_package


def test_a_file_of_a_package() -> None:
    assert find_in_package("pytest", "pytest/__init__.py").is_file()


@pytest.mark.parametrize(
    ("package", "path", "message"),
    [
        ("no-such-package", "x", "is not installed; run `pip install --no-deps no-such-package`"),
        ("pytest", "no_folder", "holds no 'no_folder'; paths start at the install folder"),
    ],
)
def test_what_is_not_there(package: str, path: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_in_package(package, path)
