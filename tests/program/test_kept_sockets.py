"""Listening sockets outlive the program that bound them: no connection is refused."""

from __future__ import annotations

import collections
import contextlib
import errno
import http.client
import os
import select
import signal
import socket
import textwrap
import threading
from pathlib import Path

import pytest

from evreload._common.socket_messages import RELEASE
from evreload._program.kept_sockets import SocketInterceptor, _become
from support.deadline import DEADLINE
from support.pending import pending_request
from support.server_programs import (
    ASYNCIO,
    HTTP_SERVER,
    TORNADO,
    UVLOOP,
    WORKERS,
    ask,
    await_value,
    restart,
    start,
)
from support.servers import Clients, free_port


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


# These programs shut their listening socket down on SIGTERM.
ANSWER = """
import os, signal, socket, sys, threading
import helper

def answer(client):
    with client:
        if client.recv(65536):
            client.sendall(f"HTTP/1.0 200 OK\\r\\n\\r\\n{helper.VALUE} {os.getpid()}".encode())

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))

def on_sigterm(number, frame):
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    sys.exit()

"""
BY_HAND = f"""{ANSWER}
signal.signal(signal.SIGTERM, on_sigterm)
while True:
    answer(listener.accept()[0])
"""
ON_A_THREAD = f"""{ANSWER}
def serve():
    try:
        while True:
            answer(listener.accept()[0])
    except OSError as error:
        print("not accepting:", error.strerror, flush=True)

signal.signal(signal.SIGTERM, on_sigterm)
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
    "program", [BY_HAND, ON_A_THREAD, TWISTED], ids=["by hand", "on a thread", "twisted"]
)
def test_a_program_may_shut_its_socket_down_on_its_stop_signal(app, port, program):
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
    assert app.count("not accepting:") == (6 if program is ON_A_THREAD else 0)


@pytest.mark.parametrize("how", ["shared", "reuse-port"])
def test_no_connection_to_workers_is_refused_or_never_answered(app, port, how):
    start(app, port, WORKERS, arguments=[how])
    with Clients(port) as clients:
        for value in range(1, 4):
            restart(app, port, value)
            answers = {ask(port).split()[0] for _ in range(20)}
            assert answers == {str(value)}
    assert "ConnectionRefusedError" not in clients.outcomes, clients.outcomes
    assert "TimeoutError" not in clients.outcomes, clients.outcomes


def test_only_the_program_and_the_supervisor_hold_the_listening_socket(app, port):
    listening = '"127.0.0.1")\n'
    start(app, port, TORNADO.replace(listening, listening + OTHER_PROCESS))
    before = listeners(app)
    restart(app, port, 1)
    assert listeners(app) == before
    assert list(before.values()) == [2]  # the supervisor and the program
    assert [local_ports()[inode] for inode in before] == [port]
    unix = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    held = sockets_of(app)
    names = [row[7:] for row in unix if row[6] in held]
    assert len(names) >= 2  # the socket pair between the two
    assert not any(names)  # without a name, no other process can connect


OTHER_PROCESS = """\
    import subprocess
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False)
"""


def listeners(app):
    """Return the listening sockets of the session, each with how many processes hold it."""
    return {inode: count for inode, count in sockets_of(app).items() if inode in local_ports()}


def sockets_of(app):
    held: collections.Counter[str] = collections.Counter()
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


def test_a_program_restarts_without_kept_sockets(app, port):
    start(app, port, TORNADO, "--no-keep-sockets")
    assert restart(app, port, 1) != restart(app, port, 2)


def test_a_client_that_connects_while_the_program_is_broken_is_answered_by_the_fix(app, port):
    start(app, port, TORNADO)
    app.write("helper.py", "VALUE = undefined")
    app.line("waiting for a change")
    with pending_request(port) as answer:
        app.write("helper.py", "VALUE = 7")
        assert answer().startswith(b"7 ")


def test_more_connections_wait_than_the_program_s_backlog_allows(app, port):
    start(app, port, HTTP_SERVER)  # its backlog is 5
    app.write("helper.py", "VALUE = undefined")
    app.line("waiting for a change")
    clients = [http.client.HTTPConnection("127.0.0.1", port, timeout=10) for _ in range(50)]
    with contextlib.ExitStack() as stack:
        for client in clients:
            stack.callback(client.close)
            client.request("GET", "/")  # the kernel ignores connections beyond the backlog
        app.write("helper.py", "VALUE = 7")
        answers = [client.getresponse().read() for client in clients]
    assert {answer.split()[0] for answer in answers} == {b"7"}


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
        with pending_request(port) as answer, pending_request(port, host="::1") as other:
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


def test_a_socket_bound_by_native_code_is_not_kept(app, port):
    start(app, port, NATIVE)
    assert restart(app, port, 1) != restart(app, port, 2)


def test_an_address_of_another_name_is_bound_anew(app, port):
    start(app, port, TORNADO.replace('"127.0.0.1"', 'getattr(helper, "HOST", "127.0.0.1")'))
    app.write("helper.py", "VALUE = 1\nHOST = '0.0.0.0'")
    await_value(port, 1)


def test_port_0_is_bound_anew(app):
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


BINDS_FREE_PORTS = """
import socket, sys, time
import helper

bound = []
for turn in range(3):
    for number in range(int(sys.argv[1]), int(sys.argv[1]) + 50):
        try:
            bound.append(socket.create_server((helper.HOST if turn == 2 else "127.0.0.1", number)))
        except OSError:
            continue
        break
print("bound", [one.getsockname()[1] for one in bound], flush=True)
time.sleep(600)
"""


def test_a_port_that_the_program_has_bound_itself_is_in_use(app, port):
    app.write("helper.py", "HOST = '127.0.0.1'")
    app.write("app.py", BINDS_FREE_PORTS)
    app.start("-m", "evreload", "app.py", str(port))
    bound = app.line("bound")
    assert len(set(bound.split())) == 4, bound
    for host in ("127.0.0.1", "0.0.0.0", "127.0.0.1"):
        app.await_watching(by_now=True)
        app.write("helper.py", f"HOST = {host!r}")
        assert app.line("bound") == bound
        socket.create_connection(("127.0.0.1", port)).close()


# One of several processes is the leader: the one that has bound the port. It ends when a client
# says so, and another one takes its place.
LEADER = """
import errno, os, signal, socket, sys, time
import helper

def lead():
    while True:
        try:
            listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
        except OSError as error:
            assert error.errno == errno.EADDRINUSE
            time.sleep(0.02)
            continue
        print("leader", helper.VALUE, os.getpid(), flush=True)
        while True:
            with listener.accept()[0] as client:
                client.sendall(b"%d" % os.getpid())
                if client.recv(1) == b"q":
                    os._exit(0)

START
time.sleep(600)
"""
FORKS = """
for _ in range(3):
    if os.fork() == 0:
        lead()
"""
SPAWNS = """
import multiprocessing
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    for _ in range(3):
        context.Process(target=lead).start()
"""


def leader(port, message=b"."):
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
        client.settimeout(DEADLINE)
        pid = client.recv(100).decode()
        client.sendall(message)
        assert client.recv(1) == b""
        return pid


@pytest.mark.parametrize("workers", [FORKS, SPAWNS], ids=["forked", "spawned"])
def test_a_port_belongs_to_one_process_until_that_ends(app, port, workers):
    app.write("helper.py", "VALUE = 0")
    tail = "time.sleep(600)\n"
    text = LEADER.replace("START\n" + tail, workers)
    app.write("app.py", text + ("    " if workers is SPAWNS else "") + tail)
    app.start("-m", "evreload", "app.py", str(port))
    for value in range(3):
        if value:
            app.await_watching(by_now=True)
            app.write("helper.py", f"VALUE = {value}")
        first = app.line(f"leader {value} ").split()[-1]
        assert {leader(port) for _ in range(5)} == {first}
        leader(port, b"q")
        second = app.line(f"leader {value} ").split()[-1]
        assert second != first
        assert {leader(port) for _ in range(5)} == {second}


# Each looks in its own way whether something serves at the port, before it binds.
PROBES = {
    "connect": """
        socket.create_connection(address, 5)
    """,
    "connect_ex": """
        with socket.socket() as probe:
            probe.settimeout(5)
            if number := probe.connect_ex(address):
                raise OSError(number, "refused")
    """,
    "by name": """
        socket.create_connection(("localhost", address[1]), 5)
    """,
    "asyncio": """
        asyncio.run(asyncio.open_connection(*address))
    """,
}


@pytest.mark.parametrize("how", PROBES)
def test_a_program_that_looks_whether_its_port_is_free_finds_it_free(app, port, how):
    app.write("helper.py", "VALUE = 0")
    app.write(
        "app.py",
        f"""
        import asyncio, errno, socket, sys, time
        import helper

        address = "127.0.0.1", int(sys.argv[1])

        def probe():
        {textwrap.indent(textwrap.dedent(PROBES[how]), " " * 12)}
        try:
            probe()
            sys.exit("the port is not free")
        except OSError as error:
            assert error.errno == errno.ECONNREFUSED, error
        listener = socket.create_server(address)
        socket.create_connection(address).close()
        listener.accept()[0].close()
        print("ready", helper.VALUE, flush=True)
        while True:
            with listener.accept()[0] as client:
                if client.recv(1):
                    client.sendall(b"%d" % helper.VALUE)
        """.replace("        def probe():\n        ", "        def probe():\n"),
    )
    app.start("-m", "evreload", "app.py", str(port))
    app.line("ready 0")
    for value in (1, 2):
        app.await_watching(by_now=True)
        app.write("helper.py", f"VALUE = {value}")
        app.line("restarting server")
        app.line(f"ready {value}")
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b".")
            assert client.recv(1) == b"%d" % value


# The interceptor alone


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


def test_nothing_is_sent_to_another_file_with_the_number_of_the_closed_socket():
    supervisor_end, program_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    other, their_other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    number = program_end.detach()
    interceptor = SocketInterceptor(number, lambda: None, lambda: None, may_claim=True)
    service = contextlib.closing(interceptor._service)
    with supervisor_end, other, their_other, service, socket.socket() as listener:
        os.dup2(their_other.fileno(), number)
        interceptor.bind(listener, ("127.0.0.1", free_port()))
        interceptor.listen(listener)
        assert not select.select([supervisor_end, other], [], [], 0)[0]


@pytest.fixture
def interceptor():
    """Return an interceptor whose supervisor keeps nothing."""
    supervisor_end, program_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    interceptor = SocketInterceptor(
        program_end.detach(), lambda: None, lambda: None, may_claim=False
    )
    with supervisor_end, contextlib.closing(interceptor._service):
        yield interceptor


@pytest.fixture
def listener(interceptor, port):
    with socket.socket() as listener:
        interceptor.bind(listener, ("127.0.0.1", port))
        interceptor.listen(listener)
        yield listener


def failing(number):
    return pytest.raises(OSError, match=os.strerror(number))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_bind_does_not_release_a_port_that_the_program_itself_listens_on(
    monkeypatch, interceptor, listener, host
):
    requests = []
    monkeypatch.setattr(interceptor, "_ask", lambda kind, address: requests.append(kind))
    with socket.socket() as other:
        with failing(errno.EADDRINUSE):
            interceptor.bind(other, (host, listener.getsockname()[1]))
        assert list(interceptor._addresses) == [listener]
    assert RELEASE not in requests


@pytest.mark.parametrize("timeout", [None, 0, 5])
@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_RDWR], ids=["reading", "all"])
def test_a_shutdown_ends_the_accepting_of_one_process_only(interceptor, listener, how, timeout):
    listener.settimeout(timeout)
    with listener.dup() as kept:
        interceptor.shutdown(listener, how)
        with socket.create_connection(kept.getsockname()), failing(errno.EINVAL):
            listener.accept()
        assert listener.gettimeout() == timeout
        assert not os.get_inheritable(listener.fileno())
        with failing(errno.ENOTCONN):
            interceptor.shutdown(listener, how)
        kept.accept()[0].close()


def test_a_thread_that_waits_in_accept_is_woken_by_a_shutdown(interceptor, listener):
    outcomes = []

    def accept():
        with contextlib.suppress(OSError):
            while True:
                listener.accept()[0].close()
        outcomes.append("woken")

    with listener.dup():  # the supervisor's copy
        thread = threading.Thread(target=accept)
        thread.start()
        with socket.create_connection(listener.getsockname(), DEADLINE) as client:
            assert client.recv(1) == b""  # it was closed, and the thread waits for the next one
        interceptor.shutdown(listener, socket.SHUT_RDWR)
        thread.join(DEADLINE)
    assert outcomes == ["woken"]


def test_a_socket_that_is_not_kept_is_really_shut_down(interceptor, listener):
    """Nor is a listening socket changed by a shutdown of writing, which does not concern it."""
    with socket.socket() as free, listener.dup() as kept:
        interceptor.bind(free, ("127.0.0.1", 0))
        interceptor.listen(free)
        with free.dup() as copy:
            interceptor.shutdown(free, socket.SHUT_RDWR)
            assert not copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        interceptor.shutdown(listener, socket.SHUT_WR)
        assert os.path.sameopenfile(kept.fileno(), listener.fileno())
        with socket.create_connection(listener.getsockname()) as client:
            server, _ = listener.accept()
            with server:
                interceptor.shutdown(server, socket.SHUT_WR)
                assert client.recv(1) == b""


def test_an_address_bound_as_port_0_is_not_kept():
    """A server of HTTP/3 binds one address for TCP and for UDP: its TCP socket is kept."""
    supervisor_end, program_end = socket.socketpair()
    interceptor = SocketInterceptor(
        program_end.detach(), lambda: None, lambda: None, may_claim=False
    )
    udp = socket.socket(type=socket.SOCK_DGRAM)
    service = contextlib.closing(interceptor._service)
    with supervisor_end, service, udp, socket.socket() as free, socket.socket() as tcp:
        at_both = ("127.0.0.1", free_port())
        interceptor.bind(udp, at_both)
        interceptor.bind(tcp, at_both)
        interceptor.bind(free, ("127.0.0.1", 0))
        assert interceptor.unkept() == [free.getsockname()]
