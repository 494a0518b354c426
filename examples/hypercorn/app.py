"""Run `python -m evreload -m hypercorn app:app` in this directory, then edit greeting.py."""

import os

from greeting import GREETING
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def page(request: Request) -> JSONResponse:
    return JSONResponse({"greeting": GREETING, "pid": os.getpid()})


app = Starlette(routes=[Route("/", page)])
