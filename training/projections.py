"""Key and value weights of a UNet's cross attention in training."""

from torch import Tensor

from ..host.backbone import Backbone


class TrainedProjections:
    """Key and value weights of every cross attention in training, and where they started."""

    def __init__(self, backbone: Backbone) -> None:
        self.weights: dict[str, Tensor] = dict(backbone.open_projections())
        self._start = {path: weight.detach().clone() for path, weight in self.weights.items()}

    def differences(self) -> dict[str, Tensor]:
        """How far each weight has gone, by path."""
        return {path: w.detach() - self._start[path] for path, w in self.weights.items()}
