"""Where the rows of a task come from: files, files inside pip packages, the datasets hub.

Every reader returns a table with one row per example. Nested objects become columns of their
own, named by their innermost key (by the dotted path where two share it).
"""

import io
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from zolit.arguments import Checked
from zolit.datamodules.delimited import read_delimited
from zolit.datamodules.json_file import flat_table, read_json, read_json_lines
from zolit.datamodules.text_file import OPENERS, text_of_file
from zolit.errors import NotFetchedError, UserError, first_line, nearest
from zolit.extras import require_extra
from zolit.packages import find_in_package

Format = Literal["auto", "csv", "tsv", "jsonl", "json", "parquet", "lines"]

SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}


class RowSource(Checked, ABC):
    """A table of examples.

    Example:
        >>> class Two(RowSource):
        ...     def read(self):
        ...         return pd.DataFrame({"text": ["good", "bad"], "label": [1, 0]})
        >>> len(Two().read())
        2
    """

    @abstractmethod
    def read(self) -> pd.DataFrame:
        """All rows, with index 0, 1, 2, ...

        Raises:
            UserError: the rows cannot be found or read.
        """


class TableRows(RowSource):
    """Rows that are in memory already.

    Args:
        table: one row per example; they are numbered 0, 1, 2, ... in its order.

    Example:
        >>> table = pd.DataFrame({"text": ["good", "bad"], "label": [1, 0]}, index=[7, 3])
        >>> TableRows(table).read().index.tolist()
        [0, 1]
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    def read(self) -> pd.DataFrame:
        return self.table.reset_index(drop=True)


class FileRows(RowSource):
    """Rows of one local file, or of one file that an installed pip package brings.

    Args:
        path: the file; ``.gz``, ``.bz2`` and ``.xz`` are read as they are. With ``package``, its
            path inside that distribution.
        package: name of an installed pip distribution. Nothing of it is imported.
        format: ``csv``, ``tsv``, ``jsonl``, ``json`` (a list of objects, or an object of them),
            ``parquet``, or ``lines``: a label, a blank and the text on each line, as in SST and
            TREC, whose labels ``DESC:manner`` give columns label ``DESC`` and fine_label
            ``manner``. ``auto`` goes by the file ending.
        encoding: of text files, for example ``latin-1``.
        names: column names of a csv or tsv file without a header line.
        quotes: whether double quotes group a field in csv and tsv files. By default as the file
            shows; false for GLUE's tsv files.
        rename: new names of columns, for example ``{sentence: text}``.

    Example:
        ::

            rows:
              class_path: FileRows
              init_args:
                path: reviews.csv
                rename:
                  sentence: text
    """

    def __init__(
        self,
        path: str,
        package: str | None = None,
        format: Format = "auto",
        encoding: str = "utf-8",
        names: list[str] | None = None,
        quotes: bool | None = None,
        rename: dict[str, str] | None = None,
    ) -> None:
        self.path = path
        self.package = package
        self.format = format
        self.encoding = encoding
        self.names = names
        self.quotes = quotes
        self.rename = rename or {}

    def read(self) -> pd.DataFrame:
        if self.package is None:
            file = Path(self.path).expanduser()
        else:
            file = find_in_package(self.package, self.path)
        if not file.is_file():
            raise UserError(missing_file(file))
        format = _format_of(file) if self.format == "auto" else self.format
        if self.names is not None and format not in ("csv", "tsv"):
            raise UserError(
                f"rows.names: {file.name!r} is read as {format}, which names its columns itself; "
                "leave names out, or set rows.format to csv or tsv."
            )
        try:
            table = self._parse(file, format)
        except UserError:
            raise
        except (ValueError, RecursionError, OSError) as error:
            raise UserError(
                f"rows.path: {str(file)!r} cannot be read as {format} in {self.encoding} "
                f"({first_line(error)}); check rows.format and rows.encoding."
            ) from error
        if table.empty:
            header = ", ".join(map(str, table.columns))
            only = f", only the names of columns ({header})" if header else ""
            raise UserError(
                f"rows.path: {str(file)!r} holds no rows{only}; give a file with rows"
                + ("; if this line is a row, name the columns by rows.names" if header else "")
            )
        return _renamed(table, self.rename)

    def _parse(self, file: Path, format: Format) -> pd.DataFrame:
        if format == "parquet":
            # The extra brings pyarrow, by which pandas reads Parquet.
            require_extra("hub", f"rows.path: reading {file.name!r}, a Parquet file,")
            try:
                return pd.read_parquet(file)
            except (ValueError, OSError) as error:
                raise UserError(
                    f"rows.path: {str(file)!r} is no whole Parquet file ({first_line(error)}); get "
                    "it again, or check rows.format"
                ) from error
        text = text_of_file(file, self.encoding)
        if format in ("csv", "tsv"):
            separator = "," if format == "csv" else "\t"
            return read_delimited(text, separator, self.names, self.quotes, str(file))
        if format == "json":
            return read_json(text, str(file))
        if format == "jsonl":
            return read_json_lines(text, str(file))
        return _labelled_lines(io.StringIO(text, newline=None))


class HubRows(RowSource):
    """Rows of a data set on the Hugging Face hub, or of a local folder of data files.

    Args:
        name: hub name, for example ``stanfordnlp/sst2``, or a folder.
        split: for example ``train``, or a slice ``train[:500]``.
        config: name of the configuration, for example ``rte`` of ``nyu-mll/glue``.
        revision: branch, tag or commit.
        label_names: give label columns as their names instead of their numbers.
        rename: new names of columns, for example ``{sentence: text}``.

    Example:
        ::

            rows:
              class_path: HubRows
              init_args:
                name: stanfordnlp/sst2
                split: train[:5000]
                rename:
                  sentence: text
    """

    def __init__(
        self,
        name: str,
        split: str = "train",
        config: str | None = None,
        revision: str | None = None,
        label_names: bool = False,
        rename: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.split = split
        self.config = config
        self.revision = revision
        self.label_names = label_names
        self.rename = rename or {}

    def read(self) -> pd.DataFrame:
        require_extra("hub", f"rows.name: reading {self.name!r} by HubRows")
        from datasets import ClassLabel, load_dataset

        try:
            data = load_dataset(self.name, self.config, split=self.split, revision=self.revision)
        except (ValueError, OSError) as error:
            raise NotFetchedError(
                f"rows.name: {self.name!r} (config {self.config!r}, split {self.split!r}) cannot "
                f"be loaded ({first_line(error)}); check the names and the network."
            ) from error
        table = flat_table(data.to_list())
        if self.label_names:
            for column, feature in data.features.items():
                if isinstance(feature, ClassLabel):
                    # -1 stands for a withheld label and has no name.
                    table[column] = [
                        feature.int2str(int(code)) if code >= 0 else code for code in table[column]
                    ]
        return _renamed(table, self.rename)


def _format_of(file: Path) -> Format:
    suffixes = [one for one in file.suffixes if one not in OPENERS]
    if suffixes and suffixes[-1] in SUFFIXES:
        return SUFFIXES[suffixes[-1]]
    raise UserError(
        f"rows.path: the ending of {file.name!r} is not one of {', '.join(SUFFIXES)} (also with "
        f"{', '.join(OPENERS)}); set rows.format."
    )


def missing_file(file: Path) -> str:
    """A sentence about a file that is not there."""
    if file.is_dir():
        return f"rows.path: {str(file)!r} is a folder; give a file in it."
    folder = file.absolute().parent
    if not folder.is_dir():
        return (
            f"rows.path: there is no folder {str(folder)!r} for {str(file)!r}; give an existing "
            "file."
        )
    there = sorted(one.name for one in folder.iterdir())[:20]
    return (
        f"rows.path: there is no file {str(file)!r} in {str(folder)!r}; nearest names there: "
        f"{nearest(file.name, there)}."
    )


def _labelled_lines(stream: Any) -> pd.DataFrame:
    records = []
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        label, blank, text = line.rstrip("\r\n").partition(" ")
        if not blank:
            raise ValueError(f"line {number} is not a label, a blank and a text")
        coarse, _, fine = label.partition(":")
        records.append({"label": coarse, "fine_label": fine, "text": text})
    return pd.DataFrame(records, columns=["label", "fine_label", "text"])


def _renamed(table: pd.DataFrame, rename: dict[str, str]) -> pd.DataFrame:
    for column in rename:
        if column not in table.columns:
            raise UserError(
                f"rows.rename: there is no column {column!r}; nearest names: "
                f"{nearest(column, table.columns)}."
            )
    # If a column has the new name already, it is dropped: two columns of one name would remain.
    replaced = [new for old, new in rename.items() if new in table.columns and new != old]
    return table.drop(columns=replaced).rename(columns=rename).reset_index(drop=True)
