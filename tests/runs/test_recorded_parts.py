"""What a run records of its parts: files that are gone, and quantizers of another version."""

from pathlib import Path
from typing import Any

from cli_recipe import changed, recipe, refusal, write

from zolit.cli import main
from zolit.runs.journal import Header, read_journal
from zolit.runs.journal.format import HEADER_BYTES, decode_header, encode_header
from zolit.strategies import SqueezeLLM

QUIET = {"trainer.enable_progress_bar": False, "run.zero_shot": False, "run.test_after_fit": False}

COMMANDS = (
    ["verify", "run"],
    ["export", "run", "--to", "model"],
    ["fit", "--resume", "run", "--trainer.max_steps", "5"],
)


def test_a_run_names_the_file_and_the_version_that_its_codes_come_of(
    tiny_llama: Path, films_csv: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = recipe(tiny_llama, films_csv)
    whole = ["--to", "all.saliency", "--saliency.keep", "1", "--saliency.samples", "4"]
    main(["saliency", "--config", write(plain, Path("plain.yaml")), *whole])
    tables = {"class_path": "SqueezeLLM", "init_args": {"bits": 3, "saliency": "all.saliency"}}
    options = {**QUIET, "model.quantizer": tables, "run.run_dir": "run"}
    main(["fit", "--config", write(changed(plain, options), Path("tables.yaml"))])
    header = read_journal(Path("run/journal.bin")).header
    assert header.parts["model.quantizer"] == SqueezeLLM.version
    digest = header.parts["model.quantizer.saliency"]
    main(["verify", "run"])

    capsys.readouterr()
    Path("all.saliency").rename("elsewhere")
    for command in COMMANDS:
        said = refusal(capsys, *command)
        assert "model.quantizer.saliency: " in said
        assert "all.saliency', which the weights of the run in run were made with, is not" in said
        assert f"put that file back in its place, the one whose BLAKE2b is {digest}" in said
    Path("elsewhere").rename("all.saliency")
    monkeypatch.setattr(SqueezeLLM, "version", SqueezeLLM.version + 1)
    for command in COMMANDS:
        said = refusal(capsys, *command)
        assert "run was made by version 1 of SqueezeLLM, which this zolit has in version 2" in said
    assert not Path("model").exists()


def test_headers_of_before_have_no_parts() -> None:
    bare = Header("", {}, "11", {}, {}, {})
    text = encode_header(bare)[HEADER_BYTES:]
    assert b"parts" not in text
    assert decode_header(bare.version, text) == bare
    full = Header("", {}, "11", {}, {}, {}, parts={"model.quantizer": 1})
    assert decode_header(full.version, encode_header(full)[HEADER_BYTES:]) == full
