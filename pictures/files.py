"""Picture and mask files: what Pillow reads, upright, with one meaning of white for all masks."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..concepts.errors import PictureError
from ..concepts.tensors import is_finite
from .images import plain_pixels
from .masks import MaskMarks, Warn, on_subject, same_shape

ENDINGS = {
    *(".apng", ".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".mpo", ".pgm", ".png", ".ppm"),
    *(".tga", ".tif", ".tiff", ".webp"),
}
"""Of files that are taken for pictures."""

BESIDE = {".caption", ".csv", ".db", ".ini", ".json", ".md", ".txt", ".yaml", ".yml"}
"""Endings of files that stand beside pictures, and that nobody takes for one."""

MASK_ENDINGS = ("_mask", "_bg")
"""Of masks' names: ours, and that of the pictures published with ELITE."""

MASK_FOLDER = "masks"
MOST_PIXELS = 2**27
"""Of a file: more than any camera's picture that a training could use, less than a bomb."""

_FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "JPEG", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP"),
)  # none of those that call another program, such as EPS
_ORIENTATION = 0x0112  # tag of EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LABELS = 32  # the largest number that stands for a thing in a table of labels
_VOID = 255  # label of what belongs to no thing, in PASCAL VOC
_VOID_COLOUR = (224, 224, 192)  # of that label in VOC's palette

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class PictureFile:
    """pixels: (H, W, 3), fp32 in 0..1, upright, white where the file is transparent

    opacity: (H, W) in 0..1, None for a file without transparent pixels
    orientation: EXIF's number, by which the stored pixels were turned; 1: not at all
    frames: of which the first is read
    """

    path: Path
    pixels: Tensor
    opacity: Tensor | None
    orientation: int = 1
    frames: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]


@dataclass(frozen=True)
class PictureListing:
    """masks: of those pictures that have one in a file; left_out: a line about all other files."""

    pictures: list[Path]
    masks: dict[Path, Path]
    left_out: str = ""


def list_pictures(folder: Path) -> PictureListing:
    """The pictures of a folder in the order of names, and their masks.

    A mask is name_mask.png or name_bg.png beside name.jpg, or masks/name.png; any ending of a
    picture does, and case does not matter. What is called a mask is never taken for a picture.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    pictures = [path for path in files if _is_picture(path) and not is_mask_name(path)]
    masks = _masks_by_name(files, folder)
    found = {path: masks[_name(path)] for path in pictures if _name(path) in masks}
    known = {*pictures, *found.values()}
    others = [p.name for p in files if p not in known and p.suffix.lower() not in BESIDE]
    visible = [name for name in others if not name.startswith(".")]
    return PictureListing(pictures, found, _left_out(visible))


def _masks_by_name(files: Sequence[Path], folder: Path) -> dict[str, Path]:
    """Masks by the name of their picture; where there are several, .png beside the picture."""
    within = [p for p in folder.iterdir() if p.name.lower() == MASK_FOLDER and p.is_dir()]
    masks = [path for sub in within for path in sorted(sub.iterdir()) if _is_picture(path)]
    masks += [path for path in files if _is_picture(path) and is_mask_name(path)]
    masks.sort(key=lambda path: (path.parent == folder, path.suffix.lower() == ".png"))
    return {_name(path): path for path in masks}


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS


def is_mask_name(path: Path) -> bool:
    """Whether a file is called a mask of another."""
    return path.stem.lower().endswith(MASK_ENDINGS)


def _name(path: Path) -> str:
    """What a picture and its mask have in common."""
    stem = path.stem.lower()
    return stem.rpartition("_")[0] if is_mask_name(path) else stem


def _left_out(names: Sequence[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return (
        f"Left out: {shown}. What is no picture that can be read here, or a mask of no picture, is "
        "not used. Save pictures as .png or .jpg, and call masks as their pictures."
    )


def read_picture(path: Path) -> PictureFile:
    """The first frame of a file, whatever Pillow can read. Raises PictureError with a sentence."""
    return _reading(path, _picture)


def _picture(path: Path, image: Image.Image) -> PictureFile:
    frames = getattr(image, "n_frames", 1)
    image, orientation = _upright(image)
    values, full = _values(image)
    scaled = torch.from_numpy(values.astype(np.float32) / np.float32(full))
    opacity = scaled[..., -1] if values.shape[-1] in (2, 4) else None
    if opacity is not None and bool((opacity == 1).all()):
        opacity, scaled = None, scaled[..., :-1]
    if scaled.shape[-1] == 2:  # grey and alpha
        scaled = scaled[..., [0, 0, 0, 1]]
    return PictureFile(path, plain_pixels(scaled), opacity, orientation, frames)


def read_mask(
    path: Path,
    picture: PictureFile,
    marks: MaskMarks = MaskMarks.AUTO,
    warn: Warn = logging.warning,
) -> Tensor:
    """The mask (H, W) of a picture, 1 on the subject and 0 beside it, of the picture's size.

    What is white, opaque or, in a table of labels, not 0, is marked; marks, warn: as for
    `read_masks`. A mask may be smaller or larger than its picture and be stored as the picture is
    before its camera's turn. Raises PictureError with a sentence for what is no mask of it.
    """
    marked = _reading(path, lambda path, image: _mask(path, image, picture))
    return on_subject(marked, f"The mask {path.name}", marks, warn)


def _mask(path: Path, image: Image.Image, picture: PictureFile) -> Tensor:
    image, orientation = _upright(image)
    marked = Image.fromarray(_marked(image).astype(np.uint8))
    height, width = picture.size
    if not same_shape(_size(marked), picture.size):
        turned = marked
        if orientation == 1 and picture.orientation in _TURNS:
            turned = marked.transpose(_TURNS[picture.orientation])
        if not same_shape(_size(turned), picture.size):
            raise PictureError(
                f"The mask {path.name} has {marked.width}x{marked.height} pixels, but its picture "
                f"{picture.path.name} has {width}x{height}, which is another shape. Make the mask "
                "from this very picture."
            )
        marked = turned
    if not marked.getbbox():
        raise PictureError(
            f"The mask {path.name} is empty: nothing in it is white. Paint the subject white."
        )
    fitting = marked.resize((width, height), Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(fitting)).float()


def _size(image: Image.Image) -> tuple[int, int]:
    return image.height, image.width


def own_mask(picture: PictureFile) -> Tensor | None:
    """What is opaque in a cut-out, (H, W), 0 or 1; None where all is opaque."""
    return None if picture.opacity is None else (picture.opacity > 0.5).float()


def has_own_mask(path: Path) -> bool:
    """Whether a file may hold transparent pixels; its head is read alone."""
    try:
        return _reading(path, lambda _, image: _is_transparent(image), whole=False)
    except PictureError:
        return False


def _reading(path: Path, read: Callable[[Path, Image.Image], T], whole: bool = True) -> T:
    try:
        with Image.open(path, formats=_formats()) as image:
            if image.width * image.height > MOST_PIXELS:
                raise PictureError(
                    f"{path.name} has {image.width}x{image.height} pixels, more than "
                    f"{MOST_PIXELS // 2**20} million. Make a smaller copy of it."
                )
            if whole:
                image.load()
            return read(path, image)
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(
            f"{path} cannot be read: no picture of a kind that is known here. Open it in an image "
            "editor and save it as .png or .jpg, or remove it."
        ) from None
    except Exception as error:  # a broken file leads Pillow's readers to errors of any kind
        raise PictureError(
            f"{path} cannot be read: {error}. Open it in an image editor and save it as .png or "
            ".jpg, or remove it."
        ) from error


@lru_cache(maxsize=1)
def _formats() -> list[str]:
    """Those that this Pillow has a reader for."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _upright(image: Image.Image) -> tuple[Image.Image, int]:
    """Turned as its camera says, and EXIF's number of that turn, 1 where there is none.

    After loading: Pillow turns some formats by itself then, and takes the number away.
    """
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF is no reason to refuse the pixels
        orientation = 1
    if orientation not in _TURNS:
        return image, 1
    return image.transpose(_TURNS[orientation]), orientation


def _values(image: Image.Image) -> tuple[np.ndarray, float]:
    """(H, W, C) with C = 1 to 4 as grey, grey and alpha, RGB or RGBA, and the value of white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        values = np.array(image)  # a copy, since torch wants to be allowed to write
        if image.mode == "F" and not is_finite(torch.from_numpy(values)):
            raise ValueError("it holds NaN or infinite pixels")
        return np.maximum(values, 0)[..., None], _white_of(image.mode, values)
    alpha = _is_transparent(image)
    if image.mode not in ("L", "LA") or (alpha and image.mode == "L"):
        image = image.convert("RGBA" if alpha else "L" if image.mode == "1" else "RGB")
    values = np.asarray(image)
    return (values if values.ndim == 3 else values[..., None]), 255


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def _white_of(mode: str, values: np.ndarray) -> float:
    """Of 16 bits; of whole or real numbers, which say nothing of their range, the likeliest."""
    if mode.startswith("I;16"):
        return 65535
    largest = float(values.max(initial=0))
    return next((full for full in (1.0, 255.0, 65535.0) if largest <= full), largest)


def _marked(image: Image.Image) -> np.ndarray:
    """What an upright mask marks, (H, W), booleans."""
    values, full = _values(image)
    if values.shape[-1] in (2, 4):
        opacity, values = values[..., -1], values[..., :-1]
        if opacity.min() < full:
            return opacity > full / 2
    if values.shape[-1] == 3 and _is_coloured(image):
        return _in_colour(image.convert("RGB"), values)
    return _in_grey(values[..., 0], full)


def _is_coloured(image: Image.Image) -> bool:
    """Whether colours tell things apart; the noise of a grey JPEG does not."""
    red, green, blue = (np.asarray(band, np.int16) for band in image.convert("RGB").split())
    return bool((np.abs(red - green).max() > _LABELS) or (np.abs(green - blue).max() > _LABELS))


def _in_colour(image: Image.Image, values: np.ndarray) -> np.ndarray:
    """Of a few colours, as tables of labels have, all but black; else the bright ones."""
    if image.getcolors(256) is None:
        return values.max(axis=-1) > 127
    return values.any(axis=-1) & (values != _VOID_COLOUR).any(axis=-1)


def _in_grey(values: np.ndarray, full: float) -> np.ndarray:
    """The bright half; or labels: whole numbers, small and few, beside which 255 is void."""
    bright, small = values > full / 2, (values > 0) & (values <= _LABELS)
    others = ~bright & (values > 0)
    if (others & ~small).any():  # shades of grey
        return bright
    labels = small.sum() > bright.sum() and (
        not bright.any() or bool((values[bright] == _VOID).all())
    )
    return small if labels else bright
