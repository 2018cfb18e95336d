"""Progress, preview and cancel of a node that works for long."""

import time

import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from PIL import Image
from server import PromptServer
from torch import Tensor

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
        strip = torch.cat(list(pictures), dim=1).clamp(0, 1)
        image = Image.fromarray((strip * 255).round().byte().cpu().numpy())
        self._bar.update_absolute(value, preview=("JPEG", image, PREVIEW_PIXELS))


def stop_if_cancelled() -> None:
    """Raise the host's own exception when the user has cancelled the run."""
    throw_exception_if_processing_interrupted()
