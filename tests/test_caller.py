"""How messages name options for their two kinds of readers."""

import doctest

import zolit.caller
from zolit.caller import as_command, by_caller, option, setting


def test_its_examples() -> None:
    found = doctest.testmod(zolit.caller)
    assert (found.failed, found.attempted > 5) == (0, True)


def test_a_command_ends_where_it_ends() -> None:
    with as_command():
        with as_command():
            assert by_caller("--to", "to") == "--to"
        assert option("run.best_by") == "run.best_by"
        assert setting("trainer.logger", False) == "trainer.logger: false"
    assert by_caller("--to", "to") == "to"
    assert option("run.best_by") == "best_by"
    assert setting("model.dtype", "float32") == "dtype='float32'"
