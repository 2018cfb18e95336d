"""What was done already, on disk: a file a concept and a file a prompt, written when they are done.

OUT/cells/dog6/CatVersion/seed0/concept.json
OUT/cells/dog6/CatVersion/seed0/prompt03.json, prompt03-0.png, ...
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ...concepts.disk import write_whole
from ..client import Workflow

CELLS = "cells"


@dataclass(frozen=True)
class Cell:
    """A subject learned by a method with a seed."""

    subject: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.subject}, {self.method}, seed {self.seed}"

    @property
    def path(self) -> str:
        """Its folder, from the folder of the results."""
        return f"{CELLS}/{self.subject}/{self.method}/seed{self.seed}"

    def folder(self, output: Path) -> Path:
        return output / self.path


@dataclass(frozen=True)
class LearnedConcept:
    """A concept that the server has saved.

    made_by: digest of its workflow; concept: its name in Load Concept; seconds: of the method's own
    node; steps: as its node was told, 0 if it has none
    """

    made_by: str
    concept: str
    seconds: float
    steps: int


@dataclass(frozen=True)
class Drawn:
    """Pictures of one prompt and their scores.

    number: the prompt's; prompt: as it was encoded; pictures: file names in the cell's folder;
    scores: of each picture, by name; means: of them all
    """

    made_by: str
    number: int
    template: str
    prompt: str
    seed: int
    pictures: tuple[str, ...]
    scores: tuple[Mapping[str, float], ...]
    means: Mapping[str, float]


@dataclass(frozen=True)
class Result:
    """Pictures of one prompt, and how the concept was learned; None for the untouched model."""

    cell: Cell
    learned: LearnedConcept | None
    drawn: Drawn


def digest(workflow: Workflow) -> str:
    """Tells one workflow from another: what was made by another one is made anew."""
    return hashlib.sha256(json.dumps(workflow, sort_keys=True).encode()).hexdigest()[:16]


def write(path: Path, result: LearnedConcept | Drawn) -> None:
    """All or nothing, whenever the process is killed."""
    write_text(path, json.dumps(asdict(result), indent=1))


def write_text(path: Path, text: str) -> Path:
    """All or nothing, too. Raises DiskError with a sentence."""
    write_whole(text.encode(), path)
    return path


def read_learned(output: Path, cell: Cell) -> LearnedConcept | None:
    """The concept that a cell has learned, None if it has not."""
    content = _read(cell.folder(output) / "concept.json", LearnedConcept)
    return LearnedConcept(**content) if content else None


def read_drawn(output: Path, cell: Cell, number: int) -> Drawn | None:
    """What was drawn of a prompt, None if it was not, or if a picture is gone."""
    content = _read(drawn_path(output, cell, number), Drawn)
    if content is None:
        return None
    content |= {name: tuple(content[name]) for name in ("pictures", "scores")}
    drawn = Drawn(**content)
    folder = cell.folder(output)
    return drawn if all((folder / name).is_file() for name in drawn.pictures) else None


def drawn_path(output: Path, cell: Cell, number: int) -> Path:
    return cell.folder(output) / f"prompt{number:02}.json"


def write_table(output: Path, results: Sequence[Result]) -> Path:
    """results.csv: a row a picture."""
    names = score_names(results)
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow([
        *("subject", "method", "seed", "steps", "train_seconds"),
        *("prompt_number", "prompt", "drawing_seed", "picture", *names),
    ])  # fmt: skip
    for result in results:
        writer.writerows(_rows(result, names))
    return write_text(output / "results.csv", table.getvalue())


def score_names(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(name for result in results for name in result.drawn.means))


def _rows(result: Result, names: Sequence[str]) -> list[list[Any]]:
    cell, learned, drawn = result.cell, result.learned, result.drawn
    head = [cell.subject, cell.method, cell.seed]
    head += [learned.steps, f"{learned.seconds:.1f}"] if learned else ["", ""]
    head += [drawn.number, drawn.template, drawn.seed]
    return [
        [*head, f"{cell.path}/{picture}", *(row.get(name, "") for name in names)]
        for picture, row in zip(drawn.pictures, drawn.scores, strict=True)
    ]


def _read(path: Path, kind: type) -> dict[str, Any] | None:
    """The fields of a result that was written whole, and by this version's kind of it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(content, dict) and content.keys() == {field.name for field in fields(kind)}
    return content if whole else None
