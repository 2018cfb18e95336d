"""Where training state and rendered pictures lie: outside the work tree."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent
PEOPLE_FILE = ROOT / "people.txt"
NAMES_FILE = ROOT.parent / "training" / "names.txt"


def folder(given: str | None = None) -> Path:
    """The cache folder: the given one, $MINIATURE_CACHE or ~/.cache/personalize-miniature."""
    path = given or os.environ.get("MINIATURE_CACHE") or "~/.cache/personalize-miniature"
    result = Path(path).expanduser()
    result.mkdir(parents=True, exist_ok=True)
    return result


def read_names(file: Path) -> list[str]:
    """One `First Last` a line."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def world_people() -> list[str]:
    """The people of this world: about a sixth of the pack's names, picked by hash, then fixed."""
    return read_names(PEOPLE_FILE)


class Shards:
    """A growing folder of equally shaped arrays, read as one: name_000.npy, name_001.npy, ..."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name

    def files(self) -> list[Path]:
        return sorted(self.path.glob(f"{self.name}_???.npy"))

    def add(self, array: np.ndarray, extra: list | None = None) -> None:
        """Append a shard and, beside it, a list of one JSON value a row."""
        self.path.mkdir(parents=True, exist_ok=True)
        stem = self.path / f"{self.name}_{len(self.files()):03d}"
        if extra is not None:
            stem.with_suffix(".json").write_text(json.dumps(extra), encoding="utf-8")
        part = stem.with_suffix(".part")
        with open(part, "wb") as f:
            np.save(f, array)
        part.replace(stem.with_suffix(".npy"))

    def arrays(self) -> list[np.ndarray]:
        return [np.load(file, mmap_mode="r") for file in self.files()]

    def extras(self) -> list[list]:
        beside = [file.with_suffix(".json") for file in self.files()]
        return [json.loads(file.read_text(encoding="utf-8")) for file in beside]


def fill(shards: Shards, count: int, make: Callable[[int], tuple[np.ndarray, list]]) -> None:
    """Make shards by number until there are `count`."""
    for index in range(len(shards.files()), count):
        shards.add(*make(index))
