"""How the gradients of batches become one step: accumulation, clipping, rates, averages, and the
processes that share the work."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

AVERAGE, SHARE = "average", "share"


class Processes(Protocol):
    """Processes that train one set of parameters, each on its own part of every batch."""

    index: int
    count: int

    def mean(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The mean of each tensor over all processes, the same bits in every one of them."""
        ...

    def from_first(self, value: Any) -> Any:
        """What the first process gave, in all of them."""
        ...


class Alone:
    """The only process."""

    index = 0
    count = 1

    def mean(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return list(tensors)

    def from_first(self, value: Any) -> Any:
        return value


@dataclass(frozen=True)
class Descent:
    """batches: averaged for one step (gradient accumulation)

    clip_norm: longest gradient over all parameters, None for any length
    average: decay of a running average of the parameters, 0 for none
    rate: factor of the learning rate by step, counted from 0
    shares: factor of the learning rate by a parameter's name, 1 for those not named
    """

    batches: int = 1
    clip_norm: float | None = None
    average: float = 0.0
    rate: Callable[[int], float] = lambda step: 1.0
    shares: Mapping[str, float] = field(default_factory=dict)
    processes: Processes = field(default_factory=Alone)

    def groups(self, parameters: Mapping[str, Tensor]) -> list[dict[str, Any]]:
        """Groups of parameters for an optimizer, each with its share."""
        groups: dict[float, list[Tensor]] = {}
        for name, parameter in parameters.items():
            groups.setdefault(self.shares.get(name, 1.0), []).append(parameter)
        return [{"params": group, SHARE: share} for share, group in groups.items()]


def fused_options(groups: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Options by which AdamW does a step in one kernel, where all parameters are on NVIDIA's or
    AMD's GPUs. A CPU has such a kernel, too, which would change the bits of every training."""
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    return {"fused": True} if devices == {"cuda"} else {}


class AveragedAdamW(torch.optim.AdamW):
    """AdamW that keeps a running average of each parameter in its state, when decay is above 0."""

    def __init__(self, groups: list[dict[str, Any]], decay: float, **options: Any) -> None:
        super().__init__(groups, **options, **fused_options(groups))
        self.decay = decay

    def restore(self, parameter: Tensor, moments: Mapping[str, Tensor]) -> None:
        """Go on with what was kept of a parameter's state, wherever that was computed."""
        # one kernel reads the number of steps beside the parameter, several read it on the CPU
        counter = parameter.device if self.defaults["fused"] else torch.device("cpu")
        self.state[parameter] = {
            key: value.to(counter if key == "step" else parameter.device, copy=True)
            for key, value in moments.items()
        }

    def step(self, closure: Any = None) -> Any:
        result = super().step(closure)
        if self.decay:
            self._follow()
        return result

    @torch.no_grad()
    def _follow(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if AVERAGE not in state:
                    state[AVERAGE] = parameter.detach().clone()
                state[AVERAGE].lerp_(parameter, 1 - self.decay)

    def average_of(self, parameter: Tensor) -> Tensor:
        """The running average of a parameter, the parameter itself where none is kept."""
        return self.state.get(parameter, {}).get(AVERAGE, parameter)


def clipped(gradients: list[Tensor], longest: float | None) -> list[Tensor]:
    """The gradients, all shortened alike so that together they are no longer than `longest`."""
    if longest is None:
        return gradients
    norm = torch.stack([g.norm() for g in gradients]).norm()
    factor = (longest / (norm + 1e-6)).clamp(max=1.0)
    return [g * factor for g in gradients]
