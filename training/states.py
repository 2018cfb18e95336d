"""Training states on disk: one folder a training, named by what determines its result."""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..concepts.disk import remove
from ..concepts.errors import DiskError, PersonalizeError, shown
from ..concepts.tensor_files import read_tensors, write_tensors
from .loop import SMALL_STATE, Check, TrainState

STATE_FORMAT = "personalize-state/1"
KEPT_STATES = 2
KEPT_SMALL = 64
"""Small states are kept beyond the latest few: one can go back to the concept of their step."""

KEPT_TRAININGS = 8
YOUNG_TRAINING = 600 * 10**9  # ns since its last state in which a training is left alone
DESCRIPTION = ("format", "step", "loss_scale")


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

    def latest(self, up_to: int, check: Check = lambda state: None) -> TrainState | None:
        """The furthest state of at most `up_to` steps that can be read and passes the check.

        A damaged one is passed over with a warning, for the one before it.
        """
        states = reversed(self._paths())
        usable = (_usable(path, check) for path in states if _step(path) <= up_to)
        return next((state for state in usable if state is not None), None)

    def save(self, state: TrainState) -> None:
        """Write a state, then remove all but the latest few states and trainings.

        Where the disk does not take it the training goes on without, and a warning says so.
        """
        path = self.folder / f"step_{state.step:06d}.safetensors"
        tensors, metadata = _pack(state)
        try:
            write_tensors(tensors, path, metadata)
        except DiskError as error:
            logging.warning(
                f"The training goes on, but step {state.step} is not kept: {error} What is learned "
                "is lost if ComfyUI ends before the training does."
            )
        else:
            self._tidy(path)

    def steps(self) -> list[int]:
        """Steps whose states lie in the folder."""
        return [step for path in self._paths() if (step := _step(path)) >= 0]

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("step_*.safetensors"), key=_step)

    def _tidy(self, newest: Path) -> None:
        with suppress(OSError, DiskError):  # another program has one open or removed it: next time
            states = sorted(self._paths(), key=_modified, reverse=True)
            older = [p for p in states if p != newest][KEPT_STATES - 1 :]
            small = [p for p in older if p.stat().st_size <= 2 * SMALL_STATE]
            small.sort(key=_step)
            kept = small if len(small) <= KEPT_SMALL else small[::2]
            for old in set(older) - set(kept):
                remove(old)
            folders = self.folder.parent.iterdir()
            trainings = [p for p in folders if any(p.glob("step_*.safetensors"))]
            trainings.sort(key=_modified, reverse=True)
            for old in [p for p in trainings if p != self.folder][KEPT_TRAININGS - 1 :]:
                if time.time_ns() - _modified(old) > YOUNG_TRAINING:  # else it may be under way
                    shutil.rmtree(old, ignore_errors=True)


def _usable(path: Path, check: Check) -> TrainState | None:
    try:
        state = _read(path)
        if state is not None:
            check(state)
    except Exception as error:  # whatever is wrong with one state, there are others
        reason = error if isinstance(error, PersonalizeError) else shown(error)
        logging.warning(
            f"The training state {path} is passed over: {reason} The training goes on from the one "
            "before it."
        )
        return None
    return state


def _step(path: Path) -> int:
    number = path.stem.removeprefix("step_")
    return int(number) if number.isdecimal() and len(number) < 19 else -1


def _modified(path: Path) -> int:
    return path.stat().st_mtime_ns


def _pack(state: TrainState) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors = {f"parameter/{name}": p for name, p in state.parameters.items()}
    for name, moments in state.moments.items():
        tensors |= {f"adam/{name}/{key}": value for key, value in moments.items()}
    for name, values in state.losses.items():
        tensors[f"losses/{name}"] = torch.tensor(values, dtype=torch.float64)
    tensors["generator"] = state.generator
    description = {"format": STATE_FORMAT, "step": state.step, "loss_scale": state.loss_scale}
    return tensors, {key: json.dumps(value) for key, value in description.items()}


def _read(path: Path) -> TrainState | None:
    """A state, None when it is of another version. Raises for a damaged one."""
    metadata, tensors = read_tensors(path, path.name, finite=False)
    description = {k: json.loads(v) for k, v in metadata.items() if k in DESCRIPTION}
    return _unpack(tensors, description) if description.get("format") == STATE_FORMAT else None


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
