"""Requests to the pack's routes, without the host's server."""

import asyncio

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer


def ask(add_routes, method, path, **options):
    """One request; returns (status, headers, content as JSON or bytes)."""

    async def inside():
        table = web.RouteTableDef()
        add_routes(table)
        application = web.Application()
        application.add_routes(table)
        async with TestClient(TestServer(application)) as client:
            answer = await client.request(method, path, **options)
            as_json = answer.content_type == "application/json"
            content = await (answer.json() if as_json else answer.read())
            return answer.status, answer.headers, content

    return asyncio.run(inside())
