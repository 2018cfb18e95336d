"""Masks to look at: the subject in its picture, the prompt on it, and the candidates in a row."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import max_pool2d

from .prompt import PlacedPrompt
from .segmentation import Segmented

EDGE = (255, 210, 0)
_ON, _BESIDE, _WHITE, _BLACK = (60, 220, 90), (255, 70, 70), (255, 255, 255), (0, 0, 0)
_DIMMED = 0.3  # brightness of what is not the subject
_PANEL, _GAP = 288, 6  # pixels: longest side of a panel of the sheet, and between them


def draw_overlay(segmented: Segmented) -> Tensor:
    """The picture, dimmed where the mask is not, with the prompt on it: (H, W, 3) in 0..1."""
    lit = _lit(segmented.picture, segmented.mask)
    return _to_tensor(_with_prompt(_to_image(lit), segmented.prompt))


def draw_sheet(segmented: Segmented) -> Tensor:
    """The overlay and each candidate, with its number and the quality that SAM expects of it.

    A star marks the candidate behind the mask. Of a mask that was given: it, as it was given.
    (height, width, 3) in 0..1.
    """
    picture = segmented.picture
    panels = [(f"mask, {segmented.area:.0%} of the picture", draw_overlay(segmented))]
    if not len(segmented.quality):
        panels.append(("as it was given", _lit(picture, segmented.candidates[0])))
    for n, quality in enumerate(segmented.quality.tolist()):
        star = " *" if n == segmented.chosen else ""
        lit = _lit(picture, segmented.candidates[n])
        panels.append((f"candidate {n + 1}: {quality:.2f}{star}", lit))
    height, width = picture.shape[:2]
    scale = _PANEL / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    font = ImageFont.load_default(14)
    band = 22
    cell = max(size[0], max(round(font.getlength(text)) + 6 for text, _ in panels))
    sheet = Image.new("RGB", ((cell + _GAP) * len(panels) - _GAP, size[1] + band), _BLACK)
    draw = ImageDraw.Draw(sheet)
    for n, (text, pixels) in enumerate(panels):
        left = n * (cell + _GAP)
        shown = _to_image(pixels).resize(size, Image.Resampling.BOX)
        sheet.paste(shown, (left + (cell - size[0]) // 2, band))
        draw.text((left + 3, 2), text, fill=_WHITE, font=font)
    return _to_tensor(sheet)


def _lit(picture: Tensor, mask: Tensor) -> Tensor:
    """The subject as it is, all else dimmed, and a line along the edge."""
    reach = max(1, round(max(mask.shape) / 400))
    inside = (mask > 0.5).float()[None]
    spread = max_pool2d(inside, 2 * reach + 1, stride=1, padding=reach)[0]
    edge = ((spread > 0) & (inside[0] == 0))[..., None]
    light = picture * (_DIMMED + (1 - _DIMMED) * mask[..., None])
    return torch.where(edge, torch.tensor(EDGE) / 255, light)


def _with_prompt(image: Image.Image, prompt: PlacedPrompt) -> Image.Image:
    draw = ImageDraw.Draw(image)
    unit = max(image.size) / 100
    line = max(1, round(unit / 3))
    if prompt.box is not None:
        draw.rectangle(prompt.box, outline=_ON, width=line)
    for (x, y), label in zip(prompt.points, prompt.labels, strict=True):
        r = 1.6 * unit
        draw.ellipse((x - r, y - r, x + r, y + r), fill=_ON if label else _BESIDE, outline=_WHITE)
        draw.line((x - r / 2, y, x + r / 2, y), fill=_BLACK, width=line)
        if label:  # a plus, so that colour is not all that tells them apart
            draw.line((x, y - r / 2, x, y + r / 2), fill=_BLACK, width=line)
    return image


def _to_image(pixels: Tensor) -> Image.Image:
    return Image.fromarray((pixels.clamp(0, 1) * 255).round().byte().cpu().numpy())


def _to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)
