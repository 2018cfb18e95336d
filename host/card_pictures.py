"""The pictures beside a concept file: a thumbnail, and a contact sheet of what it was learned from.

They lie beside the file, not in it: the file stays a few kilobytes and the same bytes every time,
whoever shares it does not share the pictures, and the host's model browser and other programs look
for them there too.
"""

import io
import os
from contextlib import suppress
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..concepts.disk import write_new
from ..concepts.errors import NameTakenError
from ..concepts.files import SUFFIXES

THUMBNAIL = ".webp"
SHEET = ".pictures.webp"
THUMBNAIL_PIXELS = 256
_COLUMNS = 3
_GAP = 4  # pixels between the pictures of a sheet

# What other programs and people put beside a model as its picture, by their order of preference.
_PICTURES = {
    THUMBNAIL: "image/webp",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".preview.webp": "image/webp",
    ".preview.png": "image/png",
    ".preview.jpg": "image/jpeg",
    ".preview.jpeg": "image/jpeg",
}
_KINDS = (*_PICTURES, SHEET)


def write_pictures(path: Path, preview: Tensor | None, pictures: Tensor | None) -> None:
    """Write a new concept's thumbnail and contact sheet, as far as there are pictures for them.

    A picture of that name that is there already stays.

    path: the concept file. preview: (N, H, W, C) in 0..1, its first becomes the thumbnail; None:
        the first of the pictures does. pictures: (N, side, side, 3), uint8, or None
    """
    if preview is not None:
        shown = (preview[0, ..., :3].clamp(0, 1) * 255).round().byte()
    elif pictures is not None:
        shown = pictures[0]
    else:
        return
    thumbnail = _image(shown)
    thumbnail.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    with suppress(NameTakenError):
        write_new(_webp(thumbnail), _beside(path, THUMBNAIL))
    if pictures is not None:
        with suppress(NameTakenError):
            write_new(_webp(contact_sheet(pictures)), _beside(path, SHEET))


def contact_sheet(pictures: Tensor) -> Image.Image:
    """Pictures (N, side, side, 3), uint8, in rows of three."""
    count, side = len(pictures), pictures.shape[1] + _GAP
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * side - _GAP, rows * side - _GAP), (128, 128, 128))
    for n, picture in enumerate(pictures):
        sheet.paste(_image(picture), (n % columns * side, n // columns * side))
    return sheet


def thumbnail_of(path: Path) -> Path | None:
    """The picture of a concept file, ours or another program's; None when there is none."""
    beside = pictures_beside(path)
    return next((beside[kind] for kind in _PICTURES if kind in beside), None)


def sheet_of(path: Path) -> Path | None:
    """The contact sheet of a concept file, None when there is none."""
    return pictures_beside(path).get(SHEET)


def content_type(picture: Path) -> str:
    """What a browser is told that a picture is; by its suffix, one of a few kinds."""
    return _PICTURES[picture.suffix.lower()]


def pictures_beside(path: Path) -> dict[str, Path]:
    """All pictures that belong to a concept file, by what follows its stem."""
    beside = {kind: _beside(path, kind) for kind in _KINDS if _owns(path, kind)}
    return {kind: picture for kind, picture in beside.items() if os.path.isfile(picture)}


def is_taken(path: Path) -> bool:
    """Has another concept file this name, or one that differs in its suffix alone, or would a new
    concept of this name get somebody's pictures?"""
    files = [path.with_suffix(suffix) for suffix in SUFFIXES]
    pictures = [_beside(path, kind) for kind in _KINDS]
    beside = any(map(os.path.lexists, (path, *files, *pictures)))
    return beside or not all(_owns(path, kind) for kind in _KINDS)


def _owns(path: Path, kind: str) -> bool:
    """Whose is `dog.pictures.webp`: the sheet of `dog`, if there is one, and only else the
    thumbnail of a concept that is called `dog.pictures`."""
    name = path.stem + kind
    longer = (k for k in _KINDS if len(k) > len(kind) and name.endswith(k) and name != k)
    stems = (name.removesuffix(k) for k in longer)
    others = (path.parent / (stem + suffix) for stem in stems for suffix in SUFFIXES)
    return not any(map(os.path.isfile, others))


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.stem + suffix)


def _image(picture: Tensor) -> Image.Image:
    return Image.fromarray(picture.cpu().numpy())


def _webp(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "WEBP", quality=85)
    return data.getvalue()
