"""Prepares a model whose weights are moved by gradients: first-order training."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from zolit.coordinates import Coordinates, Elements
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.models.experts import is_experts
from zolit.models.plan import Plan, Planned
from zolit.models.prepare import Preparation
from zolit.models.untouched import tell_untouched
from zolit.tensors.master import Form, MasterWeight
from zolit.tensors.weight import PerturbedWeight


class Gradients:
    """What of a weight moves in first-order training: each of its elements, by its gradient.

    It stands in a `Preparation` where zeroth order has a perturber.
    """

    overlays = False

    def coordinates(self, store: StoredWeight) -> Coordinates:
        """The elements of one weight."""
        return Elements((0.0, 1.0))

    def settle(self, weights: Sequence[PerturbedWeight], adapter: bool = False) -> None:
        """Nothing is left open."""


@dataclass(frozen=True)
class Trained(Preparation):
    """How the parameters of a model become weights that gradients move.

    A weight that moves is a parameter that requires a gradient. If the quantizer would store it, it
    is a `MasterWeight`: it is kept as floats, and multiplied as the quantizer rounds it. A weight
    that does not move is stored as in any other run.

    Attributes:
        master_dtype: of the floats of a `MasterWeight`; None for the model's.
    """

    master_dtype: torch.dtype | None = None

    def trains(self, one: Planned) -> bool:
        return one.index is not None

    def plan(self, model: nn.Module) -> Plan:
        """See `Preparation.plan`.

        Raises:
            UserError: also if weights are to be trained that the quantizer cannot round in every
                forward, or if experts would be quantized.
        """
        plan = super().plan(model)
        if self.quantizer.quantized:
            self._check(model, plan)
        return plan

    def _check(self, model: nn.Module, plan: Plan) -> None:
        name = type(self.quantizer).__name__
        trained = [one for one in plan.weights if one.quantized and self.trains(one)]
        if trained and not self.quantizer.straight_through:
            raise UserError(
                f"model.tune: {trained[0].path} would be trained, got quantizer {name}, which "
                "cannot quantize a weight anew in every forward; use Int8, Int4 or Float8, or tune "
                "an adapter beside the weights that it stores"
            )
        holders = {path: module for path, module in model.named_modules() if is_experts(module)}
        stacked = [
            one.path
            for one in plan.weights
            if one.quantized and one.path.rpartition(".")[0] in holders
        ]
        if stacked:
            raise UserError(
                f"model.quantizer: got {name} for the experts {stacked[0]}, whose products have no "
                "gradients; use NoQuantizer, or ZeroOrderModule"
            )

    def apply(self, model: nn.Module, plan: Plan) -> None:
        """Make the weights that move require gradients, and store the quantized ones among the
        others.

        Args:
            model: with plain parameters, or with weights stored already.
            plan: made for this model.

        Raises:
            UserError: see `Preparation.store`.
        """
        tell_untouched(model, plan)
        for one in plan.weights:
            parameter = model.get_parameter(one.path)
            if self.trains(one):
                self._replace(model, one, self._trained(one, parameter))
                continue
            if isinstance(parameter, PerturbedWeight):
                store = parameter.store
            else:
                store = self.store(one, parameter.data)
            if store.quantized:
                self._replace(model, one, self.wrap(one, store, None, parameter))

    def _trained(self, one: Planned, parameter: nn.Parameter) -> nn.Parameter:
        if not (one.quantized and self.quantizer.quantized):
            parameter.requires_grad_()
            return parameter
        floats = parameter.data.to(self.master_dtype or parameter.dtype)
        form = Form(self.quantizer.store, self.reading, one.path, one.transposed)
        return MasterWeight.of(floats, form)


def to_stored(model: nn.Module) -> None:
    """Put the stored weights that master weights are rounded to in their place, for good.

    Args:
        model: prepared; changed in place. Tied weights stay tied.
    """
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if isinstance(parameter, MasterWeight):
                key = id(parameter)
                if key not in made:
                    made[key] = nn.Parameter(parameter.rounded(), requires_grad=False)
                module._parameters[name] = made[key]
