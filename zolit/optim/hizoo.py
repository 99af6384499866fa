"""Steps along directions that are scaled by the curvature of the loss (HiZOO)."""

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from zolit.errors import UserError
from zolit.gradient import ProjectedGradient
from zolit.optim.sgd import ZOSGD
from zolit.tensors import curvature, product
from zolit.tensors.weight import PerturbedWeight

_U64 = (1 << 64) - 1


class HiZOO(ZOSGD):
    """`ZOSGD` along ``z / sqrt(S)``, where S follows the curvature along each coordinate.

    From Zhao et al. 2024, arXiv 2402.15173, Algorithm 1.

    With d the slope and c half the curvature of the loss along the direction of a query,
    ``S <- (1 - smooth) S + smooth |c S z**2|`` and then ``theta <- theta - lr * d * z / sqrt(S)``;
    both are means over the queries of a step. Reads move the weights along ``z / sqrt(S)`` too, by
    the S of before the step. S starts as ones, and takes four bytes for each coordinate: as much as
    a weight of float32, and eight times an int4 code.

    It needs the estimator `SecondDifference` and Gaussian directions. docs/methods/hizoo.md says
    where the paper, its code and this differ.

    Args:
        params: perturbed weights.
        lr: see `ZOSGD`.
        smooth: weight of a step's estimate in S, alpha of the paper, in (0, 1). In float32 S does
            not see changes below 6e-8 of it.
        unbiased: take ``c S (z**2 - 1)``, whose mean is the diagonal of the Hessian. As in
            Algorithm 1 it is ``c S z**2``, which adds the same multiple of S everywhere.
        error_feedback: see `ZOSGD`.
        feedback_decay: see `ZOSGD`.

    Raises:
        UserError: if an argument is out of range, or a weight has no single coordinates.

    Example:
        ::

            estimator: SecondDifference
            optimizer:
              class_path: HiZOO
              init_args:
                lr: 1.0e-6
    """

    takes: ClassVar[str] = "slopes and curvatures"
    fitting: ClassVar[str] = "SecondDifference"

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float | None = None,
        smooth: float = 1e-6,
        unbiased: bool = False,
        error_feedback: bool = False,
        feedback_decay: float = 1.0,
    ) -> None:
        if not 0 < smooth < 1:
            raise UserError(f"smooth must be in (0, 1), got {smooth}; try 1e-6")
        super().__init__(params, lr, error_feedback, feedback_decay)
        self.smooth, self.unbiased = smooth, unbiased
        for weight in self._weights():
            self._keep(weight, self._ones(weight))

    def direction_factors(self, values: Tensor) -> Tensor:
        slopes = values[: len(values) // 2]
        return torch.cat((super().direction_factors(slopes), torch.zeros_like(slopes)))

    def moves(self, gradient: ProjectedGradient) -> tuple[Tensor, Tensor]:
        """Bring S up to date, and go along the directions that are scaled by it."""
        count = len(gradient) // 2
        keys, (slopes, halves) = gradient.keys[:count], gradient.values.view(2, -1)
        self._follow([key & _U64 for key in keys.tolist()], halves.tolist())
        return keys, super().direction_factors(slopes)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`, and let reads be scaled by it."""
        super().load_state_dict(state_dict)
        for index, weight in enumerate(self._weights()):
            found, made = state_dict["state"].get(index, {}).get("curvature"), self._ones(weight)
            if not isinstance(found, Tensor) or found.shape != made.shape:
                raise UserError(
                    f"ckpt_path: the checkpoint lacks HiZOO's curvature of {weight.path}; use the "
                    "config.yaml that stands beside the checkpoint"
                )
            self._keep(weight, made.copy_(found))

    def _weights(self) -> list[PerturbedWeight]:
        every = [weight for group in self.param_groups for weight in group["params"]]
        return [one for one in every if isinstance(one, PerturbedWeight)]

    def _keep(self, weight: PerturbedWeight, values: Tensor) -> None:
        self.state[weight]["curvature"] = values
        if weight.site is not None:
            weight.reading.curvatures[weight.site.index] = values

    def _ones(self, weight: PerturbedWeight) -> Tensor:
        site, store, direction = weight.site, weight.store, weight.reading.direction
        shape = None if site is None else site.coordinates.shape(store)
        on_grid = store.integer_products and not product.scales_outputs(weight)
        if shape is None or direction.distribution != "gaussian" or on_grid:
            raise UserError(
                f"optimizer HiZOO scales each coordinate of a Gaussian direction by itself, which "
                f"{weight.path} does not let it; use DensePerturber, or CodePerturber or "
                "ScalePerturber with distribution: gaussian and activations: none; or ZOSGD"
            )
        return curvature.start(shape, store.device)

    def _follow(self, keys: list[int], halves: list[float]) -> None:
        weights = self._weights()
        reading, device = weights[0].reading, weights[0].store.device
        # By the draw of the reads: the losses were measured along these directions.
        tables = [reading.controls(key, device) for key in keys]
        for weight in weights:
            site = weight.site
            if site is None:
                continue
            moving = [q for q, key in enumerate(keys) if site.support.includes(key)]
            if moving:
                curvature.follow(
                    self.state[weight]["curvature"],
                    site,
                    reading,
                    [tables[q][site.index] for q in moving],
                    [halves[q] for q in moving],
                    self.smooth,
                    float(self.unbiased),
                )
