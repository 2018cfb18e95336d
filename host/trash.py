"""What was deleted from the shelf: listed, and put back where it was.

A name means one of the listed files or nothing, as on the shelf.
"""

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import folder_paths

from ..concepts.errors import ConceptFileError
from ..concepts.files import SUFFIXES
from .folders import CONCEPTS, TRASH
from .shelf import deleted_at, is_taken_on_shelf, move_to_free_name


def trash() -> list[dict[str, Any]]:
    """All deleted concepts as `name` and `changed` (ms), those deleted last first."""
    entries = []
    for name, path in _files().items():
        with suppress(OSError):  # gone since it was listed
            entries.append({"name": name, "changed": deleted_at(path) // 10**6})
    return sorted(entries, key=lambda entry: -entry["changed"])


def restore(name: str) -> str:
    """Put a deleted concept and its pictures back; return its name, with a number if that is taken.

    Raises ConceptFileError for a name that is not in the trash.
    """
    path = _files().get(name)
    if path is None:
        raise ConceptFileError(f"There is no '{name}' in the trash. Refresh the list.")
    root = next(parent for parent in path.parents if parent.name == TRASH)
    folder = root.parent
    place = folder / path.relative_to(root)
    if not place.parent.resolve().is_relative_to(folder.resolve()):
        raise ConceptFileError(f"{place.parent} leads out of {folder}. Remove that link.")
    target = move_to_free_name(path, place, partial(is_taken_on_shelf, folder=folder))
    if target is None:
        raise ConceptFileError(f"There are too many files named '{path.name}'. Rename some.")
    return str(target.relative_to(folder))


def _files() -> dict[str, Path]:
    """The files in the trash of each concepts folder, by their names in it."""
    found: dict[str, Path] = {}
    for folder in map(Path, folder_paths.get_folder_paths(CONCEPTS)):
        root = folder / TRASH
        if not root.is_dir() or not root.resolve().is_relative_to(folder.resolve()):
            continue
        for path in sorted(root.rglob("*")):
            inside = path.parent.resolve().is_relative_to(root.resolve())
            if inside and path.is_file() and path.suffix.lower() in SUFFIXES:
                found.setdefault(str(path.relative_to(root)), path)
    return found
