"""Pictures and masks as they are sent to a server: what our reader sees, and any other sees alike.

ComfyUI's Load Image knows neither EXIF's turns nor labels nor 16 bits, and makes a batch of all
frames of a picture that moves. What it reads as we do is sent as it is; the rest as a PNG of what
we read.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from ...pictures.files import read_mask, read_picture

PLAIN = {"JPEG", "PNG", "WEBP"}


def picture_to_send(path: Path) -> tuple[bytes, str]:
    """Content and ending of a picture. Raises PictureError for one that cannot be read."""
    pixels = (read_picture(path).pixels * 255).round().byte().numpy()
    return _content(path, pixels, "RGB")


def mask_to_send(path: Path, picture: Path) -> tuple[bytes, str]:
    """The same of a mask, white on the subject, of its picture's size."""
    mask = (read_mask(path, read_picture(picture)) * 255).byte().numpy()
    return _content(path, mask, "L")


def as_image(path: Path) -> Image.Image:
    """A picture as we read it."""
    return Image.fromarray((read_picture(path).pixels * 255).round().byte().numpy())


def _content(path: Path, pixels: np.ndarray, mode: str) -> tuple[bytes, str]:
    with Image.open(path) as stored:
        still = getattr(stored, "n_frames", 1) == 1
        if still and stored.format in PLAIN and stored.mode in ("1", "L", "RGB"):
            seen = np.asarray(stored.convert(mode))
            if seen.shape == pixels.shape and np.array_equal(seen, pixels):
                return path.read_bytes(), path.suffix
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue(), ".png"
