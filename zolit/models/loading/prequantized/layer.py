"""The tensors of one quantized layer of a checkpoint, checked as they are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, Protocol

import torch
from torch import Tensor

from zolit.errors import UserError

FLOATS = (torch.float16, torch.bfloat16, torch.float32)

_NOT_A_NUMBER = 0x7F
"""Magnitude bits of the two codes of e4m3 that are NaN."""


class Readable(Protocol):
    """A tensor, or something that reads one when it is indexed."""

    def __getitem__(self, index: EllipsisType) -> Tensor: ...


@dataclass(frozen=True)
class PlainCodes:
    """``weight = scale * code + zero``.

    Attributes:
        codes: ``[rows, columns]`` int8 or float8_e4m3fn.
        narrow: whether int8 codes are from -8 to 7.
        scale: ``[rows, groups]`` float32, not 0.
        zero: ``[rows, groups]`` float32, the value of code 0; None where it is 0 everywhere.
    """

    codes: Tensor
    narrow: bool
    scale: Tensor
    zero: Tensor | None


@dataclass(frozen=True)
class GroupedCodes:
    """``weight[:, permutation[j]] = scale * (codes[:, j] - zero)``, groups of equal length.

    Attributes:
        bits: of a code.
        codes: ``[rows, columns]`` uint8, columns of a group beside one another.
        scale: ``[rows, groups]`` float32, positive.
        zero: ``[rows, groups]`` uint8, the code of weight 0.
        permutation: ``[columns]`` int64, the model's column of each stored one; None if they are
            the same.
    """

    bits: int
    codes: Tensor
    scale: Tensor
    zero: Tensor
    permutation: Tensor | None


@dataclass(frozen=True)
class LayerTensors:
    """The tensors of one layer in a checkpoint.

    Attributes:
        path: name of the layer in the model, for messages.
        file: that holds its tensors, for messages.
        tensors: by the last part of their name (``qweight``); each is read when it is taken.
        declared: the format in config.json, for messages.
    """

    path: str
    file: str
    tensors: Mapping[str, Readable]
    declared: str

    def take(self, name: str, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...]) -> Tensor:
        """Read a tensor that must be there, in this shape and one of these dtypes.

        Raises:
            UserError: naming file, tensor and what is wrong with it.
        """
        return self.take_one_of(name, [shape], dtypes)

    def take_one_of(
        self, name: str, shapes: Sequence[tuple[int, ...]], dtypes: tuple[torch.dtype, ...]
    ) -> Tensor:
        """`take` a tensor of one of several shapes."""
        tensor = self._read(name)
        if tuple(tensor.shape) not in shapes or tensor.dtype not in dtypes:
            expected = " or ".join(str(list(shape)) for shape in dict.fromkeys(shapes))
            raise self.bad(
                name,
                f"is {list(tensor.shape)} {_word(tensor.dtype)}, but {self.declared} makes it "
                f"{expected} {' or '.join(map(_word, dtypes))}",
            )
        return tensor

    def take_any(self, name: str, dtypes: tuple[torch.dtype, ...]) -> Tensor:
        """`take` a matrix of any shape."""
        tensor = self._read(name)
        if tensor.dim() != 2 or tensor.dtype not in dtypes:
            raise self.bad(
                name,
                f"is {list(tensor.shape)} {_word(tensor.dtype)}, but {self.declared} makes it a "
                f"matrix of {' or '.join(map(_word, dtypes))}",
            )
        return tensor

    def _read(self, name: str) -> Tensor:
        if name not in self.tensors:
            there = ", ".join(sorted(self.tensors)) or "nothing"
            raise UserError(
                f"model.source: {self.file!r} holds no tensor {self.name(name)!r} (of that layer "
                f"it has {there}), which {self.declared} needs; give the config.json that belongs "
                "to the checkpoint"
            )
        return self.tensors[name][...]

    def take_codes(
        self, name: str, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...]
    ) -> Tensor:
        """`take` codes of one byte; refuse codes that are NaN."""
        codes = self.take(name, shape, dtypes)
        if codes.dtype == torch.float8_e4m3fn:
            magnitude = codes.view(torch.uint8) & _NOT_A_NUMBER
            if (magnitude == _NOT_A_NUMBER).any():
                raise self.bad(name, "holds codes that are no number")
        return codes

    def name(self, tensor: str) -> str:
        """Full name of a tensor of the layer."""
        return f"{self.path}.{tensor}"

    def bad(self, tensor: str, what: str) -> UserError:
        """The error for a wrong tensor."""
        return UserError(
            f"model.source: tensor {self.name(tensor)!r} of {self.file!r} {what}; give the "
            "config.json that belongs to the checkpoint, or copy the file again"
        )

    def usable_scales(self, tensor: str, scale: Tensor) -> Tensor:
        """``scale`` as float32.

        Raises:
            UserError: if one is zero, NaN or infinite.
        """
        wide = scale.float()
        self._refuse(tensor, wide, ~torch.isfinite(wide) | (wide == 0), "zero, NaN or infinite")
        return wide

    def finite_scales(self, tensor: str, scale: Tensor) -> Tensor:
        """``scale`` itself.

        Raises:
            UserError: if one is NaN or infinite.
        """
        self._refuse(tensor, scale, ~torch.isfinite(scale), "NaN or infinite")
        return scale

    def _refuse(self, tensor: str, scale: Tensor, wrong: Tensor, what: str) -> None:
        if wrong.any():
            value, count = scale[wrong][0].item(), int(wrong.sum())
            raise self.bad(tensor, f"has {count} scales that are {what} ({value})")


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def declared_otherwise(
    config: dict[str, Any], key: str, file: str, expected: str, advice: str
) -> UserError:
    """The error for a ``quantization_config`` with a value that zolit does not read.

    Args:
        config: its content.
        key: of the value that is refused.
        file: that holds it.
        expected: values that can be read.
        advice: what to give instead.
    """
    return UserError(
        f"model.source: quantization_config of {file!r} has {key}={config.get(key)!r}, "
        f"expected {expected}; {advice}"
    )
