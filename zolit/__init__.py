"""zolit: fine-tune quantized neural networks with forward passes only.

The names below are what a program needs, and what a part of one's own is written with; each is
imported from its home when it is first asked for, so that ``import zolit`` itself is light. The
command line needs none of this: ``zolit fit``.

Example:
    >>> import zolit
    >>> zolit.Int4(group_size=64).group_size
    64
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zolit.calibration.layer_statistics import LayerStatistics as LayerStatistics
    from zolit.calibration.options import CalibrationText as CalibrationText
    from zolit.comparison.compare import Comparison as Comparison
    from zolit.comparison.compare import compare as compare
    from zolit.coordinates import Coordinates as Coordinates
    from zolit.coordinates import Elements as Elements
    from zolit.coordinates import LowRank as LowRank
    from zolit.coordinates import OutputScales as OutputScales
    from zolit.coordinates import Scales as Scales
    from zolit.datamodules import BenchmarkRows as BenchmarkRows
    from zolit.datamodules import ChoiceTask as ChoiceTask
    from zolit.datamodules import FileRows as FileRows
    from zolit.datamodules import GenerationTask as GenerationTask
    from zolit.datamodules import HubRows as HubRows
    from zolit.datamodules import PromptDataModule as PromptDataModule
    from zolit.datamodules import RowSource as RowSource
    from zolit.datamodules import TableRows as TableRows
    from zolit.datamodules import Task as Task
    from zolit.datamodules import TextDataModule as TextDataModule
    from zolit.errors import UserError as UserError
    from zolit.evaluations import Classification as Classification
    from zolit.evaluations import DropAnswers as DropAnswers
    from zolit.evaluations import Evaluation as Evaluation
    from zolit.evaluations import ExactNumber as ExactNumber
    from zolit.evaluations import GeneratedAnswers as GeneratedAnswers
    from zolit.evaluations import MeanLoss as MeanLoss
    from zolit.evaluations import Metrics as Metrics
    from zolit.evaluations import Perplexity as Perplexity
    from zolit.evaluations import SquadAnswers as SquadAnswers
    from zolit.formats.base import StoredWeight as StoredWeight
    from zolit.formats.dense import DenseWeight as DenseWeight
    from zolit.formats.float8 import Float8Weight as Float8Weight
    from zolit.formats.int4 import Int4Weight as Int4Weight
    from zolit.formats.int8 import Int8Weight as Int8Weight
    from zolit.models.adapters import Adapter as Adapter
    from zolit.models.adapters import Factor as Factor
    from zolit.models.adapters import LayerAdapter as LayerAdapter
    from zolit.models.adapters import LoRA as LoRA
    from zolit.models.adapters import keyed_uniform as keyed_uniform
    from zolit.models.source import ModelSource as ModelSource
    from zolit.objectives.answer_batch import AnswerBatch as AnswerBatch
    from zolit.objectives.answer_loss import AnswerLoss as AnswerLoss
    from zolit.objectives.base import Objective as Objective
    from zolit.objectives.base import Scored as Scored
    from zolit.objectives.black_box import BlackBox as BlackBox
    from zolit.objectives.language_modeling import LanguageModeling as LanguageModeling
    from zolit.objectives.loss_function import LossFunction as LossFunction
    from zolit.objectives.option_scoring import OptionScoring as OptionScoring
    from zolit.objectives.prompt_batch import PromptBatch as PromptBatch
    from zolit.optim import FZOO as FZOO
    from zolit.optim import ZOSGD as ZOSGD
    from zolit.optim import DiZO as DiZO
    from zolit.optim import HiZOO as HiZOO
    from zolit.optim import ZOAdam as ZOAdam
    from zolit.optim import ZOConservative as ZOConservative
    from zolit.optim import ZOMomentum as ZOMomentum
    from zolit.optim import ZOSignSGD as ZOSignSGD
    from zolit.python import evaluate as evaluate
    from zolit.python import export_model as export_model
    from zolit.python import fit as fit
    from zolit.python import generate as generate
    from zolit.python import load as load
    from zolit.python import prune as prune
    from zolit.python import replay as replay
    from zolit.python import verify as verify
    from zolit.rates.proposal import Proposal as Proposal
    from zolit.runs.find_lr import find_lr as find_lr
    from zolit.runs.folder import RunOptions as RunOptions
    from zolit.strategies import *  # noqa: F403
    from zolit.supports import ALL as ALL
    from zolit.supports import Bits as Bits
    from zolit.supports import Blocks as Blocks
    from zolit.supports import Hashed as Hashed
    from zolit.supports import Support as Support
    from zolit.sweeps.from_python import sweep as sweep
    from zolit.sweeps.options import SweepOptions as SweepOptions
    from zolit.tensors.reading import Reading as Reading
    from zolit.threads import share_cores as share_cores
    from zolit.training.first_order import FirstOrderModule as FirstOrderModule
    from zolit.training.module import TuningModule as TuningModule
    from zolit.training.pruning import PruningModule as PruningModule
    from zolit.training.wrap import wrap as wrap
    from zolit.training.zero_order import ZeroOrderModule as ZeroOrderModule

__version__ = "0.1.0"

_NAMES = {
    "zolit.calibration.layer_statistics": ("LayerStatistics",),
    "zolit.calibration.options": ("CalibrationText",),
    "zolit.comparison.compare": ("Comparison", "compare"),
    "zolit.coordinates": ("Coordinates", "Elements", "LowRank", "OutputScales", "Scales"),
    "zolit.datamodules": (
        "BenchmarkRows",
        "ChoiceTask",
        "FileRows",
        "GenerationTask",
        "HubRows",
        "PromptDataModule",
        "RowSource",
        "TableRows",
        "Task",
        "TextDataModule",
    ),
    "zolit.errors": ("UserError",),
    "zolit.evaluations": (
        "Classification",
        "DropAnswers",
        "Evaluation",
        "ExactNumber",
        "GeneratedAnswers",
        "MeanLoss",
        "Metrics",
        "Perplexity",
        "SquadAnswers",
    ),
    "zolit.formats.base": ("StoredWeight",),
    "zolit.formats.dense": ("DenseWeight",),
    "zolit.formats.float8": ("Float8Weight",),
    "zolit.formats.int4": ("Int4Weight",),
    "zolit.formats.int8": ("Int8Weight",),
    "zolit.models.adapters": ("Adapter", "Factor", "LayerAdapter", "LoRA", "keyed_uniform"),
    "zolit.models.source": ("ModelSource",),
    "zolit.objectives.answer_batch": ("AnswerBatch",),
    "zolit.objectives.answer_loss": ("AnswerLoss",),
    "zolit.objectives.base": ("Objective", "Scored"),
    "zolit.objectives.black_box": ("BlackBox",),
    "zolit.objectives.language_modeling": ("LanguageModeling",),
    "zolit.objectives.loss_function": ("LossFunction",),
    "zolit.objectives.option_scoring": ("OptionScoring",),
    "zolit.objectives.prompt_batch": ("PromptBatch",),
    "zolit.optim": (
        "FZOO",
        "DiZO",
        "HiZOO",
        "ZOAdam",
        "ZOConservative",
        "ZOMomentum",
        "ZOSGD",
        "ZOSignSGD",
    ),
    "zolit.python": (
        "evaluate",
        "export_model",
        "fit",
        "generate",
        "load",
        "prune",
        "replay",
        "verify",
    ),
    "zolit.rates.proposal": ("Proposal",),
    "zolit.runs.find_lr": ("find_lr",),
    "zolit.runs.folder": ("RunOptions",),
    "zolit.supports": ("ALL", "Bits", "Blocks", "Hashed", "Support"),
    "zolit.sweeps.from_python": ("sweep",),
    "zolit.sweeps.options": ("SweepOptions",),
    "zolit.tensors.reading": ("Reading",),
    "zolit.threads": ("share_cores",),
    "zolit.training.first_order": ("FirstOrderModule",),
    "zolit.training.module": ("TuningModule",),
    "zolit.training.pruning": ("PruningModule",),
    "zolit.training.wrap": ("wrap",),
    "zolit.training.zero_order": ("ZeroOrderModule",),
}
"""What each module gives to the top."""

_HOMES = {name: home for home, names in _NAMES.items() for name in names}
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
