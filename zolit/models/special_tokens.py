"""Token ids with a special meaning in a configuration."""

from typing import Any


def special_tokens(config: Any) -> set[int]:
    """Token ids with a special meaning in a configuration, or in a configuration inside it.

    Args:
        config: of transformers, or the dictionary of one.

    Example:
        >>> sorted(special_tokens({"pad_token_id": 1, "text": {"eos_token_id": [2, 7]}}))
        [1, 2, 7]
    """
    values = config if isinstance(config, dict) else config.to_dict()
    found: set[int] = set()
    for name, value in values.items():
        if isinstance(value, dict):
            found |= special_tokens(value)
        elif str(name).endswith(("token_id", "token_index")):
            several = value if isinstance(value, list) else [value]
            found |= {one for one in several if isinstance(one, int)}
    return found
