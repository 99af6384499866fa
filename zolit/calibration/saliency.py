"""Computes how much the loss of a language model depends on each of its weights.

The blocks are run one after another, and then differentiated one after another from the last, so
that the gradient of the whole model is never in memory. On the way forward the inputs of each block
are written to the disk, beside the file that is made. On the way back each block is run again on
its inputs, with its weights decoded to float32 or to the model's dtype, and passes the gradient on
to the block before it. Memory holds the model as it is stored, the weights and gradients of one
block in float32 at most, and the activations of one window in one block.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from zolit.arguments import in_unit_range
from zolit.calibration.chain import Chain
from zolit.calibration.gradients import METHODS, Method
from zolit.calibration.hessian_sweeps import HessianSweeps
from zolit.calibration.model_digest import float_digests
from zolit.calibration.saliency_file import VERSION, Facts, Saliency, write_saliency
from zolit.calibration.scored import scored_weights
from zolit.calibration.sweeps import Report, Sweeps
from zolit.calibration.text import Window
from zolit.calibration.work import Work, text_digest
from zolit.errors import UserError
from zolit.tensors.weight import PerturbedWeight

There = Literal["refuse", "take", "replace"]


def compute_saliency(
    model: nn.Module,
    windows: Sequence[Window],
    method: Method,
    keep: float,
    to: Path,
    report: Report = lambda done, total: None,
    there: There = "refuse",
    dtype: torch.dtype = torch.float32,
) -> Saliency:
    """Score every entry of the linear layers in a model's blocks, and write the scores to a file.

    ``fisher`` is the sum over windows of the squared gradient of the window's loss: the diagonal
    of the empirical Fisher matrix (SensZOQ, arXiv 2406.02913). ``mean_grad_sq`` is the square of
    the sum of these gradients, which the authors' code computes. The loss of a window is the mean
    loss of its next tokens. Gradients are taken at the weights as they are stored.

    Intermediate results are kept in a folder beside the file until the file is complete. If the
    process is killed, the same call continues at the block that it had reached.

    Args:
        model: of the causal family, read without perturbation; its weights may be stored in any
            format.
        windows: of text; each has at least two tokens.
        method: one of `METHODS`.
        keep: fraction of the entries of each matrix whose scores are written, in (0, 1].
        to: the file.
        report: called before each block, in both directions.
        there: what becomes of a file that is there: ``refuse`` it; ``take`` it as the result if it
            is of the same model, text and options, else refuse it; or else ``replace`` it.
        dtype: that losses' gradients are computed in: float32, or that of the model. Sums over
            windows are float32.

    Raises:
        UserError: if an argument is out of range, the file is refused, the model's blocks cannot be
            walked, or a loss or gradient is not a number.
    """
    check_options(method, keep, to if there == "refuse" else None)
    for number, one in enumerate(windows):
        if not 1 <= one.start < len(one.ids):
            raise UserError(
                f"text: window {number} has {len(one.ids)} tokens and none to predict from token "
                f"{one.start} on; give windows of two tokens or more"
            )
    chain = Chain(model, windows)
    scored = scored_weights(model)
    weights = [one for path, _ in chain.blocks for one in scored.get(path, ())]
    if not weights:
        raise UserError(
            f"model.source: the blocks of {type(model).__name__} hold no linear layers, whose "
            "weights saliency scores; give a model whose blocks do"
        )
    facts = Facts(
        version=VERSION,
        method=method,
        text=text_digest([(one.ids, one.start) for one in windows]),
        samples=len(windows),
        length=max(len(one.ids) for one in windows),
        keep=keep,
        shapes={one.path: one.shape for one in weights},
        digests=float_digests(model),
        stored=_stored(model),
        computed=str(dtype).removeprefix("torch."),
    )
    if to.exists():
        made = Saliency.open(to)
        if made.facts == facts:
            return made
        if there != "replace":
            raise UserError(
                f"saliency: {str(to)!r} is there already, of another model, text or method; delete "
                "it, or name another place"
            )
    with Work(to, facts.metadata(), len(chain), [len(one.ids) for one in windows]) as work:
        sweeps = HessianSweeps if method == "grasp" else Sweeps
        sweeps(chain, scored, method, keep, work, report, dtype).run()
        found = (work.scores(block) for block in range(len(chain)))
        made = write_saliency(to, found, facts)
        work.remove()
    return made


def check_options(method: str, keep: float, to: Path | None = None) -> None:
    """Refuse options that are out of range, before a model is loaded.

    Args:
        method: see `compute_saliency`.
        keep: see `compute_saliency`.
        to: the file to write, which must not exist yet; None to check no file.

    Raises:
        UserError: naming the option.
    """
    if method not in METHODS:
        raise UserError(
            f"saliency.method must be one of {', '.join(METHODS)}, got {method!r}; try fisher"
        )
    in_unit_range("saliency.keep", keep, "try 0.01, or 1 for all scores")
    if to is not None and to.exists():
        raise UserError(f"--to: there is a {str(to)!r} already; name another file")


def begun_in(to: Path) -> str | None:
    """The dtype of gradients of a file that is there, or of one that was begun; None for neither.

    Where the machine chooses the dtype, what was begun goes on in the one that it was begun in.

    Args:
        to: the file.

    Raises:
        UserError: if the file is no saliency.
    """
    if to.exists():
        return Saliency.open(to).facts.computed
    claim = Work.claimed(to).get("zolit_saliency")
    return None if claim is None else str(json.loads(claim).get("computed", "float32"))


def _stored(model: nn.Module) -> str:
    """The formats in which the weights of a model are stored, on which its gradients depend."""
    formats = {
        str(one.store.describe()) if isinstance(one, PerturbedWeight) else str(one.dtype)
        for one in model.parameters()
    }
    return " ".join(sorted(formats))
