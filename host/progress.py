"""Progress and cancel of a node that works for long."""

import io

from comfy.model_management import (
    InterruptProcessingException,
    throw_exception_if_processing_interrupted,
)
from comfy.utils import ProgressBar
from comfy_execution.utils import get_executing_context
from PIL import Image
from torch import Tensor

from .browsers import running_workflow, tell_browsers

Cancelled = InterruptProcessingException
PREVIEW_PIXELS = 512
MOVES = 20
TOLD = "personalize.told"


class NodeProgress:
    """The bar and the line of text of one node.

    No preview: Nodes 2.0 would go on showing the last one in the place of the pictures that the
    node gives (frontend 1.47).
    """

    def __init__(self, total: int, node_id: str | None) -> None:
        self._bar = ProgressBar(total, node_id=node_id)
        self._total = total
        self._node_id = node_id
        self._moved = -1

    def update(self, value: int) -> None:
        """Move the bar, in MOVES parts at most: Nodes 2.0 keeps a listener or two for each move."""
        moved = value * MOVES // max(self._total, 1)
        if moved != self._moved:
            self._moved = moved
            self._bar.update_absolute(value)

    def show_text(self, text: str) -> None:
        """Show a line on the node, in the tab that queued it."""
        show_on_node(self._node_id or "", text)


def show_on_node(node: str, text: str, *, failed: bool = False) -> None:
    """Show a line on a node of ours, in the tab that queued what runs now; "" takes it away.

    Not the host's own `send_progress_text`: Nodes 2.0 keeps some 40 listeners and their widget for
    each of its messages, until the page is closed (frontend 1.47).
    node: its execution id, "" for none
    failed: the text says why the node failed
    """
    if node:
        told = {"node": node, "text": text, "workflow": running_workflow(), "failed": failed}
        tell_browsers(TOLD, told, only_asking=True)


def jpeg(picture: Tensor, longest: int = PREVIEW_PIXELS) -> bytes:
    """A picture (H, W, 3) in 0..1, encoded, of at most so many pixels a side."""
    image = Image.fromarray((picture.clamp(0, 1) * 255).round().byte().cpu().numpy())
    image.thumbnail((longest, longest))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()


def current_prompt() -> str:
    """Id of the queued prompt that runs now, "" outside of one."""
    context = get_executing_context()
    return "" if context is None else context.prompt_id


def current_node() -> str:
    """Execution id of the node that runs now, such as "12:7" in a subgraph, "" outside of one."""
    context = get_executing_context()
    return "" if context is None else str(context.node_id)


def stop_if_cancelled() -> None:
    """Raise the host's own exception, Cancelled, when the user has cancelled the run."""
    throw_exception_if_processing_interrupted()
