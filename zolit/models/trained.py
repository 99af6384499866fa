"""Prepares a model whose weights are moved by gradients: first-order training."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from zolit.coordinates import Coordinates, Elements
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.formats.dense import DenseWeight
from zolit.models.experts import is_experts
from zolit.models.parts import Candidate
from zolit.models.plan import Found, Plan, Planned, find_parameters, is_transposed
from zolit.models.prepare import Preparation
from zolit.models.untouched import tell_untouched
from zolit.supports import Bits, Support
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
        if self.mask is not None:
            self.mask.look_at(model)
            self.choose(model)

    def choose(self, model: nn.Module) -> None:
        """Ask the mask which entries of each trained weight move; the others get no gradient.

        Args:
            model: whose trained weights require gradients.

        Raises:
            UserError: if the mask cannot say.
        """
        if self.mask is None:
            return
        trained = [one for one in find_parameters(model) if one.parameter.requires_grad]
        candidates = []
        for one in trained:
            floats: Tensor = one.parameter
            store: StoredWeight = DenseWeight(one.as_stored())
            if isinstance(floats, MasterWeight):
                store = floats.rounded().store
            candidates.append(Candidate(one.path, store, 0, 1, (store.rows, store.columns)))
        for one, support in zip(trained, self.mask.choose_all(candidates), strict=True):
            if support.density < 1:
                one.parameter.register_hook(partial(_of_support, one, support))

    def _trained(self, one: Planned, parameter: nn.Parameter) -> nn.Parameter:
        if not (one.quantized and self.quantizer.quantized):
            parameter.requires_grad_()
            return parameter
        floats = parameter.data.to(self.master_dtype or parameter.dtype)
        form = Form(self.quantizer.store, self.reading, one.path, one.transposed)
        return MasterWeight.of(floats, form)


def _of_support(one: Found, support: Support, gradient: Tensor) -> Tensor:
    """A gradient with zeros where its weight does not move."""
    if not isinstance(support, Bits):
        raise TypeError(f"{one.path} moves by {type(support).__name__}, expected bits")
    chosen = support.chosen()
    held = chosen.mT if one.kind == "linear" and is_transposed(one.modules[0]) else chosen
    return gradient * held.reshape(gradient.shape)


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
