"""What the routes share: reading a request, and refusing one with a sentence."""

import json
from collections.abc import Awaitable, Callable

from aiohttp import web

MOST_BYTES = 2**16
"""Of a body: two names."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def read_fields(request: web.Request, fields: tuple[str, ...]) -> list[str] | None:
    """The text fields of a JSON body, None when it is not JSON or lacks one.

    No other site can make a browser send JSON unasked. The body is short and in UTF-8, whatever
    charset it says; brackets without end, numbers of thousands of digits and halves of characters
    are no JSON here.
    """
    if request.content_type != "application/json":
        return None
    data = await request.content.read(MOST_BYTES + 1)
    while data and len(data) <= MOST_BYTES and not request.content.at_eof():
        data += await request.content.read(MOST_BYTES + 1 - len(data))
    try:
        body = json.loads(data.decode("utf-8")) if len(data) <= MOST_BYTES else None
        values = [body.get(field) for field in fields] if isinstance(body, dict) else []
        texts = [value for value in values if isinstance(value, str) and _is_text(value)]
    except (ValueError, RecursionError):
        return None
    return texts if len(texts) == len(fields) else None


def query_of(request: web.Request, field: str) -> str:
    """A field of the address, "" for a missing one and for what is no text."""
    value = request.query.get(field, "")
    return value if _is_text(value) else ""


def _is_text(value: str) -> bool:
    """A half of a character (a lone surrogate) is no text that a file could be called."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def refused(sentence: str, status: int) -> web.Response:
    return web.json_response({"error": sentence}, status=status)
