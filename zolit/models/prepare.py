"""Turn a model's weights into stored weights that read perturbed."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zolit.compat import TorchAOBaseTensor
from zolit.coordinates import Site
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.formats.dense import DenseWeight
from zolit.formats.sparse_overlay import SparseOverlay
from zolit.models.adapters.base import Adapter, Factor
from zolit.models.experts import choose_stored_experts
from zolit.models.matrices import as_matrix
from zolit.models.overlay import chosen_entries, marked, overlaid, overlaid_shapes
from zolit.models.parts import Candidate, ChoosesSupports, NamesCoordinates, StoresWeights
from zolit.models.plan import Plan, Planned, block_numbers, make_plan
from zolit.models.trials.probe import Forward, find_touched
from zolit.models.untouched import tell_untouched
from zolit.supports import ALL, check_shape
from zolit.tensors.feedback import quantization_error
from zolit.tensors.reading import Reading
from zolit.tensors.weight import PerturbedWeight, perturbed_weights

Parts = tuple[
    StoresWeights,
    NamesCoordinates,
    Reading,
    list[str],
    Adapter | None,
    Forward | None,
    ChoosesSupports | None,
]
"""What a `Preparation` is made of, in its order."""


@dataclass(frozen=True)
class Preparation:
    """How the parameters of a model become stored weights.

    Attributes:
        quantizer: storage format of the linear layers.
        perturber: coordinates of the tuned weights.
        reading: state that the weights will share.
        tune: what moves, see `zolit.models.plan.make_plan`.
        adapter: what is added to the model, None for nothing.
        forward: runs the model as the objective does, to see which weights it reads; None: all.
        mask: which coordinates of the tuned weights move; None: all.
        chosen: entries that a calibration left out, by the path of their weight, until that is
            stored.
    """

    quantizer: StoresWeights
    perturber: NamesCoordinates
    reading: Reading
    tune: list[str]
    adapter: Adapter | None = None
    forward: Forward | None = None
    mask: ChoosesSupports | None = None
    chosen: dict[str, Tensor] = field(default_factory=dict)

    def prepare(self, model: nn.Module, load_tokenizer: Callable[[], Any]) -> bool:
        """Adapt, plan and store a loaded model, in place.

        Args:
            model: of floats.
            load_tokenizer: makes its tokenizer, for a mask that looks at the model.

        Returns:
            Whether every tuned weight can be read in two versions in one pass.

        Raises:
            UserError: see `adapt`, `plan` and `store`.
        """
        self.watch(model, load_tokenizer)
        plan = self.plan(self.adapt(model))
        plan.tell()
        self.apply(model, plan)
        return plan.pairable

    def trains(self, one: Planned) -> bool:
        """Whether a parameter of the plan stays as it is read, for gradients to move.

        It never does here: what moves is stored. `zolit.models.trained.Trained` says otherwise.
        """
        return False

    def adapt(self, model: nn.Module) -> nn.Module:
        """The model, in place, with the adapter's factors; on the meta device or loaded.

        Raises:
            UserError: if the adapter does not fit it.
        """
        if self.adapter is not None:
            self.adapter.attach(model)
        return model

    def plan_ahead(self, skeleton: nn.Module) -> Plan:
        """`plan` of a model without its adapter, which it does not get either.

        Args:
            skeleton: on the meta device.

        Raises:
            UserError: see `adapt` and `plan`.
        """
        return self.plan(self.adapt(deepcopy(skeleton)) if self.adapter else skeleton)

    def plan(self, model: nn.Module) -> Plan:
        """What each parameter becomes; the model may lie on the meta device.

        Raises:
            UserError: if ``tune`` names nothing, or nothing that is read; or if a forward changes a
                weight in place that is to be stored.
        """
        touched = None if self.forward is None else find_touched(model, self.forward)
        read = None if touched is None else touched.read
        part = None if self.mask is None else self.mask.part(model)
        plan = make_plan(model, self.tune, read, self.quantizer.converts, part)
        names: frozenset[str] = frozenset() if touched is None else touched.changed
        changed = [one for one in plan.weights if names.intersection(one.names)]
        if changed:
            raise UserError(
                f"model.source: {changed[0].path} is changed in place by the model when it runs, "
                "which a stored weight cannot be; choose another model, or turn this off in its "
                "configuration (RWKV: rescale_every: 0)"
            )
        if self.perturber.overlays and self.mask is not None:
            self.mask.expect(overlaid_shapes(plan, model))
        return plan

    def watch(self, model: nn.Module, load_tokenizer: Callable[[], Any]) -> None:
        """Let the mask run the model as it was read (`Mask.watch`), before it is planned."""
        if self.mask is not None:
            choose_stored_experts(model)
            self.mask.watch(model, load_tokenizer)

    def calibrate(self, model: nn.Module, tokenizer: Any) -> None:
        """Let the quantizer look at a model that is loaded whole, and not adapted yet.

        Args:
            model: of floats, which may be changed.
            tokenizer: of the model.

        Raises:
            UserError: if the quantizer cannot be calibrated on it.
        """
        if not self.perturber.overlays:
            self.quantizer.calibrate(model, tokenizer)
            return
        planned = {one.path: one for one in self.plan_ahead(model).weights}

        def excluded(path: str, weight: Tensor) -> Tensor | None:
            one = planned.get(path)
            if one is None or one.index is None:
                return None
            self.chosen[path] = self._entries(one, DenseWeight(weight))
            return marked(self.chosen[path], weight)

        self.quantizer.calibrate(model, tokenizer, excluded)

    @torch.no_grad()
    def store(self, one: Planned, value: Tensor) -> StoredWeight:
        """One parameter of the plan in its storage format.

        Args:
            one: a parameter of the plan.
            value: its float weight, in the model's shape. One that keeps its floats shares their
                storage.

        Raises:
            UserError: if the quantizer cannot hold a matrix of this shape.
        """
        if isinstance(value, TorchAOBaseTensor):  # a quantized checkpoint that is quantized anew
            value = value.dequantize()
        matrix = as_matrix(value, one.quantized, one.transposed)
        if not one.quantized:
            return DenseWeight(matrix)
        if one.index is not None and self.perturber.overlays:
            return overlaid(self.quantizer, matrix, one.path, partial(self._entries, one))
        store = self.quantizer.store(matrix, one.path)
        if one.index is not None and self.quantizer.keep_error and store.keeps_error:
            store.error = quantization_error(store, matrix)
        return store

    def _entries(self, one: Planned, weight: StoredWeight) -> Tensor:
        """Which entries of a weight are kept as floats; chosen once."""
        if one.path in self.chosen:
            return self.chosen.pop(one.path)
        asked = one.path, weight, one.block, one.blocks
        support = ALL if self.mask is None else self.mask.choose(*asked)
        return chosen_entries(support, weight, one)

    def apply(self, model: nn.Module, plan: Plan) -> None:
        """Put stored weights in the place of parameters, under all of their names.

        Args:
            model: with plain parameters, or with weights stored already, which have no site yet.
            plan: made for this model.

        Raises:
            UserError: see `store`.
        """
        tell_untouched(model, plan)
        for one in plan.weights:
            parameter: Tensor = model.get_parameter(one.path)
            if isinstance(parameter, PerturbedWeight):
                store = parameter.store
                if one.index is None:  # it was to move, until the mask ran the loaded model
                    store.error = None
            else:
                store = self.store(one, parameter.data)
            site = None
            if one.index is not None:
                site = Site(one.index, self.perturber.coordinates(store))
            elif not store.quantized:
                continue
            self._replace(model, one, self.wrap(one, store, site, parameter))
        if self.mask is not None:
            self.mask.look_at(model)
        self.choose(model)
        choose_stored_experts(model)
        factors = {
            id(p) for one in model.modules() if isinstance(one, Factor) for p in one.parameters()
        }
        moving = perturbed_weights(model)
        self.perturber.settle(moving, adapter=all(id(one) in factors for one in moving))

    def choose(self, model: nn.Module) -> None:
        """Ask the mask which coordinates of each tuned weight move.

        It answers by the values that the weights have now, so this is called where a run starts,
        and a replay of it: before anything has moved.

        Args:
            model: with stored weights.

        Raises:
            UserError: if the mask cannot say, or its answer does not fit the coordinates.
        """
        weights = perturbed_weights(model)
        blocks = block_numbers(model, {one.path: one for one in weights})
        # Of an overlay the mask has chosen before the others were quantized.
        weights = [one for one in weights if not isinstance(one.store, SparseOverlay)]
        count = max(blocks.values(), default=-1) + 1
        sites = [one.site for one in weights if one.site is not None]
        candidates = [
            Candidate(w.path, w.store, blocks[w.path], count, site.coordinates.shape(w.store))
            for w, site in zip(weights, sites, strict=True)
        ]
        supports = [ALL] * len(weights) if self.mask is None else self.mask.choose_all(candidates)
        for weight, site, asked, support in zip(weights, sites, candidates, supports, strict=True):
            site.coordinates.check(weight.path, support)
            check_shape(weight.path, support, asked.shape)
            weight.stand_at(replace(site, support=support))

    def wrap(
        self, one: Planned, store: StoredWeight, site: Site | None, like: Tensor
    ) -> nn.Parameter:
        """A stored weight as the parameter that stands for ``like``."""
        weight = PerturbedWeight(
            store, site, self.reading, one.path, like.shape, like.dtype, one.transposed
        )
        return nn.Parameter(weight, requires_grad=False)

    @staticmethod
    def _replace(model: nn.Module, one: Planned, parameter: nn.Parameter) -> None:
        for name in one.names:
            module, _, attribute = name.rpartition(".")
            model.get_submodule(module)._parameters[attribute] = parameter
