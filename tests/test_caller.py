"""How messages name options for their two kinds of readers."""

import doctest

import zolit.caller
from zolit.caller import addressed, as_command, at_command_line, by_caller, option, setting
from zolit.errors import UserError


def test_its_examples() -> None:
    found = doctest.testmod(zolit.caller)
    assert (found.failed, found.attempted > 5) == (0, True)


def test_a_refusal_begins_with_what_its_reader_can_set() -> None:
    said = "model.source.gguf_file: there is no 'a.gguf'; set data.source or model.source.path: b"
    assert str(UserError(said)) == said.removeprefix("model.")
    with as_command():
        assert at_command_line()
        assert str(UserError(said)) == said
    for other in ("model.layers.0.mlp: is changed", "model.norm is in bfloat16", "models: none"):
        assert addressed(other) == other


def test_a_command_ends_where_it_ends() -> None:
    with as_command():
        with as_command():
            assert by_caller("--to", "to") == "--to"
        assert option("run.best_by") == "run.best_by"
        assert setting("trainer.logger", False) == "trainer.logger: false"
    assert by_caller("--to", "to") == "to"
    assert option("run.best_by") == "best_by"
    assert setting("model.dtype", "float32") == "dtype='float32'"
