"""The file of a saliency: scores of the entries of a model's matrices."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from zolit.calibration.facts import read_facts
from zolit.calibration.join import join_files
from zolit.calibration.model_digest import float_digests, matrix_digest
from zolit.calibration.scored import matrix_shape
from zolit.calibration.scores import largest
from zolit.errors import UserError, nearest_names
from zolit.files import replacing
from zolit.models.plan import find_parameters

VERSION = 1

_AGAIN = "make one for this model: zolit saliency --config RECIPE --to FILE"


@dataclass(frozen=True)
class Facts:
    """What a saliency file says beside its scores.

    Attributes:
        version: of the format.
        method: how entries are scored: ``fisher``, the sum of squared gradients of each window's
            loss; ``mean_grad_sq``, the square of the accumulated gradient.
        text: hex digest of the windows' tokens.
        samples: windows.
        length: tokens of the longest window.
        keep: fraction of the entries of a matrix whose scores are kept; 1 for all of them.
        shapes: ``[rows, columns]`` of each scored matrix, by the parameter's name.
        digests: `float_digests` of the model.
    """

    version: int
    method: str
    text: str
    samples: int
    length: int
    keep: float
    shapes: dict[str, tuple[int, int]]
    digests: dict[str, str]

    def metadata(self) -> dict[str, str]:
        """As safetensors keeps it: texts alone."""
        return {"zolit_saliency": json.dumps(asdict(self))}


class Saliency:
    """Scores of the entries of a model's matrices, read from a file one matrix at a time.

    Made by `Saliency.open`. Positions are flat: row times columns plus column, of the matrix with
    output channels first; the matrices of a layer's experts lie one below the other.

    Args:
        file: of safetensors. With ``keep`` below 1 it holds for each matrix P the positions
            ``P.indices``, int32 or int64, in falling order of score and ``P.scores``, float32;
            otherwise ``P.scores`` alone, ``[rows, columns]`` bfloat16.
        facts: what it says beside.
    """

    def __init__(self, file: Path, facts: Facts) -> None:
        self.file = file
        self.facts = facts

    @classmethod
    def open(cls, file: str | Path) -> "Saliency":
        """Read what a file says beside its scores.

        Raises:
            UserError: if it is not there, not whole or no saliency.
        """
        path = Path(file)
        facts = read_facts(path, Facts, VERSION, "saliency", "saliency", _AGAIN)
        return cls(path, facts)

    @property
    def paths(self) -> list[str]:
        """Names of the scored parameters, in the order of the model."""
        return list(self.facts.shapes)

    @property
    def method(self) -> str:
        """How entries are scored."""
        return self.facts.method

    def shape(self, path: str) -> tuple[int, int]:
        """``(rows, columns)`` of a matrix.

        Raises:
            UserError: if it has no scores.
        """
        self._check_path(path)
        return self.facts.shapes[path]

    def scores(self, path: str) -> tuple[Tensor, Tensor]:
        """All positions that are kept of a matrix, in falling order of score, and their scores.

        Returns:
            ``[count]`` int64 and ``[count]`` float32.

        Raises:
            UserError: if the matrix has no scores.
        """
        dense = self.dense(path)
        if dense is not None:
            return largest(dense.flatten().float(), dense.numel())
        with safe_open(self.file, "pt") as opened:
            positions: Tensor = opened.get_tensor(f"{path}.indices").long()
            return positions, opened.get_tensor(f"{path}.scores")

    def top(self, path: str, count: int) -> Tensor:
        """Positions of the entries of a matrix with the highest scores, the highest first.

        Args:
            path: of the matrix.
            count: how many.

        Returns:
            ``[count]`` int64.

        Raises:
            UserError: if the matrix has no scores, or fewer are kept.
        """
        dense = self.dense(path)
        kept = self._kept(path) if dense is None else dense.numel()
        if count > kept:
            rows, columns = self.facts.shapes[path]
            raise UserError(
                f"saliency: {str(self.file)!r} keeps the {kept} highest scores of {path}, but "
                f"{count} of its {rows * columns} entries are asked for; make a file with a larger "
                f"--saliency.keep than {self.facts.keep}"
            )
        if dense is not None:
            return largest(dense.flatten().float(), count)[0] if count else _none()
        return self.scores(path)[0][:count]

    def dense(self, path: str) -> Tensor | None:
        """Scores of all entries of a matrix, ``[rows, columns]`` bfloat16; None where some are cut.

        Raises:
            UserError: if the matrix has no scores.
        """
        self._check_path(path)
        if self.facts.keep < 1:
            return None
        with safe_open(self.file, "pt") as opened:
            found: Tensor = opened.get_tensor(f"{path}.scores")
        return found

    def check(self, model: nn.Module) -> None:
        """Refuse another model than the one that was scored.

        Compared are names and shapes of the scored matrices, and digests of the parameters that
        both models have as floats: before weights are quantized all of them, after it norms,
        biases and embeddings.

        Args:
            model: plain, or with stored weights; with numbers.

        Raises:
            UserError: naming the parameter that differs.
        """
        found = {one.path: one for one in find_parameters(model)}
        for path, shape in self.facts.shapes.items():
            if path not in found:
                raise self._other(f"the model has no {path}")
            theirs = matrix_shape(found[path])
            if shape != theirs:
                raise self._other(f"{path} is {list(theirs)}, not {list(shape)}")
        mine = float_digests(model)
        both = mine.keys() & self.facts.digests.keys()
        if not both:
            raise self._other("no parameter of the model is stored as floats to tell it by")
        for path in sorted(both):
            if mine[path] != self.facts.digests[path]:
                raise self._other(f"{path} has other values")

    def check_matrix(self, path: str, matrix: Tensor) -> None:
        """Refuse the float matrix of another model, before it is quantized.

        Args:
            path: the parameter's name.
            matrix: ``[rows, columns]`` float, output channels first.

        Raises:
            UserError: if it has no scores, another shape or other values.
        """
        if self.shape(path) != tuple(matrix.shape):
            raise self._other(f"{path} is {list(matrix.shape)}, not {list(self.shape(path))}")
        known = self.facts.digests.get(path)
        if known is not None and known != matrix_digest(matrix):
            raise self._other(f"{path} has other values")

    def _kept(self, path: str) -> int:
        with safe_open(self.file, "pt") as opened:
            return int(opened.get_slice(f"{path}.scores").get_shape()[0])

    def _check_path(self, path: str) -> None:
        if path not in self.facts.shapes:
            near = nearest_names(path, self.facts.shapes, most=1)
            raise UserError(
                f"saliency: {str(self.file)!r} holds no scores of {path}"
                + (f"; nearest: {near[0]}" if near else "")
                + "; it scores the linear layers of blocks, leave other weights out of tune"
            )

    def _other(self, why: str) -> UserError:
        return UserError(f"saliency: {str(self.file)!r} is of another model: {why}; {_AGAIN}")


def kept_tensors(path: str, scores: Tensor, keep: float) -> dict[str, Tensor]:
    """What a file holds of a matrix.

    Args:
        path: the parameter's name.
        scores: ``[rows, columns]`` float32.
        keep: fraction of its entries, in (0, 1]; at least one entry is kept.
    """
    if keep >= 1:
        return {f"{path}.scores": scores.to(torch.bfloat16)}
    positions, values = largest(scores.flatten(), max(1, int(scores.numel() * keep)))
    narrow = scores.numel() <= torch.iinfo(torch.int32).max
    return {
        f"{path}.indices": positions.to(torch.int32 if narrow else torch.int64),
        f"{path}.scores": values,
    }


def write_saliency(to: Path, parts: Iterable[Path], facts: Facts) -> Saliency:
    """Write a file from files of its tensors, whole or not at all.

    Raises:
        UserError: if it cannot be written.
    """
    try:
        with replacing(to, durable=True) as scratch:
            join_files(parts, scratch, facts.metadata())
    except OSError as error:
        raise UserError(
            f"--to: {str(to)!r} cannot be written ({error.strerror or error}); name another file"
        ) from error
    return Saliency.open(to)


def _none() -> Tensor:
    return torch.empty(0, dtype=torch.int64)
