"""Tuning a pruned model: zeros stay zero in reads and updates, in formats that have a zero."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_pruning import data_of, module_of, write_text
from torch import Tensor

import zolit
from zolit.models.source import ModelSource
from zolit.runs.folder import RunOptions
from zolit.strategies.mask.choice_file import read_choice, read_choice_facts

KINDS = {
    "floats": (zolit.NoQuantizer(), zolit.DensePerturber(1e-2)),
    "int8 codes": (zolit.Int8(), zolit.CodePerturber(1.4)),
    "w8a8": (zolit.Int8(activations="int8"), zolit.CodePerturber(1.4)),
    "int4 codes": (zolit.Int4(32, symmetric=True), zolit.CodePerturber(1.4)),
    "float8": (zolit.Float8(), zolit.CodePerturber(1.4)),
    "scales of rows": (zolit.Int8(), zolit.ScalePerturber()),
    "scales of groups": (zolit.Int4(32, symmetric=True), zolit.ScalePerturber(granularity="group")),
}


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Path:
    """A folder with the text, a pruned model and its support."""
    folder = tmp_path_factory.mktemp("pruned")
    text = write_text(folder / "text.txt")
    module = module_of(text, tiny_llama)
    options = RunOptions(zero_shot=False, test_after_fit=False)
    data = data_of(text, tiny_llama)
    quiet: dict[str, Any] = {"enable_progress_bar": False}
    zolit.prune(module, data, folder / "run", options=options, **quiet)
    zolit.export_model(folder / "run", folder / "model", module=module_of(text, tiny_llama))
    return folder


def tuning(pruned: Path, kind: str, **options: Any) -> zolit.ZeroOrderModule:
    quantizer, perturber = KINDS[kind]
    given = {
        "mask": zolit.Pruned(str(pruned / "run" / "support.safetensors")),
        "objective": zolit.LanguageModeling(),
        "kernels": "reference",
        "dtype": "float32",
    }
    return zolit.ZeroOrderModule(
        ModelSource(str(pruned / "model")), quantizer, perturber, **{**given, **options}
    )


def zeros(pruned: Path) -> dict[str, Tensor]:
    """Which entries of each weight were pruned."""
    file = str(pruned / "run" / "support.safetensors")
    shapes = read_choice_facts(file, "", "").shapes
    return {path: ~read_choice(file, path, shape).chosen() for path, shape in shapes.items()}


def rows(pruned: Path, model: Path) -> zolit.TextDataModule:
    return zolit.TextDataModule(
        source=ModelSource(str(model)),
        text=str(pruned / "text.txt"),
        length=24,
        train_windows=16,
        validation_windows=0,
        test_windows=0,
        batch_size=4,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_stay_zero(kind: str, pruned: Path, tmp_path: Path) -> None:
    module, places = tuning(pruned, kind), zeros(pruned)
    assert len(places) == 14
    module.configure_model()
    tuned = {one.path: one for one in module.weights}
    start = {path: one.dense().clone() for path, one in tuned.items()}
    for sign in (1, -1):
        with module.reading.perturbed(7, sign * module.perturber.eps, 1):
            for path, one in tuned.items():
                read = one.dense()
                assert not read[places[path]].any(), path
                assert "scales" in kind or (read != start[path]).any(), path
    trainer: dict[str, Any] = {"max_steps": 3, "limit_val_batches": 0, "enable_progress_bar": False}
    zolit.fit(module, rows(pruned, pruned / "model"), tmp_path / "run", **trainer)
    for path, one in tuned.items():
        assert not one.dense()[places[path]].any(), path
    assert any(not torch.equal(one.dense(), start[path]) for path, one in tuned.items())
    # The run keeps the choice, and is made again without the file.
    assert (tmp_path / "run" / "mask.safetensors").is_file()


@pytest.mark.parametrize(
    "quantizer",
    [zolit.NoQuantizer(), zolit.Int8(), zolit.Int4(32, symmetric=True), zolit.Float8()],
)
def test_zeros_stay_zero_under_gradients(quantizer: Any, pruned: Path, tmp_path: Path) -> None:
    places = zeros(pruned)
    module = zolit.FirstOrderModule(
        ModelSource(str(pruned / "model")),
        quantizer,
        objective=zolit.LanguageModeling(),
        optimizer=lambda params: torch.optim.AdamW(params, lr=1e-2, weight_decay=0.1),
        tune=["linear", "norms"],
        mask=zolit.Pruned(str(pruned / "run" / "support.safetensors")),
        dtype="float32",
        kernels="reference",
    )
    module.configure_model()
    trained = {path: module.network.get_parameter(path) for path in places}
    start = {path: one.detach().clone() for path, one in trained.items()}
    norm = module.network.get_parameter("model.norm.weight").detach().clone()
    trainer: dict[str, Any] = {"max_steps": 3, "limit_val_batches": 0, "enable_progress_bar": False}
    zolit.fit(module, rows(pruned, pruned / "model"), tmp_path / "run", **trainer)
    for path, one in trained.items():
        assert not one.detach()[places[path]].any(), path
        assert (one.detach() != start[path])[~places[path]].float().mean() > 0.9, path
    assert not torch.equal(module.network.get_parameter("model.norm.weight"), norm)
    for path, one in module.finished().named_parameters():
        if path in places:
            read = one.dense() if hasattr(one, "dense") else one
            assert not read[places[path]].any(), path


def test_what_was_not_pruned_moves_whole(pruned: Path) -> None:
    module = tuning(pruned, "floats", tune=["linear", "norms"])
    module.configure_model()
    supports = {one.path: one.site.support for one in module.weights}
    assert supports["model.norm.weight"].density == 1.0
    assert supports["model.layers.0.mlp.up_proj.weight"].density == 0.5


def test_a_format_without_a_zero_is_refused(pruned: Path) -> None:
    module = zolit.ZeroOrderModule(
        ModelSource(str(pruned / "model")),
        zolit.Int4(32),
        zolit.CodePerturber(),
        mask=zolit.Pruned(str(pruned / "run" / "support.safetensors")),
        dtype="float32",
    )
    with pytest.raises(zolit.UserError, match=r"entries of model\.layers\.0.* read up to"):
        module.configure_model()


def test_the_dense_model_is_refused(pruned: Path, tiny_llama: Path) -> None:
    module = tuning(pruned, "floats")
    module.source = ModelSource(str(tiny_llama))
    with pytest.raises(zolit.UserError, match="give the pruned model as"):
        module.configure_model()


@pytest.mark.parametrize(
    ("quantizer", "perturber", "message"),
    [
        (zolit.NoQuantizer(), zolit.LowRankPerturber(), "leaves single coordinates out"),
        (zolit.Int8(), zolit.SparsePerturber(), "whose entries are most of a matrix"),
    ],
)
def test_perturbers_that_cannot_keep_zeros(
    quantizer: Any, perturber: Any, message: str, pruned: Path
) -> None:
    with pytest.raises(zolit.UserError, match=message):
        zolit.ZeroOrderModule(
            ModelSource("nowhere"), quantizer, perturber, mask=zolit.Pruned("support.safetensors")
        )


def test_a_file_that_is_none(pruned: Path) -> None:
    module = tuning(pruned, "floats", mask=zolit.Pruned("no"))
    with pytest.raises(zolit.UserError, match="mask Pruned: got 'no'"):
        module.configure_model()
