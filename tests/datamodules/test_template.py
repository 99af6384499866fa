import pytest

from zolit.datamodules.template import Place, doubled, parsed
from zolit.errors import UserError


@pytest.mark.parametrize(
    ("template", "parts"),
    [
        ("{text} It was", (Place("text"), " It was")),
        ("{Review Text}: {a.b|lower}", (Place("Review Text"), ": ", Place("a.b", ("lower",)))),
        ("{ text | lower | question }", (Place("text", ("lower", "question")),)),
        ("{tokens|join|capital}", (Place("tokens", ("join", "capital")),)),
        ('{{"text": "{text}"}}', ('{"text": "', Place("text"), '"}')),
        ("{{{text}}}", ("{", Place("text"), "}")),
        ("{{text}}", ("{text}",)),
        ("no column", ("no column",)),
    ],
)
def test_parts(template: str, parts: tuple[str | Place, ...]) -> None:
    assert parsed(template) == parts


def test_doubled() -> None:
    assert doubled("{{ text }} {a} {{b}}") == ["text", "b"]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("a {text", ["'a {text'", "{{ or }}"]),
        ("a } b {text}", ["partner"]),
        ('{"a": {text}}', ["partner", "{{ or }}"]),
        ("{} {text}", ["'{}'", "names no column"]),
        ("{text|lowr}", ["'lowr'", "lower"]),
        ("{text|lower|join}", ["join comes first"]),
    ],
)
def test_messages(template: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        parsed(template)
    for word in words:
        assert word in str(caught.value)
