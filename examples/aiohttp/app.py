"""Run `python -m evreload app.py` in this directory, then edit greeting.py.

Or run `python -m evreload -m aiohttp.web app:make_app`.
"""

import os

from aiohttp import web
from greeting import GREETING


async def page(request: web.Request) -> web.Response:
    return web.json_response({"greeting": GREETING, "pid": os.getpid()})


async def clean_up(app: web.Application) -> None:
    print("the server shuts down cleanly", flush=True)


def make_app(arguments: list[str] | None = None) -> web.Application:
    app = web.Application()
    app.add_routes([web.get("/", page)])
    app.on_cleanup.append(clean_up)
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
