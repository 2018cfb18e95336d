"""Routes of the live view of trainings. A GET changes nothing; a POST must be JSON."""

from collections.abc import Callable

from aiohttp import web

from .answers import Handler, query_of, read_fields, refused
from .live import LIVE, LiveRun

LIVE_ROUTE = "/personalize/live"
GONE = "This training is not known any more."


def add_live_routes(routes: web.RouteTableDef | None) -> None:
    """Add the routes to the host's table, if there is one."""
    if routes is None:
        return
    routes.get(LIVE_ROUTE)(send_runs)
    routes.get(f"{LIVE_ROUTE}/run")(send_run)
    routes.get(f"{LIVE_ROUTE}/preview")(send_preview)
    routes.post(f"{LIVE_ROUTE}/stop")(ask(LIVE.stop, "This training has ended already."))
    routes.post(f"{LIVE_ROUTE}/continue")(ask(LIVE.go_on, "This training was not stopped."))
    routes.post(f"{LIVE_ROUTE}/keep")(keep)


async def send_runs(request: web.Request) -> web.StreamResponse:
    """?workflow=id: the history of the latest run of each of its nodes."""
    runs = LIVE.of_workflow(query_of(request, "workflow"))
    return web.json_response({"runs": [run.history() for run in runs]})


async def send_run(request: web.Request) -> web.StreamResponse:
    """?prompt=id&node=id"""
    run = _found(request)
    return refused(GONE, 404) if run is None else web.json_response(run.history())


async def send_preview(request: web.Request) -> web.StreamResponse:
    """?prompt=id&node=id&step=250&number=0: one of the step's previews, counted from 0"""
    run, number = _found(request), _count(query_of(request, "number") or "0")
    jpegs = run.previews.get(_count(query_of(request, "step"))) if run is not None else None
    if jpegs is None or not 0 <= number < len(jpegs):
        return refused("There is no such preview.", 404)
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, max-age=3600"}
    return web.Response(body=jpegs[number], content_type="image/jpeg", headers=headers)


def _count(text: str) -> int:
    """A number from 0, -1 for what is none; int() refuses thousands of digits with an error."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else -1


async def keep(request: web.Request) -> web.StreamResponse:
    """JSON of prompt, node and step: the next run of the node gives the concept of that step."""
    values = await read_fields(request, ("prompt", "node", "step"))
    if values is None:
        return refused("Expected JSON with the texts prompt, node and step.", 400)
    prompt, node, step = values
    if LIVE.keep(prompt, node, _count(step)):
        return web.json_response({})
    return refused("The training state of this step is not kept any more.", 409)


def ask(action: Callable[[str, str], bool], refusal: str) -> Handler:
    """A handler that calls the action with the prompt and the node of a JSON body."""

    async def handle(request: web.Request) -> web.StreamResponse:
        values = await read_fields(request, ("prompt", "node"))
        if values is None:
            return refused("Expected JSON with the texts prompt and node.", 400)
        prompt, node = values
        return web.json_response({}) if action(prompt, node) else refused(refusal, 409)

    return handle


def _found(request: web.Request) -> LiveRun | None:
    return LIVE.find(query_of(request, "prompt"), query_of(request, "node"))
