"""How the pack speaks with browsers: its routes, and messages to all of them."""

from typing import Any

from server import PromptServer

CONCEPTS_CHANGED = "personalize.concepts_changed"


def host_routes() -> Any:
    """The host's table of routes (aiohttp), None when no server runs in this process."""
    server = getattr(PromptServer, "instance", None)
    return None if server is None else server.routes


def tell_browsers(
    event: str, content: dict[str, Any] | None = None, *, only_asking: bool = False
) -> None:
    """Send a message to every open page; the event's name begins with `personalize.`.

    only_asking: to the page alone that queued the prompt which runs now, if it is still open
    """
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.send_sync(event, content or {}, server.client_id if only_asking else None)
