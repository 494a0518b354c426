"""Requests in progress are finished before the program is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import select

import pytest
import tornado.web

from evreload._program import tornado_drain
from support.deadline import DEADLINE
from support.programs import MODES
from support.server_programs import (
    IN_PLACE,
    PAGE,
    TORNADO,
    WORKERS,
    await_value,
    requests_in_progress,
    restart,
    start,
)


def test_requests_in_progress_are_answered_by_the_old_code(app, port):
    start(app, port, TORNADO)
    with requests_in_progress(app, port):
        restart(app, port, 1)


@pytest.mark.parametrize("how", ["shared", "reuse-port"])
def test_requests_in_progress_are_answered_by_the_old_workers(app, port, how):
    start(app, port, WORKERS, arguments=[how])
    with requests_in_progress(app, port):
        restart(app, port, 1)


# The first process waits for any signal; a child that multiprocessing has forked serves.
PAUSED = """
import asyncio, multiprocessing, os, signal, sys
import tornado.web
import helper

PAGE

def serve():
    async def main():
        tornado.web.Application([("/", Page)]).listen(int(sys.argv[1]), "127.0.0.1")
        await asyncio.Event().wait()
    asyncio.run(main())

multiprocessing.get_context("fork").Process(target=serve, daemon=True).start()
signal.pause()
""".replace("PAGE\n", PAGE)


def test_requests_are_answered_while_the_first_process_waits_for_a_signal(app, port):
    start(app, port, PAUSED)
    with requests_in_progress(app, port):
        restart(app, port, 1)


def test_an_idle_connection_is_closed_while_others_are_being_answered(app, port):
    start(app, port, TORNADO, "--grace", "600")
    slow, kept = (http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE) for _ in range(2))
    with contextlib.closing(slow), contextlib.closing(kept):
        slow.request("GET", "/?sleep=5")
        kept.request("GET", "/")
        assert kept.getresponse().read().startswith(b"0 ")
        app.write("helper.py", "VALUE = 1")
        assert kept.sock.recv(1) == b""
        assert not select.select([slow.sock], [], [], 0)[0]
        kept.close()
        kept.request("GET", "/")
        assert slow.getresponse().read().startswith(b"0 ")
        assert kept.getresponse().read().startswith(b"1 ")


def test_a_grace_of_zero_waits_for_no_request(app, port):
    start(app, port, TORNADO, "--grace", "0")
    assert_not_waited_for(app, port)


@pytest.mark.parametrize("how", ["shared", "reuse-port"])
def test_a_grace_of_zero_waits_for_no_request_of_workers(app, port, how):
    start(app, port, WORKERS, "--grace", "0", arguments=[how])
    assert_not_waited_for(app, port)
    assert app.count("not ready") == 0


def test_requests_of_workers_may_take_no_longer_than_the_grace(app, port):
    start(app, port, WORKERS, "-v", "--grace", "0.1", arguments=["shared"])
    assert_not_waited_for(app, port)
    app.line("a request from")


def assert_not_waited_for(app, port):
    slow = http.client.HTTPConnection("127.0.0.1", port)
    with contextlib.closing(slow):
        slow.request("GET", "/?sleep=60")
        app.line("asked")
        restart(app, port, 1)
        with pytest.raises((OSError, http.client.HTTPException)):
            slow.getresponse()


def test_an_event_stream_does_not_delay_the_restart(app, port):
    start(app, port, TORNADO, "--grace", "600")
    stream = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    stream.request("GET", "/events")
    assert stream.getresponse().readline() == b"data: first\n"
    restart(app, port, 1)
    stream.close()


@MODES
def test_a_websocket_does_not_delay_the_restart(app, port, mode):
    program = TORNADO if mode else IN_PLACE.replace("start()", "start(grace=600)")
    program = program.replace('("/", Page)', '("/", Page), ("/talk", Talk)')
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", WEBSOCKET + program)
    app.start(*mode, *(["--grace", "600"] if mode else []), "app.py", str(port))
    await_value(port, 0)
    app.await_watching()
    talk = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    with contextlib.closing(talk):
        talk.request("GET", "/talk", headers=UPGRADE)
        assert talk.getresponse().status == 101
        restart(app, port, 1)


WEBSOCKET = """
import tornado.websocket

class Talk(tornado.websocket.WebSocketHandler):
    pass
"""


UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Version": "13",
}


STOP_SERVER = """\
    def on_sigterm():
        server.stop()
        print("cleaned up", flush=True)
        os._exit(0)
    asyncio.get_running_loop().add_signal_handler(15, on_sigterm)
"""


def test_a_program_may_stop_its_server_on_its_stop_signal(app, port):
    listen = "    application.listen("
    start(app, port, TORNADO.replace(listen, STOP_SERVER + "    server = application.listen("))
    app.write("helper.py", "VALUE = 1")
    app.line("cleaned up")
    await_value(port, 1)


# Servers and handlers of another kind than the drain knows


class UnknownHandler(tornado.web.RequestHandler):
    def __init__(self):
        """Leave out what the handler of Tornado sets."""


def test_servers_of_an_unknown_kind_are_not_waited_for(monkeypatch, caplog):
    monkeypatch.setattr(tornado_drain, "_servers", lambda: [object()])
    servers = tornado_drain.TornadoDrain()
    assert asyncio.run(servers.finish(60)) == []
    assert caplog.messages == ["requests in progress cannot be waited for"]
    servers.resume()


def test_a_handler_without_a_request_is_no_event_stream():
    handler = UnknownHandler()
    assert list(tornado_drain._event_streams()) == []
    del handler
