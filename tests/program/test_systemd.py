"""Programs that systemd starts: they get its sockets, and are taken for its service."""

from __future__ import annotations

import socket
import sys

import pytest

from support.programs import MODES

# As systemd, and systemd-socket-activate, start a program: by an exec, with the sockets from
# descriptor 3 on.
ACTIVATE = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
os.dup2(listener.detach(), 3)
os.set_inheritable(3, True)
for name in ("LISTEN_PID", "WATCHDOG_PID", "SYSTEMD_EXEC_PID"):
    os.environ[name] = str(os.getpid())
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="web", LISTEN_PIDFDID="1", OTHER=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""

# Like sd_listen_fds(3), it removes the variables, and has the descriptor closed in an exec.
SERVICE = """
import asyncio, logging, os, socket, sys
import evreload
import helper

def passed():
    names = ("LISTEN_PID", "WATCHDOG_PID", "SYSTEMD_EXEC_PID")
    if any(os.environ.get(name) != str(os.getpid()) for name in names):
        sys.exit("another process is meant")
    if (count := os.environ.get("LISTEN_FDS")) != "1":
        sys.exit(f"{count} sockets were passed")
    if KEEPS:
        return socket.socket(fileno=3)
    del os.environ["LISTEN_FDS"], os.environ["LISTEN_PID"]
    os.set_inheritable(3, False)
    return socket.socket(fileno=3)

async def answer(reader, writer):
    if await reader.read(1) == b"r":
        writer.close()
        evreload.reload()
    writer.write(b"%d" % helper.VALUE)
    writer.close()

async def main():
    evreload.start()
    server = await asyncio.start_server(answer, sock=passed())
    print("ready", helper.VALUE, os.environ["OTHER"] == str(os.getpid()), flush=True)
    await asyncio.Event().wait()

logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
asyncio.run(main())
"""


def ask(port, data=b"."):
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(data)
        return client.recv(10)


@pytest.mark.parametrize("keeps", [True, False], ids=["keeps", "removes"])
@MODES
def test_a_service_gets_its_sockets_in_each_run(app, port, mode, keeps):
    app.write("helper.py", "VALUE = 0")
    app.write("activate.py", ACTIVATE)
    app.write("app.py", SERVICE.replace("KEEPS", str(keeps)))
    app.start("activate.py", str(port), sys.executable, *mode, "app.py")
    for value in range(3):
        if value:
            app.await_watching(by_now=True)
            app.write("helper.py", f"VALUE = {value}")
        app.line(f"ready {value} {not mode}")
        assert ask(port) == b"%d" % value
        if not mode:
            app.await_lines("evreload: watching", value + 1)
    assert ask(port, b"r") == b""
    app.line(f"ready {value} {not mode}")
    assert ask(port) == b"%d" % value
