"""Clients that send requests all the time, while servers of every kind restart repeatedly.

The long tests print what they measure.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import select
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from support.deadline import DEADLINE
from support.frameworks import SERVERS
from support.server_programs import (
    ASYNCIO,
    HTTP_SERVER,
    IN_PLACE,
    TORNADO,
    UVLOOP,
    WORKERS,
    await_value,
    requests_in_progress,
    restart,
    start,
)
from support.servers import await_answer, copy_example, free_port

EVERY = 0.002  # seconds between two requests of a client
MOST_WAITING = 400  # new clients that wait at the same time
CLOSED = ("RemoteDisconnected", "ConnectionResetError", "BrokenPipeError")

START_N = """
import os, sys
import tornado.httpserver, tornado.ioloop, tornado.web
import helper

class Page(tornado.web.RequestHandler):
    def get(self):
        self.write(f"{helper.VALUE} {os.getpid()}")

server = tornado.httpserver.HTTPServer(tornado.web.Application([("/", Page)]))
server.bind(int(sys.argv[1]), "127.0.0.1")
server.start(3)
tornado.ioloop.IOLoop.current().start()
"""
ASGI = """
import asyncio, os
import helper

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    if sleep := float(scope["query_string"].decode().partition("=")[2] or 0):
        print("asked", flush=True)
        await asyncio.sleep(sleep)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d %d" % (helper.VALUE, os.getpid())})
"""
WSGI = """
import os, time
import helper

def app(environ, start_response):
    if sleep := float(environ["QUERY_STRING"].partition("=")[2] or 0):
        print("asked", flush=True)
        time.sleep(sleep)
    start_response("200 OK", [])
    return [b"%d %d" % (helper.VALUE, os.getpid())]
"""
AIOHTTP = """
import asyncio, os, sys
from aiohttp import web
import helper

async def page(request):
    if sleep := float(request.query.get("sleep", 0)):
        print("asked", flush=True)
        await asyncio.sleep(sleep)
    return web.Response(text=f"{helper.VALUE} {os.getpid()}")

app = web.Application()
app.add_routes([web.get("/", page)])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
"""

OWN_PROGRAMS = {
    "tornado": (TORNADO,),
    "tornado-start-n": (START_N,),
    "tornado-workers": (WORKERS, "shared"),
    "tornado-reuse-port": (WORKERS, "reuse-port"),
    "asyncio": (ASYNCIO,),
    "uvloop": (UVLOOP,),
    "http.server": (HTTP_SERVER,),
}


# Requests in progress


@pytest.mark.parametrize(
    ("needs", "program", "command"),
    [
        ("uvicorn", ASGI, "-m uvicorn --port {port} app:app"),
        ("hypercorn", ASGI, "-m hypercorn -b 127.0.0.1:{port} app:app"),
        ("aiohttp", AIOHTTP, "app.py {port}"),
        ("gunicorn", WSGI, "-m gunicorn --threads 20 -b 127.0.0.1:{port} app:app"),
    ],
    ids=["uvicorn", "hypercorn", "aiohttp", "gunicorn"],
)
def test_a_server_with_its_own_shutdown_answers_requests_first(app, port, needs, program, command):
    pytest.importorskip(needs)
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", program)
    arguments = command.format(port=port).split()
    app.start("-m", "evreload", "--stop-timeout", "20", *arguments)
    await_value(port, 0)
    app.await_watching()
    with requests_in_progress(app, port):
        restart(app, port, 1)


# Restart after restart


class Request(NamedTuple):
    """The times and the outcome of one request."""

    begun: float
    ended: float
    answer: int | None
    failure: str

    @property
    def wait(self) -> float:
        return self.ended - self.begun


class Clients:
    """One client that keeps its connection, new clients with one request each, and all results."""

    def __init__(self, port: int, *, new_clients: bool = True) -> None:
        self.requests: list[Request] = []
        self.repeated: Counter[str] = Counter()
        self._port = port
        self._stopping = threading.Event()
        self._free_slots = threading.BoundedSemaphore(MOST_WAITING)
        self._pool = ThreadPoolExecutor(MOST_WAITING)
        clients = [self._keep_asking, self._start_clients] if new_clients else [self._keep_asking]
        self._threads = [threading.Thread(target=client) for client in clients]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._pool.shutdown()

    def await_answers(self, answer: int, count: int = 200) -> None:
        """Block until *count* more requests got *answer*."""
        deadline = time.monotonic() + 2 * DEADLINE
        seen = len(self.requests)
        while count > 0:
            assert time.monotonic() < deadline, self.requests[-10:]
            time.sleep(EVERY)
            new = self.requests[seen:]
            seen += len(new)
            count -= sum(request.answer == answer for request in new)

    def _start_clients(self):
        """Start a new client every few milliseconds, up to MOST_WAITING at a time."""
        while not self._stopping.wait(EVERY):
            if self._free_slots.acquire(timeout=EVERY):
                self._pool.submit(self._ask_once)

    def _ask_once(self):
        with contextlib.closing(self._connection()) as connection:
            self.requests.append(_ask(connection))
        self._free_slots.release()

    def _keep_asking(self):
        """Send request after request, on the same connection as long as the server keeps it."""
        connection = self._connection()
        while not self._stopping.wait(EVERY):
            if connection.sock and select.select([connection.sock], [], [], 0)[0]:
                connection.close()  # the server closed it, which clients check before they send
            was_kept = connection.sock is not None
            request = _ask(connection)
            if request.failure:
                connection.close()
            if was_kept and request.failure in CLOSED:  # closed just then: clients repeat it
                self.repeated[request.failure] += 1
            else:
                self.requests.append(request)
        connection.close()

    def _connection(self):
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE)


def _ask(connection):
    begun = time.monotonic()
    answer, failure = None, ""
    try:
        connection.request("GET", "/")
        found = re.search(rb"\d+", connection.getresponse().read())
        answer = int(found[0]) if found else None
    except (OSError, http.client.HTTPException) as error:
        failure = type(error).__name__
    return Request(begun, time.monotonic(), answer, failure)


class Outcome(NamedTuple):
    """The times of some restarts, and the clients with their requests during these."""

    saves: list[float]
    replaced: list[float]  # when the new code had answered many requests
    clients: Clients

    @property
    def failures(self) -> Counter[str]:
        return Counter(request.failure for request in self.clients.requests if request.failure)

    def firsts(self) -> list[float]:
        """Return for each save when its value was first answered."""
        return [
            min(request.ended for request in self.clients.requests if request.answer == answer)
            for answer, _ in enumerate(self.saves, 1)
        ]

    def stale(self, times: list[float]) -> list[Request]:
        """Return, for each of *times*, the requests begun later and answered by older code."""
        return [
            request
            for newer, time_of_newer in enumerate(times, 1)
            for request in self.clients.requests
            if request.answer is not None
            and request.answer < newer
            and request.begun > time_of_newer
        ]

    def waits(self) -> list[float]:
        """Return for each restart the longest wait of a request begun between save and answer."""
        return [
            max(request.wait for request in self.clients.requests if save <= request.begun <= first)
            for save, first in zip(self.saves, self.firsts(), strict=True)
        ]

    def report(self, capsys) -> None:
        since_save = [first - save for save, first in zip(self.saves, self.firsts(), strict=True)]
        with capsys.disabled():
            print(
                f"\n  {len(self.clients.requests)} requests in {len(self.saves)} restarts,"
                f" failed: {dict(self.failures) or 'none'},"
                f" repeated: {dict(self.clients.repeated) or 'none'};"
                f"\n  longest wait: {_ms(self.waits())};"
                f" from the save to the first new answer: {_ms(since_save)}"
            )


def _ms(values):
    median, longest = statistics.median(values) * 1000, max(values) * 1000
    return f"{median:.0f} ms (median), {longest:.0f} ms (most)"


def save_repeatedly(port, save, restarts, *, new_clients=True):
    """Save *restarts* times while clients send requests; return the results."""
    saves, replaced = [], []
    with Clients(port, new_clients=new_clients) as clients:
        clients.await_answers(0)
        for value in range(1, restarts + 1):
            saves.append(time.monotonic())
            save(value)
            clients.await_answers(value)
            replaced.append(time.monotonic())
    return Outcome(saves, replaced, clients)


def save_helper_repeatedly(app, port, restarts, **options):
    return save_repeatedly(
        port, lambda value: app.write("helper.py", f"VALUE = {value}"), restarts, **options
    )


@pytest.mark.soak
def test_a_hundred_restarts_of_tornado_fail_no_request(app, port, capsys):
    start(app, port, TORNADO)
    outcome = save_helper_repeatedly(app, port, 100)
    outcome.report(capsys)
    assert_all_are_answered(outcome)


@pytest.mark.soak
@pytest.mark.parametrize("name", OWN_PROGRAMS)
def test_ten_restarts_fail_no_request(app, port, capsys, name):
    program, *arguments = OWN_PROGRAMS[name]
    start(app, port, program, arguments=arguments)
    outcome = save_helper_repeatedly(app, port, 10)
    outcome.report(capsys)
    assert_all_are_answered(outcome)


@pytest.mark.soak
def test_ten_restarts_in_place_fail_no_request(app, port, capsys):
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", IN_PLACE)
    app.start("app.py", str(port))
    await_value(port, 0)
    app.await_watching()
    outcome = save_helper_repeatedly(app, port, 10)
    outcome.report(capsys)
    assert_all_are_answered(outcome)


@pytest.mark.soak
@pytest.mark.parametrize("name", SERVERS)
def test_ten_restarts_of_a_framework_fail_no_request(app, port, capsys, name):
    server = SERVERS[name]
    copy_example(app, server.example, server.needs)
    app.write("greeting.py", 'GREETING = "0"')
    arguments = server.command.format(port=port).split()
    app.start("-m", "evreload", "--stop-timeout", "20", *arguments, PORT=str(port))
    await_answer(app, port, "0")
    app.await_watching(by_now=True)
    outcome = save_repeatedly(
        port, lambda value: app.write("greeting.py", f'GREETING = "{value}"'), 10
    )
    outcome.report(capsys)
    assert_all_are_answered(outcome, at_once=not server.worker_message)


def assert_all_are_answered(outcome, *, at_once=True):
    assert not outcome.failures
    # Workers of the same run may import different values: one before a save, another after it.
    assert not outcome.stale(outcome.firsts() if at_once else outcome.replaced)


@pytest.mark.soak
def test_measure_the_longest_wait_and_the_start_of_the_program(app, port, capsys):
    start(app, port, TORNADO)
    waits, starts = [], []
    for value in range(1, 31):
        with Clients(port, new_clients=False) as clients:
            clients.await_answers(value - 1, 50)
            app.write("helper.py", f"VALUE = {value}")
            clients.await_answers(value, 50)
        waits.append(max(request.wait for request in clients.requests))
        starts.append(start_alone(app, free_port()))
    with capsys.disabled():
        print(f"\n  longest wait: {_ms(waits)}; start of the program alone: {_ms(starts)}")
    assert clients.requests


def start_alone(app, port):
    """Return how long the program takes to answer when plain Python runs it."""
    begun = time.monotonic()
    with subprocess.Popen([sys.executable, "app.py", str(port)], cwd=app.directory) as process:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
            while _ask(connection).failure:
                connection.close()
                time.sleep(EVERY / 2)
        elapsed = time.monotonic() - begun
        process.kill()
    return elapsed
