"""The metadata of a GGUF file, with a record of the fields that were read.

A reader that ignores fields it does not know may make another model than the file holds. Here each
family of models reads the fields that its configuration needs, and `Stated.check_rest` refuses a
file with further fields, unless they change nothing.
"""

from collections.abc import Callable
from typing import Any

from zolit.errors import UserError
from zolit.models.gguf.header import Header

_ONE = (0, 1)
_NOTHING = (0,)
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": _NOTHING,
    "attention.layer_norm_epsilon": _NOTHING,
    "attention.max_alibi_bias": _NOTHING,
    "attention.scale": _NOTHING,
    "attention.sliding_window": _NOTHING,
    "attention.temperature_length": _NOTHING,
    "attention.temperature_scale": _NOTHING,
    "attn_logit_softcapping": _NOTHING,
    "embedding_scale": _ONE,
    "expert_count": _NOTHING,
    "expert_group_count": _ONE,
    "expert_group_used_count": _ONE,
    "expert_shared_count": _NOTHING,
    "expert_used_count": _NOTHING,
    "expert_weights_scale": _ONE,
    "final_logit_softcapping": _NOTHING,
    "leading_dense_block_count": _NOTHING,
    "logit_scale": _ONE,
    "nextn_predict_layers": _NOTHING,
    "pooling_type": _NOTHING,
    "residual_scale": _ONE,
    "rope.scale_linear": _ONE,
    "rope.scaling.alpha": _ONE,
    "rope.scaling.yarn_log_multiplier": _NOTHING,
    "use_parallel_residual": (False,),
    # The order of the rows of queries and keys. It follows from the architecture.
    "tensor_data_layout": ("Meta AI original pth", "jploski", "reference"),
}
"""Values of fields that change no model. (llama.cpp reads 0 as "not set".)"""
_UNUSED = ("vocab_size", "rope.scaling.finetuned")
"""Fields that no forward pass depends on: the embedding has its own number of rows."""

REQUIRED = object()


class Stated:
    """The fields of a file under the name of its architecture.

    Args:
        header: of the file.
    """

    def __init__(self, header: Header) -> None:
        self.header = header
        self.architecture = str(header.fields.get("general.architecture", ""))
        self._asked: set[str] = set(_UNUSED)

    def value(self, name: str, absent: Any = REQUIRED) -> Any:
        """A field of the architecture.

        Args:
            name: without the architecture.
            absent: the value if the file lacks the field; by default such a file is refused.
        """
        self._asked.add(name)
        found = self.header.fields.get(f"{self.architecture}.{name}")
        if found is None and absent is REQUIRED:
            raise self.refused(f"has no field '{self.architecture}.{name}'", "is not whole")
        return absent if found is None else found

    def number(self, name: str, absent: Any = REQUIRED) -> float:
        """A number, as the file has it: not rounded, not negative."""
        found = self.value(name, absent)
        if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < 2**63:
            raise self.mistaken(name, found, "a number that is not negative")
        return found

    def count(self, name: str, absent: Any = REQUIRED) -> int:
        """A whole number above 0; of a list with one number a layer, the number if all are
        equal."""
        found = self.value(name, absent)
        if isinstance(found, list) and found and found.count(found[0]) == len(found):
            found = found[0]
        if isinstance(found, bool) or not isinstance(found, int) or not 0 < found < 2**31:
            raise self.mistaken(name, found, "one whole number above 0 for all layers")
        return found

    def expect(self, name: str, fits: Callable[[Any], bool], expected: str) -> None:
        """Refuse a field with another value than the one that the model computes with.

        Args:
            name: without the architecture; absent fields pass.
            fits: whether a value is right.
            expected: the right value, in words.
        """
        found = self.value(name, None)
        if found is not None and not fits(found):
            raise self.mistaken(name, found, expected)

    def has(self, *endings: str) -> bool:
        """Whether a tensor's name ends so."""
        return any(name.endswith(endings) for name in self.header.tensors)

    def rows(self, name: str) -> int:
        """The first dimension of a tensor.

        Raises:
            UserError: if there is none.
        """
        place = self.header.tensors.get(name)
        if place is None or not place.shape:
            raise self.refused(f"holds no tensor {name!r}", "is not whole")
        return place.shape[0]

    def check_rest(self) -> None:
        """Refuse a field that no family has read, unless its value changes nothing.

        Raises:
            UserError: naming the first of these fields.
        """
        prefix = f"{self.architecture}."
        context = self.header.fields.get(f"{prefix}context_length", 0)
        for whole, found in self.header.fields.items():
            name = whole.removeprefix(prefix)
            if not whole.startswith(prefix) or name in self._asked:
                continue
            if name == "attention.sliding_window" and _is_number(found) and found >= context:
                continue
            if found not in _NEUTRAL.get(name, ()):
                raise self.refused(
                    f"says {whole} = {found!r}, which zolit does not compute",
                    "would be another model without it",
                )

    def mistaken(self, name: str, found: Any, expected: str) -> UserError:
        """The error of a field with a value that the model cannot have."""
        return self.refused(
            f"says {self.architecture}.{name} = {found!r}, expected {expected}",
            "is damaged or of a model that zolit does not compute",
        )

    def refused(self, what: str, why: str) -> UserError:
        """The error for a file whose model zolit cannot compute."""
        return UserError(
            f"model.source.gguf_file: {str(self.header.path)!r} {what}, so it {why}; give the "
            "model's folder of safetensors instead"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
