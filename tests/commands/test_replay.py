"""``zolit fit --resume``, ``zolit replay`` and ``zolit verify`` on a tiny model."""

import csv
import shutil
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from cli_recipe import changed, recipe, refusal, write

from zolit.cli import main
from zolit.runs.journal import JournalWriter, Step, Weights, read_journal

RUN = {
    "trainer.max_steps": 8,
    "trainer.val_check_interval": 3,
    "trainer.check_val_every_n_epoch": None,
    "trainer.enable_progress_bar": False,
    "run.zero_shot": False,
    "run.test_after_fit": False,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path, films_csv: Path) -> Path:
    folder = tmp_path_factory.mktemp("journal_commands")
    options = {**RUN, "run.run_dir": str(folder / "run")}
    file = write(changed(recipe(tiny_llama, films_csv), options), folder / "recipe.yaml")
    main(["fit", "--config", file])
    return folder / "run"


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_verify(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["verify", str(finished)])
    told = capsys.readouterr().out
    assert "8 steps, intact" in told
    assert "weights as recorded after steps: 3, 6, 8" in told
    assert "not ended" not in told


def test_replay_gives_the_weights_of_any_step(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["replay", str(finished), "--until", "6", "--to", str(tmp_path)])
    file = tmp_path / "step=6.ckpt"
    assert f"zolit test --config {tmp_path / 'config.yaml'} --ckpt_path {file}" in (
        capsys.readouterr().out
    )
    mine = torch.load(file, weights_only=True)
    theirs = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)
    assert theirs["global_step"] == mine["global_step"] == 6
    assert mine["state_dict"].keys() == theirs["state_dict"].keys()
    for name, tensor in theirs["state_dict"].items():
        assert torch.equal(tensor, mine["state_dict"][name])
    assert mine["optimizer_states"] == theirs["optimizer_states"]
    # As Lightning reads it: for testing, and for going on.
    config = ["--config", str(tmp_path / "config.yaml"), "--ckpt_path", str(file)]
    main(["test", *config])
    main(["fit", *config, "--run.run_dir", str(tmp_path / "on")])
    whole = read_journal(finished / "journal.bin")
    assert read_journal(tmp_path / "on" / "journal.bin").steps == whole.steps[6:]


def test_a_run_from_a_replayed_checkpoint_is_verified(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["replay", str(finished), "--until", "2", "--to", str(tmp_path)])
    config = ["--config", str(tmp_path / "config.yaml"), "--run.run_dir", str(tmp_path / "on")]
    main(["fit", *config, "--ckpt_path", str(tmp_path / "step=2.ckpt")])
    capsys.readouterr()
    main(["verify", str(tmp_path / "on")])
    assert "8 steps, intact" in capsys.readouterr().out


def test_verify_says_where_the_weights_part(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = copied / "journal.bin"
    found = read_journal(journal)
    assert found.header is not None
    journal.unlink()
    writer = JournalWriter(journal)
    writer.begin(found.header)
    for record in found.records:
        # A record that was changed with all its checksums.
        if isinstance(record, Step) and record.step == 4:
            record = Step(**{**record.__dict__, "values": (record.values[0] + 1,)})
        writer.append(record)
    writer.close()
    sentence = refusal(capsys, "verify", str(copied))
    assert "the weights after step 6 are not those of the run, after step 3 they agree" in sentence
    main(["verify", str(copied), "--records"])


def test_damage_is_refused_unless_the_user_says_otherwise(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = copied / "journal.bin"
    data = bytearray(journal.read_bytes())
    data[-100] ^= 4
    journal.write_bytes(data)
    config = ["--config", str(copied / "config.yaml"), "--resume", str(copied)]
    for args in (["verify", str(copied)], ["fit", *config]):
        assert "after step 7: there is no record of kind 5; to use the intact part" in refusal(
            capsys, *args
        )
    assert journal.read_bytes() == data
    main(["fit", *config, "--run.salvage=true"])
    assert (copied / "journal.bin.damaged").read_bytes() == data
    again = read_journal(journal)
    assert again.fault is None
    assert again.end == 8


def test_resume_of_a_finished_run_makes_it_longer(
    copied: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["--config", str(finished / "config.yaml"), "--resume", str(copied)]
    main(["fit", *config, "--trainer.max_steps", "10"])
    told = capsys.readouterr().err
    assert "going on after step 7 of 8 in the journal" in told
    assert "other" not in told
    found = read_journal(copied / "journal.bin")
    assert found.steps[:8] == read_journal(finished / "journal.bin").steps
    assert [r.step for r in found.records if isinstance(r, Weights) and r.final] == [8, 10]
    with (copied / "metrics.csv").open(encoding="utf-8") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["train_loss"]]
    assert steps == list(range(10))
    main(["verify", str(copied)])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--model.perturber.distribution", "rademacher"], "were made with another recipe"),
        (["--model.optimizer", "ZOSignSGD", "--model.optimizer.lr", "0.01"], "another recipe"),
        (["--model.dtype", "bfloat16"], "started from another model"),
        (["--model.quantizer", "Int4", "--model.quantizer.group_size", "32"], "another model"),
        (["--ckpt_path", "best"], "ckpt_path"),
        (["--run.journal", "false"], "needs the journal"),
    ],
)
def test_another_recipe_is_refused(
    options: list[str], sentence: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (copied / "journal.bin").read_bytes()
    config = ["--config", str(copied / "config.yaml"), "--resume", str(copied)]
    assert sentence in refusal(capsys, "fit", *config, *options)
    assert (copied / "journal.bin").read_bytes() == before


def test_what_changes_later_steps_is_told(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ["--config", str(copied / "config.yaml"), "--resume", str(copied)]
    options = ["--model.optimizer.lr", "0.02", "--data.seed", "1", "--trainer.max_steps", "9"]
    main(["fit", *config, *options])
    told = capsys.readouterr().err
    assert "model.optimizer.init_args.lr 0.01 -> 0.02" in told
    assert "steps after 7 read other batches than the run would: digest" in told
    assert "made again" not in told
    steps = read_journal(copied / "journal.bin").steps
    assert [one.rates for one in steps] == [(0.01,)] * 7 + [(0.02,)] * 2


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["replay", "RUN", "--until", "9", "--to", "x"], "holds steps 1 to 8"),
        (["replay", "RUN", "--until", "0", "--to", "x"], "holds steps 1 to 8"),
        (["replay", "RUN", "--until", "many", "--to", "x"], "zolit replay: "),
        (["replay", "RUN"], "--to"),
        (["verify", "none"], "cannot be read"),
        (["fit", "--config", "RUN/config.yaml", "--resume", "none"], "holds no run"),
        (
            ["test", "--config", "RUN/config.yaml", "--resume", "RUN"],
            "fit and zolit prune alone",
        ),
    ],
)
def test_bad_arguments(
    args: list[str],
    sentence: str,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in refusal(capsys, *(one.replace("RUN", str(finished)) for one in args))
    assert list(tmp_path.iterdir()) == []
