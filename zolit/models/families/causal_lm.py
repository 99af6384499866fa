"""Causal language models: each position predicts the next token."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from zolit.models.families.base import Family, Kind, accepted_arguments, take_positions


class CausalLM(Family):
    """Llama, GPT-2 and kin, scored at the last position of a prompt."""

    kind: ClassVar[Kind] = "causal"
    writes_on: ClassVar[bool] = True

    def auto_class(self) -> Any:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM

    def class_names(self) -> dict[str, str]:
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

        return dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)

    def logits_at(
        self, model: nn.Module, input_ids: Tensor, attention_mask: Tensor, positions: Tensor
    ) -> Tensor:
        """Uses ``logits_to_keep`` if the model has it, else makes the logits of all positions."""
        network: Any = model
        accepted = accepted_arguments(type(model))
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if "position_ids" in accepted:
            # Counted over real tokens, so that a score does not depend on the row's padding.
            inputs["position_ids"] = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
        if "use_cache" in accepted:
            inputs["use_cache"] = False
        used = positions[positions >= 0]
        positions = positions.clamp(min=0)
        if "logits_to_keep" not in accepted:
            return take_positions(network(**inputs).logits, positions)
        first = int(used.min())
        keep = torch.arange(first, int(used.max()) + 1, device=input_ids.device)
        logits = network(**inputs, logits_to_keep=keep).logits
        return take_positions(logits, (positions - first).clamp(min=0))
