"""Move the coordinates that a mask chose before, as a file keeps them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from zolit.calibration.facts import read_facts
from zolit.calibration.model_digest import float_digests, other_model
from zolit.errors import UserError
from zolit.files import replacing
from zolit.formats.base import StoredWeight
from zolit.models.parts import Candidate
from zolit.strategies.mask.base import ElementMask
from zolit.supports import Bits, Support
from zolit.tensors.weight import perturbed_weights

VERSION = 1

_AGAIN = "keep one of this model's run with FromFile.save(model, file)"


@dataclass(frozen=True)
class Facts:
    """What the file of a mask says beside its bits.

    Attributes:
        version: of the file format.
        shapes: rows and columns of the coordinates of each weight, by the parameter's name.
        digests: `float_digests` of the parameters that do not move, by which the model is known.

    Example:
        >>> Facts(VERSION, {"w": (2, 3)}, {}).shapes
        {'w': (2, 3)}
    """

    version: int
    shapes: dict[str, tuple[int, int]]
    digests: dict[str, str]


class FromFile(ElementMask):
    """Moves the coordinates that a mask chose before, of the same model.

    So a choice that took long, or that was made by code of your own, serves further runs.

    Args:
        file: path of a file that `save` wrote.

    Example:
        ::

            mask:
              class_path: FromFile
              init_args:
                file: sensitive.mask
    """

    def __init__(self, file: str) -> None:
        self.file = file

    @staticmethod
    def save(model: nn.Module, file: str | Path) -> None:
        """Keep which coordinates of a model's weights move, one bit each, in a safetensors file.

        Args:
            model: the network of a tuning module, whose mask has chosen single coordinates.
            file: path; the file is written whole or not at all.

        Raises:
            UserError: if no weight moves, if one has another kind of support than `Bits`, or if the
                file cannot be written.
        """
        bits: dict[str, Tensor] = {}
        shapes = {}
        moving = perturbed_weights(model)
        if not moving:
            raise UserError(
                f"FromFile.save: got a {type(model).__name__} of which no weight moves, expected "
                "the network of a tuning module; give zolit.load(run).network"
            )
        for weight in moving:
            support = None if weight.site is None else weight.site.support
            if not isinstance(support, Bits):
                raise UserError(
                    f"FromFile.save: {weight.path} moves by {type(support).__name__}, expected "
                    "bits of single coordinates; keep the mask's seed and options instead"
                )
            shapes[weight.path] = support.shape
            bits[weight.path] = in_model_order(support, weight.store).cpu()
        paths = {weight.path for weight in moving}
        digests = {name: one for name, one in float_digests(model).items() if name not in paths}
        facts = json.dumps(asdict(Facts(VERSION, shapes, digests)))
        try:
            with replacing(Path(file), durable=True) as scratch:
                scratch.write_bytes(save(bits, {"zolit_mask": facts}))
        except OSError as error:
            raise UserError(
                f"FromFile.save: {str(file)!r} cannot be written ({error.strerror or error}); name "
                "another file"
            ) from error

    def look_at(self, model: nn.Module) -> None:
        facts = self._facts()
        # Its shapes are those of coordinates, which `choose_all` compares.
        why = other_model(model, dict.fromkeys(facts.shapes), facts.digests)
        if why is not None:
            raise UserError(f"mask FromFile: {self.file!r} is of another model: {why}; {_AGAIN}")

    def choose(self, path: str, weight: StoredWeight, block: int, blocks: int) -> Support:
        shape = weight.rows, weight.columns
        return self.choose_all([Candidate(path, weight, block, blocks, shape)])[0]

    def choose_all(self, candidates: Sequence[Candidate]) -> list[Support]:
        facts = self._facts()
        return [self._choose(one, facts) for one in candidates]

    def _choose(self, one: Candidate, facts: Facts) -> Bits:
        shape = one.shape or (one.weight.rows, one.weight.columns)
        if one.path not in facts.shapes:
            raise UserError(
                f"mask FromFile: {self.file!r} says nothing of {one.path}; leave it out of `tune`, "
                f"or {_AGAIN}"
            )
        if facts.shapes[one.path] != shape:
            rows, columns = facts.shapes[one.path]
            raise UserError(
                f"mask FromFile: {self.file!r} holds {rows}x{columns} coordinates of {one.path}, "
                f"expected {shape[0]}x{shape[1]}; use the perturber that it was made with, or "
                f"{_AGAIN}"
            )
        with safe_open(self.file, "pt") as opened:
            support = Bits(opened.get_tensor(one.path), shape[1])
        if shape == (one.weight.rows, one.weight.columns):
            support = Bits.of(one.weight.in_stored_order(support.chosen()))
        return support.on(one.weight.device)

    def _facts(self) -> Facts:
        return read_facts(self.file, Facts, VERSION, "mask", "mask FromFile", _AGAIN)


def in_model_order(support: Bits, store: StoredWeight) -> Tensor:
    """The packed bits of a support, in the model's order where columns are those of elements.

    Args:
        support: of the elements or the scales of a weight.
        store: the weight.

    Returns:
        ``[rows, words]`` int32.
    """
    if support.shape != (store.rows, store.columns):  # of scales
        return support.packed
    chosen = support.chosen()
    ordered = torch.zeros_like(chosen)
    places = store.in_stored_order(torch.arange(store.columns).unsqueeze(0))[0]
    ordered[:, places.to(chosen.device)] = chosen
    return Bits.of(ordered).packed
