"""Programs that evreload restarts, and functions that wait for these restarts."""

from __future__ import annotations

import sys

import pytest

from support.files import await_tick

# A program on an event loop: prints "ready VALUE" when the loop runs.
LOOP = """
import asyncio, logging, os, socket, sys
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
import evreload
import helper

async def main():
    evreload.start()
    print("ready", helper.VALUE, flush=True)
    listener = socket.create_server(("127.0.0.1", 0))
    await asyncio.Event().wait()

asyncio.run(main())
"""


# Prints "ready" and a value, then watches. Each run imports `cookie`: see `assert_no_other_change`.
# It opens a listening socket: from this the supervisor notices that the program is up.
PROGRAM = """
import asyncio, logging, os, signal, socket, sys, threading
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
import evreload
import cookie
{body}

async def main():
    print("ready", {value}, flush=True)
    evreload.start(check_time=50{arguments})
    listener = socket.create_server(("127.0.0.1", 0))
    await asyncio.Event().wait()

asyncio.run(main())
"""


# The two modes, as the arguments between Python and the program: the program calls start(), or it
# runs under the command.
START, COMMAND = (), ("-m", "evreload")


MODES = pytest.mark.parametrize("mode", [START, COMMAND], ids=["start", "command"])


def runner(app, *, mode=START, poll=False):
    """Return a function that runs a program, and blocks until evreload watches.

    The program executes *body* and prints *value*.
    """
    app.mode = mode
    environment = {"EVRELOAD_POLL": "1"} if poll else {}

    def run(
        body="import helper", value="helper.VALUE", *, arguments="", prefix=(), await_watching=True
    ):
        app.write("cookie.py")
        app.write("app.py", PROGRAM.format(body=body, value=value, arguments=arguments))
        app.start_command([*prefix, sys.executable, *mode, "app.py"], **environment)
        if await_watching:
            line = app.await_watching()
            assert ("(polling" in line) == poll
        return app

    return run


def await_restart(app, *names):
    """Block until the program has restarted for exactly these files, and watches again.

    Return the line that it prints once it is ready.
    """
    line = app.line("restarting server")
    paths = ", ".join(sorted(names if app.mode else map(app.path, names)))
    assert line == f"evreload: {paths} modified; restarting server", app.output
    return await_next_run(app)


def await_next_run(app):
    """Block until the program watches again; return the line that it prints once it is ready."""
    ready = app.line("ready")
    if app.mode:
        app.line("serving again")
        await_tick()
    else:
        app.await_watching()
    return ready


def assert_no_other_change(app):
    """Save `cookie.py`, and check that the program restarts for this file and for no other."""
    app.write("cookie.py", "# changed")
    await_restart(app, "cookie.py")
