"""What the routes share: reading a request, and refusing one with a sentence."""

from collections.abc import Awaitable, Callable

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def texts_of(request: web.Request, fields: tuple[str, ...]) -> list[str] | None:
    """The text fields of a JSON body, None when it is not JSON or lacks one.

    No other site can make a browser send JSON unasked.
    """
    if request.content_type != "application/json":
        return None
    try:
        body = await request.json()
    except ValueError:
        return None
    values = [body.get(field) for field in fields] if isinstance(body, dict) else []
    texts = [value for value in values if isinstance(value, str)]
    return texts if len(texts) == len(fields) else None


def refused(sentence: str, status: int) -> web.Response:
    return web.json_response({"error": sentence}, status=status)
