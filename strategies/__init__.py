"""The swappable parts. Importing this package makes every short class name known."""

from zolit.strategies.estimator import (
    ClippedTwoPoint,
    Estimate,
    Estimator,
    GaussNewton,
    Losses,
    OneSided,
    TwoPoint,
)
from zolit.strategies.mask import (
    ElementMask,
    Magnitude,
    Mask,
    NoMask,
    Outliers,
    RandomBlocks,
    RandomMask,
    ScoredMask,
)
from zolit.strategies.perturber import (
    CodePerturber,
    DensePerturber,
    LowRankPerturber,
    Perturber,
    ScalePerturber,
)
from zolit.strategies.quantizer import (
    GPTQ,
    HQQ,
    Float8,
    Int4,
    Int8,
    NoQuantizer,
    Quantizer,
    SqueezeLLM,
    Stored,
)
from zolit.strategies.query_scheduler import ConstantQueries, QueryScheduler

__all__ = [
    "GPTQ",
    "HQQ",
    "ClippedTwoPoint",
    "CodePerturber",
    "ConstantQueries",
    "DensePerturber",
    "ElementMask",
    "Estimate",
    "Estimator",
    "Float8",
    "GaussNewton",
    "Int4",
    "Int8",
    "Losses",
    "LowRankPerturber",
    "Magnitude",
    "Mask",
    "NoMask",
    "NoQuantizer",
    "OneSided",
    "Outliers",
    "Perturber",
    "Quantizer",
    "QueryScheduler",
    "RandomBlocks",
    "RandomMask",
    "ScalePerturber",
    "ScoredMask",
    "SqueezeLLM",
    "Stored",
    "TwoPoint",
]
