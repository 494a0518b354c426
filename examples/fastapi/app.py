"""Run `python -m evreload -m uvicorn app:app` in this directory, then edit greeting.py."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from greeting import GREETING


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    print("the server shuts down cleanly", flush=True)


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def page() -> dict[str, str | int]:
    return {"greeting": GREETING, "pid": os.getpid()}
