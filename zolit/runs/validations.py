"""When the validations of a run come."""

from typing import Any

import lightning as L

from zolit.caller import option, setting
from zolit.errors import UserError


def check_validation(trainer: L.Trainer, loader: Any) -> None:
    """Refuse an interval between validations that is longer than an epoch.

    Args:
        trainer: of the run.
        loader: its training loader.

    Raises:
        UserError: naming both numbers.
    """
    interval, limit = trainer.val_check_interval, trainer.limit_train_batches
    if not isinstance(interval, int) or trainer.check_val_every_n_epoch is None:
        return
    if trainer.limit_val_batches == 0 or not hasattr(loader, "__len__"):
        return
    batches = len(loader)
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    if interval > batches:
        raise UserError(
            f"{option('trainer.val_check_interval')}: got {interval}, but an epoch has {batches} "
            f"batches; set at most {batches}, or "
            f"{setting('trainer.check_val_every_n_epoch', None)} to count batches over epochs"
        )
