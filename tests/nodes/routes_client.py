"""Requests to the pack's routes, without the host's server."""

import asyncio
from contextlib import contextmanager

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer


@contextmanager
def served(add_routes):
    """One server for many requests: a function like `ask` that returns (status, content)."""
    loop = asyncio.new_event_loop()

    async def start():
        table = web.RouteTableDef()
        add_routes(table)
        application = web.Application()
        application.add_routes(table)
        client = TestClient(TestServer(application))
        await client.start_server()
        return client

    client = loop.run_until_complete(start())

    async def request(method, path, **options):
        answer = await client.request(method, path, **options)
        return answer.status, await answer.read()

    try:
        yield lambda *args, **options: loop.run_until_complete(request(*args, **options))
    finally:
        loop.run_until_complete(client.close())
        loop.close()


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
