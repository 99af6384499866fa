"""``zolit fit --help``: short enough to read, with a way to every other option."""

import re

import pytest

from zolit.cli import main


def printed(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*args])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_options_that_a_user_sets(capsys: pytest.CaptureFixture[str]) -> None:
    short = printed(capsys, "fit", "--help")
    lines = short.splitlines()
    assert len(lines) < 155
    assert max(map(len, lines)) <= 100
    for option in (
        "--config",
        "--resume",
        "--model.source.path",
        "--model.quantizer CLASS",
        "--model.tune",
        "--data.task",
        "--data.batch_size N",
        "--trainer.max_steps N",
        "--run.run_dir",
        "--run.zero_shot true|false",
    ):
        assert re.search(rf"^  .*{re.escape(option)}\b", short, re.MULTILINE), option
    for told in ("Int8", "ScalePerturber", "--help.all", "--model.quantizer.help Int4"):
        assert told in short
    # Every option that is shown is one, and every other is found as the text says.
    whole = printed(capsys, "fit", "--help.all")
    shown = set(re.findall(r"^  .*?(--[a-z][\w.]*)", short, re.MULTILINE))
    groups = tuple(f"--{group}." for group in ("model", "trainer", "run"))
    known = {one for one in shown if one.startswith(groups)} - {"--model.quantizer.help"}
    assert len(known) > 40
    assert known <= set(re.findall(r"--[a-z][\w.]*", whole))
    assert "--trainer.gradient_clip_val" in whole
    assert "--trainer.gradient_clip_val" not in short


def test_the_options_of_a_class(capsys: pytest.CaptureFixture[str]) -> None:
    told = printed(capsys, "fit", "--model.quantizer.help", "Int4")
    assert "--model.quantizer.group_size" in told
    assert "--model.source.path" not in told


def test_a_command_shows_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    told = printed(capsys, "saliency", "--help")
    assert told.startswith("zolit saliency: score how much")
    for option in ("--to", "--saliency.method fisher|mean_grad_sq", "--saliency.keep X"):
        assert option in told
    assert "--run." not in told
