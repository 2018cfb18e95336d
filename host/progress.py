"""Progress, preview and cancel of a node that works for long."""

import io
import time

import torch
from comfy.model_management import (
    InterruptProcessingException,
    throw_exception_if_processing_interrupted,
)
from comfy.utils import ProgressBar
from comfy_execution.utils import get_executing_context
from PIL import Image
from server import PromptServer
from torch import Tensor

Cancelled = InterruptProcessingException
TEXT_SECONDS = 0.25
PREVIEW_PIXELS = 512


class NodeProgress:
    """The bar, the line of text and the preview picture of one node."""

    def __init__(self, total: int, node_id: str | None) -> None:
        self._bar = ProgressBar(total, node_id=node_id)
        self._node_id = node_id
        self._last_text = 0.0

    def update(self, value: int) -> None:
        self._bar.update_absolute(value)

    def show_text(self, text: str, now: bool = False) -> None:
        """Show a line on the node, a few times a second at most unless it must be shown now."""
        server = getattr(PromptServer, "instance", None)
        if server is None or self._node_id is None:
            return
        if now or time.monotonic() - self._last_text > TEXT_SECONDS:
            self._last_text = time.monotonic()
            server.send_progress_text(text, self._node_id)

    def show_picture(self, value: int, pictures: Tensor) -> None:
        """Show pictures (N, H, W, 3) in 0..1 side by side."""
        preview = ("JPEG", side_by_side(pictures), PREVIEW_PIXELS)
        self._bar.update_absolute(value, preview=preview)


def side_by_side(pictures: Tensor) -> Image.Image:
    """One picture of several (N, H, W, 3) in 0..1."""
    strip = torch.cat(list(pictures), dim=1).clamp(0, 1)
    return Image.fromarray((strip * 255).round().byte().cpu().numpy())


def jpeg(picture: Image.Image, longest: int = PREVIEW_PIXELS) -> bytes:
    """The encoded picture, of at most so many pixels a side."""
    picture.thumbnail((longest, longest))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return file.getvalue()


def current_prompt() -> str:
    """Id of the queued prompt that runs now, "" outside of one."""
    context = get_executing_context()
    return "" if context is None else context.prompt_id


def stop_if_cancelled() -> None:
    """Raise the host's own exception, Cancelled, when the user has cancelled the run."""
    throw_exception_if_processing_interrupted()
