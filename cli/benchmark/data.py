"""Subjects and prompts on disk, in the layout of DreamBench.

SUBJECTS/prompts_and_classes.txt      "subject_name,class" rows and two lists of prompts
SUBJECTS/dog6/00.jpg 01.jpg ...       pictures of one subject
SUBJECTS/dog6/00_mask.png             if there are masks: white on the subject
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CLASSES_FILE = "prompts_and_classes.txt"
CLASS_FILE = "class.txt"
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
MASK_ENDINGS = ("_mask", "_bg")  # ours, and that of ELITE's pictures
LIVE_CLASSES = {"cat", "dog", "person", "man", "woman", "boy", "girl", "face"}
SLOT = "{}"


class DataError(ValueError):
    """Subjects or prompts that cannot be read; the message says what was expected."""


@dataclass(frozen=True)
class Subject:
    """masks: one for each picture, or none. live: it gets the prompts for live subjects."""

    name: str
    class_word: str
    pictures: tuple[Path, ...]
    masks: tuple[Path, ...] = ()

    @property
    def live(self) -> bool:
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
    found = [p for p in sorted(folder.iterdir()) if p.is_dir() and _pictures(p)]
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
    rows = re.findall(r"^([\w-]+),([\w -]+)$", head, re.MULTILINE)
    return {name: word.strip() for name, word in rows if name != "subject_name"}


def _subject(folder: Path, classes: dict[str, str]) -> Subject:
    own = folder / CLASS_FILE
    word = _read(own).strip() if own.is_file() else classes.get(folder.name, "")
    if not word:
        raise DataError(
            f"What is {folder.name}? Add the row '{folder.name},dog' (or whatever it is) to "
            f"{folder.parent / CLASSES_FILE}, or write the word into {own}."
        )
    pictures = _pictures(folder)
    masks = [_mask_of(picture) for picture in pictures]
    missing = [p.name for p, mask in zip(pictures, masks, strict=True) if mask is None]
    if missing and len(missing) < len(pictures):
        raise DataError(
            f"{folder.name} has masks, but none of {', '.join(missing)}. Add "
            f"{Path(missing[0]).stem}{MASK_ENDINGS[0]}.png and so on, or remove all masks."
        )
    return Subject(folder.name, word, tuple(pictures), tuple(m for m in masks if m is not None))


def _pictures(folder: Path) -> list[Path]:
    found = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES]
    return [p for p in found if not p.stem.endswith(MASK_ENDINGS)]


def _mask_of(picture: Path) -> Path | None:
    paths = [picture.with_name(f"{picture.stem}{ending}.png") for ending in MASK_ENDINGS]
    return next((path for path in paths if path.is_file()), None)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as text: {error}") from error


def _listed(folders: Sequence[Path]) -> str:
    return ", ".join(p.name for p in folders) or "nothing that could be one"
