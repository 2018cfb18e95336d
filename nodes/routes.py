"""Routes for the concepts in the sidebar. What they do is in host/shelf.py.

A GET changes nothing. A POST must be JSON, which no other site can make a browser send unasked.
"""

import asyncio
from collections.abc import Callable
from pathlib import PurePath
from urllib.parse import quote

from aiohttp import web

from ..concepts.errors import PersonalizeError
from ..concepts.methods import METHODS, ClassWord, Method, Part
from ..host.browsers import CONCEPTS_CHANGED, tell_browsers
from ..host.card_pictures import content_type
from ..host.checkpoint_bases import base_of_checkpoint
from ..host.sharing import shared_file
from ..host.shelf import picture_of, rename, shelf, to_trash
from ..host.trash import restore, trash
from . import NODE_CLASS_MAPPINGS
from .answers import Handler, query_of, read_fields, refused

CONCEPTS_ROUTE = "/personalize/concepts"


def add_routes(routes: web.RouteTableDef | None) -> None:
    """Add the routes to the host's table, if there is one."""
    if routes is None:
        return
    routes.get(CONCEPTS_ROUTE)(send_shelf)
    routes.get(f"{CONCEPTS_ROUTE}/picture")(send_picture)
    routes.post(f"{CONCEPTS_ROUTE}/rename")(change("name", "wanted", action=rename))
    routes.post(f"{CONCEPTS_ROUTE}/delete")(change("name", action=to_trash))
    routes.get(f"{CONCEPTS_ROUTE}/trash")(send_trash)
    routes.post(f"{CONCEPTS_ROUTE}/restore")(change("name", action=restore))
    routes.get(f"{CONCEPTS_ROUTE}/share")(send_shared)
    routes.get(f"{CONCEPTS_ROUTE}/base")(send_base)


async def send_shelf(request: web.Request) -> web.StreamResponse:
    told = {node_id: method_json(method) for node_id, method in makers().items()}
    uses = {key: inputs_used(method) for key, method in METHODS.items()}
    concepts = await asyncio.to_thread(shelf)
    return web.json_response({"concepts": concepts, "makers": told, "uses": uses})


def inputs_used(method: Method) -> list[str]:
    """Those inputs of Apply Concept, beyond the ones of all, that do something with the method."""
    details = ["local_strength", "start_percent", "end_percent"]
    return [
        *(details if Part.LOCAL_FEATURES in method.parts else []),
        *(["own_prompts_only"] if method.changes_weights else []),
    ]


def makers() -> dict[str, Method]:
    """Methods by node that makes their concepts: a browser can tell of it before it has run."""
    nodes = NODE_CLASS_MAPPINGS.items()
    return {node_id: node.makes() for node_id, node in nodes if hasattr(node, "makes")}


def method_json(method: Method) -> dict[str, str | bool]:
    return {
        "method": method.key,
        "method_name": method.title,
        "with_class_word": method.class_word is ClassWord.WRITTEN,
    }


async def send_picture(request: web.Request) -> web.StreamResponse:
    """?name=my-dog.safetensors&kind=thumbnail or sheet"""
    try:
        name, kind = query_of(request, "name"), query_of(request, "kind")
        picture = await asyncio.to_thread(picture_of, name, kind)
    except (PersonalizeError, OSError) as error:
        return refused(str(error), 404)
    if picture is None:
        return refused("There is no such picture.", 404)
    headers = {
        "Content-Type": content_type(picture),
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }
    return web.FileResponse(picture, headers=headers)


async def send_base(request: web.Request) -> web.StreamResponse:
    """?kind=checkpoints&name=my.safetensors: the base model that the file is of, "" if unknown"""
    try:
        kind, name = query_of(request, "kind"), query_of(request, "name")
        base = await asyncio.to_thread(base_of_checkpoint, kind, name)
    except (OSError, ValueError) as error:
        return refused(str(error), 404)
    return web.json_response({"base": base})


async def send_trash(request: web.Request) -> web.StreamResponse:
    return web.json_response({"trash": await asyncio.to_thread(trash)})


async def send_shared(request: web.Request) -> web.StreamResponse:
    """?name=my-dog.safetensors: a zip file of the concept, its thumbnail and its card as text"""
    try:
        name = query_of(request, "name")
        file = await asyncio.to_thread(shared_file, name)
    except (PersonalizeError, OSError) as error:
        return refused(str(error), 404)
    headers = {
        "Content-Type": "application/zip",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(PurePath(name).stem)}.zip",
        "X-Content-Type-Options": "nosniff",
    }
    return web.FileResponse(file, headers=headers)


def change(*fields: str, action: Callable[..., object]) -> Handler:
    """A handler that calls the action with text fields of a JSON body and tells all browsers."""

    async def handle(request: web.Request) -> web.StreamResponse:
        values = await read_fields(request, fields)
        if values is None:
            return refused(f"Expected JSON with the texts {' and '.join(fields)}.", 400)
        try:
            result = await asyncio.to_thread(action, *values)
        except (PersonalizeError, OSError) as error:
            return refused(str(error), 400)
        tell_browsers(CONCEPTS_CHANGED)
        return web.json_response({"result": str(result)})

    return handle
