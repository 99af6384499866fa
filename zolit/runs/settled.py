"""Numbers that zolit chose because the configuration of a run left them open."""

import lightning as L

from zolit.training.zero_order import ZeroOrderModule


def settled_options(module: L.LightningModule) -> dict[str, float]:
    """The numbers that a module chose because its configuration left them open, by dotted key.

    Empty before its model is loaded, since the numbers depend on the model.
    """
    if not isinstance(module, ZeroOrderModule):
        return {}
    found: dict[str, float | None] = {"model.optimizer.init_args.lr": module.default_lr}
    found |= {f"model.mask.init_args.{name}": one for name, one in module.mask.settled.items()}
    if module.model is not None and not module.perturber.eps_given:
        found["model.perturber.init_args.eps"] = module.perturber.eps
    return {key: value for key, value in found.items() if value is not None}
