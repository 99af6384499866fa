"""Bad input: one sentence, exit code 2, and nothing written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_recipe import DELETE, changed, recipe, refusal, write
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import OptimizerCallable

from zolit.commands.classes import arguments, subclasses
from zolit.strategies import Int8, Quantizer

NAN = float("nan")
TASK = {"template": "{text} It was", "label": "category"}

PARSERS = ("NestedArg", "Namespace(", "<class", "Subtypes", "NoneType", "Mapping")
"""Words of the parser's own."""

# Changes to a good recipe, and what the sentence must hold: the offender, what is near.
REFUSED: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"model.quantizer": "Int88"}, ("model.quantizer", "'Int88'", "nearest: Int8")),
    ({"model.quantizer.class_path": "Int88"}, ("model.quantizer", "'Int88'", "Int8")),
    ({"model.quantizer": 3}, ("model.quantizer", "'3'", "GPTQ, HQQ, Int4, Int8")),
    ({"model.quantizer": DELETE}, ("model.quantizer", "required", "--model.quantizer")),
    ({"model.quantizer.init_args": {"group_sizes": 32}}, ("group_sizes", "nearest: group_size")),
    (
        {"model.quantizer.init_args": {"group_size": "abc"}},
        ("group_size", "'abc'", "int"),
    ),
    ({"model.quantizer.init_args": {"group_size": 128}}, ("group", "128")),
    ({"model.perturber.class_path": "ScalePerturb"}, ("'ScalePerturb'", "ScalePerturber")),
    ({"model.perturber.class_path": "DensePerturber"}, ("DensePerturber", "Int8", "use")),
    ({"model.perturber.init_args": {"eps": 0}}, ("eps", "0", "positive")),
    ({"model.perturber.init_args": {"eps": -1.0}}, ("eps", "-1", "positive")),
    ({"model.perturber.init_args": {"eps": NAN}}, ("eps", "nan", "positive")),
    ({"model.optimizer.class_path": "ZOSGDD"}, ("model.optimizer", "'ZOSGDD'", "ZOSGD")),
    ({"model.optimizer.init_args": {"l": 1}}, ("model.optimizer.l;", "nearest: lr")),
    ({"model.optimizer.init_args": {"lr": "abc"}}, ("model.optimizer.lr", "'abc'", "float")),
    ({"model.optimizer.init_args": {"lr": 0}}, ("lr", "0", "positive")),
    ({"model.optimizer.init_args": {"lr": -1}}, ("lr", "-1", "positive")),
    ({"model.optimizer.init_args": {"lr": NAN}}, ("lr", "nan", "positive")),
    (
        {"model.optimizer.init_args": {"lr": [1]}},
        ("model.optimizer.lr: got '[1]'", "float or null"),
    ),
    (
        {"model.query_scheduler": {"class_path": "ConstantQueries", "init_args": {"n": 0}}},
        ("n must be", "got 0"),
    ),
    ({"model.qantizer": 1}, ("model.qantizer", "model.quantizer")),
    ({"modell": 1}, ("modell", "nearest: model")),
    ({"model": [1]}, ("model:", "group")),
    ({"model.source": {}}, ("model.source.path", "required")),
    ({"model.source.path": "./nowhere"}, ("model.source.path", "nowhere")),
    ({"model.source.foo": 1}, ("model.source.foo", "model.source")),
    ({"trainer.max_step": 1}, ("trainer.max_step;", "trainer.max_steps")),
    ({"trainer.max_steps": "many"}, ("trainer.max_steps", "'many'", "int")),
    ({"trainer.max_steps": -7}, ("max_steps", "-7")),
    ({"trainer.callbacks": [{"class_path": "EarlyStop"}]}, ("'EarlyStop'", "EarlyStopping")),
    ({"data.class_path": "PromptData"}, ("data:", "'PromptData'", "PromptDataModule")),
    (
        {"data.class_path": "json.JSONDecoder"},
        ("data:", "json.JSONDecoder", "nothing that a configuration may"),
    ),
    ({"data.class_path": "nosuch.X"}, ("data:", "'nosuch.X'", "No module named 'nosuch'")),
    ({"data.init_args.task": DELETE}, ("data.task", "required", "--data.task")),
    ({"data.init_args.task": "sst22"}, ("'sst22'", "sst2")),
    ({"data.init_args.batchsize": 1}, ("data.batchsize", "batch_size")),
    ({"data.init_args.batch_size": "a"}, ("data.batch_size", "'a'", "int")),
    ({"data.init_args.rows.class_path": "FileRow"}, ("data.rows", "'FileRow'", "FileRows")),
    ({"data.init_args.rows.init_args.path": "none.csv"}, ("none.csv",)),
    ({"data.init_args.rows.init_args.pth": "a.csv"}, ("option data.rows.pth;", "nearest: path")),
    (
        {
            "data.init_args.task": {"template": "{text}", "words": {"a": "b", "c": "d"}},
            "data.init_args.task.lable": "category",
        },
        ("option data.task.lable;", "nearest: label"),
    ),
    (
        {"data.init_args.test_size": "many"},
        ("data.test_size: got 'many', expected int, 'auto' or",),
    ),
    ({"data.init_args.rows.init_args.path": ["a"]}, ("data.rows.path: got", "expected str")),
    ({"data.init_args.task": TASK | {"words": "a"}}, ("data.task.words: got 'a'", "a mapping")),
    ({"data.init_args.task": TASK | {"words": ["a"]}}, ("data.task.words: got", "a mapping")),
    (
        {"data.init_args.task": TASK | {"words": {"rotten": None, "fresh": "a"}}},
        ("data.task.words.rotten: got null", "str"),
    ),
    (
        {"data.init_args.task": TASK | {"words": {"rotten": "", "fresh": "a"}}},
        ("the word of label 'rotten' is empty", "task.ignore"),
    ),
    ({"data.task": "sst2"}, ("data.task: stands beside data.class_path", "data.init_args")),
    (
        {"data": {"class_path": "PromptDataModule", "task": "sst2"}},
        ("data.task: stands beside data.class_path", "data.init_args"),
    ),
    ({"data": "PromptDataModule"}, ("data.task", "required")),
    ({"model.source": "tiny"}, ("model.source: got 'tiny'", "write model.source.path: tiny")),
    ({"model.tune": "linaer"}, ("model.tune: got 'linaer'", "a list", "write [linaer]")),
    (
        {"trainer.callbacks": [{"class_path": "Progress", "init_args": {"every_n_steps": "a"}}]},
        ("trainer.callbacks.0.every_n_steps: got 'a'", "int or null"),
    ),
    (
        {"model.mask": {"class_path": "Magnitude", "init_args": {"fraction": 0.1, "per": "a"}}},
        ("model.mask.per: got 'a'", "one of 'matrix', 'row', 'model'"),
    ),
    ({"model.quantizer.init_args": {"group_size": 48}}, ("group_size", "multiple of 32", "48")),
    ({"model.start_from": "no.ckpt"}, ("start_from", "no checkpoint 'no.ckpt'")),
    (
        {"model.mask": {"class_path": "FromFile", "init_args": {"file": "no.mask"}}},
        ("mask FromFile: got 'no.mask'", "expected a file"),
    ),
    (
        {"model.mask": {"class_path": "Sensitive", "init_args": {"file": "recipe.yaml"}}},
        ("'recipe.yaml'", "not a whole safetensors file"),
    ),
    (
        {"model.quantizer": {"class_path": "GPTQ", "init_args": {"text": "no.txt"}}},
        ("model.quantizer.text: there is no file 'no.txt'",),
    ),
    ({"run.run_dirs": "x"}, ("run.run_dirs", "nearest: run.run_dir")),
    ({"run.overwrite": "maybe"}, ("run.overwrite", "'maybe'", "bool")),
    ({"run.run_dir": "recipe.yaml/run"}, ("run.run_dir", "'recipe.yaml' is a file")),
    ({"run.run_dir": "."}, ("run.run_dir", "not empty", "--run.overwrite")),
    ({"run.run_dir": "/proc/zolit"}, ("run.run_dir", "/proc/zolit", "cannot be written")),
    ({"ckpt_path": "none.ckpt"}, ("ckpt_path", "'none.ckpt'")),
]


@pytest.fixture
def save(
    tmp_path: Path, tiny_llama: Path, films_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Saves a changed recipe in a folder of its own, which becomes the current one."""
    monkeypatch.chdir(tmp_path)

    def save(**changes: Any) -> str:
        return write(changed(recipe(tiny_llama, films_csv), changes), Path("recipe.yaml"))

    return save


@pytest.mark.parametrize(("changes", "named"), REFUSED, ids=lambda part: str(part)[:60])
def test_refused_recipe(
    changes: dict[str, Any],
    named: tuple[str, ...],
    save: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sentence = refusal(capsys, "fit", "--config", save(**changes), "--run.zero_shot=false")
    for text in named:
        assert text in sentence
    for text in PARSERS:
        assert text not in sentence
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--model.quantizer", "Int88"], ("model.quantizer", "'Int88'", "Int8")),
        (["--model.quantizer=Int88"], ("model.quantizer", "'Int88'", "Int8")),
        (["--model.quantizer.group_sizes=3"], ("model.quantizer.group_sizes", "group_size")),
        (["--model.qantizer", "Int8"], ("model.qantizer", "model.quantizer")),
        (["--model.quantizer"], ("--model.quantizer", "expected one argument")),
        (["--data.rows.pth", "a.csv"], ("option data.rows.pth;", "nearest: path")),
        (["--data.task.lable", "category"], ("option data.task.lable;", "nearest: label")),
        (["--data.test_size", "many"], ("data.test_size: got 'many'", "int, 'auto' or null")),
        (["--data.train_size", "{a: 1}"], ("data.train_size: got '{a: 1}'", "int or null")),
        (["--model.optimizer.lr", "fast"], ("model.optimizer.lr: got 'fast'", "float or null")),
        (["--model.optimizer.lr", "nan"], ("model.optimizer.lr: got 'nan'", "a finite number")),
        (["--model.optimizer.lr", ".inf"], ("lr", "got inf", "positive number")),
        (["--model.perturber.eps", "inf"], ("model.perturber.eps: got 'inf'", "a finite number")),
        (["--model.perturber.eps", ".nan"], ("eps", "got nan", "positive number")),
        (
            ["--model.mask", "RandomMask", "--model.mask.fraction", "nan"],
            ("model.mask.fraction: got 'nan'", "a finite number"),
        ),
        (
            ["--model.mask", "RandomMask", "--model.mask.density", "0.5"],
            ("unknown option model.mask.density; it is model.mask.fraction",),
        ),
        (
            ["--model.query_scheduler.n", "4"],
            ("model.query_scheduler.n: got '4' without a class", "one of ConstantQueries"),
        ),
        (["--model.estimator.limit=3"], ("model.estimator.limit", "one of ClippedTwoPoint.")),
        (["--model.source", "tiny"], ("write model.source.path: tiny",)),
        (["extra"], ("'extra'", "--config")),
        # A beginning of an option's name is not taken for the option.
        (["--trainer.max_step", "3"], ("trainer.max_step;", "trainer.max_steps")),
    ],
)
def test_refused_option(
    options: list[str],
    named: tuple[str, ...],
    save: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sentence = refusal(capsys, "fit", "--config", save(), *options)
    for text in named:
        assert text in sentence
    for text in PARSERS:
        assert text not in sentence
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ([], ("command is missing", "fit, validate, test, predict")),
        (["fitt"], ("'fitt'", "nearest: fit")),
        (["--config", "recipe.yaml", "fit"], ("--config", "command first", "zolit fit --config")),
        (["--config=recipe.yaml", "fit"], ("--config", "command first")),
        (["fit"], ("model.source.path", "required", "--config")),
        (["fit", "--config", "none.yaml"], ("--config", "none.yaml", "existing YAML")),
        (["fit", "--config", "."], ("--config", "existing YAML")),
    ],
)
def test_refused_command(
    args: list[str],
    named: tuple[str, ...],
    save: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    save()
    sentence = refusal(capsys, *args)
    for text in named:
        assert text in sentence


@pytest.mark.parametrize("text", ["model: {a: [\n", "model:\n\t- 3", "[1, 2]", "words", ""])
def test_refused_yaml(
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text(text, encoding="utf-8")
    sentence = refusal(capsys, "fit", "--config", "bad.yaml")
    assert "'bad.yaml'" in sentence
    assert "YAML" in sentence


def test_model_folder_without_weights(
    save: Callable[..., str], tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text((tiny_llama / "config.json").read_text(encoding="utf-8"))
    sentence = refusal(capsys, "fit", "--config", save(**{"model.source.path": "./bare"}))
    assert "bare" in sentence
    assert not (tmp_path / "runs").exists()


def test_a_fault_of_zolit_keeps_its_traceback(
    save: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from zolit.cli import main

    def fail(_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("zolit.training.zero_order.ZeroOrderModule.configure_model", fail)
    with pytest.raises(ZeroDivisionError):
        main(["fit", "--config", save()])


def test_subclasses_of_an_annotation() -> None:
    assert Int8 in subclasses(Quantizer | None)
    assert Quantizer not in subclasses(Quantizer)
    assert "ZOSGD" in {cls.__name__ for cls in subclasses(OptimizerCallable)}
    assert "EarlyStopping" in {cls.__name__ for cls in subclasses(list[Callback] | Callback)}
    assert subclasses(int | None) == []
    assert "group_size" in arguments(Int8)
