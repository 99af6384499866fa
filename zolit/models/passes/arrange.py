"""How a step passes through a model: in pairs, through compiled blocks, from a shared prefix."""

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
    """Make passes through a prepared model as cheap as trials of it show to be right, in place.

    Args:
        model: prepared and loaded; changed in place.
        reading: the state that its weights share.
        forward: how it will be called.
        planned: whether pairs may be read as far as the kinds of the tuned weights tell.
        compiles: whether its blocks are to be compiled.
        tell: whether a line of the log says where no pairs are read.

    Returns:
        Whether pairs may be read.

    Raises:
        UserError: if ``compiles`` and it has no block that can be; or it is compiled already.
    """
    check_calls(model)
    # Trials come first: they run what compiled blocks hide.
    trial = try_pairs(model, forward, planned, tell)
    forms = try_prefix(model, reading, forward)
    if compiles:
        compile_blocks(model)
    refuse_unread(model, reading, trial.unread)
    share_prefix(model, reading, forms)
    return trial.pairable
