"""Causal and masked models: told apart by configuration and by class, and asked each in its way."""

import pytest
import torch
import transformers as hf
from tiny_models import MODELS, batch, tiny

from zolit.errors import UserError
from zolit.models.families import FAMILIES, answer_logits, family_of, find_kind, last_logits
from zolit.models.families.base import REHEARSED


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (hf.LlamaConfig(), "causal"),
        (hf.OPTConfig(), "causal"),
        (hf.Gemma3TextConfig(), "causal"),
        (hf.BertConfig(), "masked"),
        (hf.RobertaConfig(), "masked"),
        (hf.RobertaConfig(is_decoder=True), "causal"),
        (hf.RobertaConfig(architectures=["RobertaForCausalLM"]), "causal"),
        (hf.DistilBertConfig(), "masked"),
    ],
)
def test_kinds(config: hf.PretrainedConfig, kind: str) -> None:
    assert find_kind(config) == kind


def test_a_type_of_neither_kind() -> None:
    with pytest.raises(UserError, match="neither as a causal nor"):
        find_kind(hf.ViTConfig())


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_makes_its_models(kind: str) -> None:
    family = FAMILIES[kind]
    config = hf.BertConfig(num_hidden_layers=1, hidden_size=24, vocab_size=9)
    with torch.device("meta"):
        model = family.auto_class().from_config(config)
    assert type(model).__name__ == family.class_names()["bert"]
    assert family_of(model) is family
    assert family.kind == kind


def test_a_class_made_of_one_of_transformers_and_one_of_ones_own() -> None:
    class Mine(hf.RobertaForMaskedLM):
        pass

    assert family_of(Mine.__new__(Mine)).kind == "masked"
    assert family_of(torch.nn.Linear(1, 1)).kind == "causal"


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_logits_at_positions_are_those_of_the_whole(name: str) -> None:
    model, one = tiny(name), batch(name)
    found = answer_logits(model, one.input_ids, one.attention_mask, one.answer_positions)
    inputs = {"input_ids": one.input_ids, "attention_mask": one.attention_mask}
    if name != "roberta":
        inputs["position_ids"] = (one.attention_mask.cumsum(1) - 1).clamp(min=0)
    if name == "opt":
        del inputs["position_ids"]  # which it counts itself
    whole = model(**inputs).logits
    rows = torch.arange(len(whole)).unsqueeze(1)
    torch.testing.assert_close(found, whole[rows, one.answer_positions])
    last = last_logits(model, one.input_ids, one.attention_mask)
    assert last.shape == (len(whole), 1, whole.shape[-1])


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_a_rehearsal_is_one_short_prompt(name: str) -> None:
    model, seen = tiny(name), []
    hook = model.get_input_embeddings().register_forward_pre_hook(
        lambda module, args: seen.append(args[0])
    )
    out = family_of(model).rehearse(model)
    hook.remove()
    assert out.shape[:2] == (1, 1)
    (ids,) = seen
    assert 1 <= ids.shape[1] <= REHEARSED
    assert ids.unique().numel() == 1
