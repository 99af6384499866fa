"""One block of a model as a region of its own: its layers, its inputs, its gradients."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from zolit.calibration.gradients import BlockGradients
from zolit.calibration.hidden_states import HiddenStates
from zolit.calibration.layer_statistics import LayerStatistics, watched_inputs
from zolit.calibration.layers import BlockLayer
from zolit.errors import UserError


class Region:
    """A block, and the hidden states of the calibration text that enter it.

    Args:
        layers: its linear layers that are to change.
        states: stand at the block.

    Attributes:
        path: of the block.
        block: the block.
    """

    def __init__(self, layers: Sequence[BlockLayer], states: HiddenStates) -> None:
        self.layers = list(layers)
        self.states = states
        self.path, self.block = states.chain.blocks[states.block]

    def weight(self, layer: BlockLayer) -> Tensor:
        """The weight of a layer as the model holds it now, ``[rows, columns]``."""
        return layer.matrix(self.block.get_parameter(layer.weight_name).detach())

    def held(self, matrices: Mapping[str, Tensor]) -> list[tuple[nn.Parameter, Tensor]]:
        """The parameters of its layers with new values in the shape in which layers hold them.

        Args:
            matrices: ``[rows, columns]``, by the paths of the weights.
        """
        return [
            (self.block.get_parameter(one.weight_name), one.as_held(matrices[one.path]))
            for one in self.layers
        ]

    def statistics(self, moments: bool, gradients: bool) -> dict[str, LayerStatistics]:
        """What the text shows of each layer, by the path of its weight.

        The block runs on all windows, and its outputs are recorded (`HiddenStates.record`). With
        ``gradients`` it runs on them a second time, forward and back.

        Args:
            moments: whether second moments of inputs are wanted.
            gradients: whether squared gradients of the regional loss are wanted.

        Raises:
            UserError: naming the block, if its output or a gradient is NaN or infinite; or a layer
                that the block does not run.
        """
        with self.watched(moments) as found:
            self.states.record(self.states.outputs())
        for layer in self.layers:
            if layer.path not in found:
                raise UserError(
                    f"model.source: {self.path} runs without {layer.path}, so that the text shows "
                    "nothing of it; give a model whose blocks run all of their linear layers"
                )
        if gradients:
            for path, squares in self._squared_gradients().items():
                found[path].gradients = squares
        return found

    @contextmanager
    def watched(self, moments: bool = False) -> Iterator[dict[str, LayerStatistics]]:
        """Sums over the inputs of its layers, by the paths of their weights, while it runs."""
        modules: dict[str, nn.Module] = {
            layer.path: self.block.get_submodule(layer.name) for layer in self.layers
        }
        with watched_inputs(modules, moments) as found:
            yield found

    def _squared_gradients(self) -> dict[str, Tensor]:
        """Sums over windows of squared gradients of ``||f(X_n)||_2``, ``[rows, columns]`` float32.

        They are those of the block in float32.
        """
        chain, number = self.states.chain, self.states.block
        names = [layer.weight_name for layer in self.layers]
        gradients = BlockGradients(self.block, names, "fisher")
        for window, hidden in enumerate(self.states.inputs()):
            gradients.back(hidden, chain.rest(number, window), norm_gradient)
        found = {}
        for layer in self.layers:
            squares = layer.matrix(gradients.scores(layer.weight_name))
            if not squares.isfinite().all():
                raise UserError(
                    f"model.source: the gradient of {layer.path} is NaN or infinite in "
                    f"{self.path}; give a model whose weights are finite"
                )
            found[layer.path] = squares
        return found


def norm_gradient(out: Tensor) -> Tensor:
    """Gradient of ``||out||_2`` by ``out``; 0 where all of it is 0."""
    size = torch.linalg.vector_norm(out)
    return out / size if size > 0 else torch.zeros_like(out)
