import os
import subprocess
import sys

import pytest

from zolit.threads import SLEEP, sleep_while_waiting


def test_waiting_threads_sleep_unless_the_user_says_how_they_wait():
    environment = {"PATH": "/bin"}
    sleep_while_waiting(environment)
    assert environment == {"PATH": "/bin", **SLEEP}


@pytest.mark.parametrize("name", [*SLEEP, "GOMP_SPINCOUNT"])
def test_a_setting_of_the_user_is_left_alone(name):
    environment = {name: "as the user likes"}
    sleep_while_waiting(environment)
    assert environment == {name: "as the user likes"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks GNU's OpenMP library")
def test_the_command_line_sets_it_before_torch_is_loaded():
    script = """
from zolit.cli import main
try:
    main(["fit", "--config", "no such file"])
except SystemExit as end:
    assert end.code == 2
import torch
"""
    others = {name: value for name, value in os.environ.items() if name not in SLEEP}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script],
        # The library prints what it has read.
        env={**others, "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr
