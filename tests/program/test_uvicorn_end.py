"""How uvicorn ends under the command: without its fixed sleeps, but with all the rest."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from types import SimpleNamespace

import pytest

from evreload._program import uvicorn_end
from support.servers import await_answer, copy_example, page_at

uvicorn_server = pytest.importorskip("uvicorn.server")
if sys.platform == "win32":
    pytest.skip("the command runs in one process", allow_module_level=True)

FIXED_SLEEP = 0.1  # of uvicorn, in seconds

LIFESPAN = """
import asyncio, contextlib, os, pathlib, time
import fastapi
import greeting

kept = pathlib.Path("kept.txt")
print("read", kept.read_text() if kept.exists() else "nothing", flush=True)

@contextlib.asynccontextmanager
async def lifespan(app):
    yield
    await asyncio.sleep(0.05)
    kept.write_text(greeting.GREETING)

app = fastapi.FastAPI(lifespan=lifespan)

@app.get("/")
def index():
    return {"greeting": greeting.GREETING, "pid": os.getpid()}

@app.get("/slow")
async def slow():
    print("begins", flush=True)
    await asyncio.sleep(0.5)
    return "slow"
"""


@pytest.fixture
def uvicorn_app(app, port):
    copy_example(app, "fastapi", "fastapi uvicorn")
    app.write("app.py", LIFESPAN)

    def starts(*options):
        command = ["-m", "uvicorn", "--port", str(port), "app:app"]
        app.start("-m", "evreload", "--stop-timeout", "20", *options, *command)
        await_answer(app, port, "Hello")
        app.await_watching(by_now=True)

    app.start_server = starts
    return app


def test_the_next_run_reads_what_the_shutdown_of_uvicorn_has_written(uvicorn_app, port):
    uvicorn_app.start_server()
    uvicorn_app.write("greeting.py", 'GREETING = "Good morning"')
    await_answer(uvicorn_app, port, "Good morning")
    uvicorn_app.await_lines("read Hello")


def test_uvicorn_finishes_a_request_before_it_ends(uvicorn_app, port):
    uvicorn_app.start_server()
    pages: list[str] = []
    client = threading.Thread(target=lambda: pages.append(page_at(f"http://127.0.0.1:{port}/slow")))
    client.start()
    uvicorn_app.line("begins")
    uvicorn_app.write("greeting.py", 'GREETING = "Good morning"')
    client.join()
    assert pages == ['"slow"']
    assert uvicorn_app.count("begins") == 1
    await_answer(uvicorn_app, port, "Good morning")
    uvicorn_app.await_lines("read Hello")


# In this process


class Loop(asyncio.SelectorEventLoop):
    """A loop that counts the fixed sleeps which have passed; each takes *scale* times as long."""

    passed = 0
    scale = 20

    def call_later(self, delay, callback, *args, context=None):  # type: ignore[override]
        if delay != FIXED_SLEEP:
            return super().call_later(delay, callback, *args, context=context)

        def count(*args):
            self.passed += 1
            callback(*args)

        return super().call_later(delay * self.scale, count, *args, context=context)


@pytest.fixture
def serve(monkeypatch):
    """Return a function that runs a server until SIGTERM, and returns its sleeps from there on.

    *on_start* is called before the signal, as the drain does.
    """
    monkeypatch.setattr(uvicorn_server, "asyncio", asyncio)
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))

    async def app(scope, receive, send):
        raise AssertionError("there are no requests")

    async def main(on_start):
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        config = uvicorn_server.Config(app, port=0, lifespan="off", log_config=None)
        server = uvicorn_server.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)  # it is in its main loop
        on_start()
        passed = loop.passed
        signal.raise_signal(signal.SIGTERM)
        await task
        return loop.passed - passed

    def serves(on_start):
        with asyncio.Runner(loop_factory=Loop) as runner:
            return runner.run(main(on_start))

    yield serves
    signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]  # uvicorn passes it on


def test_uvicorn_ends_without_its_fixed_sleeps(serve):
    assert serve(uvicorn_end.end_without_sleeps) == 0


def test_a_version_of_uvicorn_that_is_not_known_is_left_alone(monkeypatch, serve):
    async def main_loop(self):
        while not self.should_exit:  # noqa: ASYNC110
            await asyncio.sleep(FIXED_SLEEP)

    monkeypatch.setattr(Loop, "scale", 1)
    monkeypatch.setattr(uvicorn_server.Server, "main_loop", main_loop)
    handlers = []

    def on_start():
        before = signal.getsignal(signal.SIGTERM)
        uvicorn_end.end_without_sleeps()
        handlers.append(signal.getsignal(signal.SIGTERM) == before)

    assert serve(on_start) == 2
    assert handlers == [True]
    assert uvicorn_server.asyncio is asyncio


@pytest.mark.parametrize("missing", ["Server", "asyncio"])
def test_a_module_of_that_name_that_is_not_uvicorn_is_left_alone(monkeypatch, missing):
    other = SimpleNamespace(Server=uvicorn_server.Server, asyncio=asyncio)
    delattr(other, missing)
    monkeypatch.setitem(sys.modules, "uvicorn.server", other)
    uvicorn_end.end_without_sleeps()
    assert getattr(other, "asyncio", asyncio) is asyncio
