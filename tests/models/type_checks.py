"""Whether zolit does what transformers does with one type of model: each check beside an
independent computation.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from preparing import prepare
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM
from transformers.utils import logging
from type_configs import PAD, START, VOCAB, build
from whole_gradients import whole_scores

from zolit.calibration.saliency import compute_saliency
from zolit.calibration.text import Window
from zolit.datamodules.collate import Collate
from zolit.datamodules.encode import Example
from zolit.errors import UserError
from zolit.models.anatomy import block_lists
from zolit.models.plan import find_parameters, is_transposed
from zolit.models.source import ModelSource
from zolit.objectives.prompt_batch import PromptBatch
from zolit.strategies import (
    CodePerturber,
    DensePerturber,
    Int4,
    Int8,
    NoQuantizer,
    Perturber,
    Quantizer,
)
from zolit.tensors.reading import Reading
from zolit.tensors.weight import PerturbedWeight, perturbed_weights, stored_weights
from zolit.training.zero_order import ZeroOrderModule

MASK = 2
NEAR = 2e-5
"""What rounding makes of logits, as a fraction of the largest: float32, another order of sums."""
FORMATS: dict[str, tuple[Quantizer, Perturber, float]] = {
    "none": (NoQuantizer(), DensePerturber(), 0.02),
    "int8": (Int8(), CodePerturber(), 1.4),
}


def examine(model_type: str, kind: str, chosen: list[str] | None = None) -> dict[str, Any]:
    """All checks of a type.

    Args:
        model_type: of transformers.
        kind: ``causal`` or ``masked``.
        chosen: names of `CHECKS`, or ``blocks``, which compiles, or ``saliency``; by default all of
            `CHECKS`.

    Returns:
        For each check ``equal``, ``refused: why``, or what is wrong; and shares.
    """
    row: dict[str, Any] = {"type": model_type, "kind": kind}
    try:
        with torch.no_grad():
            logging.disable_progress_bar()
            original = build(model_type, kind)
            original(input_ids=_ids())
    except Exception as error:
        with tempfile.TemporaryDirectory() as folder:
            row["asked"] = _asked(model_type, kind, Path(folder))
        return row | {"built": f"not built: {_said(error)}"}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        try:
            original.save_pretrained(folder)
            auto = AutoModelForCausalLM if kind == "causal" else AutoModelForMaskedLM
            Case(original, Path(folder), kind, auto).plain()
        except Exception as error:
            row["asked"] = _asked(model_type, kind, Path(folder))
            return row | {"built": f"not built: transformers cannot read it back: {_said(error)}"}
        row["built"] = "yes"
        case = Case(original, Path(folder), kind, auto)
        for name in chosen or CHECKS:
            try:
                row[name] = (CHECKS | {"blocks": blocks, "saliency": saliency})[name](case)
            except UserError as error:
                row[name] = f"refused: {error}"
            except Exception as error:
                row[name] = f"FAILED: {_said(error)}"
    return row


def _asked(model_type: str, kind: str, folder: Path) -> str:
    """What zolit says of a model that transformers cannot build: ``refused: why``, or the error
    that a user would see. Without weights of its own the folder gets the default configuration.
    """
    try:
        if not (folder / "config.json").exists():
            start = START.get(model_type, {})
            AutoConfig.for_model(model_type, **start).save_pretrained(folder)
            save_file({"none": torch.zeros(1)}, folder / "model.safetensors")
        source = ModelSource(str(folder), kind=kind)  # type: ignore[arg-type]
        made = ZeroOrderModule(source, Int8(), CodePerturber(), kernels="reference")
        made.configure_model()
    except UserError as error:
        return f"refused: {str(error).replace(str(folder), 'FOLDER')}"
    except Exception as error:
        return f"FAILED: {_said(error)}"
    return "FAILED: zolit loads what transformers does not"


class Case:
    """A tiny model on disk, read by transformers and by zolit."""

    def __init__(self, original: nn.Module, folder: Path, kind: str, auto: Any) -> None:
        self.original, self.folder, self.kind, self.auto = original, folder, kind, auto
        self._modules: dict[str, ZeroOrderModule] = {}

    def plain(self) -> Any:
        """As transformers reads it."""
        model = self.auto.from_pretrained(self.folder, dtype=torch.float32)
        return model.eval().requires_grad_(False)

    def module(self, form: str = "none", **options: Any) -> ZeroOrderModule:
        """As zolit reads it, with its linear layers in a format; nobody changes it."""
        if not options and form in self._modules:
            return self._modules[form]
        quantizer, perturber, _ = FORMATS[form]
        source = ModelSource(str(self.folder), kind=self.kind)  # type: ignore[arg-type]
        given = {"kernels": "reference"} | options
        made = ZeroOrderModule(source, quantizer, perturber, dtype="float32", **given)
        made.configure_model()
        made.network.eval()
        if not options:
            self._modules[form] = made
        return made

    def batch(self, lengths: tuple[int, ...] = (12, 12, 12, 12)) -> PromptBatch:
        """Prompts with two answers of one token."""
        rows = []
        for number, length in enumerate(lengths):
            ids = [(5 + (7 * number + 3 * place) * 11 % (VOCAB - 10)) for place in range(length)]
            mask = None
            if self.kind == "masked":
                mask = length // 2
                ids[mask] = MASK
            rows.append(Example(ids, number % 2, mask))
        return Collate([[20], [30]], PAD)(rows)


def loaded(case: Case) -> str:
    """Logits as loaded by zolit and by transformers."""
    return _same(_logits(case.module().network), _logits(case.plain()))


def decoded(case: Case) -> str:
    """Logits of int8 weights and of transformers' model with the floats that they stand for."""
    network, plain = case.module("int8").network, case.plain()
    _put(network, plain)
    return _same(_logits(network), _logits(plain))


def pairs(case: Case) -> str:
    """Losses of both signs in one pass and in two."""
    results = []
    for form in FORMATS:
        module = case.module(form)
        if not module.pairable:
            results.append("off")
            continue
        results.append(_paired(module, form, case.batch((12, 9, 12, 7))))
    return _joined(results)


def prefix(case: Case) -> str:
    """Losses with the blocks below the tuned ones run once, and with none of it."""
    network = case.module("int8").network
    lists = block_lists(network)
    if not lists or len(lists[-1]) < 2:
        return "no blocks"
    last = {id(p) for p in lists[-1][-1].parameters()}
    upper = [w.path for w in perturbed_weights(network) if id(w) in last]
    if not upper:
        return "no linear weight in the last block"
    module = case.module("int8", tune=upper)
    quantizer, perturber, eps = FORMATS["int8"]
    reading = Reading(perturber.direction(), "reference")
    bare = case.plain()
    prepare(bare, quantizer, perturber, reading, upper)
    batch, objective, worst = case.batch(), module.objective, []
    with module.reading.same_batch():
        for key in (5, 6):
            for copies in (1, 2) if module.pairable else (1,):
                with module.reading.perturbed(key, eps, copies):  # type: ignore[arg-type]
                    mine = objective.losses(module.network, batch, copies)
                alone = []
                for sign in (1, -1)[:copies]:
                    with reading.perturbed(key, sign * eps, 1):
                        alone.append(objective.losses(bare, batch))
                worst.append(_same(mine, torch.cat(alone)))
    return _joined(worst)


def blocks(case: Case) -> str:
    """Losses with compiled blocks and without."""
    module = case.module("int8", kernels="compiled", compile="blocks")
    other = case.module("int8", kernels="compiled")
    objective, batch = module.objective, case.batch()
    results = []
    for key in (5, 6):
        both = []
        for one in (module, other):
            with one.reading.perturbed(key, 1.4, 2 if one.pairable else 1):
                copies = 2 if one.pairable else 1
                both.append(objective.losses(one.network, batch, copies))
        results.append(_same(*both, near=1e-4))
    return _joined(results)


def saliency(case: Case) -> str:
    """Scores of one sweep back over the blocks, beside autograd on the whole model in float64."""
    model = case.plain()
    windows = [Window(ids) for ids in _ids()]
    made = compute_saliency(model, windows, "fisher", 1.0, case.folder / "saliency")
    dtype = torch.float32 if model.config.model_type == "xglm" else torch.float64
    own = {one.path: is_transposed(one.modules[0]) for one in find_parameters(model)}
    results = []
    for turned in (False, True):
        paths = [path for path in made.paths if own[path] is turned]
        plain = case.plain()  # a recurrent layer keeps its state
        wanted = whole_scores(plain, windows, "fisher", paths, turned, dtype) if paths else {}
        results += [
            _same(cast(Tensor, made.dense(path)).double().sqrt(), scores.sqrt(), near=5e-3)
            for path, scores in wanted.items()
        ]
    return _joined(results)


def rows(case: Case) -> str:
    """Scores of rows alone, and beside longer ones."""
    module = case.module()
    objective = module.objective
    lengths = (5, 12, 9, 7)
    together = objective.scores(module.network, case.batch(lengths))
    alone = torch.cat(
        [
            objective.scores(module.network, _row(case, lengths, number))
            for number in range(len(lengths))
        ]
    )
    said = _same(together, alone)
    layout = module.objective.together
    return said if layout == "all" or said != "equal" else layout


def unread(case: Case) -> str:
    """Tuned weights that the logits do not change with.

    They have a gradient, or replacing them by others changes logits (what chooses tokens).
    """
    tuned = {weight.path for weight in perturbed_weights(case.module().network)}
    suspects = sorted(tuned - _read_weights(case))
    before = _logits(case.plain(), 3)
    idle = []
    for path in suspects:
        changed = case.plain()
        weight = changed.get_parameter(path)
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
        if torch.equal(_logits(changed, 3), before):
            idle.append(path)
    return f"FAILED: {len(idle)} of {len(tuned)}: {', '.join(idle[:3])}" if idle else "equal"


def shares(case: Case) -> dict[str, float]:
    """Parts of the parameters that `tune: linear` moves and that formats store, and of those
    that the text reads, the part that moves.
    """
    read = _read_weights(case)
    found = {}
    network = case.module("int8").network
    everything = sum(p.numel() for p in network.parameters())
    weights = list(stored_weights(network))
    matrices = [p for name, p in network.named_parameters() if name in read and p.dim() > 1]
    moved = sum(w.numel() for w in weights if w.site is not None)
    found["tuned"] = moved / everything
    found["tuned of matrices read"] = moved / max(1, sum(p.numel() for p in matrices))
    found["int8"] = sum(w.numel() for w in weights if w.store.quantized) / everything
    return found


def int4(case: Case) -> str:
    """Logits of `Int4` and of transformers' model with the floats that it stands for."""
    network = case.plain()
    if any(w.store.columns % 32 for w in stored_weights(case.module("int8").network)):
        return "narrow"  # no group size divides layers that are this tiny
    reading = Reading(CodePerturber().direction(), "reference")
    forward = case.module().objective.rehearsal()
    prepare(network, Int4(32), CodePerturber(), reading, ["linear"], forward=forward)
    plain = case.plain()
    _put(network, plain)
    return _same(_logits(network), _logits(plain))


CHECKS: dict[str, Callable[[Case], Any]] = {
    "loaded": loaded,
    "decoded": decoded,
    "int4": int4,
    "pairs": pairs,
    "prefix": prefix,
    "rows": rows,
    "unread": unread,
    "shares": shares,
}


def _paired(module: ZeroOrderModule, form: str, batch: PromptBatch) -> str:
    objective, eps = module.objective, FORMATS[form][2]
    with module.reading.perturbed(5, eps, 2):
        both = objective.losses(module.network, batch, 2)
    alone = []
    for sign in (1, -1):
        with module.reading.perturbed(5, sign * eps, 1):
            alone.append(objective.losses(module.network, batch))
    if torch.equal(*alone):
        return "FAILED: the direction changes nothing"
    return _same(both, torch.cat(alone))


def _row(case: Case, lengths: tuple[int, ...], number: int) -> PromptBatch:
    whole = case.batch(lengths)
    place = whole.attention_mask[number].bool()
    first = int(place.nonzero()[0])
    position = whole.answer_positions[number : number + 1] - first
    ids = whole.input_ids[number, place].unsqueeze(0)
    labels = whole.labels[number : number + 1]
    return PromptBatch(ids, torch.ones_like(ids), position, whole.answer_ids, labels)


def _read_weights(case: Case) -> set[str]:
    """Names of the parameters that the logits have a gradient of."""
    plain = case.plain().requires_grad_(True)
    with torch.enable_grad():
        plain(input_ids=_ids()).logits.pow(2).sum().backward()
    return {name for name, p in plain.named_parameters() if p.grad is not None}


def _put(network: nn.Module, plain: nn.Module) -> None:
    """Into transformers' model the floats that zolit's weights stand for."""
    parameters = dict(plain.named_parameters())
    for weight in stored_weights(network):
        assert isinstance(weight, PerturbedWeight)
        parameters[weight.path].copy_(weight.dense())


def _ids(times: int = 1) -> Tensor:
    return (5 + torch.arange(36).view(3, 12) * 11 % (VOCAB - 10)).repeat(1, times)


def _logits(model: Any, times: int = 1) -> Tensor:
    found: Tensor = model(input_ids=_ids(times)).logits
    return found


def _same(got: Tensor, wanted: Tensor, near: float = NEAR) -> str:
    if not wanted.isfinite().all():
        return "not finite"
    difference = float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6))
    return "equal" if difference <= near else f"FAILED: differ by {difference:.2g}"


def _joined(results: list[str]) -> str:
    return ", ".join(dict.fromkeys(results))


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
