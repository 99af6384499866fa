"""zolit: fine-tune quantized neural networks with forward passes only.

The names below are what a program needs; each is imported from its home when it is first asked
for, so that ``import zolit`` itself is light. The command line needs none of this: ``zolit fit``.

Example:
    >>> import zolit
    >>> zolit.Int4(group_size=64).group_size
    64
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zolit.datamodules import FileRows as FileRows
    from zolit.datamodules import PromptDataModule as PromptDataModule
    from zolit.datamodules import TableRows as TableRows
    from zolit.datamodules import Task as Task
    from zolit.errors import UserError as UserError
    from zolit.evaluations.base import Evaluation as Evaluation
    from zolit.models.adapters import LoRA as LoRA
    from zolit.models.source import ModelSource as ModelSource
    from zolit.objectives.base import Objective as Objective
    from zolit.objectives.loss_function import LossFunction as LossFunction
    from zolit.objectives.option_scoring import OptionScoring as OptionScoring
    from zolit.optim import ZOSGD as ZOSGD
    from zolit.optim import ZOSignSGD as ZOSignSGD
    from zolit.python import fit as fit
    from zolit.python import load as load
    from zolit.strategies import *  # noqa: F403
    from zolit.threads import share_cores as share_cores
    from zolit.training.wrap import wrap as wrap
    from zolit.training.zero_order import ZeroOrderModule as ZeroOrderModule

__version__ = "0.1.0"

_HOMES = {
    "FileRows": "zolit.datamodules",
    "LoRA": "zolit.models.adapters",
    "LossFunction": "zolit.objectives.loss_function",
    "ModelSource": "zolit.models.source",
    "Evaluation": "zolit.evaluations.base",
    "Objective": "zolit.objectives.base",
    "OptionScoring": "zolit.objectives.option_scoring",
    "PromptDataModule": "zolit.datamodules",
    "TableRows": "zolit.datamodules",
    "Task": "zolit.datamodules",
    "UserError": "zolit.errors",
    "ZOSGD": "zolit.optim",
    "ZOSignSGD": "zolit.optim",
    "ZeroOrderModule": "zolit.training.zero_order",
    "fit": "zolit.python",
    "load": "zolit.python",
    "share_cores": "zolit.threads",
    "wrap": "zolit.training.wrap",
}
_PARTS = "zolit.strategies"
"""Home of the names that are in none above: quantizers, perturbers and the other parts."""


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module 'zolit' has no attribute {name!r}")
    home = import_module(_HOMES.get(name, _PARTS))
    if name not in _HOMES and name not in home.__all__:
        raise AttributeError(f"module 'zolit' has no attribute {name!r}")
    globals()[name] = found = getattr(home, name)
    return found


def __dir__() -> list[str]:
    return sorted({*_HOMES, *import_module(_PARTS).__all__, "__version__"})
