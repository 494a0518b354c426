"""Requests in progress are finished before the program is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import select

import pytest
import tornado.httpclient
import tornado.httpserver
import tornado.netutil
import tornado.web

from evreload._program import tornado_drain
from support.deadline import DEADLINE
from support.pending import pending_request
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


# Workers in interpreters of their own, which multiprocessing has spawned.
SPAWNED = """
import asyncio, multiprocessing, os, sys
import tornado.httpserver, tornado.netutil, tornado.web
import evreload
import helper

PAGE

def bind():
    return tornado.netutil.bind_sockets(int(sys.argv[1]), "127.0.0.1", reuse_port=True)

def serve(sockets):
    async def main():
        application = tornado.web.Application([("/", Page)])
        tornado.httpserver.HTTPServer(application).add_sockets(sockets or bind())
        print("serves", evreload.generation(), flush=True)
        await asyncio.Event().wait()
    asyncio.run(main())

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    sockets = bind() if sys.argv[2] == "shared" else None
    workers = [context.Process(target=serve, args=(sockets,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
""".replace("PAGE\n", PAGE)


@pytest.mark.parametrize("options", [(), ("--no-keep-sockets",)], ids=["", "sockets not kept"])
@pytest.mark.parametrize("how", ["shared", "reuse-port"])
def test_requests_are_answered_by_workers_that_were_spawned(app, port, how, options):
    start(app, port, SPAWNED, *options, arguments=[how])
    app.await_lines("serves 0", 2)
    with requests_in_progress(app, port):
        restart(app, port, 1)
    app.await_lines("serves 1", 2)


def test_requests_of_spawned_workers_may_take_no_longer_than_the_grace(app, port):
    start(app, port, SPAWNED, "-v", "--grace", "0.1", arguments=["shared"])
    assert_not_waited_for(app, port)
    app.line("a request from")


def test_workers_have_the_same_grace_after_a_restart_in_place(app, port):
    again = "import evreload\nif helper.VALUE == 0 == evreload.generation(): evreload.reload()\n"
    text = WORKERS.replace("import helper\n", "import helper\n" + again)
    start(app, port, text, "--grace", "60", arguments=["shared"])
    with pending_request(port, "/?sleep=2") as answer:  # more than the grace by default
        app.line("asked")
        app.write("helper.py", "VALUE = 1")
        assert answer().startswith(b"0 ")
    await_value(port, 1)


RELOADS = TORNADO.replace(
    'self.write(f"',
    'if sleep:\n            evreload.reload()\n            print("no reload", flush=True)\n'
    '        self.write(f"',
).replace("import helper", "import evreload, helper")


def test_a_reload_in_a_request_does_not_restart_twice(app, port):
    """The program is about to be stopped, and waits for the request."""
    start(app, port, RELOADS, "--grace", "60")
    with pending_request(port, "/?sleep=1") as answer:
        app.line("asked")
        app.write("helper.py", "VALUE = 1")
        assert answer().startswith(b"0 ")
    await_value(port, 1)
    app.line("serving again")
    assert app.count("no reload") == app.count("restarting server") == 1


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


def test_a_server_accepts_again_if_its_requests_cannot_be_waited_for(monkeypatch, caplog):
    def fail(servers):
        raise AttributeError("an attribute that this version of Tornado does not have")

    monkeypatch.setattr(tornado_drain, "_close_idle", fail)

    async def main():
        server = tornado.httpserver.HTTPServer(tornado.web.Application())
        sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        assert await tornado_drain.TornadoDrain().finish(60) == []
        client = tornado.httpclient.AsyncHTTPClient()
        port = sockets[0].getsockname()[1]
        response = await client.fetch(f"http://127.0.0.1:{port}/", raise_error=False)
        assert response.code == 404
        server.stop()

    asyncio.run(main())
    assert caplog.messages[0] == "requests in progress cannot be waited for"


def test_a_handler_without_a_request_is_no_event_stream():
    handler = UnknownHandler()
    assert list(tornado_drain._event_streams()) == []
    del handler
