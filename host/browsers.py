"""How the pack speaks with browsers: its routes, and messages to all of them."""

from collections.abc import Callable, Mapping
from typing import Any

from server import PromptServer

CONCEPTS_CHANGED = "personalize.concepts_changed"


def host_routes() -> Any:
    """The host's table of routes (aiohttp), None when no server runs in this process."""
    server = getattr(PromptServer, "instance", None)
    return None if server is None else server.routes


def workflow_id(extra_pnginfo: Mapping[str, Any] | None) -> str:
    """Id of the workflow that a page has sent along with a prompt; "" for none."""
    workflow = (extra_pnginfo or {}).get("workflow") or {}
    return str(workflow.get("id") or "")


def running_workflow() -> str:
    """Id of the workflow that runs now, as its page has saved it; "" when none does or tells it."""
    queue = getattr(getattr(PromptServer, "instance", None), "prompt_queue", None)
    for _, _, _, extra, *_ in list(getattr(queue, "currently_running", {}).values()):
        return workflow_id(extra.get("extra_pnginfo"))
    return ""


def before_each_prompt(look: Callable[[dict[str, Any], str], None]) -> None:
    """Call `look` with every prompt that is queued, in the API format, and the id of its page."""
    server = getattr(PromptServer, "instance", None)
    if server is None:
        return

    def handle(request: dict[str, Any]) -> dict[str, Any]:
        prompt = request.get("prompt")
        if isinstance(prompt, dict):
            look(prompt, str(request.get("client_id", "")))
        return request

    server.add_on_prompt_handler(handle)


def tell_browsers(
    event: str,
    content: dict[str, Any] | None = None,
    *,
    only_asking: bool = False,
    page: str = "",
) -> None:
    """Send a message to every open page; the event's name begins with `personalize.`.

    only_asking: to the page alone that queued the prompt which runs now, if it is still open
    page: to the page of that id alone
    """
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        only = server.client_id if only_asking else page
        server.send_sync(event, content or {}, only or None)
