"""Writes the fields of a GGUF file that tell llama.cpp how to tokenize."""

import json
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, SpecialVocab, TokenType

from zolit.caller import export_format
from zolit.errors import UserError

_SPLIT_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLIT_HEAD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
_BY_PATTERN = {
    _SPLIT_HEAD + "{1,3}" + _SPLIT_TAIL: "llama-bpe",
    _SPLIT_HEAD + _SPLIT_TAIL: "qwen2",
}
"""llama.cpp's names of pre-tokenizers, by the regular expressions of Llama 3 and Qwen 2."""


def write_tokenizer(writer: GGUFWriter, folder: Path, tokenizer: Any, size: int) -> None:
    """Write vocabulary, merges, special tokens and chat template.

    Args:
        writer: of the file.
        folder: that ``tokenizer.save_pretrained`` wrote.
        tokenizer: of transformers.
        size: rows of the model's embedding.

    Raises:
        UserError: if no tokenizer of llama.cpp splits text in the same way.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise _refused("it has no tokenizer.json")
    content = json.loads(file.read_text(encoding="utf-8"))
    name = pre_tokenizer(content)
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [TokenType.UNUSED] * size
    for token, number in tokenizer.get_vocab().items():
        if number >= size:
            raise _refused(f"its token {token!r} has number {number}, the model {size} rows")
        tokens[number], types[number] = token, TokenType.NORMAL
    for one in content.get("added_tokens", []):
        types[one["id"]] = TokenType.CONTROL if one["special"] else TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    special = SpecialVocab(folder, load_merges=True, n_vocab=size)
    for kind in ("bos", "eos", "pad", "unk"):
        number = getattr(tokenizer, f"{kind}_token_id")
        if number is not None:
            special.special_token_ids[kind] = number
    made = tokenizer("a")["input_ids"]
    special.add_special_token = {
        "bos": made[0] == tokenizer.bos_token_id,
        "eos": made[-1] == tokenizer.eos_token_id,
    }
    special.chat_template = special.chat_template or tokenizer.chat_template
    special.add_to_gguf(writer, quiet=True)


def pre_tokenizer(content: dict[str, Any]) -> str:
    """llama.cpp's name for the way in which a tokenizer splits text before it merges.

    Args:
        content: of tokenizer.json.

    Raises:
        UserError: if it is not byte-level BPE or splits in another way.
    """
    model = content["model"]
    if model["type"] != "BPE" or model.get("byte_fallback"):
        raise _refused("it is not byte-level BPE")
    if (content.get("normalizer") or {"type": "NFC"})["type"] != "NFC":
        raise _refused("it normalizes text")
    whole = content.get("pre_tokenizer") or {"type": None}
    steps = whole["pretokenizers"] if whole["type"] == "Sequence" else [whole]
    last = steps[-1]
    if last["type"] != "ByteLevel" or last["add_prefix_space"]:
        raise _refused("its text is not split into bytes last")
    splits = [one["type"] for one in steps[:-1]]
    if last["use_regex"] and not splits:
        return "gpt-2"
    if last["use_regex"] and splits == ["Digits"] and steps[0]["individual_digits"]:
        return "smollm"
    if not last["use_regex"] and splits == ["Split"]:
        name = _BY_PATTERN.get(steps[0]["pattern"].get("Regex"))
        if name is not None:
            return name
    raise _refused("it splits text in a way that zolit knows no name for")


def _refused(reason: str) -> UserError:
    return UserError(
        f"{export_format('gguf')}: the tokenizer cannot be written for llama.cpp, {reason}; use "
        f"{export_format('safetensors')} and convert the folder with llama.cpp's own script"
    )
