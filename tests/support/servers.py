"""The servers of the examples, their ports, and clients that send them requests."""

from __future__ import annotations

import collections
import contextlib
import http.client
import importlib.util
import json
import shutil
import socket
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from support.deadline import DEADLINE

EXAMPLES = Path(__file__).parents[2] / "examples"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def copy_example(app, name: str, needs: str) -> None:
    for package in needs.split():
        if not importlib.util.find_spec(package):
            pytest.skip(f"{package} is not installed")
    shutil.copytree(
        EXAMPLES / name,
        app.directory,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("__pycache__", ".*"),
    )


def ask(port: int) -> dict[str, str | int] | None:
    """Return the server's answer; None if the request fails."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        connection.request("GET", "/")
        answer: dict[str, str | int] = json.load(connection.getresponse())
        return answer
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def await_answer(app, port: int, greeting: str) -> int:
    """Block until the server answers with *greeting*; return the process id in that answer."""
    deadline = time.monotonic() + DEADLINE
    while (answer := ask(port) or {}).get("greeting") != greeting:
        assert time.monotonic() < deadline, f"{answer} after:\n{app.output}"
        time.sleep(0.01)
    return int(answer["pid"])


def page_at(url: str) -> str:
    """Return the page at *url*; retry as long as no server answers."""
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
                page: bytes = answer.read()
                return page.decode()
        except OSError:
            if time.monotonic() > deadline:
                raise


class Clients:
    """Sends a request on a new connection every few milliseconds, and counts the outcomes."""

    def __init__(self, port: int) -> None:
        self.outcomes: collections.Counter[str] = collections.Counter()
        self._port = port
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stopping.set()
        self._thread.join()

    def _run(self):
        while not self._stopping.wait(0.002):
            try:
                self.outcomes["answered" if self._ask() else "empty"] += 1
            except (OSError, http.client.HTTPException) as error:
                self.outcomes[type(error).__name__] += 1

    def _ask(self) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            return connection.getresponse().read()
