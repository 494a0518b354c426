"""The sockets of `evreload.bind_sockets` stay open when the process restarts in place."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys

import pytest

from evreload._inprocess.inherited_sockets import InheritedSockets
from support.pending import pending_request
from support.programs import MODES
from support.server_programs import IN_PLACE, ask, await_value, requests_in_progress, restart
from support.servers import Clients, free_port

AWAITS_GO = """\
while not os.path.exists("go"):
                await asyncio.sleep(0.01)"""


@MODES
def test_the_next_run_gets_the_sockets_of_bind_sockets(app, port, mode):
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", IN_PLACE)
    app.start(*mode, "app.py", str(port))
    app.await_watching()
    pid = await_value(port, 0)
    with Clients(port) as clients:
        for value in range(1, 4):
            assert (restart(app, port, value) == pid) == (not mode)
            if not mode:
                app.await_watching()
    assert "ConnectionRefusedError" not in clients.outcomes, clients.outcomes


def test_sockets_are_inherited_by_a_program_that_binds_late(app, port):
    slow = "async def main():\n    evreload.start()\n    if helper.VALUE: await asyncio.sleep(2)\n"
    start_in_place(app, port, IN_PLACE.replace("async def main():\n", slow))
    await_value(port, 0)
    app.write("helper.py", "VALUE = 1")
    app.line("restarting")
    with Clients(port) as clients:
        await_value(port, 1)
    assert not {"ConnectionRefusedError", "ConnectionResetError"} & set(clients.outcomes)


def start_in_place(app, port, program=IN_PLACE):
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", program)
    app.start("app.py", str(port))
    app.await_watching()


@pytest.mark.parametrize(
    "call",
    [
        "evreload.bind_sockets(int(sys.argv[1]))",
        'evreload.bind_sockets(int(sys.argv[1]), "127.0.0.1", backlog=64)',
        'tornado.netutil.bind_sockets(int(sys.argv[1]), "127.0.0.1")',
    ],
)
def test_another_call_may_bind_the_same_port(app, port, call):
    start_in_place(app, port)
    app.write("helper.py", "VALUE = 1")
    before = 'evreload.bind_sockets(int(sys.argv[1]), "127.0.0.1")'
    app.write("app.py", IN_PLACE.replace(before, call))
    pid = await_value(port, 1)
    app.await_watching()
    assert restart(app, port, 2) == pid
    assert app.count("Address already in use") == 0


def with_hook(hook):
    start = "    evreload.start()\n"
    return IN_PLACE.replace(start, f"    evreload.add_reload_hook({hook})\n{start}")


def test_requests_in_progress_are_answered_first(app, port):
    start_in_place(app, port)
    with requests_in_progress(app, port):
        restart(app, port, 1)


def test_a_client_that_connects_while_the_program_is_broken_is_answered_by_the_fix(app, port):
    start_in_place(app, port)
    app.write("helper.py", "VALUE = undefined")
    app.line("waiting for a change")
    app.await_watching()
    with pending_request(port) as answer:
        app.write("helper.py", "VALUE = 2")
        assert answer().startswith(b"2 ")


def wait_until_no_connection_is_accepted(port):
    with contextlib.suppress(TimeoutError):
        while ask(port, timeout=0.2):
            pass


def test_a_syntax_error_saved_while_requests_are_answered_resumes_accepting(app, port):
    slow = IN_PLACE.replace("await asyncio.sleep(sleep)", AWAITS_GO)
    start_in_place(app, port, slow.replace("start()", "start(grace=600)"))
    pid = await_value(port, 0)
    with pending_request(port, "/?sleep=1") as answer:
        app.line("asked")
        app.write("helper.py", "VALUE = 1")
        wait_until_no_connection_is_accepted(port)
        app.write("helper.py", "VALUE = (")
        app.write("go")
        app.line("SyntaxError")
        assert answer().startswith(b"0 ")
    assert await_value(port, 0) == pid
    assert restart(app, port, 2) == pid


def test_a_hook_may_stop_the_server(app, port):
    hook = "lambda: (server.stop(), print('has', 'stopped', flush=True))"
    start_in_place(app, port, with_hook(hook))
    app.write("helper.py", "VALUE = 1")
    app.line("has stopped")
    await_value(port, 1)
    app.await_watching()
    app.write("helper.py", "VALUE = 2")
    app.line("has stopped")
    await_value(port, 2)


def test_a_hook_may_close_the_sockets_and_exit(app, port):
    hook = "lambda: ([one.close() for one in server._sockets.values()], sys.exit(3))"
    start_in_place(app, port, with_hook(hook))
    app.write("helper.py", "VALUE = 1")
    assert app.wait() == 3


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere so large an environment fails otherwise"
)
def test_a_program_that_cannot_restart_resumes_accepting(app, port):
    giant = "import os\nos.environ['GIANT'] = 'x' * 10_000_000\n"
    forget = 'os.environ.pop(self.get_argument("forget", ""), None)\n        '
    start_in_place(app, port, giant + IN_PLACE.replace("self.write(", forget + "self.write("))
    pid = await_value(port, 0)
    app.write("helper.py", "VALUE = 1")
    assert app.line("cannot restart").endswith("; still running the previous version")
    assert await_value(port, 0) == pid
    assert await_value(port, 0, "/?forget=GIANT") == pid
    assert restart(app, port, 2) == pid


# The descriptors alone


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["tcp", "udp"])
def test_only_sockets_in_the_way_of_a_bind_are_closed(monkeypatch, kind):
    ports = [free_port(), free_port()]
    passed = {json.dumps([port]): [os.open(os.devnull, os.O_RDONLY)] for port in ports}
    monkeypatch.setenv(InheritedSockets.VARIABLE, json.dumps([os.getpid(), passed]))
    inherited = InheritedSockets()
    with socket.socket(type=kind) as sock:
        inherited.on_bind((sock, ("127.0.0.1", ports[0])))
    left = passed.keys() if kind == socket.SOCK_DGRAM else {json.dumps([ports[1]])}
    assert inherited._unclaimed.keys() == left
    inherited.close_unclaimed()


def test_descriptors_that_another_process_was_to_inherit_are_not_used(monkeypatch):
    monkeypatch.setenv(InheritedSockets.VARIABLE, json.dumps([os.getpid() + 1, {"[]": [0]}]))
    InheritedSockets().close_unclaimed()  # would close the standard input of this process
    assert os.fstat(0)
