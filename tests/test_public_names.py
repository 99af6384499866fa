"""The names that `import zolit` offers."""

import subprocess
import sys

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


def test_the_import_waits_for_no_library():
    script = "import sys, zolit; print(zolit.__version__, 'torch' in sys.modules)"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == [zolit.__version__, "False"]
