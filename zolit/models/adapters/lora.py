"""LoRA: a product of two low-rank matrices beside each weight (Hu et al., arXiv 2106.09685)."""

import math
from typing import Literal

import torch
from torch import Tensor

from zolit.arguments import at_least, positive
from zolit.errors import UserError
from zolit.models.adapters.base import Adapter, Factor, LayerAdapter, floats, keyed_uniform
from zolit.models.adapters.peft_format import AdapterFolder, read_folder


class LowRank(LayerAdapter):
    """``out + scaling * B A x``, computed in the dtype of the factors as PEFT does.

    Args:
        columns: inputs of the layer.
        rows: its outputs.
        rank: of the product.
        scaling: factor of the product.
        dtype: of the factors.
        device: where they lie.
    """

    def __init__(
        self,
        columns: int,
        rows: int,
        rank: int,
        scaling: float,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.lora_A = Factor(columns, rank, dtype, device)
        self.lora_B = Factor(rank, rows, dtype, device)
        self.scaling = scaling
        self.dtype = dtype

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        added = self.lora_B(self.lora_A(x.to(self.dtype)))
        return (out + added * self.scaling).to(out.dtype)

    def delta(self) -> Tensor:
        a, b = (floats(factor.weight).float() for factor in (self.lora_A, self.lora_B))
        return (b @ a) * self.scaling


class LoRA(Adapter):
    """Low-rank factors A ``[rank, inputs]`` and B ``[outputs, rank]`` beside linear layers.

    A layer computes ``W x + alpha / rank * B A x``. W stays as it is stored, quantized or not, and
    is not copied. B starts at zero, so that a run starts from the model itself. A is drawn from
    U(-1/sqrt(inputs), 1/sqrt(inputs)), as in PEFT, by the counter generator.

    Args:
        rank: of the product B A; the papers' runs have 8.
        alpha: numerator of its factor; the papers' runs have 16.
        targets: linear layers, by the end of their path (``q_proj``), their whole path, or a
            pattern for it; the query and value projections as in QZO's runs.
        dtype: of A and B: ``float32``, or ``model`` for that of the model's other floats.
        seed: of A. The A of a layer does not depend on the other targets.
        start_from: folder of an adapter in PEFT's format, from which A and B are taken instead. Its
            rank, alpha and targets must be the ones given here.

    Raises:
        UserError: if ``rank`` or ``alpha`` is out of range or there are no targets.

    Example:
        >>> LoRA(rank=4, targets=["q_proj"]).rank
        4
    """

    def __init__(
        self,
        rank: int = 8,
        alpha: float = 16.0,
        targets: list[str] | None = None,
        dtype: Literal["float32", "model"] = "float32",
        seed: int = 0,
        start_from: str | None = None,
    ) -> None:
        super().__init__(["q_proj", "v_proj"] if targets is None else targets)
        self.rank = at_least("adapter.rank", rank, instead="try 8")
        self.alpha = positive("adapter.alpha", alpha, "try 16")
        self.dtype = dtype
        self.seed = seed
        self.start_from = start_from
        self._folder: AdapterFolder | None = None

    def attach(self, model: torch.nn.Module) -> None:
        if self.start_from is not None:
            self._folder = read_folder(self.start_from)
            self._folder.check(self.rank, self.alpha, list(self.layers(model)))
        super().attach(model)
        self._folder = None

    def beside(self, path: str, rows: int, columns: int, like: Tensor) -> LowRank:
        """See `Adapter.beside`.

        Raises:
            UserError: if the rank exceeds that of the weight, or the factors in the folder have
                other shapes.
        """
        if self.rank > min(rows, columns):
            raise UserError(
                f"adapter.rank: got {self.rank}, but {path} is {rows} x {columns}; expected at "
                f"most {min(rows, columns)}"
            )
        dtype = torch.float32 if self.dtype == "float32" else like.dtype
        made = LowRank(columns, rows, self.rank, self.alpha / self.rank, dtype, like.device)
        factors = {"lora_A": made.lora_A.weight, "lora_B": made.lora_B.weight}
        if self._folder is not None:
            for name, weight in factors.items():
                found = self._folder.tensor(path, name, weight.shape)
                if not like.is_meta:
                    weight.data.copy_(found)
        elif not like.is_meta:
            start = keyed_uniform(self.seed, path, self.rank, columns) / math.sqrt(columns)
            made.lora_A.weight.data.copy_(start)
            made.lora_B.weight.data.zero_()
        return made
