"""A concept as one file to give away: the concept file, its thumbnail, and its card as text.

The contact sheet of the training pictures stays at home: who gets the file does not get them.
"""

import tempfile
import zipfile
from pathlib import Path

import folder_paths

from ..concepts.cards import Card, read_card
from .folders import folder_of
from .shelf import known_path, picture_of


def shared_file(name: str) -> Path:
    """A new zip file in the host's temp folder, which the host empties at its start.

    Raises ConceptFileError for a name that is not on the shelf and for a file that is no concept.
    """
    path = known_path(name)
    folder_of(path)  # nothing behind a link to another folder is sent
    card = read_card(path, name)
    thumbnail = picture_of(name, "thumbnail")
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    handle = tempfile.NamedTemporaryFile(  # noqa: SIM115 - it outlives this function
        dir=folder, prefix="personalize-", suffix=".zip", delete=False
    )
    with handle, zipfile.ZipFile(handle, "w", zipfile.ZIP_STORED) as archive:
        archive.write(path, path.name)
        archive.writestr(f"{path.stem}.txt", card_text(card))
        if thumbnail is not None:
            archive.write(thumbnail, thumbnail.name)
    return Path(handle.name)


def card_text(card: Card) -> str:
    """The card for who gets the file."""
    lines = [
        f"Method: {card.method_name}",
        f"Base model: {card.base_title}",
        f"Write in a prompt: {'  '.join([card.write, *card.attributes])}",
        *([f"Class word: {card.class_word}"] if card.class_word else []),
        *([f"Steps: {card.steps}"] if card.steps else []),
        "",
        "A concept of Personalize for ComfyUI. Put the .safetensors into models/concepts, under a "
        "name that no other concept has, load it with Load Concept and connect Apply Concept.",
    ]
    return "\n".join(lines) + "\n"
