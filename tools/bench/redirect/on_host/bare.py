"""The baseline: an aiohttp handler that does nothing but redirect. `bare.py ADDRESS PORT`."""

import sys

import uvloop
from aiohttp import web


async def redirect(request: web.Request) -> web.Response:
    """Answer."""
    del request
    return web.Response(status=302, headers={"Location": "https://www.example.org/articles/1"})


async def application() -> web.Application:
    """Make the application."""
    made = web.Application()
    made.router.add_route("*", "/{code}", redirect)
    return made


if __name__ == "__main__":
    uvloop.install()
    web.run_app(application(), host=sys.argv[1], port=int(sys.argv[2]), access_log=None)
