"""Numbers of a run that its configuration left open."""

import lightning as L

from zolit.training.zero_order import ZeroOrderModule


def settled_options(module: L.LightningModule) -> dict[str, float]:
    """What a module chose where its configuration left a number open, by dotted key.

    Nothing before its model is loaded, for which the numbers are chosen.
    """
    if not isinstance(module, ZeroOrderModule):
        return {}
    found = {"model.optimizer.init_args.lr": module.default_lr}
    if module.model is not None and not module.perturber.eps_given:
        found["model.perturber.init_args.eps"] = module.perturber.eps
    return {key: value for key, value in found.items() if value is not None}
