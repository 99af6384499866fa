"""Arranges the forward passes of a step: pairs, compiled blocks, a shared prefix."""

from torch import nn

from zolit.models.passes.calls import check_calls
from zolit.models.passes.compiled_blocks import compile_blocks
from zolit.models.passes.prefix import share_prefix
from zolit.models.passes.prefix_trial import try_prefix
from zolit.models.trials.pairs import Forward, refuse_unread, try_pairs
from zolit.tensors.reading import Reading


def arrange_passes(
    model: nn.Module, reading: Reading, forward: Forward, planned: bool, compiles: bool, tell: bool
) -> bool:
    """Use every way to make passes cheaper that trials show to be right for a prepared model.

    Args:
        model: prepared and loaded; changed in place.
        reading: the state that its weights share.
        forward: how it will be called.
        planned: whether the kinds of the tuned weights allow pairs.
        compiles: whether its blocks are to be compiled.
        tell: whether to log a line if the trials forbid pairs.

    Returns:
        Whether pairs may be read.

    Raises:
        UserError: if ``compiles`` is set and the model has no block that can be compiled, or is
            compiled already.
    """
    check_calls(model)
    # Trials come first: they follow operations, which compiled blocks hide.
    trial = try_pairs(model, forward, planned, tell)
    forms = try_prefix(model, reading, forward)
    if compiles:
        compile_blocks(model)
    refuse_unread(model, reading, trial.unread)
    share_prefix(model, reading, forms)
    return trial.pairable
