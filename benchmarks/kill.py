"""Kill a run at random moments, resume it each time, and compare its end.

Most kills are SIGKILLs. Some are meant to hit the write of a record or of a checkpoint, which takes
microseconds: such a process may write files of some size only, and the system ends it (SIGXFSZ)
within the write that goes beyond, with the first part of it done.

A tiny model is fine-tuned by the command line; each attempt is a process of its own, forked from
this one so that it need not import everything again. Whenever a run has reached its end in spite of
the kills, its journal and its weights must be those of a run that nothing disturbed.

    python benchmarks/kill.py --kills 100
    python benchmarks/kill.py --kills 100 --recipe configs/senszoq/int4_trec.yaml

A shipped recipe is cut down to the tiny model and a few rows as the tests do it. If it scores
weights when it starts, they are scored on a text that takes a while, most kills fall between the
first score and the journal, and the files of scores and mask are compared, too.
"""

import argparse
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import waiting  # noqa: F401
import torch
from tiny_run import make_model, recipe, shipped

from zolit.cli import main
from zolit.errors import UserError
from zolit.files import work_folder
from zolit.runs.folder import RunFolder
from zolit.runs.journal import Contents, Weights, read_journal

RECORD = 64
"""Bytes of a step with one query."""


def attempt(args: list[str], log: Path, limit: int | None = None) -> int:
    """Start the command in a process of its own; its number.

    Args:
        args: of the command.
        log: file for what it prints, a new one as the limit counts for it too.
        limit: bytes of a file; the process dies within the write that goes beyond.
    """
    child = os.fork()
    if child:
        return child
    if limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    code = 1
    try:
        main(args)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    finally:
        sys.stdout.flush()
        os._exit(code)


def scratch_files(run: Path) -> set[tuple[str, int]]:
    """Checkpoints that were begun, with the times of their last writes."""
    found = (run / "checkpoints").glob(".*.part")
    return {(path.name, path.stat().st_mtime_ns) for path in found}


def occupied(run: Path) -> bool:
    """Whether the same command would be refused in the folder, though it holds no journal."""
    try:
        RunFolder(run).check()
    except UserError:
        return True
    return False


def before_the_journal(run: Path) -> str:
    """How far a run without a journal is."""
    if not run.exists():
        return "before its folder"
    file = RunFolder(run).saliency
    if file.exists():
        return "after its scores, before the journal"
    if not (scoring := work_folder(file)).exists():
        return "before the journal"
    kinds = [one.name.partition("-")[0] for one in scoring.glob("*-*.*")]
    return "in the sweep back" if "gradients" in kinds else "in the sweep forward"


def ended(contents: Contents) -> bool:
    marks = [record for record in contents.records if isinstance(record, Weights)]
    return bool(marks) and marks[-1].final


def same_end(one: Path, two: Path) -> bool:
    """Whether two runs made the same steps, with the same weights at each digest and at the end."""
    mine, theirs = (read_journal(folder / "journal.bin") for folder in (one, two))
    digests = [
        {(r.step, r.digest) for r in contents.records if isinstance(r, Weights)}
        for contents in (mine, theirs)
    ]
    saved = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (one, two)
    ]
    equal = all(torch.equal(tensor, saved[1][name]) for name, tensor in saved[0].items())
    for file in ("saliency.safetensors", "mask.safetensors"):
        there = [(folder / file).read_bytes() for folder in (one, two) if (folder / file).exists()]
        equal = equal and (not there or (len(there) == 2 and there[0] == there[1]))
    return mine.steps == theirs.steps and digests[0] == digests[1] and equal


def undisturbed(args: list[str], run: Path, log: Path) -> tuple[float, float]:
    """Make a whole run; seconds from where it scores weights to its journal, or 0, and in all."""
    began, start, scoring = time.perf_counter(), 0.0, None
    child = attempt([*args, "--run.run_dir", str(run)], log)
    while not over(child):
        now = time.perf_counter()
        if scoring is None and is_scoring(run):
            scoring = now
        if scoring is not None and not (run / "journal.bin").exists():
            start = now - scoring
        time.sleep(0.001)
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"the undisturbed run failed:\n{log.read_text(encoding='utf-8')}")
    return start, time.perf_counter() - began


def over(child: int) -> bool:
    """Whether a process has ended."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def is_scoring(run: Path) -> bool:
    """Whether a run scores weights, or has done so."""
    file = RunFolder(run).saliency
    return file.exists() or work_folder(file).exists()


def main_loop(
    folder: Path, kills: int, steps: int, seed: int, path: Path | None = None
) -> dict[str, object]:
    """Kill and resume runs; counts of what the kills met."""
    make_model(folder / "model")
    base = recipe(folder, steps) if path is None else shipped(path, folder, steps)
    log = folder / "log.txt"
    whole = folder / "whole"
    start, seconds = undisturbed(base, whole, log)
    draw = random.Random(seed)  # noqa: S311
    moments: Counter[str] = Counter()
    done = runs = lost = 0
    while done < kills:
        run, end, salvage = folder / f"run{runs}", 0, False
        while True:
            journal = run / "journal.bin"
            args = [*base, "--run.salvage", str(salvage).lower()]
            # A journal whose header was cut is refused, with the advice to start anew.
            begun = journal.exists() and read_journal(journal).header is not None
            args += ["--resume", str(run)] if begun else ["--run.run_dir", str(run)]
            if not begun and occupied(run):
                args += ["--run.overwrite", "true"]
            killed = done < kills
            size = journal.stat().st_size if journal.exists() else 0
            # A quarter of the kills fall into a write, as many anywhere, the others soon after the
            # first new record. A run that scores weights first is killed before it has a journal
            # most of the time, and often left alone when it has one.
            kind = draw.choice(("write", "anywhere", "step", "step"))
            if start:
                other = "none" if begun else "start"
                kind = draw.choice((other, other, other, kind))
            killed = killed and kind != "none"
            limit = None
            if killed and size and kind == "write":
                limit = size + draw.randrange(1, 16 * RECORD)
            parts = scratch_files(run)
            child = attempt(args, log, limit)
            if limit is not None:
                killed = False
            elif killed and kind == "anywhere":
                time.sleep(draw.uniform(0, seconds / 2))
            elif killed and kind == "start":
                while not over(child) and not is_scoring(run):
                    time.sleep(0.001)
                time.sleep(draw.uniform(0, start))
            elif killed:
                while not over(child):
                    if journal.exists() and journal.stat().st_size > size:
                        break
                    time.sleep(0.001)
                time.sleep(draw.uniform(0, seconds / 10))
            if killed:
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
                raise SystemExit(f"a resumed run failed:\n{log.read_text(encoding='utf-8')}")
            done += os.WIFSIGNALED(status)
            if not journal.exists():
                moments[before_the_journal(run)] += 1
                continue
            contents = read_journal(journal)
            if contents.header is None:
                moments["inside the journal's header"] += 1
                continue
            salvage = contents.fault is not None
            lost += contents.end < end
            end = contents.end
            if os.WIFSIGNALED(status):
                part = scratch_files(run) - parts
                moment = "inside a record" if salvage else "inside a checkpoint" if part else ""
                moments[moment or f"{'after' if end else 'before'} the first step"] += 1
            if ended(contents):
                break
        if not same_end(run, whole):
            raise SystemExit(f"{run} did not come to the same end")
        runs += 1
        print(f"{runs} runs with the same end after {done} kills: {dict(moments)}", file=sys.stderr)
    return {"kills": done, "runs": runs, "steps_lost": lost, "moments": dict(moments)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", type=Path, help="of configs/, instead of QuZO on int8")
    given = parser.parse_args()
    torch.set_num_threads(1)  # a fork does not inherit the threads of a pool
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        print(json.dumps(main_loop(place, given.kills, given.steps, given.seed, given.recipe)))
