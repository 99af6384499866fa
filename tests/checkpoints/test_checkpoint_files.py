"""Checkpoint files that are damaged, forged, or point elsewhere."""

import copy
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import Kill, contents, loader, module, resume, start, trainer, validation
from torch import Tensor

from zolit.callbacks import Journal
from zolit.checkpoints.file import FileCheckpoints, read_checkpoint
from zolit.errors import UserError
from zolit.strategies import ConstantQueries
from zolit.training.zero_order import ZeroOrderModule

FRAME: dict[str, Any] = {"epoch": 0, "global_step": 0, "pytorch-lightning_version": "2.6.6"}
SMALL = {**FRAME, "state_dict": {"w": torch.arange(5.0)}, "loops": {"fit_loop": {"n": 3}}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The checkpoint of a run with error feedback and a schedule, after four steps."""
    folder = tmp_path_factory.mktemp("saved")
    start(folder, module("int8, feedback"), Kill("on_train_batch_end", 5))
    return read_checkpoint(folder / "checkpoints" / "last.ckpt")


def equal(one: Any, two: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(two, Tensor) and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(
            equal(value, two[key]) for key, value in one.items()
        )
    return bool(one == two)


def test_every_byte_of_a_checkpoint_counts(tmp_path: Path) -> None:
    """A changed byte is found, or changes nothing that is read."""
    path = tmp_path / "last.ckpt"
    FileCheckpoints().save_checkpoint(SMALL, path)
    data = path.read_bytes()
    refused = 0
    for place in range(len(data)):
        other = bytearray(data)
        other[place] ^= 1 << place % 8
        path.write_bytes(other)
        try:
            assert equal(SMALL, read_checkpoint(path)), place
        except UserError:
            refused += 1
    # The rest is names' padding and fields of the archive that say nothing.
    assert refused > len(data) / 4


def test_cut_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    FileCheckpoints().save_checkpoint(SMALL, path)
    data = path.read_bytes()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(UserError, match="cannot be read as a checkpoint"):
            read_checkpoint(path)


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_no_code_runs(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "last.ckpt"
    torch.save({**SMALL, "more": Touch(mark)}, path)
    plain = tmp_path / "plain.ckpt"
    plain.write_bytes(pickle.dumps({**FRAME, "state_dict": {}, "more": Touch(mark)}))
    for file in (path, plain):
        for weights_only in (None, True):
            with pytest.raises(UserError, match="cannot be read as a checkpoint"):
                FileCheckpoints().load_checkpoint(file, weights_only=weights_only)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists(), "the file does what the test says it does not"


def test_archives_that_grow_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("last/data.pkl", bytes(1 << 24))
    with pytest.raises(UserError, match="it is compressed"):
        read_checkpoint(path)


def test_paths_cannot_leave_the_folder(tmp_path: Path) -> None:
    """Lightning deletes the file that it takes for the worse one of its own."""
    victim = tmp_path / "victim"
    victim.write_text("dear")
    folder = tmp_path / "run" / "checkpoints"
    state = {
        "monitor": "val_accuracy",
        "dirpath": str(tmp_path),
        "best_model_path": "../../victim",
        "best_model_score": torch.tensor(0.5),
        "best_k_models": {str(victim): torch.tensor(0.5), "../last.ckpt": torch.tensor(1.0)},
        "kth_best_model_path": str(victim),
        "kth_value": torch.tensor(0.5),
        "last_model_path": "/etc/passwd",
    }
    (tmp_path / "run").mkdir()
    path = folder / "last.ckpt"
    FileCheckpoints().save_checkpoint({**SMALL, "callbacks": {"ModelCheckpoint": state}}, path)
    read = FileCheckpoints().load_checkpoint(path)["callbacks"]["ModelCheckpoint"]
    assert read["dirpath"] == str(folder)
    paths = [read[f"{name}_model_path"] for name in ("best", "kth_best", "last")]
    assert {*paths, *read["best_k_models"]} <= {"", str(path)}
    assert victim.exists()


def places(content: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key path of nested dictionaries and lists."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for name, value in items:
        yield (*at, name)
        if isinstance(value, dict | list):
            yield from places(value, (*at, name))


OTHER = st.one_of(
    st.none(),
    st.integers(-3, 2**70),
    st.floats(),
    st.text(max_size=4),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(0, 3), max_size=2),
    st.builds(lambda n: torch.zeros(n), st.integers(0, 3)),
)
_modules: list[ZeroOrderModule] = []


def used(content: dict[str, Any], folder: Path) -> None:
    """Read a file of this content and go on from it for one step, as ``--ckpt_path`` does."""
    folder.mkdir()
    path = folder / "forged.ckpt"
    torch.save(content, path)
    if not _modules:
        _modules.append(module("int8, feedback", query_scheduler=ConstantQueries(1)))
    run = trainer(folder, Journal(), max_steps=5, limit_val_batches=0)
    run.fit(_modules[0], loader(), validation(), ckpt_path=path, weights_only=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "states", [3, "ab", [None], [{}], [{"epoch": "", "batches": 0}], [{"epoch": 0, "batches": -1}]]
)
def test_forged_states_of_loaders_are_refused(
    states: Any, saved: dict[str, Any], tmp_path: Path
) -> None:
    content = copy.deepcopy(saved)
    content["loops"]["fit_loop"]["state_dict"]["combined_loader"] = states
    with pytest.raises(UserError, match="training loader"):
        used(content, tmp_path / "run")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "value"), [("step_size", 0), ("step_size", None)])
def test_forged_schedules_are_refused(
    name: str, value: Any, saved: dict[str, Any], tmp_path: Path
) -> None:
    content = copy.deepcopy(saved)
    content["lr_schedulers"][0][name] = value
    with pytest.raises(UserError, match="has no lr_schedulers such as"):
        used(content, tmp_path / "run")
    del content["lr_schedulers"]
    with pytest.raises(UserError, match="has no lr_schedulers such as"):
        used(content, tmp_path / "other")


@pytest.mark.filterwarnings("ignore")
def test_forged_contents_are_refused_or_do_no_harm(saved: dict[str, Any], tmp_path: Path) -> None:
    where = [at for at in places(saved) if at[0] not in ("callbacks",)]

    @settings(max_examples=60)
    @given(place=st.sampled_from(where), other=OTHER, gone=st.booleans())
    def check(place: tuple[Any, ...], other: Any, gone: bool) -> None:
        content = copy.deepcopy(saved)
        inner = content
        for name in place[:-1]:
            inner = inner[name]
        if gone:
            del inner[place[-1]]
        else:
            inner[place[-1]] = other
        tried.append(place)
        try:
            used(content, tmp_path / str(len(tried)))
        except UserError:
            refused.append(place)

    used(copy.deepcopy(saved), tmp_path / "sound")
    tried: list[Any] = []
    refused: list[Any] = []
    check()
    assert len(refused) > len(tried) / 3


def test_frozen_weights_are_compared_to_the_last_byte(tmp_path: Path) -> None:
    """Codes under moving scales are part of no checkpoint; other ones give another run."""
    start(tmp_path, module("scales"), Kill("on_train_batch_end", 5))
    before = (tmp_path / "journal.bin").read_bytes()
    for index in (0, -1):
        other = module("scales")
        store = other.weights[index].store
        codes = store.tensors()[next(iter(store.tensors().keys() - store.scales().keys()))]
        codes.view(torch.uint8).reshape(-1)[-1] ^= 1
        with pytest.raises(UserError, match=r"another model: .*frozen weights hash to .*calibrate"):
            resume(tmp_path, other)
        with pytest.raises(UserError, match=r"ckpt_path: .*frozen weights"):
            other.on_load_checkpoint(read_checkpoint(tmp_path / "checkpoints" / "last.ckpt"))
    assert (tmp_path / "journal.bin").read_bytes() == before
    assert contents(tmp_path).fault is None
