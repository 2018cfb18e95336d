"""The pictures beside a concept file: a thumbnail, and a contact sheet of what it was learned from.

They lie beside the file, not in it: the file stays a few kilobytes and the same bytes every time,
whoever shares it does not share the pictures, and the host's model browser and other programs look
for them there too.
"""

import io
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..concepts.files import write_whole

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


def write_pictures(path: Path, preview: Tensor | None, pictures: Tensor | None) -> None:
    """Write a concept file's thumbnail and contact sheet, as far as there are pictures for them.

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
    write_whole(_webp(thumbnail), _beside(path, THUMBNAIL))
    if pictures is not None:
        write_whole(_webp(contact_sheet(pictures)), _beside(path, SHEET))


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
    return next(filter(Path.is_file, (_beside(path, suffix) for suffix in _PICTURES)), None)


def sheet_of(path: Path) -> Path | None:
    """The contact sheet of a concept file, None when there is none."""
    sheet = _beside(path, SHEET)
    return sheet if sheet.is_file() else None


def content_type(picture: Path) -> str:
    """What a browser is told that a picture is; by its suffix, one of a few kinds."""
    return _PICTURES[picture.suffix.lower()]


def pictures_beside(path: Path) -> dict[str, Path]:
    """All pictures that belong to a concept file, by what follows its stem."""
    beside = {suffix: _beside(path, suffix) for suffix in (*_PICTURES, SHEET)}
    return {suffix: picture for suffix, picture in beside.items() if picture.is_file()}


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.stem + suffix)


def _image(picture: Tensor) -> Image.Image:
    return Image.fromarray(picture.cpu().numpy())


def _webp(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "WEBP", quality=85)
    return data.getvalue()
