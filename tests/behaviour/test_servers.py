"""Servers, and programs on every kind of loop, that call start()."""

from __future__ import annotations

import http.client
import os

import pytest

from support.files import await_tick

LOGGING = """
import asyncio, logging, os, sys, threading, time
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
import evreload
import helper

def ready(*words):
    print("ready", helper.VALUE, *words, flush=True)
"""


def start(app, program, *flags, **environment):
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", LOGGING + program)
    app.start(*flags, "app.py", **environment)


def assert_reloads(app, times=2):
    for value in range(1, times + 1):
        app.line(f"ready {value}")
        app.await_watching()
        app.write("helper.py", f"VALUE = {value + 1}")
    app.line(f"ready {times + 1}")


# Where start() is called, and which loop runs afterwards

MAIN = """
async def main():
    ready()
    await asyncio.Event().wait()
"""


@pytest.mark.parametrize(
    "run",
    [
        "asyncio.run(main())",
        "import uvloop; uvloop.run(main())",
        "from tornado.ioloop import IOLoop; IOLoop.current().run_sync(main)",
        "from tornado.ioloop import IOLoop; IOLoop(make_current=False).run_sync(main)",
        "t = threading.Thread(target=asyncio.run, args=(main(),)); t.start(); t.join()",
    ],
)
def test_start_at_the_top_of_a_module_works_with_every_loop(app, run):
    pytest.importorskip("uvloop") if "uvloop" in run else None
    start(app, f"evreload.start()\n{MAIN}\n{run}", "-X", "dev")
    assert_reloads(app)
    assert app.count("Warning") == 0


def test_start_on_uvloop_reloads(app):
    pytest.importorskip("uvloop")
    main = MAIN.replace("ready", "evreload.start(); ready")
    start(app, f"import uvloop\n{main}\nuvloop.run(main())")
    assert_reloads(app)


def test_a_debug_application_made_before_its_loop_reloads(app):
    program = """
import tornado.web
evreload.install()
application = tornado.web.Application(debug=True)

async def main():
    application.listen(0)
    ready()
    await asyncio.Event().wait()

asyncio.run(main())
"""
    start(app, program)
    assert_reloads(app)


def test_a_loop_that_runs_long_after_start_reloads(app):
    program = """
evreload.start()
ready("soon")
while not os.path.exists("go"):
    time.sleep(0.01)
asyncio.run(main())
"""
    start(app, MAIN + program)
    for value in (1, 2):
        app.line(f"ready {value} soon")
        app.write("go")
        app.line(f"ready {value}")
        app.await_watching()
        os.unlink(app.path("go"))
        app.write("helper.py", f"VALUE = {value + 1}")


WITHOUT_A_LOOP = """
from evreload._inprocess import reloader, tornado_loop
tornado_loop.NO_LOOP_TIME = 0
on_no_loop = reloader.Reloader._on_no_loop

def report(self):
    print("asked", answer := on_no_loop(self), flush=True)
    return answer

reloader.Reloader._on_no_loop = report
evreload.start(check_time=50)
while "evreload-loop-search" not in [thread.name for thread in threading.enumerate()]:
    time.sleep(0.01)  # this thread starts once evreload watches
ready("soon")
while not os.path.exists("go"):
    time.sleep(0.01)
"""


def test_a_change_while_no_loop_runs_logs_one_warning(app):
    start(app, WITHOUT_A_LOOP)
    app.line("ready 1")
    await_tick()
    app.write("helper.py", "VALUE = 2")
    warning = app.line("files have changed, but no event loop runs in this program")
    assert warning.endswith("start() needs one; `python -m evreload` does not")
    app.write("go")
    assert app.wait() == 0
    assert app.count("no event loop runs") == 1


def test_without_a_change_a_late_loop_logs_no_warning(app):
    program = f"{WITHOUT_A_LOOP}\n{MAIN}\nasyncio.run(main())"
    start(app, program, EVRELOAD_POLL="1")  # polling reports each file once, changed or not
    assert app.line("asked") == "asked False"
    app.write("go")
    app.await_watching()
    app.write("helper.py", "VALUE = 2")
    app.line("ready 2")
    assert app.count("no event loop runs") == 0


# More than once


def test_a_second_start_on_the_same_loop_does_nothing(app):
    main = MAIN.replace("ready", "evreload.start(); evreload.start(); ready")
    start(app, main + "asyncio.run(main())")
    assert_reloads(app)
    assert app.count("watching") == 2
    assert app.count("more than once") == 0
    assert app.count("restarting server") == 2


def test_a_second_start_on_another_loop_warns_and_the_first_still_reloads(app):
    program = """
def other():
    asyncio.run(start_there())

async def start_there():
    evreload.start()

async def main():
    evreload.start()
    await asyncio.to_thread(other)
    ready()
    await asyncio.Event().wait()

asyncio.run(main())
"""
    start(app, program)
    assert_reloads(app)
    assert app.count("evreload started more than once in the same process") == 3


def test_a_second_loop_after_the_end_of_the_first_reloads(app):
    program = """
async def first():
    evreload.start()
    await asyncio.sleep(0)

async def second():
    evreload.start()
    ready()
    await asyncio.Event().wait()

asyncio.run(first())
asyncio.run(second())
"""
    start(app, program, "-X", "dev")
    assert_reloads(app)
    assert app.count("more than once") == 0


def test_start_after_stop_finds_the_edits_in_between(app):
    program = """
async def main():
    evreload.start()
    ready("once")
    while not os.path.exists("stop"):
        await asyncio.sleep(0.01)
    evreload.stop()
    print("threads", [t.name for t in threading.enumerate() if "evreload" in t.name], flush=True)
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)
    evreload.start()
    await asyncio.Event().wait()

asyncio.run(main())
"""
    start(app, program)
    app.line("ready 1")
    app.await_watching()
    app.write("stop")
    assert app.line("threads") == "threads []"
    app.write("helper.py", "VALUE = 2")
    app.write("go")
    app.line("ready 2")
    assert app.count("restarting server") == 1


# Off


def test_evreload_off_starts_no_thread_and_imports_no_reloader(app):
    program = """
async def main():
    evreload.start()
    evreload.watch("x")
    evreload.wait()
    reloads = "evreload._inprocess.reloader" in sys.modules
    print("threads", threading.active_count(), reloads, flush=True)

asyncio.run(main())
"""
    start(app, program, EVRELOAD="off")
    assert app.line("threads") == "threads 1 False"
    assert app.wait() == 0


def test_disable_stops_a_started_reloader(app):
    program = """
async def main():
    evreload.start()
    ready()
    while not os.path.exists("off"):
        await asyncio.sleep(0.01)
    evreload.disable()
    evreload.start()
    print("threads", [t.name for t in threading.enumerate() if "evreload" in t.name], flush=True)
    while not os.path.exists("cookie"):
        await asyncio.sleep(0.01)

asyncio.run(main())
"""
    start(app, program)
    app.line("ready 1")
    app.await_watching()
    app.write("off")
    assert app.line("threads") == "threads []"
    app.write("helper.py", "VALUE = 2")
    app.write("cookie")
    assert app.wait() == 0
    assert app.count("restarting server") == 0


def test_the_older_signature_of_start_reloads_and_warns(app):
    program = """
from tornado.ioloop import IOLoop

async def main():
    evreload.start(IOLoop.current(), 500)
    ready()
    await asyncio.Event().wait()

asyncio.run(main())
"""
    start(app, program, "-W", "default")
    assert_reloads(app)
    assert app.count("app.py:13: DeprecationWarning: start(io_loop) is deprecated") == 3


# HTTP

SERVER = """
import tornado.httpserver, tornado.web, tornado.wsgi

class Handler(tornado.web.RequestHandler):
    def get(self):
        self.write(str(helper.VALUE))

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(helper.VALUE).encode()]

async def main():
    server = tornado.httpserver.HTTPServer({application})
    server.listen(int(os.environ.get("PORT", 0)), "127.0.0.1")
    os.environ["PORT"] = str(next(iter(server._sockets.values())).getsockname()[1])
    evreload.start()
    ready(os.environ["PORT"])
    await asyncio.Event().wait()

asyncio.run(main())
"""


def ask(client):
    client.request("GET", "/")
    return client.getresponse().read().decode()


@pytest.mark.parametrize(
    "application", ["tornado.web.Application([('/', Handler)])", "tornado.wsgi.WSGIContainer(wsgi)"]
)
def test_a_keep_alive_client_reconnects_to_the_same_port(app, application):
    start(app, SERVER.format(application=application))
    port = app.line("ready 1").split()[-1]
    client = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
    assert [ask(client), ask(client)] == ["1", "1"]
    kept = client.sock
    for value in ("2", "3"):
        app.await_watching()
        app.write("helper.py", f"VALUE = {value}")
        assert app.line(f"ready {value}").split()[-1] == port
        assert kept.recv(1) == b""  # the server has closed the connection
        client.close()
        assert ask(client) == value
        kept = client.sock
    client.close()
    assert os.path.exists(f"/proc/{app.pid}")
