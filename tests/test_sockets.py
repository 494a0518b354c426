"""No request is refused: listening sockets outlive the process that bound them."""

from __future__ import annotations

import collections
import contextlib
import errno
import http.client
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import DEADLINE, WAYS, Clients, free_port
from conftest import until as until_fact
from evreload._program.runner.kept_sockets import (
    CLAIM,
    KEEP,
    RELEASE,
    Keeper,
    Shelf,
    _become,
    _key,
    _pack,
)

TORNADO = """
import asyncio, os, sys
import tornado.web
import helper

class Page(tornado.web.RequestHandler):
    async def get(self):
        if sleep := float(self.get_argument("sleep", "0")):
            print("asked", flush=True)
            await asyncio.sleep(sleep)
        self.write(f"{helper.VALUE} {os.getpid()}")

class Events(tornado.web.RequestHandler):
    async def get(self):
        self.set_header("Content-Type", "text/event-stream")
        self.write("data: first\\n\\n")
        await self.flush()
        await asyncio.Event().wait()

async def main():
    application = tornado.web.Application([("/", Page), ("/events", Events)])
    application.listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()

asyncio.run(main())
"""
ASYNCIO = """
import asyncio, os, sys
import helper

async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    body = f"{helper.VALUE} {os.getpid()}".encode()
    writer.write(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    writer.close()

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

"""
HTTP_SERVER = """
import os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import helper

class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{helper.VALUE} {os.getpid()}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
"""
WORKERS = """
import asyncio, os, sys
import tornado.httpserver, tornado.netutil, tornado.process, tornado.web
import helper

class Page(tornado.web.RequestHandler):
    async def get(self):
        if sleep := float(self.get_argument("sleep", "0")):
            print("asked", flush=True)
            await asyncio.sleep(sleep)
        self.write(f"{helper.VALUE} {os.getpid()}")

if sys.argv[2] == "shared":
    sockets = tornado.netutil.bind_sockets(int(sys.argv[1]), "127.0.0.1")
    tornado.process.fork_processes(3)
else:
    tornado.process.fork_processes(3)
    sockets = tornado.netutil.bind_sockets(int(sys.argv[1]), "127.0.0.1", reuse_port=True)

async def main():
    tornado.httpserver.HTTPServer(tornado.web.Application([("/", Page)])).add_sockets(sockets)
    await asyncio.Event().wait()

asyncio.run(main())
"""
IN_PLACE = """
import asyncio, logging, os, sys
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
import evreload
import tornado.httpserver, tornado.web
import helper

class Page(tornado.web.RequestHandler):
    async def get(self):
        if sleep := float(self.get_argument("sleep", "0")):
            print("asked", flush=True)
            await asyncio.sleep(sleep)
        self.write(f"{helper.VALUE} {os.getpid()}")

async def main():
    server = tornado.httpserver.HTTPServer(tornado.web.Application([("/", Page)]))
    server.add_sockets(evreload.bind_sockets(int(sys.argv[1]), "127.0.0.1"))
    evreload.start()
    await asyncio.Event().wait()

asyncio.run(main())
"""
AWAITS_GO = """\
while not os.path.exists("go"):
                await asyncio.sleep(0.01)"""
UVLOOP = ASYNCIO + "import uvloop\nuvloop.run(main())\n"
ASYNCIO += "asyncio.run(main())\n"


def ask(port, path="/", timeout=DEADLINE):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().read().decode()


@contextlib.contextmanager
def asked(port, path="/", host="127.0.0.1", **headers):
    """Ask, and return at once what waits for the answer."""
    connection = http.client.HTTPConnection(host, port, timeout=DEADLINE)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        yield lambda: connection.getresponse().read()


def until(port, value, path="/"):
    """Ask until the answer is *value*; return the process that gave it."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer, _, pid = ask(port, path).partition(" ")
            if answer == str(value):
                return int(pid)
        time.sleep(0.005)
    return pytest.fail(f"never answered {value}")


def until_nobody_is_let_in(port):
    with contextlib.suppress(TimeoutError):
        while ask(port, timeout=0.2):
            pass


def start(app, port, program, *options, arguments=()):
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", program)
    app.start("-m", "evreload", *options, "app.py", str(port), *arguments)
    until(port, 0)
    app.armed()


def restart(app, port, value):
    app.write("helper.py", f"VALUE = {value}")
    return until(port, value)


def test_no_connection_is_refused_or_reset_by_tornado(app, port):
    start(app, port, TORNADO)
    with Clients(port) as clients:
        pids = {restart(app, port, value) for value in range(1, 6)}
    assert len(pids) == 5
    assert set(clients.outcomes) == {"answered"}, clients.outcomes


@pytest.mark.parametrize(
    "program", [ASYNCIO, HTTP_SERVER, UVLOOP], ids=["asyncio", "http.server", "uvloop"]
)
def test_no_connection_is_refused(app, port, program):
    if program is UVLOOP:
        pytest.importorskip("uvloop")
    start(app, port, program)
    with Clients(port) as clients:
        for value in range(1, 4):
            restart(app, port, value)
    assert "ConnectionRefusedError" not in clients.outcomes, clients.outcomes


# Shut their listening sockets down when they are told to end.
ANSWER = """
import os, signal, socket, sys, threading
import helper

def answer(client):
    with client:
        if client.recv(65536):
            client.sendall(f"HTTP/1.0 200 OK\\r\\n\\r\\n{helper.VALUE} {os.getpid()}".encode())

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))

def end(number, frame):
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    sys.exit()

"""
BY_HAND = f"""{ANSWER}
signal.signal(signal.SIGTERM, end)
while True:
    answer(listener.accept()[0])
"""
IN_A_THREAD = f"""{ANSWER}
def serve():
    try:
        while True:
            answer(listener.accept()[0])
    except OSError as error:
        print("no more:", error.strerror, flush=True)

signal.signal(signal.SIGTERM, end)
threading.Thread(target=serve).start()
threading.Event().wait()
"""
TWISTED = """
import os, sys
from twisted.internet import endpoints, reactor
from twisted.python import log
from twisted.web import resource, server
import helper

class Page(resource.Resource):
    isLeaf = True
    def render_GET(self, request):
        return f"{helper.VALUE} {os.getpid()}".encode()

log.startLogging(sys.stdout, setStdout=False)
where = endpoints.TCP4ServerEndpoint(reactor, int(sys.argv[1]), interface="127.0.0.1")
where.listen(server.Site(Page()))
reactor.run()
"""


@pytest.mark.parametrize(
    "program", [BY_HAND, IN_A_THREAD, TWISTED], ids=["by hand", "in a thread", "twisted"]
)
def test_a_program_may_shut_its_socket_down_when_it_is_told_to_end(app, port, program):
    if program is TWISTED:
        pytest.importorskip("twisted")
    start(app, port, program)
    with Clients(port) as clients:
        for value in range(1, 6):
            restart(app, port, value)
    assert "ConnectionRefusedError" not in clients.outcomes, clients.outcomes
    app.signal(signal.SIGTERM)
    app.wait()
    assert app.count("Traceback") == 0, app.output
    assert app.count("no more:") == (6 if program is IN_A_THREAD else 0)


# Goes on serving for a while when it is told to end.
LINGERS = """\
    loop = asyncio.get_running_loop()
    def end():
        print("told to end", flush=True)
        loop.call_later(0.5, os._exit, 0)
    loop.add_signal_handler(15, end)
    await server"""


@pytest.mark.parametrize("hook", ["", "import evreload; evreload.add_reload_hook(print)\n"])
@pytest.mark.parametrize("program", [ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])
def test_nobody_is_let_in_by_a_program_that_is_about_to_end(app, port, program, hook):
    if program is UVLOOP:
        pytest.importorskip("uvloop")
    start(app, port, hook + program.replace("    await server", LINGERS))
    for value in range(1, 4):
        app.write("helper.py", f"VALUE = {value}")
        app.line("told to end")
        assert ask(port).split()[0] == str(value)


# Lets somebody in when it is told to end, if it can; all signals of 0.1 s reach it together.
SLOW_TO_HEAR = """
import hashlib, os, signal, socket, sys
import helper

def end(number, frame):
    try:
        listener.accept()
    except BlockingIOError:
        print("nobody was let in", flush=True)
    else:
        print("somebody was let in", flush=True)
    os._exit(0)

signal.signal(signal.SIGTERM, end)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
listener.setblocking(False)
print("listening", helper.VALUE, flush=True)
while True:
    hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000)
"""


def test_the_signal_to_end_does_not_overtake_the_one_to_let_nobody_in(app, port):
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", SLOW_TO_HEAR)
    app.start("-m", "evreload", "app.py", str(port))
    app.line("listening 0")
    app.armed(by_now=True)
    with socket.create_connection(("127.0.0.1", port)):
        for value in range(1, 4):
            app.write("helper.py", f"VALUE = {value}")
            assert "nobody" in app.line("was let in")
            app.line(f"listening {value}")


@pytest.mark.parametrize("how", ["shared", "reuse-port"])
def test_no_connection_to_workers_is_refused_or_left_alone(app, port, how):
    start(app, port, WORKERS, arguments=[how])
    with Clients(port) as clients:
        for value in range(1, 4):
            restart(app, port, value)
            answers = {ask(port).split()[0] for _ in range(20)}
            assert answers == {str(value)}
    assert "ConnectionRefusedError" not in clients.outcomes, clients.outcomes
    assert "TimeoutError" not in clients.outcomes, clients.outcomes


def test_nothing_listens_but_what_the_program_binds_nor_is_it_handed_to_others(app, port):
    listening = '"127.0.0.1")\n'
    start(app, port, TORNADO.replace(listening, listening + STRANGER))
    before = listeners(app)
    restart(app, port, 1)
    assert listeners(app) == before
    assert list(before.values()) == [2]  # the supervisor and the program hold it
    assert [local_ports()[inode] for inode in before] == [port]
    unix = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    ours = sockets_of(app)
    names = [row[7:] for row in unix if row[6] in ours]
    assert len(names) >= 2  # the service
    assert not any(names)  # nobody else can connect


STRANGER = """\
    import subprocess
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False)
"""


def listeners(app):
    """Return the listening sockets of the session, each with how many processes hold it."""
    return {inode: count for inode, count in sockets_of(app).items() if inode in local_ports()}


def sockets_of(app):
    held = collections.Counter()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(process.name)) == app.pid:
                links = {os.readlink(link) for link in (process / "fd").iterdir()}
                held.update(link[8:-1] for link in links if link.startswith("socket:["))
    return held


def local_ports():
    """Return the port of each listening TCP socket, by its inode."""
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path("/proc/net", name).read_text().splitlines()[1:]
    ]
    return {row[9]: int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}


def test_without_keeping_the_program_works_as_before(app, port):
    start(app, port, TORNADO, "--no-keep-sockets")
    assert restart(app, port, 1) != restart(app, port, 2)


def test_who_connects_while_the_program_is_broken_is_answered_once_it_is_mended(app, port):
    start(app, port, TORNADO)
    app.write("helper.py", "VALUE = undefined")
    app.line("waiting for a change")
    with asked(port) as answer:
        app.write("helper.py", "VALUE = 7")
        assert answer().startswith(b"7 ")


def test_more_may_wait_than_the_program_lets(app, port):
    start(app, port, HTTP_SERVER)  # which lets 5 wait
    app.write("helper.py", "VALUE = undefined")
    app.line("waiting for a change")
    clients = [http.client.HTTPConnection("127.0.0.1", port, timeout=10) for _ in range(50)]
    with contextlib.ExitStack() as stack:
        for client in clients:
            stack.callback(client.close)
            client.request("GET", "/")  # the kernel ignores those for whom there is no room
        app.write("helper.py", "VALUE = 7")
        answers = [client.getresponse().read() for client in clients]
    assert {answer.split()[0] for answer in answers} == {b"7"}


@contextlib.contextmanager
def requests_in_progress(app, port):
    """Ask for twenty answers that take a while; see that each comes, and from the first code."""
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(ask, port, "/?sleep=0.3") for _ in range(20)]
        for _ in answers:
            app.line("asked")
        yield
        assert [answer.result().split()[0] for answer in answers] == ["0"] * 20


def test_requests_in_progress_are_answered_by_the_old_code(app, port):
    start(app, port, TORNADO)
    with requests_in_progress(app, port):
        restart(app, port, 1)


@pytest.mark.parametrize("how", ["shared", "reuse-port"])
def test_workers_answer_the_requests_in_progress(app, port, how):
    start(app, port, WORKERS, arguments=[how])
    with requests_in_progress(app, port):
        restart(app, port, 1)


def test_an_idle_client_may_come_anew_while_others_are_being_answered(app, port):
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


def test_a_grace_of_none_waits_for_nobody(app, port):
    start(app, port, TORNADO, "--grace", "0")
    assert_not_waited_for(app, port)


@pytest.mark.parametrize("how", ["shared", "reuse-port"])
def test_a_grace_of_none_is_for_workers_too(app, port, how):
    start(app, port, WORKERS, "--grace", "0", arguments=[how])
    assert_not_waited_for(app, port)
    assert app.count("not ready") == 0


def test_workers_are_given_no_longer_than_the_grace(app, port):
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


def test_an_event_stream_holds_nothing_up(app, port):
    start(app, port, TORNADO, "--grace", "600")
    stream = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    stream.request("GET", "/events")
    assert stream.getresponse().readline() == b"data: first\n"
    restart(app, port, 1)
    stream.close()


@WAYS
def test_a_websocket_holds_nothing_up(app, port, way):
    program = TORNADO if way else IN_PLACE.replace("start()", "start(grace=600)")
    program = program.replace('("/", Page)', '("/", Page), ("/talk", Talk)')
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", TALK + program)
    app.start(*way, *(["--grace", "600"] if way else []), "app.py", str(port))
    until(port, 0)
    app.armed()
    talk = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    with contextlib.closing(talk):
        talk.request("GET", "/talk", headers=UPGRADE)
        assert talk.getresponse().status == 101
        restart(app, port, 1)


TALK = """
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


def test_all_addresses_of_a_port_are_kept(app, port):
    """Tornado binds one socket for IPv4 and another, of the same port, for IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6: {error}")
    start(app, port, TORNADO.replace(', "127.0.0.1")', ")"))
    for value in (1, 2):
        app.write("helper.py", "VALUE = undefined")
        app.line("waiting for a change")
        with asked(port) as answer, asked(port, host="::1") as other:
            app.write("helper.py", f"VALUE = {value}")
            assert answer().split()[0] == other().split()[0] == b"%d" % value


NATIVE = HTTP_SERVER.replace(
    "ThreadingHTTPServer((",
    """
import ctypes, socket, struct
libc = ctypes.CDLL(None, use_errno=True)

class Native(ThreadingHTTPServer):
    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        host, port = self.server_address
        address = struct.pack("=H", socket.AF_INET) + struct.pack("!H", port)
        address += socket.inet_aton(host) + bytes(8)
        if libc.bind(self.socket.fileno(), address, len(address)):
            raise OSError(ctypes.get_errno(), "bind")

    def server_activate(self):
        libc.listen(self.socket.fileno(), 128)

Native((""",
)


def test_what_native_code_binds_works_as_before(app, port):
    start(app, port, NATIVE)
    assert restart(app, port, 1) != restart(app, port, 2)


def test_an_address_the_new_code_does_not_bind_is_closed_soon(app, port):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        other = sock.getsockname()[1]
    two = TORNADO.replace(
        "    await asyncio.Event().wait()\n\nasyncio.run",
        f"""\
    if helper.VALUE == 0:
        tornado.web.Application([("/", Page)]).listen({other}, "127.0.0.1")
    await asyncio.Event().wait()

asyncio.run""",
    )
    assert two != TORNADO
    start(app, port, two)
    ask(other)
    restart(app, port, 1)
    until_fact(lambda: not is_open(other), "refused")


SLOW = """
import socket, sys, time
import helper

first, later = map(int, sys.argv[1:])
with socket.create_server(("127.0.0.1", 0 if first < 0 else first)) as other:
    print("began", helper.VALUE, flush=True)
    time.sleep(3.0 if first < 0 else 1.5)
    with socket.create_server(("127.0.0.1", later)) as sock:
        print("ready", helper.VALUE, flush=True)
        while True:
            client = sock.accept()[0]
            client.sendall(f"{helper.VALUE}".encode())
            client.close()
"""


@pytest.mark.parametrize("bound_first", ["a free port", "a fixed one"])
def test_a_socket_is_kept_for_a_program_that_takes_its_time(app, port, bound_first):
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", SLOW)
    first = -1 if bound_first == "a free port" else free_port()
    app.start("-m", "evreload", "app.py", str(first), str(port))
    app.line("ready 0")
    app.write("helper.py", "VALUE = 1")
    app.line("began 1")
    with socket.create_connection(("127.0.0.1", port)) as client:
        assert client.recv(1) == b"1"


def test_an_address_is_closed_if_only_a_free_port_is_bound_instead(app, port):
    app.write("helper.py", f"VALUE = {port}")
    app.write(
        "app.py",
        """
        import socket, time
        import helper
        sock = socket.create_server(("127.0.0.1", helper.VALUE))
        print("ready", helper.VALUE, flush=True)
        time.sleep(600)
        """,
    )
    app.start("-m", "evreload", "app.py")
    app.armed()
    app.write("helper.py", "VALUE = 0")
    app.line("ready 0")
    until_fact(lambda: not is_open(port), "refused")


def test_an_address_is_closed_that_a_program_slow_to_start_does_not_bind(app, port):
    app.write("helper.py", f"VALUE = {port}")
    app.write(
        "app.py",
        """
        import socket, sys, time
        import helper
        if helper.VALUE != int(sys.argv[1]):
            time.sleep(2.5)  # longer than it takes to be taken for up
        sock = socket.create_server(("127.0.0.1", helper.VALUE))
        print("ready", helper.VALUE, flush=True)
        time.sleep(600)
        """,
    )
    app.start("-m", "evreload", "app.py", str(port))
    app.armed()
    app.write("helper.py", f"VALUE = {free_port()}")
    app.line("serving again after")
    until_fact(lambda: not is_open(port), "refused")


def is_open(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_an_address_under_another_name_is_bound_anew(app, port):
    start(app, port, TORNADO.replace('"127.0.0.1"', 'getattr(helper, "HOST", "127.0.0.1")'))
    app.write("helper.py", "VALUE = 1\nHOST = '0.0.0.0'")
    until(port, 1)


def test_a_free_port_is_a_fresh_one(app):
    app.write("helper.py", "VALUE = 0")
    app.write(
        "app.py",
        """
        import helper, socket, time
        sock = socket.create_server(("127.0.0.1", 0))
        print("port", helper.VALUE, sock.getsockname()[1], flush=True)
        time.sleep(600)
        """,
    )
    app.start("-m", "evreload", "app.py")
    first = app.line("port 0").split()[-1]
    app.write("helper.py", "VALUE = 1")
    app.line("port 1")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(first)))


def test_a_program_may_close_its_socket_and_bind_again(app, port):
    app.write(
        "app.py",
        """
        import socket, sys, time
        for turn in range(3):
            sock = socket.create_server(("127.0.0.1", int(sys.argv[1])))
            socket.create_connection(sock.getsockname()).close()
            sock.accept()[0].close()
            sock.close()
        print("three times", flush=True)
        time.sleep(600)
        """,
    )
    app.start("-m", "evreload", "app.py", str(port))
    app.line("three times")


TAKES_WHAT_IS_FREE = """
import socket, sys, time
import helper

taken = []
for turn in range(3):
    for number in range(int(sys.argv[1]), int(sys.argv[1]) + 50):
        try:
            taken.append(socket.create_server((helper.HOST if turn == 2 else "127.0.0.1", number)))
        except OSError:
            continue
        break
print("took", [one.getsockname()[1] for one in taken], flush=True)
time.sleep(600)
"""


def test_a_port_that_the_program_has_taken_itself_is_in_use(app, port):
    app.write("helper.py", "HOST = '127.0.0.1'")
    app.write("app.py", TAKES_WHAT_IS_FREE)
    app.start("-m", "evreload", "app.py", str(port))
    taken = app.line("took")
    assert len(set(taken.split())) == 4, taken
    for host in ("127.0.0.1", "0.0.0.0", "127.0.0.1"):
        app.armed(by_now=True)
        app.write("helper.py", f"HOST = {host!r}")
        assert app.line("took") == taken
        assert is_open(port)


@WAYS
def test_the_sockets_of_bind_sockets_are_carried_along(app, port, way):
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", IN_PLACE)
    app.start(*way, "app.py", str(port))
    app.armed()
    pid = until(port, 0)
    with Clients(port) as clients:
        for value in range(1, 4):
            assert (restart(app, port, value) == pid) == (not way)
            if not way:
                app.armed()
    assert "ConnectionRefusedError" not in clients.outcomes, clients.outcomes


def test_sockets_are_carried_for_a_program_that_takes_its_time(app, port):
    slow = "async def main():\n    evreload.start()\n    if helper.VALUE: await asyncio.sleep(2)\n"
    start_in_place(app, port, IN_PLACE.replace("async def main():\n", slow))
    until(port, 0)
    app.write("helper.py", "VALUE = 1")
    app.line("restarting")
    with Clients(port) as clients:
        until(port, 1)
    assert not {"ConnectionRefusedError", "ConnectionResetError"} & set(clients.outcomes)


def start_in_place(app, port, program=IN_PLACE):
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", program)
    app.start("app.py", str(port))
    app.armed()


@pytest.mark.parametrize(
    "call",
    [
        "evreload.bind_sockets(int(sys.argv[1]))",
        'evreload.bind_sockets(int(sys.argv[1]), "127.0.0.1", backlog=64)',
        'tornado.netutil.bind_sockets(int(sys.argv[1]), "127.0.0.1")',
    ],
)
def test_in_place_another_call_may_bind_the_same_port(app, port, call):
    start_in_place(app, port)
    app.write("helper.py", "VALUE = 1")
    before = 'evreload.bind_sockets(int(sys.argv[1]), "127.0.0.1")'
    app.write("app.py", IN_PLACE.replace(before, call))
    pid = until(port, 1)
    app.armed()
    assert restart(app, port, 2) == pid
    assert app.count("Address already in use") == 0


def with_hook(hook):
    start = "    evreload.start()\n"
    return IN_PLACE.replace(start, f"    evreload.add_reload_hook({hook})\n{start}")


def test_in_place_requests_in_progress_are_answered_first(app, port):
    start_in_place(app, port)
    with requests_in_progress(app, port):
        restart(app, port, 1)


def test_in_place_who_connects_while_the_program_is_broken_is_answered_later(app, port):
    start_in_place(app, port)
    app.write("helper.py", "VALUE = undefined")
    app.line("waiting for a change")
    app.armed()
    with asked(port) as answer:
        app.write("helper.py", "VALUE = 2")
        assert answer().startswith(b"2 ")


def test_in_place_what_breaks_while_requests_are_answered_lets_others_in_again(app, port):
    slow = IN_PLACE.replace("await asyncio.sleep(sleep)", AWAITS_GO)
    start_in_place(app, port, slow.replace("start()", "start(grace=600)"))
    pid = until(port, 0)
    with asked(port, "/?sleep=1") as answer:
        app.line("asked")
        app.write("helper.py", "VALUE = 1")
        until_nobody_is_let_in(port)
        app.write("helper.py", "VALUE = (")
        app.write("go")
        app.line("SyntaxError")
        assert answer().startswith(b"0 ")
    assert until(port, 0) == pid
    assert restart(app, port, 2) == pid


def test_in_place_a_hook_may_stop_the_server(app, port):
    hook = "lambda: (server.stop(), print('has', 'stopped', flush=True))"
    start_in_place(app, port, with_hook(hook))
    app.write("helper.py", "VALUE = 1")
    app.line("has stopped")
    until(port, 1)
    app.armed()
    app.write("helper.py", "VALUE = 2")
    app.line("has stopped")
    until(port, 2)


def test_a_program_may_stop_its_server_when_it_is_told_to_end(app, port):
    listen = "    application.listen("
    start(app, port, TORNADO.replace(listen, STOPS + "    server = application.listen("))
    app.write("helper.py", "VALUE = 1")
    app.line("cleaned up")
    until(port, 1)


def test_in_place_a_hook_may_close_the_sockets_and_end_it_all(app, port):
    hook = "lambda: ([one.close() for one in server._sockets.values()], sys.exit(3))"
    start_in_place(app, port, with_hook(hook))
    app.write("helper.py", "VALUE = 1")
    assert app.wait() == 3


STOPS = """\
    def end():
        server.stop()
        print("cleaned up", flush=True)
        os._exit(0)
    asyncio.get_running_loop().add_signal_handler(15, end)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="too much of an environment there")
def test_in_place_who_cannot_restart_lets_others_in_again(app, port):
    giant = "import os\nos.environ['GIANT'] = 'x' * 10_000_000\n"
    forget = 'os.environ.pop(self.get_argument("forget", ""), None)\n        '
    start_in_place(app, port, giant + IN_PLACE.replace("self.write(", forget + "self.write("))
    pid = until(port, 0)
    app.write("helper.py", "VALUE = 1")
    assert app.line("cannot restart").endswith("; still running the previous version")
    assert until(port, 0) == pid
    assert until(port, 0, "/?forget=GIANT") == pid
    assert restart(app, port, 2) == pid


# The rooms


def test_a_kept_socket_takes_the_options_and_the_mode_of_the_new_one():
    with socket.create_server(("127.0.0.1", 0)) as old, socket.socket() as new:
        old.setblocking(False)
        new.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        new.settimeout(3)
        _become(new, os.dup(old.fileno()))
        assert new.getsockname() == old.getsockname()
        assert new.gettimeout() == 3
        assert new.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not os.get_inheritable(new.fileno())
        new.setblocking(True)
        assert os.get_blocking(new.fileno())


def test_nothing_is_told_to_whatever_has_the_number_of_what_was_closed():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    other, stranger = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    number = theirs.detach()
    keeper = Keeper(number, lambda: None, may_claim=True)
    with ours, other, stranger, keeper._service, socket.socket() as listener:
        os.dup2(stranger.fileno(), number)
        keeper.bind(listener, ("127.0.0.1", free_port()))
        keeper.listen(listener)
        assert not select.select([ours, other], [], [], 0)[0]


@pytest.fixture
def keeper():
    """Return a program's end of a way to a supervisor that keeps nothing."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    keeper = Keeper(theirs.detach(), lambda: None, may_claim=False)
    with ours, keeper._service:
        yield keeper


@pytest.fixture
def listener(keeper, port):
    with socket.socket() as listener:
        keeper.bind(listener, ("127.0.0.1", port))
        keeper.listen(listener)
        yield listener


def failing(number):
    return pytest.raises(OSError, match=os.strerror(number))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_what_is_kept_for_the_program_s_own_sockets_is_not_let_go(
    monkeypatch, keeper, listener, host
):
    asked = []
    monkeypatch.setattr(keeper, "_ask", lambda kind, key: asked.append(kind))
    with socket.socket() as other:
        with failing(errno.EADDRINUSE):
            keeper.bind(other, (host, listener.getsockname()[1]))
        assert list(keeper._keys) == [listener]
    assert RELEASE not in asked


@pytest.mark.parametrize("timeout", [None, 0, 5])
@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_RDWR], ids=["reading", "all"])
def test_who_shuts_a_kept_socket_down_lets_nobody_in_but_others_do(keeper, listener, how, timeout):
    listener.settimeout(timeout)
    with listener.dup() as kept:
        keeper.shutdown(listener, how)
        with socket.create_connection(kept.getsockname()), failing(errno.EINVAL):
            listener.accept()
        assert listener.gettimeout() == timeout
        assert not os.get_inheritable(listener.fileno())
        with failing(errno.ENOTCONN):
            keeper.shutdown(listener, how)
        kept.accept()[0].close()


def test_who_waits_in_accept_is_woken_by_a_shutdown(keeper, listener):
    outcomes = []

    def accept():
        with contextlib.suppress(OSError):
            while True:
                listener.accept()[0].close()
        outcomes.append("woken")

    with listener.dup():  # that of the supervisor
        thread = threading.Thread(target=accept)
        thread.start()
        with socket.create_connection(listener.getsockname(), DEADLINE) as client:
            assert client.recv(1) == b""  # it is closed, and the next is waited for
        keeper.shutdown(listener, socket.SHUT_RDWR)
        thread.join(DEADLINE)
    assert outcomes == ["woken"]


def test_what_nobody_keeps_is_shut_down_as_ever(keeper, listener):
    """Nor is any harm done to one that listens by what concerns only those who write."""
    with socket.socket() as free, listener.dup() as kept:
        keeper.bind(free, ("127.0.0.1", 0))
        keeper.listen(free)
        with free.dup() as copy:
            keeper.shutdown(free, socket.SHUT_RDWR)
            assert not copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        keeper.shutdown(listener, socket.SHUT_WR)
        assert os.path.sameopenfile(kept.fileno(), listener.fileno())
        with socket.create_connection(listener.getsockname()) as client:
            server, _ = listener.accept()
            with server:
                keeper.shutdown(server, socket.SHUT_WR)
                assert client.recv(1) == b""


def test_whoever_has_asked_for_a_socket_may_have_ended():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    asker, other = socket.socketpair()
    shelf = Shelf()
    with ours, theirs, other, socket.create_server(("127.0.0.1", 0)) as listener:
        theirs.setblocking(False)
        socket.send_fds(
            ours, [_pack(CLAIM, ("2", "127.0.0.1", "1", "0", "0", "0"))], [other.fileno()]
        )
        asker.close()
        socket.send_fds(
            ours, [_pack(KEEP, ("2", "127.0.0.1", "1", "0", "0", "0"))], [listener.fileno()]
        )
        other.close()
        shelf.serve(theirs)
        assert len(shelf) == 1
        shelf.close()


@pytest.mark.parametrize("address", [("127.0.0.1", 0), ("127.0.0.1",), "path", (None, "x"), None])
def test_what_is_no_address_for_keeping_is_left_to_bind(address):
    with socket.socket() as sock:
        assert _key(sock, address) is None


def test_what_was_bound_to_a_free_port_is_known_to_be_kept_by_nobody():
    """Not so a server of HTTP/3, which listens at one address with TCP and with UDP."""
    ours, theirs = socket.socketpair()
    keeper = Keeper(theirs.detach(), lambda: None, may_claim=False)
    udp = socket.socket(type=socket.SOCK_DGRAM)
    with ours, keeper._service, udp, socket.socket() as free, socket.socket() as tcp:
        at_both = ("127.0.0.1", free_port())
        keeper.bind(udp, at_both)
        keeper.bind(tcp, at_both)
        keeper.bind(free, ("127.0.0.1", 0))
        assert keeper.unkept() == [free.getsockname()]


def test_only_what_listens_is_offered_to_the_next_run():
    shelf = Shelf()
    listening, bound = socket.create_server(("127.0.0.1", 0)), socket.socket()
    bound.bind(("127.0.0.1", 0))
    with listening, bound:
        for number, sock in enumerate((listening, bound)):
            shelf._kept.append(
                (("2", "127.0.0.1", str(number), "0", "0", "0"), os.dup(sock.fileno()))
            )
        shelf.begin_run()
        assert len(shelf) == 1
        shelf.drop_unclaimed()
        assert len(shelf) == 0


def test_with_reuse_port_each_worker_claims_its_own():
    shelf = Shelf()
    key = ("2", "127.0.0.1", "8000", "0", "0", "1")
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        shelf._kept += [(key, os.dup(one.fileno())), (key, os.dup(two.fileno()))]
        claimed = [shelf._claim(key) for _ in range(3)]
        assert claimed[2] is None
        assert len(set(claimed)) == 3
        shelf.close()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["tcp", "udp"])
def test_only_who_would_be_in_the_way_makes_way(monkeypatch, kind):
    from evreload._inprocess.inherited_sockets import Carried

    ports = [free_port(), free_port()]
    carried = {json.dumps([port]): [os.open(os.devnull, os.O_RDONLY)] for port in ports}
    monkeypatch.setenv(Carried.VARIABLE, json.dumps([os.getpid(), carried]))
    inherited = Carried()
    with socket.socket(type=kind) as sock:
        inherited.make_way((sock, ("127.0.0.1", ports[0])))
    left = carried.keys() if kind == socket.SOCK_DGRAM else {json.dumps([ports[1]])}
    assert inherited._unclaimed.keys() == left
    inherited.drop_unclaimed()


def test_descriptors_meant_for_another_process_are_not_taken(monkeypatch):
    from evreload._inprocess.inherited_sockets import Carried

    monkeypatch.setenv(Carried.VARIABLE, json.dumps([os.getpid() + 1, {"[]": [0]}]))
    carried = Carried()
    carried.drop_unclaimed()  # would have closed our standard input
    assert os.fstat(sys.__stdin__.fileno())
