"""Options that zolit chose because the configuration of a run left them open."""

import lightning as L

from zolit.training.zero_order import ZeroOrderModule


def settled_options(module: L.LightningModule) -> dict[str, float | str]:
    """The options that a module chose because its configuration left them open, by dotted key.

    Rates are missing before its model is loaded, since they depend on the model.
    """
    if not isinstance(module, ZeroOrderModule):
        return {}
    found: dict[str, float | str | None] = {"model.optimizer.init_args.lr": module.default_lr}
    found |= {f"model.mask.init_args.{name}": one for name, one in module.mask.settled.items()}
    if not module.dtype_given:
        found["model.dtype"] = module.dtype_name
    if module.model is not None and not module.perturber.eps_given:
        found["model.perturber.init_args.eps"] = module.perturber.eps
    return {key: value for key, value in found.items() if value is not None}
