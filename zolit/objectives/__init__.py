"""What is minimized: one objective a file, and the batches that they read."""

from zolit.objectives.answer_batch import AnswerBatch, Writing
from zolit.objectives.answer_loss import AnswerLoss
from zolit.objectives.base import Objective, Scored
from zolit.objectives.black_box import BlackBox
from zolit.objectives.language_modeling import LanguageModeling
from zolit.objectives.loss_function import LossFunction
from zolit.objectives.option_scoring import OptionScoring
from zolit.objectives.prompt_batch import PromptBatch

__all__ = [
    "AnswerBatch",
    "AnswerLoss",
    "BlackBox",
    "LanguageModeling",
    "LossFunction",
    "Objective",
    "OptionScoring",
    "PromptBatch",
    "Scored",
    "Writing",
]
