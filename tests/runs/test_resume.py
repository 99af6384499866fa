"""A run that is killed anywhere and resumed is the run that was never killed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_runs import (
    RECIPES,
    Kill,
    Killed,
    contents,
    loader,
    module,
    resume,
    start,
    trainer,
    validation,
)

from zolit.callbacks import Journal
from zolit.checkpoints.tensors import weights_digest
from zolit.errors import UserError
from zolit.runs.folder import RunFolder
from zolit.runs.journal import Weights
from zolit.runs.rebuild import read_run
from zolit.strategies import ConstantQueries, Int4
from zolit.training.zero_order import ZeroOrderModule

HOOKS = ("on_train_batch_start", "on_train_batch_end", "on_validation_start", "on_validation_end")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums of losses do not depend on how many threads other tests left."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of runs that nothing disturbed, made when they are first asked for."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return {name: folder / name for name in RECIPES}


def whole(undisturbed: dict[str, Path], name: str) -> Path:
    folder = undisturbed[name]
    if not folder.exists():
        folder.mkdir()
        start(folder, module(name))
    return folder


def check(one: ZeroOrderModule, folder: Path, reference: Path) -> None:
    """The same steps, the same final weights, the same digests as the reference run."""
    mine, theirs = contents(folder), contents(reference)
    assert mine.fault is None
    assert mine.steps == theirs.steps
    finals = [r for r in mine.records if isinstance(r, Weights) and r.final]
    assert finals == [r for r in theirs.records if isinstance(r, Weights) and r.final]
    assert len(finals) == 1
    digests = {(r.step, r.digest) for r in mine.records if isinstance(r, Weights)}
    assert digests == {(r.step, r.digest) for r in theirs.records if isinstance(r, Weights)}
    assert weights_digest(one.network) == finals[0].digest


FAST = [(0, 1), (0, 6), (1, 4), (1, 7), (2, 12), (3, 8)]
REST = [(h, s) for h in (0, 1) for s in range(14)] + [(h, s) for h in (2, 3) for s in (4, 8, 12)]
MOMENTS = [*FAST, *(pytest.param(*m, marks=pytest.mark.slow) for m in REST if m not in FAST)]


@pytest.mark.parametrize(("hook", "steps"), MOMENTS)
def test_killed_anywhere(
    hook: int, steps: int, tmp_path: Path, undisturbed: dict[str, Path]
) -> None:
    name = "codes"
    reference = whole(undisturbed, name)
    start(tmp_path, module(name), Kill(HOOKS[hook], steps))
    one = module(name)
    said, went_on = resume(tmp_path, one)
    assert said == []
    # No step is lost but the one in flight, and at most one is made again.
    assert went_on in (steps, steps - 1) or steps == 0
    check(one, tmp_path, reference)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "codes"])
def test_every_recipe(name: str, tmp_path: Path, undisturbed: dict[str, Path]) -> None:
    reference = whole(undisturbed, name)
    last = len(contents(reference).steps)
    start(tmp_path, module(name), Kill("on_train_batch_end", last // 2))
    resume(tmp_path, module(name), Kill("on_train_batch_start", last - 2))
    one = module(name)
    said, _ = resume(tmp_path, one)
    assert said == []
    check(one, tmp_path, reference)
    values = [value for step in contents(tmp_path).steps for value in step.values]
    assert len(set(values)) > last / 2, "a run whose losses never change tests nothing"


@pytest.mark.parametrize(
    "name", ["int4, feedback", "clipped", "magnitude", "momentum", "adam", "svrg"]
)
def test_from_start_weights_alone(name: str, tmp_path: Path, undisturbed: dict[str, Path]) -> None:
    """Without any checkpoint the journal is replayed from its first step: residuals, estimator."""
    reference = whole(undisturbed, name)
    start(tmp_path, module(name), Kill("on_train_batch_end", 11))
    shutil.rmtree(tmp_path / "checkpoints")
    one = module(name)
    _, went_on = resume(tmp_path, one)
    assert went_on == 10
    check(one, tmp_path, reference)


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_checkpoint_is_passed_over(
    damage: str, tmp_path: Path, undisturbed: dict[str, Path]
) -> None:
    start(tmp_path, module(), Kill("on_train_batch_end", 7))
    last = tmp_path / "checkpoints" / "last.ckpt"
    if damage == "cut":
        last.write_bytes(last.read_bytes()[:-700])
    else:
        content = torch.load(last, weights_only=True)
        next(iter(content["state_dict"].values())).view(torch.uint8)[0, 0] ^= 1
        torch.save(content, last)
    one = module()
    said, went_on = resume(tmp_path, one)
    assert went_on == 6
    assert len(said) == 1
    assert "cannot be used" in said[0] or "other weights than the journal says" in said[0]
    check(one, tmp_path, whole(undisturbed, "codes"))


def test_an_ended_run_can_be_made_longer(tmp_path: Path, undisturbed: dict[str, Path]) -> None:
    start(tmp_path, module(), max_steps=9)
    one = module()
    _, went_on = resume(tmp_path, one)
    assert went_on == 8
    assert contents(tmp_path).steps == contents(whole(undisturbed, "codes")).steps


@pytest.mark.parametrize("end", [6, 8])
def test_a_checkpoint_of_the_end_goes_on_in_the_data(
    end: int, tmp_path: Path, undisturbed: dict[str, Path]
) -> None:
    """Lightning ends the epoch where max_steps cuts it; the data must not skip its rest."""
    run = start(tmp_path / "first", module(), max_steps=end)
    run.save_checkpoint(tmp_path / "end.ckpt")
    two = module()
    again = trainer(tmp_path / "second", Journal())
    again.fit(two, loader(), validation(), ckpt_path=tmp_path / "end.ckpt", weights_only=True)
    reference = contents(whole(undisturbed, "codes"))
    second = contents(tmp_path / "second")
    assert second.header is not None
    assert second.header.step == end
    assert second.steps == reference.steps[end:]
    assert contents(tmp_path / "first").steps == reference.steps[:end]


def test_a_run_from_a_checkpoint_is_resumed(tmp_path: Path, undisturbed: dict[str, Path]) -> None:
    one = module("int8, feedback")
    start(tmp_path / "first", one, max_steps=6).save_checkpoint(tmp_path / "six.ckpt")
    options = {"ckpt_path": tmp_path / "six.ckpt", "weights_only": True}
    again = trainer(tmp_path / "second", Journal(), Kill("on_train_batch_end", 7))
    with pytest.raises(Killed):
        again.fit(module("int8, feedback"), loader(), validation(), **options)
    shutil.rmtree(tmp_path / "second" / "checkpoints", ignore_errors=True)
    two = module("int8, feedback")
    _, went_on = resume(tmp_path / "second", two)
    assert went_on == 6
    reference = contents(whole(undisturbed, "int8, feedback"))
    assert contents(tmp_path / "second").steps == reference.steps[6:]


def test_another_model_or_recipe_is_refused(tmp_path: Path) -> None:
    start(tmp_path, module(), Kill("on_train_batch_end", 3))
    before = (tmp_path / "journal.bin").read_bytes()
    with pytest.raises(
        UserError, match=r"started from another model: its weight .* is Int8.*, here it is Int4"
    ):
        resume(tmp_path, module(quantizer=Int4(32)))
    other = module()
    other.weights[0].store.tensors()["codes"][0, 0] += 1
    with pytest.raises(
        UserError, match=r"its tensor model\.layers\.0.* had other numbers than here"
    ):
        resume(tmp_path, other)
    frozen = module()
    frozen.network.model.norm.weight.mul_(2)
    with pytest.raises(UserError, match=r"started from another model: its frozen weights"):
        resume(tmp_path, frozen)
    assert (tmp_path / "journal.bin").read_bytes() == before


def test_a_replay_that_gives_other_weights_is_refused(tmp_path: Path) -> None:
    start(tmp_path, module(), Kill("on_train_batch_end", 7))
    shutil.rmtree(tmp_path / "checkpoints")
    other = module()
    other.reading.direction = type(other.reading.direction)("rademacher")
    with pytest.raises(UserError, match="the weights after step 4 are not those of the run"):
        resume(tmp_path, other)


def test_other_losses_are_told(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    start(tmp_path, module(), Kill("on_train_batch_end", 6))
    resume(tmp_path, module(query_scheduler=ConstantQueries(2)))
    said = [str(one.message) for one in recwarn if "made again" in str(one.message)]
    assert len(said) == 1
    assert "step 5 was made again and gave other losses than the journal says" in said[0]
    found = contents(tmp_path)
    assert found.fault is None
    assert [len(one.keys) for one in found.steps] == [1] * 5 + [2] * 9


def test_a_damaged_journal_is_used_only_if_the_user_says_so(
    tmp_path: Path, undisturbed: dict[str, Path]
) -> None:
    start(tmp_path, module(), Kill("on_train_batch_end", 7))
    journal = tmp_path / "journal.bin"
    journal.write_bytes(journal.read_bytes()[:-3])
    folder = RunFolder(tmp_path)
    with pytest.raises(UserError, match="the file ends within it; to use the intact part, which"):
        read_run(folder, False)
    assert read_run(folder, True).end == 6
    one = module()
    resume(tmp_path, one)
    check(one, tmp_path, whole(undisturbed, "codes"))
    journal.write_bytes(b"\x00" + journal.read_bytes()[1:])
    for salvage in (False, True):
        with pytest.raises(UserError, match="nothing can be replayed"):
            read_run(folder, salvage)


def test_killed_before_the_first_step(tmp_path: Path, undisturbed: dict[str, Path]) -> None:
    (tmp_path / "journal.bin").touch()
    one = module()
    assert resume(tmp_path, one)[1] == 0
    check(one, tmp_path, whole(undisturbed, "codes"))
