import csv
import io

import pytest

from zolit.datamodules.delimited import read_delimited
from zolit.errors import UserError

ROWS = [f"fine {number}\t{number % 2}" for number in range(12)]


def read(text: str, separator: str = ",", quotes: bool | None = None) -> list[list[str]]:
    table = read_delimited(text, separator, None, quotes, "rows")
    return [list(row) for row in table.itertuples(index=False)]


def test_values_are_text() -> None:
    [row, other] = read("code,price,flag,gone\n00042,1.50,TRUE,NA\n7,-1,,None\n")
    assert row == ["00042", "1.50", "TRUE", "NA"]
    assert other == ["7", "-1", "", "None"]


@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_equals_pythons_reader(separator: str, end: str) -> None:
    fields = ["", "a", 'q"uote', '"whole"', "co,mma", "ta\tb", "li\nne", "a  b ", "'"]
    records = [[one, other] for one in fields for other in fields if one or other]
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=end).writerows([["x", "y"], *records])
    assert read(text.getvalue(), separator, quotes=True) == records


def stray(first: str, second: str) -> str:
    lines = list(ROWS)
    lines[2], lines[6] = first, second
    return "\n".join(["text\tlabel", *lines])


def test_a_stray_quote_in_tsv_swallows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    rows = read(stray('"Open quote\t1', '"Another" one\t0'), "\t")
    assert len(rows) == 12
    assert rows[2] == ['"Open quote', "1"]
    assert "line 4 of 'rows' has a field" in capsys.readouterr().err


def test_quotes_that_can_be_read_in_two_ways() -> None:
    text = stray('"Open quote\t1', 'Another one"\t0')
    with pytest.raises(UserError, match=r"lines 4 to 8, but each line has all fields.*false.*true"):
        read(text, "\t")
    assert len(read(text, "\t", quotes=False)) == 12
    assert len(read(text, "\t", quotes=True)) == 8
    with pytest.raises(UserError, match="lines 4 to 8"):
        read(text.replace("\t", ","))


@pytest.mark.parametrize(
    "text",
    [
        'text,label\n"Good" film,1\n"a, b",0\n',
        'text,label\n"never closed,1\nb,0\n',
        'text,label\n"a \\"b\\" c",1\n',
    ],
)
def test_a_stray_quote_in_csv_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"line 2 of 'rows' has a field.*double the quotes"):
        read(text)


def test_texts_of_several_lines_are_read_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    assert read('text,label\n"two\nlines, ""both"" here",1\nb,0\n') == [
        ['two\nlines, "both" here', "1"],
        ["b", "0"],
    ]
    assert capsys.readouterr().err == ""


def test_swallowed_rows_are_told_where_other_rows_are_quoted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = 'text,label\n"a, b",0\n"open,1\nfine,0\nfine,1\nclose",0\n'
    assert len(read(text)) == 2
    said = capsys.readouterr().err
    assert "make 1 row(s) of 'rows' span several lines, the first one lines 3 to 6" in said


def test_header(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="leave names out"):
        read_delimited("text,label\na,1\n", ",", ["text", "label"], None, "rows")
    table = read_delimited("text,label,text\na,1,b\n", ",", None, None, "rows")
    assert table["text"].tolist() == ["a"]
    assert "the second 'text' is read as 'text.1'" in capsys.readouterr().err
