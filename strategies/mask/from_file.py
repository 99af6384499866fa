"""Move the coordinates that a mask chose before, as a file keeps them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from torch import nn

from zolit.calibration.model_digest import float_digests, other_model
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.models.parts import Candidate
from zolit.options import OnResume
from zolit.strategies.mask.base import ElementMask
from zolit.strategies.mask.choice_file import (
    Facts,
    read_choice,
    read_choice_facts,
    write_choice,
)
from zolit.supports import Bits, Support
from zolit.tensors.weight import perturbed_weights


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

    kept: ClassVar[bool] = True
    on_resume: ClassVar[Mapping[str, OnResume]] = {"file": OnResume.COMPARED}
    name: ClassVar[str] = "FromFile"
    again: ClassVar[str] = "keep one of this model's run with FromFile.save(model, file)"

    def __init__(self, file: str) -> None:
        self.file = file

    def files(self) -> dict[str, str]:
        return {"file": self.file}

    def read_files(self) -> None:
        self._facts()

    @staticmethod
    def save(model: nn.Module, file: str | Path) -> None:
        """Keep which coordinates of a model's weights move in a safetensors file.

        Args:
            model: whose weights a mask of single coordinates has been asked about.
            file: written whole or not at all.

        Raises:
            UserError: if no weight moves, or one by another kind of support, or the file cannot be
                written.
        """
        moving = perturbed_weights(model)
        if not moving:
            raise UserError(
                f"FromFile.save: got a {type(model).__name__} of which no weight moves, expected "
                "the network of a tuning module; give zolit.load(run).network"
            )
        paths = {weight.path for weight in moving}
        digests = {name: one for name, one in float_digests(model).items() if name not in paths}
        try:
            write_choice(Path(file), moving, digests, "")
        except OSError as error:
            raise UserError(
                f"FromFile.save: {str(file)!r} cannot be written ({error.strerror or error}); name "
                "another file"
            ) from error

    def look_at(self, model: nn.Module) -> None:
        facts = self._facts()
        if not facts.digests:
            return
        # Its shapes are those of coordinates, which `choose_all` compares.
        why = other_model(model, dict.fromkeys(facts.shapes), facts.digests)
        if why is not None:
            raise UserError(
                f"mask {self.name}: {self.file!r} is of another model: {why}; {self.again}"
            )

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
                f"mask {self.name}: {self.file!r} says nothing of {one.path}; leave it out of "
                f"`tune`, or {self.again}"
            )
        if facts.shapes[one.path] != shape:
            rows, columns = facts.shapes[one.path]
            raise UserError(
                f"mask {self.name}: {self.file!r} holds {rows}x{columns} coordinates of "
                f"{one.path}, expected {shape[0]}x{shape[1]}; use the perturber that it was made "
                "with, or "
                f"{self.again}"
            )
        support = read_choice(self.file, one.path, shape)
        if shape == (one.weight.rows, one.weight.columns):
            support = Bits.of(one.weight.in_stored_order(support.chosen()))
        return support.on(one.weight.device)

    def _facts(self) -> Facts:
        return read_choice_facts(self.file, f"mask {self.name}", self.again)
