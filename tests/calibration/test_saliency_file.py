"""The file of a saliency: what it holds, and what it is refused for."""

import json
from pathlib import Path

import pytest
import torch
from preparing import prepare
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_text import windows_of
from tiny_models import tiny

from zolit.calibration.join import join_files
from zolit.calibration.saliency import compute_saliency
from zolit.calibration.saliency_file import Saliency, kept_tensors
from zolit.calibration.scores import largest
from zolit.errors import UserError
from zolit.strategies import Int4, ScalePerturber
from zolit.tensors.reading import Reading


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Saliency:
    to = tmp_path_factory.mktemp("saliency") / "scores.safetensors"
    return compute_saliency(tiny("llama"), windows_of(2, 8), "fisher", 0.05, to)


def test_what_stands_in_the_file(made: Saliency) -> None:
    tensors = load_file(made.file)
    path = "model.layers.1.mlp.down_proj.weight"
    assert made.paths[0] == "model.layers.0.self_attn.q_proj.weight"
    assert len(made.paths) == 14
    assert tensors.keys() == {f"{p}.{part}" for p in made.paths for part in ("indices", "scores")}
    assert tensors[f"{path}.indices"].dtype == torch.int32
    assert tensors[f"{path}.scores"].dtype == torch.float32
    assert len(tensors[f"{path}.scores"]) == int(0.05 * 32 * 64)
    with safe_open(made.file, "pt") as opened:
        facts = json.loads(opened.metadata()["zolit_saliency"])
    assert (facts["method"], facts["samples"], facts["length"]) == ("fisher", 2, 8)
    assert facts["shapes"][path] == [32, 64]
    assert Saliency.open(made.file).facts == made.facts


def test_it_serves_any_quantizer_of_its_model_and_no_other(made: Saliency) -> None:
    model = tiny("llama")
    made.check(model)
    made.check(model.bfloat16())
    path = made.paths[0]
    made.check_matrix(path, model.get_parameter(path).float())
    stored = tiny("llama")
    perturber = ScalePerturber()
    prepare(stored, Int4(32), perturber, Reading(perturber.direction(), "reference"), ["linear"])
    made.check(stored)
    stored.model.norm.weight.add_(0.1)
    with pytest.raises(UserError, match=r"is of another model: .*norm.weight has other values"):
        made.check(stored)
    model.model.layers[0].mlp.down_proj.weight[:, 0] += 1
    with pytest.raises(UserError, match=r"another model: .*down_proj.weight has other values"):
        made.check(model)
    with pytest.raises(UserError, match=r"q_proj.weight has other values"):
        made.check_matrix(path, torch.zeros(32, 32))
    with pytest.raises(UserError, match=r"q_proj.weight is \[32, 16\], not \[32, 32\]"):
        made.check_matrix(path, torch.zeros(32, 16))
    with pytest.raises(UserError, match=r"the model has no model.layers.0.self_attn.q_proj"):
        made.check(tiny("opt"))
    wide = tiny("llama")
    wide.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(torch.ones(48, 32))
    with pytest.raises(UserError, match=r"up_proj.weight is \[48, 32\], not \[64, 32\]"):
        made.check(wide)


def test_what_is_no_saliency(made: Saliency, tmp_path: Path) -> None:
    whole = made.file.read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    save_file({"a": torch.ones(1)}, tmp_path / "other")
    facts = json.dumps({**json.loads(made.facts.metadata()["zolit_saliency"]), "version": 9})
    save_file({}, tmp_path / "later", {"zolit_saliency": facts})
    for name, message in (
        ("none", "got .*none', expected a file; make one for this model: zolit saliency"),
        ("cut", "is not a whole safetensors file"),
        ("other", "holds no saliency of zolit"),
        ("later", "has version 9 of the format, expected 1"),
    ):
        with pytest.raises(UserError, match=message):
            Saliency.open(tmp_path / name)
    with pytest.raises(UserError, match=r"no scores of lm_head.weight.*leave other weights out"):
        made.scores("lm_head.weight")


@pytest.mark.parametrize("together", [300, 1 << 20])
def test_of_equal_scores_those_at_lower_positions_are_kept(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zolit.calibration.scores._TOGETHER", together)
    scores = torch.tensor([0.0, 3.0, 1.0, 3.0, 0.0, 1.0, 1.0])
    positions, values = largest(scores, 4)
    assert positions.tolist() == [1, 3, 2, 5]
    assert values.tolist() == [3, 3, 1, 1]
    assert largest(torch.zeros(5), 2)[0].tolist() == [0, 1]
    generator = torch.Generator().manual_seed(0)
    many = torch.randint(50, (1000,), generator=generator).float()
    wanted = sorted(range(1000), key=lambda place: (-many[place].item(), place))
    for count in (1, 2, 37, 500, 1000):
        assert largest(many, count)[0].tolist() == wanted[:count]


def test_at_least_one_entry_is_kept() -> None:
    found = kept_tensors("w", torch.arange(6.0).view(2, 3), 0.001)
    assert found["w.indices"].tolist() == [5]


def test_joined_files_are_as_if_written_at_once(tmp_path: Path) -> None:
    first = {"a.scores": torch.arange(5).bfloat16(), "a.indices": torch.arange(3)}
    second = {"b.indices": torch.arange(7, dtype=torch.int32), "b.scores": torch.rand(2, 3)}
    for name, tensors in (("first", first), ("second", second), ("empty", {})):
        save_file(tensors, tmp_path / name)
    parts = [tmp_path / name for name in ("first", "empty", "second")]
    join_files(parts, tmp_path / "both", {"said": "so"})
    found = load_file(tmp_path / "both")
    assert found.keys() == first.keys() | second.keys()
    for name, wanted in (first | second).items():
        assert found[name].dtype == wanted.dtype
        assert torch.equal(found[name], wanted)
    with safe_open(tmp_path / "both", "pt") as opened:
        assert opened.metadata() == {"said": "so"}
