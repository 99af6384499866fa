"""How a sweep spends its steps."""

from dataclasses import dataclass
from typing import Literal

from zolit.caller import option
from zolit.errors import UserError


@dataclass(frozen=True)
class SweepOptions:
    """Which points of a grid are stopped early.

    Attributes:
        stopping: ``halving``, or ``none`` to give every point all steps.
        reduction: of the points that are left, one in so many goes on at each stop.
        first_steps: steps before the first stop; by default so many that one point is left at the
            end.

    Raises:
        UserError: if a number is out of range.

    Example:
        >>> SweepOptions(reduction=2).stopping
        'halving'
    """

    stopping: Literal["halving", "none"] = "halving"
    reduction: int = 3
    first_steps: int | None = None

    def __post_init__(self) -> None:
        for name, value, least in (
            ("reduction", self.reduction, 2),
            ("first_steps", self.first_steps, 1),
        ):
            if value is not None and value < least:
                raise UserError(
                    f"{option(f'sweep.{name}')}: got {value}, expected {least} or more; leave it "
                    "out for the default"
                )
        if self.stopping not in ("halving", "none"):
            raise UserError(
                f"{option('sweep.stopping')}: got {self.stopping!r}, expected halving or none"
            )
