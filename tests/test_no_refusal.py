"""Clients that never stop asking, while servers of every kind restart again and again.

The long ones print what they measure.
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
from conftest import DEADLINE, free_port
from test_frameworks import SERVERS, await_answer, copy_example
from test_sockets import (
    ASYNCIO,
    HTTP_SERVER,
    IN_PLACE,
    TORNADO,
    UVLOOP,
    WORKERS,
    requests_in_progress,
    restart,
    start,
    until,
)

EVERY = 0.002  # seconds between two requests of a client
MOST_WAITING = 400  # at a time
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

OUR_OWN = {
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
def test_a_server_that_ends_in_its_own_way_answers_first(app, port, needs, program, command):
    pytest.importorskip(needs)
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", program)
    arguments = command.format(port=port).split()
    app.start("-m", "evreload", "--stop-timeout", "20", *arguments)
    until(port, 0)
    app.armed()
    with requests_in_progress(app, port):
        restart(app, port, 1)


# Restart after restart


class Visit(NamedTuple):
    begun: float
    ended: float
    answer: int | None
    failure: str

    @property
    def wait(self) -> float:
        return self.ended - self.begun


class Crowd:
    """One client that stays, and others, each of whom asks once; all that was answered."""

    def __init__(self, port: int, *, newcomers: bool = True) -> None:
        self.visits: list[Visit] = []
        self.repeated: Counter[str] = Counter()
        self._port = port
        self._stopping = threading.Event()
        self._room = threading.BoundedSemaphore(MOST_WAITING)
        self._pool = ThreadPoolExecutor(MOST_WAITING)
        clients = [self._stay, self._invite] if newcomers else [self._stay]
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
        """Block until *count* more have been answered *answer*."""
        deadline = time.monotonic() + 2 * DEADLINE
        seen = len(self.visits)
        while count > 0:
            assert time.monotonic() < deadline, self.visits[-10:]
            time.sleep(EVERY)
            news = self.visits[seen:]
            seen += len(news)
            count -= sum(visit.answer == answer for visit in news)

    def _invite(self):
        """Have somebody connect every few milliseconds, however many still wait."""
        while not self._stopping.wait(EVERY):
            if self._room.acquire(timeout=EVERY):
                self._pool.submit(self._come)

    def _come(self):
        with contextlib.closing(self._connection()) as connection:
            self.visits.append(_ask(connection))
        self._room.release()

    def _stay(self):
        """Ask again and again on one connection, as long as it is kept alive."""
        connection = self._connection()
        while not self._stopping.wait(EVERY):
            if connection.sock and select.select([connection.sock], [], [], 0)[0]:
                connection.close()  # the server has closed it: that is seen before one asks
            was_kept = connection.sock is not None
            visit = _ask(connection)
            if visit.failure:
                connection.close()
            if was_kept and visit.failure in CLOSED:  # just then: one comes anew, and asks again
                self.repeated[visit.failure] += 1
            else:
                self.visits.append(visit)
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
    return Visit(begun, time.monotonic(), answer, failure)


class Course(NamedTuple):
    """What became of a crowd while the program restarted."""

    saves: list[float]
    replaced: list[float]  # when many had been answered by the new code
    crowd: Crowd

    @property
    def failures(self) -> Counter[str]:
        return Counter(visit.failure for visit in self.crowd.visits if visit.failure)

    def firsts(self) -> list[float]:
        """Return when the answer of each save was first given."""
        return [
            min(visit.ended for visit in self.crowd.visits if visit.answer == answer)
            for answer, _ in enumerate(self.saves, 1)
        ]

    def stale(self, times: list[float]) -> list[Visit]:
        """Return who was answered by code older than what had answered at *times*."""
        return [
            visit
            for newer, time_of_newer in enumerate(times, 1)
            for visit in self.crowd.visits
            if visit.answer is not None and visit.answer < newer and visit.begun > time_of_newer
        ]

    def waits(self) -> list[float]:
        """Return for each restart how long who came between save and answer had to wait."""
        return [
            max(visit.wait for visit in self.crowd.visits if save <= visit.begun <= first)
            for save, first in zip(self.saves, self.firsts(), strict=True)
        ]

    def report(self, capsys) -> None:
        since_save = [first - save for save, first in zip(self.saves, self.firsts(), strict=True)]
        with capsys.disabled():
            print(
                f"\n  {len(self.crowd.visits)} visits in {len(self.saves)} restarts,"
                f" failed: {dict(self.failures) or 'none'},"
                f" repeated: {dict(self.crowd.repeated) or 'none'};"
                f"\n  longest wait: {_told(self.waits())};"
                f" from the save to the first new answer: {_told(since_save)}"
            )


def _told(values):
    median, longest = statistics.median(values) * 1000, max(values) * 1000
    return f"{median:.0f} ms (median), {longest:.0f} ms (most)"


def course(port, save, restarts, *, newcomers=True):
    """Save again and again while a crowd asks."""
    saves, replaced = [], []
    with Crowd(port, newcomers=newcomers) as crowd:
        crowd.await_answers(0)
        for value in range(1, restarts + 1):
            saves.append(time.monotonic())
            save(value)
            crowd.await_answers(value)
            replaced.append(time.monotonic())
    return Course(saves, replaced, crowd)


def course_of_our_own(app, port, restarts, **options):
    return course(
        port, lambda value: app.write("helper.py", f"VALUE = {value}"), restarts, **options
    )


@pytest.mark.soak
def test_a_hundred_restarts_of_tornado(app, port, capsys):
    start(app, port, TORNADO)
    taken = course_of_our_own(app, port, 100)
    taken.report(capsys)
    assert_all_are_answered(taken)


@pytest.mark.soak
@pytest.mark.parametrize("name", OUR_OWN)
def test_ten_restarts(app, port, capsys, name):
    program, *arguments = OUR_OWN[name]
    start(app, port, program, arguments=arguments)
    taken = course_of_our_own(app, port, 10)
    taken.report(capsys)
    assert_all_are_answered(taken)


@pytest.mark.soak
def test_ten_restarts_in_place(app, port, capsys):
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", IN_PLACE)
    app.start("app.py", str(port))
    until(port, 0)
    app.armed()
    taken = course_of_our_own(app, port, 10)
    taken.report(capsys)
    assert_all_are_answered(taken)


@pytest.mark.soak
@pytest.mark.parametrize("name", SERVERS)
def test_ten_restarts_of_a_framework(app, port, capsys, name):
    server = SERVERS[name]
    copy_example(app, server.example, server.needs)
    app.write("greeting.py", 'GREETING = "0"')
    arguments = server.command.format(port=port).split()
    app.start("-m", "evreload", "--stop-timeout", "20", *arguments, PORT=str(port))
    await_answer(app, port, "0")
    app.armed(by_now=True)
    taken = course(port, lambda value: app.write("greeting.py", f'GREETING = "{value}"'), 10)
    taken.report(capsys)
    assert_all_are_answered(taken, at_once=not server.workers)


def assert_all_are_answered(taken, *, at_once=True):
    assert not taken.failures
    # One of several workers may be about to read what is saved when another has long begun.
    assert not taken.stale(taken.firsts() if at_once else taken.replaced)


@pytest.mark.soak
def test_the_longest_wait_is_the_start_of_the_program(app, port, capsys):
    start(app, port, TORNADO)
    waits, starts = [], []
    for value in range(1, 31):
        with Crowd(port, newcomers=False) as crowd:
            crowd.await_answers(value - 1, 50)
            app.write("helper.py", f"VALUE = {value}")
            crowd.await_answers(value, 50)
        waits.append(max(visit.wait for visit in crowd.visits))
        starts.append(start_alone(app, free_port()))
    with capsys.disabled():
        print(f"\n  longest wait: {_told(waits)}; start of the program alone: {_told(starts)}")
    assert crowd.visits


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
