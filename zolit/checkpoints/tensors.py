"""Stored weights as plain tensors for checkpoints, and plain tensors back into weights."""

from typing import Any, NamedTuple

from torch import Tensor, nn

from zolit.caller import by_caller, option
from zolit.digests import combined_digest, tensor_digests
from zolit.errors import UserError
from zolit.models.plan import Found, find_parameters
from zolit.tensors.master import MasterWeight
from zolit.tensors.weight import PerturbedWeight, perturbed_weights, stored_weights


def moving_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights that tuning moves, by path: those with a site, then those with a gradient."""
    found: dict[str, Tensor] = {one.path: one for one in perturbed_weights(model)}
    return found | {one.path: one.parameter for one in _trained(model)}


def weight_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors that tuning moves, by ``path.tensor``; all others are those of the base model.

    A weight that gradients move is named as one that is stored as floats, and has its shape.
    """
    found: dict[str, Tensor] = {}
    for weight in stored_weights(model):
        if weight.site is None:
            continue
        tensors = weight.site.coordinates.moved_tensors(weight.store)
        found.update({f"{weight.path}.{name}": tensor for name, tensor in tensors.items()})
    return found | {f"{one.path}.weight": one.as_stored() for one in _trained(model)}


def _trained(model: nn.Module) -> list[Found]:
    """The parameters that gradients move."""
    if not any(one.requires_grad for one in model.parameters()):
        return []
    return [one for one in find_parameters(model) if one.parameter.requires_grad]


def load_weight_tensors(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy tensors that `weight_tensors` returned into the stored weights of a prepared model.

    Raises:
        UserError: if a tensor is missing, left over or of another shape or dtype. Nothing is
            changed then.
    """
    mine = weight_tensors(model)
    for name in sorted(mine.keys() ^ tensors.keys()):
        where = "the checkpoint lacks" if name in mine else "the checkpoint has an extra"
        raise UserError(f"ckpt_path: {where} tensor {name}; {_of_its_run()}")
    for name, tensor in mine.items():
        got = tensors[name]
        if got.shape != tensor.shape or got.dtype != tensor.dtype:
            raise UserError(
                f"ckpt_path: tensor {name} is {tuple(got.shape)} {got.dtype}, expected "
                f"{tuple(tensor.shape)} {tensor.dtype}; {_of_its_run()}"
            )
    for name, tensor in mine.items():
        tensor.copy_(tensors[name])
    for weight in perturbed_weights(model):
        if weight.site is not None:
            weight.site.support.follow(weight.store)


def frozen_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Tensors that no step moves: floats, weights that ``tune`` leaves out, codes under scales."""
    moved = weight_tensors(model)
    found = {
        path: parameter.detach()
        for path, parameter in model.named_parameters()
        if not isinstance(parameter, PerturbedWeight) and not parameter.requires_grad
    }
    for weight in stored_weights(model):
        for name, tensor in weight.store.tensors().items():
            if f"{weight.path}.{name}" not in moved:
                found[f"{weight.path}.{name}"] = tensor
    return found


def start_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Tensors that a run starts from: those that it moves, and what quantization left of each.

    The optimizer takes over what quantization left (``keep_error``) in its first step; a weight has
    it no longer then.
    """
    errors = {
        f"{weight.path}.error": weight.store.error
        for weight in stored_weights(model)
        if weight.site is not None and weight.store.error is not None
    }
    return {**weight_tensors(model), **errors}


def weights_digest(model: nn.Module) -> bytes:
    """`combined_digest` of `weight_tensors`, as they are now."""
    return combined_digest(tensor_digests(weight_tensors(model)))


def fingerprint(model: nn.Module) -> dict[str, Any]:
    """Identifies a prepared model: formats, shapes and a hash of `frozen_tensors`.

    All of these tensors are read, which takes seconds for a large model: ask once.
    """
    frozen = combined_digest(tensor_digests(frozen_tensors(model))).hex()
    weights = {w.path: weight_format(w) for w in stored_weights(model)}
    weights |= {one.path: _float_format(one) for one in _trained(model)}
    return {"frozen": frozen, "weights": weights}


def _float_format(one: Found) -> str:
    """The format of a weight that gradients move, named as one that is stored as floats."""
    value = one.as_stored()
    shape = "x".join(map(str, value.shape))
    rounded = isinstance(one.parameter, MasterWeight)
    return f"MasterWeight {shape}" if rounded else f"DenseWeight {shape}"


def weight_format(weight: PerturbedWeight) -> str:
    """The format and shape of a weight in a line; of an overlay also which entries it has."""
    facts = weight.store.describe()
    chosen = None if weight.site is None else weight.site.support.identity
    # Chosen anew by whoever reads a checkpoint: they must come out the same.
    moving = "" if chosen is None else ", of which move " + tensor_digests({"": chosen})[""]
    if "entries" in facts:
        moving = f", {facts['entries']} entries {facts['at']}"
    return f"{facts['format']} {facts['rows']}x{facts['columns']}{moving}"


_PLAIN = "not stored by zolit"


class OtherModel(NamedTuple):
    """What shows that a checkpoint or a run is of another model.

    Attributes:
        reason: the first difference, as a clause.
        advice: what to do about it.
    """

    reason: str
    advice: str


def other_formats(mine: dict[str, Any], theirs: Any) -> OtherModel | None:
    """The first weight that two fingerprints describe differently; None if there is none.

    Args:
        mine: `fingerprint` of the model.
        theirs: the fingerprint in a file.
    """
    named = theirs.get("weights") if isinstance(theirs, dict) else None
    if not isinstance(named, dict):
        return OtherModel("it does not say which weights it has", "give another one of the run")
    for path in sorted(mine["weights"].keys() | {str(name) for name in named}):
        here, there = mine["weights"].get(path), named.get(path)
        if here == there:
            continue
        # Before the comma: the format and its shape. Behind it: which coordinates move.
        if here and there and here.partition(",")[0] == str(there).partition(",")[0]:
            return OtherModel(
                f"its mask chose other coordinates of {path} than the mask here does",
                by_caller(
                    "use the config.yaml of the run, and the files that its mask reads as they "
                    "were then",
                    "make the module with the mask of the run, and the files that it read then",
                ),
            )
        return OtherModel(
            f"its weight {path} is {there or _PLAIN}, here it is {here or _PLAIN}",
            _of_its_run(),
        )
    return None


def other_frozen(mine: dict[str, Any], theirs: dict[str, Any]) -> OtherModel | None:
    """Whether the weights that do not move have other numbers; arguments as `other_formats`."""
    if mine["frozen"] == theirs.get("frozen"):
        return None
    return OtherModel(
        f"its frozen weights hash to {theirs.get('frozen')}, here to {mine['frozen']}",
        f"set {option('model.source')} to the model that was fine-tuned, and calibrate (GPTQ, "
        "SqueezeLLM) with the same file, on the machine and with the version of zolit that it was "
        "fine-tuned with",
    )


def check_fingerprint(mine: dict[str, Any], theirs: Any) -> None:
    """Refuse a checkpoint of another model or format.

    Args:
        mine: `fingerprint` of the model.
        theirs: the fingerprint in a file.

    Raises:
        UserError: naming the first difference.
    """
    found = other_formats(mine, theirs) or other_frozen(mine, theirs)
    if found is not None:
        raise UserError(
            f"ckpt_path: the checkpoint is of another model, {found.reason}; {found.advice}"
        )


def _of_its_run() -> str:
    return by_caller(
        "use the config.yaml that stands beside the checkpoint",
        "make the module as for the run that wrote it",
    )
