"""Subjects and prompts on disk, in the layout of DreamBench.

SUBJECTS/prompts_and_classes.txt      "subject_name,class" rows and two lists of prompts
SUBJECTS/dog6/00.jpg 01.jpg ...       pictures of one subject
SUBJECTS/dog6/00_mask.png             if there are masks: white on the subject

Pictures and masks are named and read as everywhere in the pack (pictures/files.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...concepts.errors import PictureError
from ...pictures.files import (
    MASK_ENDINGS,
    PictureListing,
    has_own_mask,
    list_pictures,
    own_mask,
    read_mask,
    read_picture,
)

CLASSES_FILE = "prompts_and_classes.txt"
CLASS_FILE = "class.txt"
LIVE_CLASSES = {"cat", "dog", "person", "man", "woman", "boy", "girl", "face"}
SLOT = "{}"


class DataError(ValueError):
    """Subjects or prompts that cannot be read; the message says what was expected."""


@dataclass(frozen=True)
class Subject:
    """masks: one for each picture, or none; that of a cut-out is the picture itself

    left_out: a line about each file that cannot be used
    """

    name: str
    class_word: str
    pictures: tuple[Path, ...]
    masks: tuple[Path, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def live(self) -> bool:
        """Whether it gets the prompts for live subjects."""
        return self.class_word in LIVE_CLASSES

    @property
    def person(self) -> bool:
        return self.live and self.class_word not in {"cat", "dog"}


@dataclass(frozen=True)
class Prompts:
    """Templates in which `{}` stands for the subject."""

    objects: tuple[str, ...]
    live: tuple[str, ...]

    def of(self, subject: Subject) -> tuple[str, ...]:
        return self.live if subject.live else self.objects


def read_subjects(folder: Path, wanted: Sequence[str] = ()) -> list[Subject]:
    """The subjects of a folder, in the order of names, or those that are wanted.

    Classes: from prompts_and_classes.txt, or from a class.txt in the subject's own folder. Raises
    DataError with a sentence.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}. Name one with a sub-folder a subject.")
    classes = _classes(folder / CLASSES_FILE)
    found = [p for p in sorted(folder.iterdir()) if p.is_dir() and list_pictures(p).pictures]
    unknown = sorted(set(wanted) - {p.name for p in found})
    if unknown or not found:
        missing = f"no subject {', '.join(unknown)}" if unknown else "no sub-folder with pictures"
        raise DataError(f"There is {missing} in {folder}. It has: {_listed(found)}.")
    return [_subject(p, classes) for p in found if not wanted or p.name in wanted]


def read_prompts(file: Path) -> Prompts:
    """Prompts of DreamBench's file, or of a plain one: a prompt a line, `{}` for the subject.

    Raises DataError with a sentence.
    """
    text = _read(file)
    lists = re.findall(r"prompt_list\s*=\s*\[(.*?)\]", text, re.DOTALL)
    if lists:
        each = [tuple(_template(line) for line in _QUOTED.findall(part)) for part in lists]
        return Prompts(objects=each[0], live=each[-1])
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    without = [line for line in lines if SLOT not in line]
    if without or not lines:
        wrong = f"this line has none: '{without[0]}'" if without else "the file is empty"
        raise DataError(f"Expected in {file} a prompt a line, {SLOT} for the subject; {wrong}.")
    return Prompts(tuple(lines), tuple(lines))


_QUOTED = re.compile(r"""['"](.*?)['"]\s*\.format""")


def _template(line: str) -> str:
    """``a {0} {1} in the snow`` -> ``a {} in the snow``."""
    return line.replace("{0} {1}", SLOT)


def _classes(file: Path) -> dict[str, str]:
    if not file.is_file():
        return {}
    head = _read(file).split("prompt_list")[0]
    rows = re.findall(r"^([^,\n]+),([\w -]+)$", head, re.MULTILINE)
    return {name.strip(): word.strip() for name, word in rows if name != "subject_name"}


def _subject(folder: Path, classes: dict[str, str]) -> Subject:
    own = folder / CLASS_FILE
    word = _read(own).strip() if own.is_file() else classes.get(folder.name, "")
    if not word:
        raise DataError(
            f"What is {folder.name}? Add the row '{folder.name},dog' (or whatever it is) to "
            f"{folder.parent / CLASSES_FILE}, or write the word into {own}."
        )
    listing = list_pictures(folder)
    usable, left_out = _usable(listing)
    if not usable:
        raise DataError(f"No picture of {folder.name} can be read. The last: {left_out[-1]}")
    missing = [path.name for path, mask in usable.items() if mask is None]
    if len(missing) == len(usable) and all(map(_is_cut_out, usable)):
        usable, missing = {path: path for path in usable}, []
    if missing and len(missing) < len(usable):
        raise DataError(
            f"{folder.name} has masks, but none of {', '.join(missing)}. Add "
            f"{Path(missing[0]).stem}{MASK_ENDINGS[0]}.png and so on, or remove all masks."
        )
    masks = tuple(mask for mask in usable.values() if mask is not None)
    return Subject(folder.name, word, tuple(usable), masks, tuple(left_out))


def _usable(listing: PictureListing) -> tuple[dict[Path, Path | None], list[str]]:
    """Pictures with their masks, None for those without, and why others are left out."""
    usable: dict[Path, Path | None] = {}
    left_out = [listing.left_out] if listing.left_out else []
    for path in listing.pictures:
        mask = listing.masks.get(path)
        try:
            picture = read_picture(path)
            if mask is not None:
                read_mask(mask, picture)
        except PictureError as error:
            left_out.append(str(error))
            continue
        usable[path] = mask
    return usable, left_out


def _is_cut_out(path: Path) -> bool:
    return has_own_mask(path) and own_mask(read_picture(path)) is not None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as text: {error}") from error


def _listed(folders: Sequence[Path]) -> str:
    return ", ".join(p.name for p in folders) or "nothing that could be one"
