"""``zolit publish`` and ``zolit apply`` on a tiny model."""

import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from cli_recipe import changed, recipe, refusal, write

from zolit.cli import main
from zolit.runs.journal import read_journal
from zolit.sharing.delta import journal_bytes, sha256

RUN = {
    "trainer.max_steps": 6,
    "trainer.val_check_interval": 2,
    "trainer.check_val_every_n_epoch": None,
    "trainer.enable_progress_bar": False,
    "run.zero_shot": False,
    "run.test_after_fit": False,
    "model.optimizer.init_args.lr": 0.3,
    "model.query_scheduler": {"class_path": "ConstantQueries", "init_args": {"n": 2}},
    "model.lr_scheduler": {
        "class_path": "torch.optim.lr_scheduler.LinearLR",
        "init_args": {"start_factor": 1.0, "end_factor": 0.5, "total_iters": 6},
    },
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path, films_csv: Path) -> Path:
    folder = tmp_path_factory.mktemp("publish")
    options = {**RUN, "run.run_dir": str(folder / "run")}
    file = write(changed(recipe(tiny_llama, films_csv), options), folder / "recipe.yaml")
    main(["fit", "--config", file])
    return folder / "run"


@pytest.fixture(scope="module")
def published(finished: Path) -> Path:
    file = finished.parent / "tiny.zolit"
    main(["publish", str(finished), "--to", str(file), "--until", "6"])
    return file


def weights(file: Path) -> dict[str, torch.Tensor]:
    return torch.load(file, weights_only=True)["state_dict"]


def assert_equal(mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert mine.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(tensor, mine[name])


def test_somebody_else_gets_the_weights(
    finished: Path, published: Path, tiny_llama: Path, tmp_path: Path, capsys: Any
) -> None:
    base = Path(shutil.copytree(tiny_llama, tmp_path / "base"))
    main(["apply", str(published), "--model", str(base), "--to", str(tmp_path / "mine")])
    assert "6 steps, weights as published" in capsys.readouterr().out
    made = tmp_path / "mine" / "checkpoints" / "last.ckpt"
    assert_equal(weights(made), weights(finished / "checkpoints" / "last.ckpt"))
    # The folder is a run: exported, verified and published on.
    main(["export", str(tmp_path / "mine"), "--to", str(tmp_path / "model")])
    main(["export", str(finished), "--ckpt_path", str(made), "--to", str(tmp_path / "theirs")])
    mine, theirs = (
        hf.AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("model", "theirs")
    )
    assert_equal(mine.state_dict(), theirs.state_dict())
    assert "| steps | 6 |" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    main(["verify", str(tmp_path / "mine")])
    assert "weights as recorded after steps: 2, 4, 6" in capsys.readouterr().out
    main(["publish", str(tmp_path / "mine"), "--to", str(tmp_path / "again.zolit")])
    assert read_journal(tmp_path / "mine" / "journal.bin").steps == (
        read_journal(finished / "journal.bin").steps
    )


def test_the_best_checkpoint_is_published(finished: Path, tmp_path: Path) -> None:
    file = tmp_path / "best.zolit"
    main(["publish", str(finished), "--to", str(file)])
    best = torch.load(finished / "checkpoints" / "best.ckpt", weights_only=True)
    with zipfile.ZipFile(file) as archive:
        assert json.loads(archive.read("delta.json"))["steps"] == best["global_step"]


def test_a_step_between_digests(finished: Path, tiny_llama: Path, tmp_path: Path) -> None:
    main(["publish", str(finished), "--to", str(tmp_path / "5.zolit"), "--until", "5"])
    to = tmp_path / "mine"
    main(["apply", str(tmp_path / "5.zolit"), "--model", str(tiny_llama), "--to", str(to)])
    main(["replay", str(finished), "--until", "5", "--to", str(tmp_path)])
    assert_equal(weights(to / "checkpoints" / "last.ckpt"), weights(tmp_path / "step=5.ckpt"))


def test_nothing_of_the_machine_is_published(finished: Path, published: Path) -> None:
    with zipfile.ZipFile(published) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert str(finished.parents[1]).encode() not in content
    assert b"films.csv" in content
    assert published.stat().st_size < 10_000


def test_publishing_twice_gives_the_same_bytes(
    finished: Path, published: Path, tmp_path: Path
) -> None:
    main(["publish", str(finished), "--to", str(tmp_path / "again"), "--until", "6"])
    assert (tmp_path / "again").read_bytes() == published.read_bytes()


def test_another_base_model(published: Path, tiny_llama: Path, tmp_path: Path, capsys: Any) -> None:
    base = Path(shutil.copytree(tiny_llama, tmp_path / "base"))
    model = hf.AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3] *= 2.0
    model.save_pretrained(base)
    to = tmp_path / "mine"
    sentence = refusal(capsys, "apply", str(published), "--model", str(base), "--to", str(to))
    assert "is not the base model" in sentence
    assert "tensor model.layers.1.mlp.up_proj.weight.scale had other numbers" in sentence
    assert not to.exists()


def test_frozen_weights_count_too(
    published: Path, tiny_llama: Path, tmp_path: Path, capsys: Any
) -> None:
    base = Path(shutil.copytree(tiny_llama, tmp_path / "base"))
    model = hf.AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.model.embed_tokens.weight[3] *= 2.0
    model.save_pretrained(base)
    args = ["--model", str(base), "--to", str(tmp_path / "mine")]
    assert "is not the base model" in refusal(capsys, "apply", str(published), *args)


def test_a_folder_of_another_machine_must_be_named(
    published: Path, tmp_path: Path, capsys: Any
) -> None:
    sentence = refusal(capsys, "apply", str(published), "--to", str(tmp_path / "mine"))
    assert "was made from a folder named 'tiny_llama0'" in sentence


def remade(published: Path, to: Path, **changes: Any) -> Path:
    """The same file with other facts, or another recipe, and every checksum right."""
    with zipfile.ZipFile(published) as archive:
        facts = json.loads(archive.read("delta.json"))
        (to / "journal.bin").write_bytes(archive.read("journal.bin"))
    found = read_journal(to / "journal.bin")
    assert found.header is not None
    header = found.header
    if "recipe" in changes:
        config = changed(yaml.safe_load(header.config), changes.pop("recipe"))
        header = type(header)(**{**header.__dict__, "config": yaml.safe_dump(config)})
    journal = journal_bytes(header, found.records)
    facts |= {"journal": sha256(journal), **changes}
    file = to / "remade.zolit"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("delta.json", json.dumps(facts))
        archive.writestr("journal.bin", journal)
    return file


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ({"model.quantizer.class_path": "os.system"}, "names os.system, which is no part of zolit"),
        ({"model.quantizer": "os.system"}, "its model.quantizer is no class"),
        ({"model.estimator": "my_parts.Mine"}, "its model.estimator is no class"),
        ({"model.estimator": {"class_path": "my.Own"}}, "add --trust my.Own"),
        ({"model.source": {"path": "x", "trust_remote_code": True}}, "groups that are not"),
        ({"trainer.callbacks": [{"class_path": "my.Own"}]}, "groups that are not published"),
        ({"data.init_args.validation_rows": "my.Rows"}, "options of data that are not"),
        ({"data.init_args.rows": "my.Rows"}, "its rows are no class"),
        ({"data.init_args.rows.class_path": "my.Rows"}, "add --trust my.Rows"),
        ({"model.adapter": {"class_path": "zolit.x", "start_from": "/etc"}}, "files of another"),
    ],
)
def test_recipes_that_would_run_code(
    recipe: dict[str, Any], sentence: str, published: Path, tmp_path: Path, capsys: Any
) -> None:
    file = remade(published, tmp_path, recipe=recipe)
    assert sentence in refusal(capsys, "apply", str(file), "--to", str(tmp_path / "mine"))
    assert not (tmp_path / "mine").exists()


def test_own_parts_are_imported_for_who_trusts_them(
    published: Path, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from zolit.strategies import TwoPoint\n\n\nclass Mine(TwoPoint):\n    pass\n"
    (tmp_path / "trusted_parts.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    part = {"class_path": "trusted_parts.Mine", "init_args": {}}
    file = remade(published, tmp_path, recipe={"model.estimator": part})
    args = ["--model", str(tiny_llama), "--to", str(tmp_path / "mine")]
    main(["apply", str(file), *args, "--trust", "trusted_parts.Mine"])
    assert (tmp_path / "mine" / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ({"path": "../../etc", "kind": "auto"}, "the path of its base model leaves its place"),
        ({"path": "/etc", "kind": "auto"}, "the path of its base model leaves its place"),
        (
            {"path": "a/b", "kind": "auto", "gguf_file": "../x"},
            "gguf_file of its base",
        ),
        ({"path": 3, "kind": "auto"}, "names no base model"),
        ({}, "names no base model"),
    ],
)
def test_base_models_that_leave_their_place(
    source: dict[str, Any], sentence: str, published: Path, tmp_path: Path, capsys: Any
) -> None:
    file = remade(published, tmp_path, source=source)
    assert sentence in refusal(capsys, "apply", str(file), "--to", str(tmp_path / "mine"))


def test_weights_that_come_out_otherwise(
    published: Path, tiny_llama: Path, tmp_path: Path, capsys: Any
) -> None:
    file = remade(published, tmp_path, digest="00" * 16)
    args = [str(file), "--model", str(tiny_llama), "--to", str(tmp_path / "mine")]
    assert "add --unverified" in refusal(capsys, "apply", *args)
    assert not (tmp_path / "mine").exists()
    main(["apply", *args, "--unverified"])
    assert "NOT as published" in capsys.readouterr().out


def test_more_members_than_two(published: Path, tmp_path: Path, capsys: Any) -> None:
    file = Path(shutil.copy(published, tmp_path / "more.zolit"))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("../../evil.py", "")
    sentence = refusal(capsys, "apply", str(file), "--to", str(tmp_path / "mine"))
    assert "it holds delta.json, journal.bin, ../../evil.py, expected" in sentence


def test_every_byte_is_checked(published: Path, tiny_llama: Path, tmp_path: Path) -> None:
    """A flipped bit is refused, or stands where the archive keeps nothing that is used."""
    from zolit.errors import UserError
    from zolit.sharing.delta import read_delta

    data = published.read_bytes()
    whole = read_delta(published)
    file = tmp_path / "flipped.zolit"
    refused = 0
    for place in range(0, len(data), 3):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        file.write_bytes(flipped)
        try:
            assert read_delta(file) == whole
        except UserError:
            refused += 1
    assert refused > 0.9 * len(data) / 3
    for size in range(0, len(data), 37):
        file.write_bytes(data[:size])
        with pytest.raises(UserError, match="no whole file of zolit publish"):
            read_delta(file)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["publish", "RUN", "--to", "FILE"], "already"),
        (["publish", "RUN", "--to", "x", "--until", "7"], "holds steps 1 to 6"),
        (["publish", "RUN", "--to", "x", "--until", "0"], "holds steps 1 to 6"),
        (["publish", "none", "--to", "x"], "cannot be read"),
        (["publish", "RUN"], "--to"),
        (["apply", "none", "--to", "x"], "cannot be read"),
        (["apply", "RUN/config.yaml", "--to", "x"], "no whole file of zolit publish"),
        (["apply", "FILE", "--to", "RUN"], "not empty"),
        (["apply", "FILE", "--model", "none/", "--to", "x"], "model.source.path"),
        (["apply", "FILE", "--gguf_file", "x.gguf", "--to", "x"], "go with --model"),
    ],
)
def test_bad_arguments_of_publishing(
    args: list[str],
    sentence: str,
    finished: Path,
    published: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    args = [one.replace("RUN", str(finished)).replace("FILE", str(published)) for one in args]
    assert sentence in refusal(capsys, *args)
    assert list(tmp_path.iterdir()) == []


def test_a_run_from_a_checkpoint_is_no_delta(finished: Path, tmp_path: Path, capsys: Any) -> None:
    main(["replay", str(finished), "--until", "2", "--to", str(tmp_path)])
    config = ["--config", str(tmp_path / "config.yaml"), "--run.run_dir", str(tmp_path / "on")]
    main(["fit", *config, "--ckpt_path", str(tmp_path / "step=2.ckpt")])
    capsys.readouterr()
    sentence = refusal(capsys, "publish", str(tmp_path / "on"), "--to", str(tmp_path / "x.zolit"))
    assert "started from a checkpoint of another run" in sentence
