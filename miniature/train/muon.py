"""Muon (Jordan et al. 2024) for matrices and convolutions, AdamW for everything else."""

import torch


def orthogonalised(m: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The nearest semi-orthogonal matrix, roughly, by Newton-Schulz in bf16; m (rows, columns)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = m.bfloat16() / (m.norm() + 1e-7)
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    for _ in range(steps):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return (x if wide else x.T).to(m.dtype)


class Muon(torch.optim.Optimizer):
    """Groups with `matrix` true step along orthogonalised momentum, scaled so that a learning rate
    made for AdamW fits (Liu et al. 2025: update RMS 0.2)."""

    def __init__(
        self, matrices: list, others: list, lr: float, weight_decay: float, betas: tuple
    ) -> None:
        groups = [
            {"params": matrices, "matrix": True, "weight_decay": weight_decay},
            {"params": others, "matrix": False, "weight_decay": 0.0},
        ]
        super().__init__(groups, {"lr": lr, "betas": betas, "momentum": 0.95, "eps": 1e-8})

    @torch.no_grad()
    def step(self, closure=None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                update = self.along(p, group) if group["matrix"] else self.adam(p, group)
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])

    def along(self, p: torch.Tensor, group: dict) -> torch.Tensor:
        state = self.state[p]
        momentum = state.setdefault("momentum", torch.zeros_like(p))
        momentum.lerp_(p.grad, 1 - group["momentum"])  # type: ignore[arg-type]
        m = p.grad.lerp(momentum, group["momentum"]).flatten(1)  # type: ignore[union-attr]
        return (orthogonalised(m) * (0.2 * max(m.shape) ** 0.5)).view_as(p)

    def adam(self, p: torch.Tensor, group: dict) -> torch.Tensor:
        state, (b1, b2) = self.state[p], group["betas"]
        first = state.setdefault("first", torch.zeros_like(p))
        second = state.setdefault("second", torch.zeros_like(p))
        state["count"] = count = state.get("count", 0) + 1
        first.lerp_(p.grad, 1 - b1)  # type: ignore[arg-type]
        second.lerp_(p.grad.square(), 1 - b2)  # type: ignore[union-attr]
        return (first / (1 - b1**count)) / ((second / (1 - b2**count)).sqrt() + group["eps"])
