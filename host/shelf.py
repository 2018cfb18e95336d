"""The saved concepts as a shelf: listed with cards and pictures, renamed, put into the trash.

Names come from a browser. A name means one of the files that `saved_concepts` lists or nothing;
what is changed or sent lies in a concepts folder after all links are followed.

The trash is a folder `.trash` in the same concepts folder: on the same disk, so that even large
files move at once and whole, found without this program, and without a package that the host does
not bring.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..concepts.cards import Card, read_card
from ..concepts.disk import Stamp, move_new, stamp
from ..concepts.errors import ConceptFileError, NameTakenError, PersonalizeError
from ..concepts.files import SUFFIXES
from .card_pictures import is_taken, pictures_beside, sheet_of, thumbnail_of
from .folders import (
    TRASH,
    concept_path,
    file_in,
    folder_of,
    hidden_by,
    numbered,
    saved_concepts,
)

PICTURES = {"thumbnail": thumbnail_of, "sheet": sheet_of}
"""Kinds of pictures that a concept may have, and how each is found."""

_MOVES_LEAVE_NO_TIME = os.name == "nt"


def shelf() -> list[dict[str, Any]]:
    """All saved concepts as plain JSON values, in the order of their names.

    Each has `name`, `card` (None with a `problem` instead when the file cannot be read), `changed`
    and, for each kind of picture, when that was changed; both in ms, 0 for no picture. `hides`: the
    file of the same name in another folder, which nobody can load, "" for none.
    """
    return [entry for name in saved_concepts() if (entry := _entry(name))]


def saved_cards() -> dict[str, Card]:
    """Of all saved concepts that can be read, by name."""
    cards = {}
    for name in saved_concepts():
        with suppress(ConceptFileError, OSError):  # gone since it was listed
            cards[name] = _card_now(name)
    return {name: card for name, card in cards.items() if isinstance(card, Card)}


def picture_of(name: str, kind: str) -> Path | None:
    """A concept's `thumbnail` or `sheet`, None when it has none. Raises ConceptFileError."""
    path = known_path(name)
    picture = PICTURES[kind](path) if kind in PICTURES else None
    if picture is None or not picture.resolve().is_relative_to(folder_of(path).resolve()):
        return None
    return picture


def rename(name: str, wanted: str) -> str:
    """Give a concept file and its pictures another name; return it.

    Sub-folders may be named too. Raises ConceptFileError with a sentence when the name is taken or
    leads out of the folder.
    """
    path = known_path(name)
    folder = folder_of(path)
    target = file_in(folder, wanted, path.suffix)
    spelled_anew = target.parent == path.parent and target.stem.casefold() == path.stem.casefold()
    if not spelled_anew and is_taken_on_shelf(target, folder):
        raise NameTakenError(
            f"There is a file or a picture '{wanted}' already. Choose another name."
        )
    move_with_pictures(path, target)
    return str(target.relative_to(folder))


def is_taken_on_shelf(path: Path, folder: Path) -> bool:
    """As `is_taken`, in all concepts folders: of two files of one name, one would be hidden.

    folder: the concepts folder that the path lies in
    """
    return is_taken(path) or str(path.relative_to(folder)) in saved_concepts()


def to_trash(name: str) -> Path:
    """Move a concept file and its pictures into the trash of its folder; return where it lies."""
    path = known_path(name)
    folder = folder_of(path)
    place = folder / TRASH / _in_folder(path, folder)
    if not place.parent.resolve().is_relative_to(folder.resolve()):
        raise ConceptFileError(f"{folder / TRASH} leads out of {folder}. Remove that link.")
    target = move_to_free_name(path, place)
    if target is None:
        raise ConceptFileError(f"The trash has too many files named '{path.name}'. Empty it.")
    _note_deletion(target)
    return target


def _note_deletion(path: Path) -> None:
    with suppress(OSError):  # a file of someone else's: its time alone is wrong
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def deleted_at(path: Path) -> int:
    """When a file came into the trash, in ns.

    Elsewhere a move changes a time of the file itself; what Windows has in its place is when the
    file was made. There it is the time of the last access, which nothing in the trash has.
    """
    stat = path.lstat()
    return stat.st_atime_ns if _MOVES_LEAVE_NO_TIME else stat.st_ctime_ns


def known_path(name: str) -> Path:
    """The file of a listed concept; raise ConceptFileError for any other name."""
    if name not in saved_concepts():
        raise ConceptFileError(f"There is no concept '{name}'. Refresh the list.")
    return concept_path(name)


def _in_folder(path: Path, folder: Path) -> Path:
    """Where a file lies in its folder, links to folders followed."""
    return (path.parent.resolve() / path.name).relative_to(folder.resolve())


def move_to_free_name(
    path: Path, place: Path, is_taken: Callable[[Path], bool] = is_taken
) -> Path | None:
    """Move a file and its pictures to a place, with a number where its name is taken.

    Return where they lie now, None when all numbers are taken.
    """
    for target in numbered(place):
        if not is_taken(target):
            with suppress(NameTakenError):  # another program was quicker
                move_with_pictures(path, target)
                return target
    return None


def move_with_pictures(path: Path, target: Path) -> None:
    """Move a file and its pictures, all of them or none."""
    others = {path.with_suffix(suffix) for suffix in SUFFIXES} - {path}
    shared = any(other.is_file() for other in others)
    pictures = {} if shared else pictures_beside(path)
    moves = [(path, target)]
    moves += [(p, target.with_name(target.stem + kind)) for kind, p in pictures.items()]
    done: list[tuple[Path, Path]] = []
    try:
        for source, place in moves:
            move_new(source, place)
            done.append((source, place))
    except PersonalizeError:
        for source, place in reversed(done):
            with suppress(PersonalizeError):
                move_new(place, source)
        raise


@dataclass(frozen=True)
class _Version:
    """A file as it was at a time: an unchanged one is read once."""

    path: Path
    stamp: Stamp


@lru_cache(maxsize=4096)
def _card(name: str, version: _Version) -> Card | str:
    try:
        return read_card(version.path, name)
    except (PersonalizeError, OSError) as error:
        return str(error)
    except Exception as error:  # whatever is wrong with one file, the others are shown
        return f"'{name}' cannot be read ({type(error).__name__}: {error})."


def _card_now(name: str) -> Card | str:
    """The card of a file as it is, or what is wrong with it. Raises OSError when it is gone."""
    path = concept_path(name)
    return _card(name, _Version(path, stamp(path)))


def _entry(name: str) -> dict[str, Any] | None:
    try:
        path = concept_path(name)
        stat, card = path.stat(), _card_now(name)
    except (ConceptFileError, OSError):  # gone since it was listed
        return None
    known = isinstance(card, Card)
    return {
        "name": name,
        "card": card.as_json() if known else None,
        "problem": "" if known else card,
        "changed": stat.st_mtime_ns // 10**6,
        "hides": next((str(path) for path in hidden_by(name)), ""),
        **{kind: _changed(find, path) for kind, find in PICTURES.items()},
    }


def _changed(find: Callable[[Path], Path | None], path: Path) -> int:
    try:
        picture = find(path)
        return picture.stat().st_mtime_ns // 10**6 if picture is not None else 0
    except OSError:  # gone meanwhile, not to be read, or its name would be too long
        return 0
