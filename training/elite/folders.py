"""Folders of pictures to train ELITE on: a plain one with masks, and the layout of OpenImages."""

import csv
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from ...concepts.errors import TrainingError
from ...pictures.files import (
    ENDINGS,
    PictureFile,
    has_own_mask,
    list_pictures,
    own_mask,
    read_mask,
    read_picture,
)
from ...pictures.images import MIN_RESOLUTION
from ...pictures.masks import MaskMarks
from .examples import SubjectPicture, Unusable

SMALLEST_BOX, LARGEST_BOX = 0.02, 0.8  # share of the picture that a box may have
SHORTEST, NARROWEST = 100, 0.5  # pixels of a masked subject's sides, and their ratio
SUBSETS = {"train": "oidv6-train", "validation": "validation", "test": "test"}


class PictureFolder:
    """`name.jpg` with its mask `name_mask.png` (or `name_bg.png`) beside it, or `masks/name.png`.

    with_masks: whether each picture must have one; that of a cut-out is what is opaque in it
    marks: what is white in them
    """

    def __init__(self, root: Path, with_masks: bool, marks: MaskMarks = MaskMarks.AUTO) -> None:
        self.root, self.with_masks, self.marks = root, with_masks, marks
        self._told: set[str] = set()
        if not root.is_dir():
            raise TrainingError(f"There is no folder {root}. Name the folder with the pictures.")
        listing = list_pictures(root)
        self._pictures, self._masks = listing.pictures, listing.masks
        if listing.left_out:
            logging.warning("%s: %s", root, listing.left_out)
        if not self._pictures:
            raise TrainingError(
                f"There is no picture in {root}. Expected files ending in "
                f"{', '.join(sorted(ENDINGS))}."
            )
        if with_masks:
            self._check_masks()

    def _check_masks(self) -> None:
        alone = (path for path in self._pictures if path not in self._masks)
        missing = [path.name for path in alone if not has_own_mask(path)]
        if missing:
            raise TrainingError(
                f"{len(missing)} of {len(self._pictures)} pictures in {self.root} have no mask, "
                f"such as {missing[0]}. The local stage needs a mask for each: "
                f"{Path(missing[0]).stem}_mask.png beside it, or {Path(missing[0]).stem}.png in "
                "the sub-folder masks, white on the subject."
            )

    def __len__(self) -> int:
        return len(self._pictures)

    def load(self, index: int, generator: Generator) -> SubjectPicture:
        file = read_picture(self._pictures[index])
        mask = self._mask_of(file) if self.with_masks else None
        return SubjectPicture(_large_enough(file.pixels, file.path.name), mask)

    def _mask_of(self, picture: PictureFile) -> Tensor:
        path = self._masks.get(picture.path)
        if path is None:
            mask = own_mask(picture)
        else:
            mask = read_mask(path, picture, self.marks, self._tell_once)
        if mask is None:
            raise Unusable(
                f"{picture.path.name} has no mask, and no pixel of it is transparent. Make "
                f"{picture.path.stem}_mask.png, white on the subject."
            )
        return mask

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            logging.warning("%s", text)

    def identity(self) -> list[Any]:
        files = [*self._pictures, *(self._masks.values() if self.with_masks else ())]
        known = [[path.name, path.stat().st_size] for path in files]
        turned = self.with_masks and self.marks is not MaskMarks.AUTO
        return [*known, self.marks.value] if turned else known


@dataclass(frozen=True)
class Boxes:
    """Boxes of subjects: pictures' ids, corners (N, 4) as left, right, top, bottom in 0..1, and the
    file of the mask where masks are wanted."""

    ids: Sequence[str]
    corners: np.ndarray
    masks: Sequence[str]


class OpenImages:
    """`annotations/*.csv`, `images/<subset>/<id>.jpg` and, for masks, `segs/<subset>/<MaskPath>`.

    The files are those that OpenImages V6 and V7 offer, under their own names. A box must have 2 %
    to 80 % of its picture; a masked subject at least 100 pixels a side, neither side longer than
    twice the other, as in the published code.
    """

    def __init__(self, root: Path, subset: str, with_masks: bool) -> None:
        self.root, self.subset, self.with_masks = root, subset, with_masks
        kind = "object-segmentation" if with_masks else "bbox"
        stem = subset if with_masks else SUBSETS[subset]
        self._table = root / "annotations" / f"{stem}-annotations-{kind}.csv"
        self._boxes = read_boxes(self._table, with_masks)
        if not self._boxes.ids:
            raise TrainingError(
                f"No box in {self._table} has between {SMALLEST_BOX:.0%} and {LARGEST_BOX:.0%} of "
                "its picture."
            )
        first = self._picture(0)
        if not first.is_file():
            raise TrainingError(
                f"There is no {first}, which {self._table.name} names first. Put the pictures of "
                f"the subset {subset} into {first.parent}."
            )

    def _picture(self, index: int) -> Path:
        return self.root / "images" / self.subset / f"{self._boxes.ids[index]}.jpg"

    def __len__(self) -> int:
        return len(self._boxes.ids)

    def load(self, index: int, generator: Generator) -> SubjectPicture:
        """The box with a margin: of 10 pixels, or, around a mask's subject, of 10 to 19."""
        file = read_picture(self._picture(index))
        picture, name = file.pixels, file.path.name
        if not self.with_masks:
            height, width = file.size
            left, right, top, bottom = self._boxes.corners[index] * (width, width, height, height)
            rows, columns = _margin(top, bottom, 10, height), _margin(left, right, 10, width)
            return SubjectPicture(_large_enough(picture[rows, columns], name), None)
        path = self.root / "segs" / self.subset / self._boxes.masks[index]
        mask = read_mask(path, file, MaskMarks.SUBJECT)
        margin = 10 + int(torch.randint(10, (), generator=generator))
        rows, columns = around(mask, margin, path.name)
        return SubjectPicture(_large_enough(picture[rows, columns], name), mask[rows, columns])

    def identity(self) -> list[Any]:
        return [self._table.name, self._table.stat().st_size, len(self), self.with_masks]


def read_boxes(table: Path, with_masks: bool) -> Boxes:
    """The boxes of a table of OpenImages that have a fitting share of their picture."""
    names = ["XMin", "XMax", "YMin", "YMax"]
    if with_masks:
        names = [f"Box{name}" for name in names]
    if not table.is_file():
        raise TrainingError(f"There is no {table}. Download it from OpenImages, and keep its name.")
    ids: list[str] = []
    corners: list[tuple[float, ...]] = []
    masks: list[str] = []
    with table.open(newline="", encoding="utf-8") as file:
        for row, box in _rows(csv.DictReader(file), names, table):
            share = (box[1] - box[0]) * (box[3] - box[2])
            if SMALLEST_BOX <= share <= LARGEST_BOX:
                ids.append(row["ImageID"])
                corners.append(box)
                masks.append(row["MaskPath"] if with_masks else "")
    return Boxes(ids, np.asarray(corners, np.float32).reshape(-1, 4), masks)


def _rows(
    reader: "csv.DictReader[str]", names: Sequence[str], table: Path
) -> Iterator[tuple[dict[str, str], tuple[float, ...]]]:
    wanted = {*names, "ImageID"} | ({"MaskPath"} if names[0].startswith("Box") else set())
    lacking = sorted(wanted - set(reader.fieldnames or ()))
    if lacking:
        raise TrainingError(
            f"{table.name} has no column {', '.join(lacking)}. Expected a table of OpenImages with "
            f"the columns {', '.join(sorted(wanted))}."
        )
    for row in reader:
        try:
            box = tuple(float(row[name]) for name in names)
        except (TypeError, ValueError) as error:
            raise TrainingError(
                f"Line {reader.line_num} of {table.name} cannot be read: {error}. Expected numbers "
                f"in {', '.join(names)}. The file may be cut off: download it again."
            ) from error
        yield row, box


def around(mask: Tensor, margin: int, name: str) -> tuple[slice, slice]:
    """Rows and columns of what is masked, with a margin; raises Unusable for odd shapes."""
    rows, columns = (mask.any(dim=d).nonzero().flatten().tolist() for d in (1, 0))
    if not rows:
        raise Unusable(f"The mask {name} is empty.")
    height, width = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    if min(height, width) < SHORTEST or min(height, width) < NARROWEST * max(height, width):
        raise Unusable(f"The subject of {name} has {width} x {height} pixels.")
    return (
        _margin(rows[0], rows[-1] + 1, margin, mask.shape[0]),
        _margin(columns[0], columns[-1] + 1, margin, mask.shape[1]),
    )


def _margin(start: float, stop: float, margin: int, end: int) -> slice:
    return slice(max(int(start) - margin, 0), min(int(stop) + margin, end))


def _large_enough(picture: Tensor, name: str) -> Tensor:
    height, width = picture.shape[:2]
    if min(height, width) < MIN_RESOLUTION // 2:
        raise Unusable(f"What {name} shows has {width} x {height} pixels only.")
    return picture
