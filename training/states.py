"""Training states on disk: one folder a training, named by what determines its result."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..concepts.tensor_files import write_tensors
from .loop import TrainState

FORMAT = "personalize-state/1"
KEPT_STATES = 2
KEPT_TRAININGS = 8


def training_key(*parts: Any) -> str:
    """A folder name from JSON values and tensors that determine a training's result."""
    digest = hashlib.sha256()
    for part in parts:
        if torch.is_tensor(part):
            digest.update(repr((tuple(part.shape), part.dtype)).encode())
            digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
    return digest.hexdigest()[:16]


class StateFolder:
    """The states of one training, ``step_000100.safetensors`` ... in a folder of its own."""

    def __init__(self, root: Path, key: str) -> None:
        self.folder = root / key

    def latest(self, up_to: int) -> TrainState | None:
        """The furthest readable state of at most `up_to` steps."""
        for path in sorted(self.folder.glob("step_*.safetensors"), reverse=True):
            state = _read(path)
            if state is not None and state.step <= up_to:
                return state
        return None

    def save(self, state: TrainState) -> None:
        """Write a state, then remove all but the latest few states and trainings."""
        path = self.folder / f"step_{state.step:06d}.safetensors"
        tensors, metadata = _pack(state)
        write_tensors(tensors, path, metadata)
        self._tidy(path)

    def _tidy(self, newest: Path) -> None:
        states = sorted(self.folder.glob("step_*.safetensors"), key=_modified, reverse=True)
        for old in [p for p in states if p != newest][KEPT_STATES - 1 :]:
            old.unlink(missing_ok=True)
        trainings = [p for p in self.folder.parent.iterdir() if any(p.glob("step_*.safetensors"))]
        trainings.sort(key=_modified, reverse=True)
        for old in [p for p in trainings if p != self.folder][KEPT_TRAININGS - 1 :]:
            shutil.rmtree(old, ignore_errors=True)


def _modified(path: Path) -> int:
    return path.stat().st_mtime_ns


def _pack(state: TrainState) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors = {f"parameter/{name}": p for name, p in state.parameters.items()}
    for name, moments in state.moments.items():
        tensors |= {f"adam/{name}/{key}": value for key, value in moments.items()}
    for name, values in state.losses.items():
        tensors[f"losses/{name}"] = torch.tensor(values, dtype=torch.float64)
    tensors["generator"] = state.generator
    description = {"format": FORMAT, "step": state.step, "loss_scale": state.loss_scale}
    return tensors, {key: json.dumps(value) for key, value in description.items()}


def _read(path: Path) -> TrainState | None:
    """A state, or None when the file is damaged or of another version."""
    try:
        with safe_open(path, framework="pt") as file:
            description = {k: json.loads(v) for k, v in (file.metadata() or {}).items()}
            if description.get("format") != FORMAT:
                return None
            return _unpack({k: file.get_tensor(k) for k in file.keys()}, description)  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError):
        return None


def _unpack(tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> TrainState:
    moments: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("adam/"):
            _, name, moment = key.split("/")
            moments.setdefault(name, {})[moment] = value
    return TrainState(
        step=int(description["step"]),
        parameters=_under("parameter/", tensors),
        moments=moments,
        generator=tensors["generator"],
        loss_scale=float(description["loss_scale"]),
        losses={name: v.tolist() for name, v in _under("losses/", tensors).items()},
    )


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
