"""A program that is about to be stopped accepts no more connections.

In most of these tests the program is the process of the tests itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys

import pytest

from evreload._program import stop_accepting as module
from evreload._program.stop_accepting import stop_accepting
from support.deadline import DEADLINE
from support.server_programs import ASYNCIO, UVLOOP, ask, start

needs_epoll = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has epoll")


@pytest.fixture(autouse=True)
def accept(monkeypatch):
    monkeypatch.setattr(socket.socket, "accept", socket.socket.accept)  # restores it afterwards


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def epoll():
    with contextlib.closing(select.epoll()) as epoll:
        yield epoll


@pytest.fixture
def connect(listener):
    """Return a function that connects to the listener."""
    with contextlib.ExitStack() as stack:
        address = listener.getsockname()
        yield lambda: stack.enter_context(socket.create_connection(address, DEADLINE))


def ready(epoll, seconds=0.0):
    return [descriptor for descriptor, _ in epoll.poll(seconds)]


@needs_epoll
def test_a_loop_is_not_woken_for_new_connections_but_for_accepted_ones(epoll, listener, connect):
    epoll.register(listener.fileno(), select.EPOLLIN)
    client = connect()
    assert ready(epoll, DEADLINE) == [listener.fileno()]
    served, _ = listener.accept()
    with served:
        epoll.register(served.fileno(), select.EPOLLIN)
        stop_accepting([])
        connect()
        assert ready(epoll) == []
        client.send(b"a question")
        assert ready(epoll, DEADLINE) == [served.fileno()]


@needs_epoll
def test_a_loop_may_unregister_a_socket_it_is_not_woken_for(epoll, listener, connect):
    """The loop of Twisted does so as it ends, and skips the rest of its shutdown if that fails."""
    epoll.register(listener.fileno(), select.EPOLLIN)
    stop_accepting([])
    epoll.modify(listener.fileno(), select.EPOLLIN)
    connect()
    assert ready(epoll, DEADLINE) == [listener.fileno()]
    epoll.unregister(listener.fileno())


@needs_epoll
def test_a_loop_that_registered_exclusively_is_not_woken_either(epoll, listener, connect):
    epoll.register(listener.fileno(), select.EPOLLIN | select.EPOLLEXCLUSIVE)
    stop_accepting([])
    connect()
    assert ready(epoll) == []


@needs_epoll
def test_a_loop_is_still_woken_for_unix_sockets(epoll, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        epoll.register(listener.fileno(), select.EPOLLIN)
        stop_accepting([])
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(listener.getsockname())
            assert ready(epoll, DEADLINE) == [listener.fileno()]


@needs_epoll
def test_connections_to_a_port_bound_as_0_are_still_accepted(epoll, listener, connect):
    """The next run has another port, and would never answer there."""
    epoll.register(listener.fileno(), select.EPOLLIN)
    stop_accepting([listener.getsockname()])
    connect()
    assert ready(epoll, DEADLINE) == [listener.fileno()]
    listener.accept()[0].close()


@needs_epoll
def test_an_epoll_that_was_closed_meanwhile_does_not_affect_the_others(
    monkeypatch, epoll, listener, connect
):
    with contextlib.closing(select.epoll()) as other:
        watched_by = module._watched_by

        def fail_for_other(descriptor):
            if descriptor == other.fileno():
                raise FileNotFoundError("another thread has closed it")
            return watched_by(descriptor)

        monkeypatch.setattr(module, "_watched_by", fail_for_other)
        epoll.register(listener.fileno(), select.EPOLLIN)
        stop_accepting([])
        connect()
        assert ready(epoll) == []


@needs_epoll
def test_a_number_may_mean_another_socket_by_now(epoll, listener, connect):
    copy, other = listener.dup(), socket.create_server(("127.0.0.1", 0))
    with copy, other, listener.dup() as another:  # its number comes after that of the copy
        for one in (copy, another):
            epoll.register(one.fileno(), select.EPOLLIN)
        number = copy.fileno()
        os.dup2(other.fileno(), number)  # the listener itself is still open
        stop_accepting([])
        connect()
        assert ready(epoll, DEADLINE) == [number]


@needs_epoll
def test_without_epoll_which_gevent_removes_accept_is_replaced(monkeypatch, listener):
    monkeypatch.delattr(select, "epoll")
    listener.setblocking(False)
    stop_accepting([])
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_a_nonblocking_accept_finds_no_connection(listener, connect):
    listener.setblocking(False)
    connect()
    assert select.select([listener], [], [], DEADLINE)[0]
    stop_accepting([])
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_a_blocking_accept_waits_until_the_stop_signal_must_have_come(
    monkeypatch, listener, connect
):
    waited: list[float] = []
    monkeypatch.setattr(module, "sleep", waited.append)
    connect()
    stop_accepting([])
    served, _ = listener.accept()
    served.close()
    assert waited == [module.BLOCKED_ACCEPT_TIME]


# Under the command

# Goes on serving for a while after SIGTERM.
LINGERS = """\
    loop = asyncio.get_running_loop()
    def on_sigterm():
        print("got SIGTERM", flush=True)
        loop.call_later(0.5, os._exit, 0)
    loop.add_signal_handler(15, on_sigterm)
    await server"""


@pytest.mark.parametrize("hook", ["", "import evreload; evreload.add_reload_hook(print)\n"])
@pytest.mark.parametrize("program", [ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])
def test_a_program_about_to_be_stopped_accepts_no_connection(app, port, program, hook):
    if program is UVLOOP:
        pytest.importorskip("uvloop")
    start(app, port, hook + program.replace("    await server", LINGERS))
    for value in range(1, 4):
        app.write("helper.py", f"VALUE = {value}")
        app.line("got SIGTERM")
        assert ask(port).split()[0] == str(value)


# Accepts on SIGTERM, if it can. Signals that come within 0.1 s are handled together.
SLOW_TO_HANDLE_SIGNALS = """
import hashlib, os, signal, socket, sys
import helper

def on_sigterm(number, frame):
    try:
        listener.accept()
    except BlockingIOError:
        print("accepted nothing", flush=True)
    else:
        print("accepted a connection", flush=True)
    os._exit(0)

signal.signal(signal.SIGTERM, on_sigterm)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
listener.setblocking(False)
print("listening", helper.VALUE, flush=True)
while True:
    hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000)
"""


def test_the_stop_signal_does_not_overtake_the_request_to_stop_accepting(app, port):
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", SLOW_TO_HANDLE_SIGNALS)
    app.start("-m", "evreload", "app.py", str(port))
    app.line("listening 0")
    app.await_watching(by_now=True)
    with socket.create_connection(("127.0.0.1", port)):
        for value in range(1, 4):
            app.write("helper.py", f"VALUE = {value}")
            assert app.line("accepted") == "accepted nothing"
            app.line(f"listening {value}")
