"""Masked language models: a masked position predicts its own token."""

from typing import Any, ClassVar

from torch import Tensor, nn

from zolit.models.families.base import Family, Kind, take_positions

HEADS = ("lm_head", "cls")
"""Names of heads that map hidden states to the vocabulary: those of RoBERTa and of BERT."""


class MaskedLM(Family):
    """BERT, RoBERTa and kin, scored at the mask token of a prompt."""

    kind: ClassVar[Kind] = "masked"
    writes_on: ClassVar[bool] = False

    def auto_class(self) -> Any:
        from transformers import AutoModelForMaskedLM

        return AutoModelForMaskedLM

    def class_names(self) -> dict[str, str]:
        from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

        return dict(MODEL_FOR_MASKED_LM_MAPPING_NAMES)

    def logits_at(
        self, model: nn.Module, input_ids: Tensor, attention_mask: Tensor, positions: Tensor
    ) -> Tensor:
        """If the model has one of `HEADS`, only the hidden states at the positions go through it;
        else the logits of all positions are made.
        """
        network: Any = model
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        positions = positions.clamp(min=0)
        head = next((name for name in HEADS if hasattr(model, name)), None)
        # Before a bare output layer there may be further layers, which this would skip.
        if head is None or isinstance(getattr(network, head), nn.Linear):
            return take_positions(network(**inputs).logits, positions)
        hidden = network.base_model(**inputs).last_hidden_state
        logits: Tensor = getattr(network, head)(take_positions(hidden, positions))
        return logits
