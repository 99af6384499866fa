"""The saliency file: a score for each entry of a model's matrices."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from zolit.calibration.facts import read_facts
from zolit.calibration.join import join_files
from zolit.calibration.model_digest import matrix_digest, other_model
from zolit.calibration.scores import largest
from zolit.errors import UserError, nearest_names
from zolit.files import replacing

VERSION = 1

_AGAIN = "make one for this model: zolit saliency --config RECIPE --to FILE"


@dataclass(frozen=True)
class Facts:
    """The description of a saliency file.

    Attributes:
        version: of the format.
        method: how entries are scored, see `zolit.calibration.saliency.compute_saliency`.
        text: hex digest of the windows' tokens.
        samples: number of windows.
        length: number of tokens of the longest window.
        keep: fraction of the entries of a matrix whose scores are kept; 1 for all of them.
        shapes: ``(rows, columns)`` of each scored matrix, by the parameter's name.
        digests: `float_digests` of the model.
        stored: how the weights were stored that the gradients are of; empty in older files.
        computed: dtype that the gradients were computed in.
    """

    version: int
    method: str
    text: str
    samples: int
    length: int
    keep: float
    shapes: dict[str, tuple[int, int]]
    digests: dict[str, str]
    stored: str = ""
    computed: str = "float32"

    def metadata(self) -> dict[str, str]:
        """The description in the form that safetensors can keep, a text."""
        return {"zolit_saliency": json.dumps(asdict(self))}


class Saliency:
    """A saliency file, opened by `Saliency.open`. Scores are read one matrix at a time.

    A position is a flat index into a matrix: row times the number of columns, plus column. Rows are
    output channels; the matrices of a layer's experts lie one below the other.

    Args:
        file: a safetensors file. If ``keep`` is below 1, it holds for each matrix P the positions
            ``P.indices``, int32 or int64, in falling order of score, and ``P.scores``, float32.
            Otherwise it holds ``P.scores`` alone, ``[rows, columns]`` bfloat16.
        facts: its description.
    """

    def __init__(self, file: Path, facts: Facts) -> None:
        self.file = file
        self.facts = facts

    @classmethod
    def open(cls, file: str | Path) -> "Saliency":
        """Open a file and read its description.

        Raises:
            UserError: if it does not exist, is damaged, or is no saliency file.
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
        """How entries are scored: ``fisher``, ``mean_grad_sq`` or, with both signs, ``grasp``."""
        return self.facts.method

    def shape(self, path: str) -> tuple[int, int]:
        """``(rows, columns)`` of a matrix.

        Raises:
            UserError: if it has no scores.
        """
        self._check_path(path)
        return self.facts.shapes[path]

    def scores(self, path: str) -> tuple[Tensor, Tensor]:
        """The positions of a matrix that the file keeps, in falling order of score, with scores.

        Returns:
            ``[count]`` int64 and ``[count]`` float32.

        Raises:
            UserError: if the matrix has no scores.
        """
        if self._keeps_all(path):
            every = self.all_scores(path)
            return largest(every.flatten().float(), every.numel())
        with safe_open(self.file, "pt") as opened:
            positions: Tensor = opened.get_tensor(f"{path}.indices").long()
            return positions, opened.get_tensor(f"{path}.scores")

    def top(self, path: str, count: int) -> Tensor:
        """Positions of the entries of a matrix with the highest scores, the highest first.

        Args:
            path: the parameter's name.
            count: number of positions.

        Returns:
            ``[count]`` int64.

        Raises:
            UserError: if the matrix has no scores, or fewer are kept.
        """
        self.check_keeps(path, count)
        if self._keeps_all(path):
            every = self.all_scores(path)
            return largest(every.flatten().float(), count)[0] if count else _none()
        return self.scores(path)[0][:count]

    def all_scores(self, path: str) -> Tensor:
        """Scores of all entries of a matrix, ``[rows, columns]`` bfloat16.

        Raises:
            UserError: if the matrix has no scores, or only a part of them is kept.
        """
        self.check_keeps(path)
        with safe_open(self.file, "pt") as opened:
            found: Tensor = opened.get_tensor(f"{path}.scores")
        return found

    def kept(self, path: str) -> int:
        """How many scores of a matrix are kept.

        Raises:
            UserError: if the matrix has no scores.
        """
        rows, columns = self.shape(path)
        return rows * columns if self._keeps_all(path) else self._kept(path)

    def kept_scores(self, path: str) -> tuple[Tensor | None, Tensor]:
        """The scores of a matrix that are kept, as the file has them.

        Returns:
            Their positions, ``[count]`` int64, in falling order of score, or None where all are
            kept, in the order of positions; and the scores, ``[count]`` float32.

        Raises:
            UserError: if the matrix has no scores.
        """
        if self._keeps_all(path):
            return None, self.all_scores(path).flatten().float()
        return self.scores(path)

    def check(self, model: nn.Module) -> None:
        """Refuse another model than the one that was scored (`other_model`).

        Args:
            model: plain, or with stored weights; on the meta device its shapes alone count.

        Raises:
            UserError: naming the parameter that differs.
        """
        found = other_model(model, self.facts.shapes, self.facts.digests)
        if found is not None:
            raise self._other(found)

    def check_shape(self, path: str, shape: tuple[int, int]) -> None:
        """Refuse a matrix of another shape than the one that was scored.

        Raises:
            UserError: if the matrix has no scores, or another shape.
        """
        if self.shape(path) != shape:
            raise self._other(f"{path} is {list(shape)}, not {list(self.shape(path))}")

    def check_matrix(self, path: str, matrix: Tensor) -> None:
        """Refuse the float matrix of another model, before it is quantized.

        Args:
            path: the parameter's name.
            matrix: ``[rows, columns]`` float, output channels first; on the meta device its shape
                alone counts.

        Raises:
            UserError: if it has no scores, another shape or other values.
        """
        rows, columns = matrix.shape
        self.check_shape(path, (rows, columns))
        known = self.facts.digests.get(path)
        if known is not None and not matrix.is_meta and known != matrix_digest(matrix):
            raise self._other(f"{path} has other values")

    def check_keeps(self, path: str, count: int | None = None, who: str = "this choice") -> None:
        """Refuse a file that keeps fewer scores of a matrix than are needed.

        Args:
            path: the parameter's name.
            count: how many are needed, the highest ones; None for all.
            who: needs them, for the message.

        Raises:
            UserError: if the matrix has no scores, or fewer are kept.
        """
        rows, columns = self.shape(path)
        total, kept = rows * columns, self.kept(path)
        needed = total if count is None else count
        if needed <= kept:
            return
        asked, larger = f"all {total}", "--saliency.keep 1"
        if needed < total:
            asked = f"{needed} of its {total}"
            larger = f"a larger --saliency.keep than {self.facts.keep:g}"
        raise UserError(
            f"saliency: {str(self.file)!r} keeps the {kept} highest scores of {path}, but {who} "
            f"needs {asked}; make a file with {larger}"
        )

    def _keeps_all(self, path: str) -> bool:
        self._check_path(path)
        return self.facts.keep >= 1

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
    """The tensors that a file holds for one matrix.

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
    """Join files of tensors to a saliency file, which appears only when it is complete.

    Args:
        to: the new file.
        parts: safetensors files whose tensors it gets.
        facts: its description.

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
