"""Run `python -m evreload -m gunicorn -w 2 app:app` in this directory, then edit greeting.py."""

import json
import os
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from greeting import GREETING


def app(environment: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    yield json.dumps({"greeting": GREETING, "pid": os.getpid()}).encode()
