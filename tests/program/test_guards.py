"""Programs that forbid calls that would block their loop: evreload breaks none of these rules."""

from __future__ import annotations

import pytest

from support.programs import MODES
from support.server_programs import await_value

# The program ends at the first call of evreload that it forbids. It is a server on a loop.
SERVER = """
import asyncio, logging, os, sys
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
import evreload
import helper

class Answer(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(f"HTTP/1.0 200 OK\\r\\n\\r\\n{helper.VALUE} {os.getpid()}".encode())
        transport.close()

def on_reload():
    print("hook", helper.VALUE, flush=True)

async def on_reload_later():
    await asyncio.sleep(0)
    print("coroutine hook", helper.VALUE, flush=True)

async def main():
    loop = asyncio.get_running_loop()
    print("ready", helper.VALUE, flush=True)
    evreload.start()
    evreload.add_reload_hook(on_reload)
    evreload.add_reload_hook(on_reload_later)
    evreload.watch("config.toml")
    guard()
    server = await loop.create_server(Answer, "127.0.0.1", int(sys.argv[1]))
    if helper.VALUE == 0:
        import late
        print("late", late.__name__, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

AIOHTTP = """
import asyncio, os, sys
import aiohttp.web
import evreload
import helper

async def answer(request):
    return aiohttp.web.Response(text=f"{helper.VALUE} {os.getpid()}")

async def main():
    evreload.start()
    evreload.add_reload_hook(lambda: print("hook", helper.VALUE, flush=True))
    guard()
    application = aiohttp.web.Application()
    application.add_routes([aiohttp.web.get("/", answer)])
    runner = aiohttp.web.AppRunner(application)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", int(sys.argv[1])).start()
    print("ready", helper.VALUE, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

BLOCKBUSTER = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
import blockbuster

def guard():
    buster = blockbuster.BlockBuster()
    buster.activate()
    for name in ("BufferedWriter", "TextIOWrapper"):  # or the program could not print
        buster.functions[f"io.{name}.write"].deactivate()
"""

# Like that of Home Assistant: it knows the calls by name, and replaces them everywhere.
BY_NAME = """
import asyncio, builtins, importlib, os, socket, sys, time

def guard():
    def forbid(owner, name):
        real = getattr(owner, name)

        def guarded(*arguments, **options):
            # Python itself reads directories and files for each import.
            frame = sys._getframe(1)
            if "importlib" in frame.f_code.co_filename or not running():
                return real(*arguments, **options)
            os.write(1, f"FORBIDDEN {name} {frame.f_code.co_filename}\\n".encode())
            raise RuntimeError(f"{name} would block the loop")

        setattr(owner, name, guarded)

    def running():
        return asyncio._get_running_loop() is not None

    names = "listdir scandir stat lstat fstat readlink access getcwd chdir unlink read"
    for name in names.split():
        forbid(os, name)
    for name in ("exists", "isfile", "isdir", "realpath", "abspath", "samefile"):
        forbid(os.path, name)
    for name in ("recvmsg", "sendmsg", "connect"):
        forbid(socket.socket, name)
    forbid(builtins, "open")
    forbid(time, "sleep")
"""


def restarts_three_times(app, port, *, has_hooks=True):
    app.line("ready 0")
    await_value(port, 0)
    app.await_watching()
    for value in (1, 2, 3):
        app.write("helper.py", f"VALUE = {value}")
        if has_hooks:
            app.await_lines("hook", value)
        await_value(port, value)
        app.await_lines("ready", value + 1)
        if not app.mode:
            app.await_lines("evreload: watching", value + 1)
    assert app.count("FORBIDDEN") == app.count("Blocking") == app.count("Traceback") == 0, (
        app.output
    )


@pytest.mark.parametrize("guard", [BLOCKBUSTER, BY_NAME], ids=["blockbuster", "by name"])
@MODES
def test_a_loop_that_forbids_blocking_calls(app, port, mode, guard):
    if guard is BLOCKBUSTER:
        pytest.importorskip("blockbuster")
    app.mode = mode
    app.write("helper.py", "VALUE = 0")
    app.write("late.py")
    app.write("app.py", guard + SERVER)
    app.start(*mode, "app.py", str(port))
    restarts_three_times(app, port)
    assert app.count("late late") == 1


@MODES
def test_a_file_that_is_imported_on_such_a_loop_is_watched(app, port, mode):
    app.mode = mode
    app.write("helper.py", "VALUE = 0")
    app.write("late.py")
    app.write("app.py", BY_NAME + SERVER)
    app.start(*mode, "app.py", str(port))
    app.line("late late")
    app.await_watching(by_now=True)
    for name in ("late.py", "config.toml"):
        app.write(name, "# changed")
        app.line(f"{name} modified; restarting server")
        app.line("ready 0")
        if not mode:
            app.line("evreload: watching")


@MODES
def test_aiohttp_under_blockbuster(app, port, mode):
    pytest.importorskip("blockbuster")
    pytest.importorskip("aiohttp")
    app.mode = mode
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", BLOCKBUSTER + AIOHTTP)
    app.start(*mode, "app.py", str(port))
    restarts_three_times(app, port)
