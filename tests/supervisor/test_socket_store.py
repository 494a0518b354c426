"""The supervisor keeps the listening sockets of the program."""

from __future__ import annotations

import os
import socket

import pytest

from evreload._common.socket_messages import CLAIM, KEEP, RELEASE, pack, receive
from evreload._supervisor.socket_store import SocketStore
from support.deadline import DEADLINE
from support.server_programs import TORNADO, ask, restart, start
from support.servers import free_port
from support.waiting import until

# Addresses as they are compared.
ADDRESS = ("2", "127.0.0.1", "1", "0", "0", "0")
OTHER_PORT = ("2", "127.0.0.1", "2", "0", "0", "0")
OTHER_NAME = ("2", "0.0.0.0", "1", "0", "0", "0")
OTHER_FAMILY = ("10", "::", "1", "0", "0", "0")


def test_an_address_that_the_new_code_does_not_bind_is_closed_soon(app, port):
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
    until(lambda: not is_open(other), "refused")


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


@pytest.mark.parametrize("bound_first", ["port 0", "a fixed port"])
def test_a_socket_is_kept_for_a_program_that_binds_late(app, port, bound_first):
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", SLOW)
    first = -1 if bound_first == "port 0" else free_port()
    app.start("-m", "evreload", "app.py", str(first), str(port))
    app.line("ready 0")
    app.write("helper.py", "VALUE = 1")
    app.line("began 1")
    with socket.create_connection(("127.0.0.1", port)) as client:
        assert client.recv(1) == b"1"


LATER = """
import socket, sys, time
import helper

metrics, port = map(int, sys.argv[1:])
for family, address in ((socket.AF_INET6, ("::1", 0)), (socket.AF_INET, ("127.0.0.1", 0))):
    with socket.socket(family) as probe:
        probe.bind(address)
if metrics:
    other = socket.create_server(("127.0.0.1", metrics))
print("began", helper.VALUE, flush=True)
time.sleep(2.5)  # longer than the supervisor waits before it takes the program for up
print("loaded", helper.VALUE, flush=True)
with socket.create_server(("127.0.0.1", port)) as sock:
    while True:
        client = sock.accept()[0]
        client.sendall(f"{helper.VALUE}".encode())
        client.close()
"""


@pytest.mark.parametrize("has_metrics", [False, True])
def test_a_socket_is_kept_until_the_program_has_had_as_long_as_before(app, port, has_metrics):
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", LATER)
    app.start("-m", "evreload", "app.py", str(free_port() if has_metrics else 0), str(port))
    app.line("loaded 0")
    until(lambda: is_open(port), "accepted")
    app.write("helper.py", "VALUE = 1")
    app.line("began 1")
    with socket.create_connection(("127.0.0.1", port)) as client:
        assert client.recv(1) == b"1"
    if not has_metrics:  # what it has bound before does not listen
        app.await_lines("serving again")
        assert app.output.index("loaded 1") < app.output.index("serving again")


def test_an_address_is_closed_if_the_program_binds_port_0_instead(app, port):
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
    app.await_watching()
    app.write("helper.py", "VALUE = 0")
    app.line("ready 0")
    until(lambda: not is_open(port), "refused")


def test_an_address_that_a_slow_program_does_not_bind_is_closed(app, port):
    app.write("helper.py", f"VALUE = {port}")
    app.write(
        "app.py",
        """
        import socket, sys, time
        import helper
        if helper.VALUE != int(sys.argv[1]):
            time.sleep(2.5)  # longer than the supervisor waits before it takes the program for up
        sock = socket.create_server(("127.0.0.1", helper.VALUE))
        print("ready", helper.VALUE, flush=True)
        time.sleep(600)
        """,
    )
    app.start("-m", "evreload", "app.py", str(port))
    app.await_watching()
    app.write("helper.py", f"VALUE = {free_port()}")
    app.line("serving again after")
    until(lambda: not is_open(port), "refused")


def is_open(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


# The store alone


@pytest.fixture
def service():
    """Return the ends of a socket pair: that of the supervisor, and that of the program."""
    supervisor_end, program_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with supervisor_end, program_end:
        supervisor_end.setblocking(False)
        yield supervisor_end, program_end


@pytest.fixture
def store():
    store = SocketStore()
    yield store
    store.close()
    assert store._kept == []


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def keep(store, service, address, listener):
    supervisor_end, program_end = service
    socket.send_fds(program_end, [pack(KEEP, address)], [listener.fileno()])
    assert store.serve(supervisor_end)


def ask_for(store, service, kind, address):
    """Send a request that is answered; return the descriptors that come with the answer."""
    supervisor_end, program_end = service
    answer, sent = socket.socketpair()
    with answer, sent:
        socket.send_fds(program_end, [pack(kind, address)], [sent.fileno()])
        assert store.serve(supervisor_end)
        answer.settimeout(DEADLINE)
        return receive(answer)[1]


def test_without_a_request_nothing_is_served(store, service):
    supervisor_end, program_end = service
    assert not store.serve(supervisor_end)
    program_end.close()
    assert not store.serve(supervisor_end)


def test_the_next_run_claims_what_this_one_has_kept(store, service, listener):
    keep(store, service, ADDRESS, listener)
    store.begin_run()
    (claimed,) = ask_for(store, service, CLAIM, ADDRESS)
    assert os.path.sameopenfile(claimed, listener.fileno())
    os.close(claimed)
    assert ask_for(store, service, CLAIM, OTHER_PORT) == []
    store.close_unclaimed()
    (claimed,) = ask_for(store, service, CLAIM, ADDRESS)
    os.close(claimed)


def test_a_socket_that_several_workers_keep_is_kept_once(store, service, listener):
    with listener.dup() as copy:
        keep(store, service, ADDRESS, listener)
        keep(store, service, ADDRESS, copy)
    assert len(store._kept) == 1


def test_what_the_next_run_does_not_claim_is_closed(store, service, listener):
    keep(store, service, ADDRESS, listener)
    store.close_unclaimed()
    assert len(store._kept) == 1, "it was kept by this run"
    store.begin_run()
    store.close_unclaimed()
    assert store._kept == []


@pytest.mark.parametrize("released", [OTHER_NAME, OTHER_FAMILY], ids=["name", "family"])
def test_all_sockets_of_a_released_port_are_closed(store, service, listener, released):
    """A socket of IPv6 may be in the way of one of IPv4, and the other way round."""
    keep(store, service, ADDRESS, listener)
    with socket.create_server(("127.0.0.1", 0)) as other:
        keep(store, service, OTHER_PORT, other)
    assert ask_for(store, service, RELEASE, released) == []
    assert [address for address, _ in store._kept] == [OTHER_PORT]


def test_a_request_without_a_descriptor_is_ignored(store, service):
    supervisor_end, program_end = service
    program_end.send(pack(CLAIM, ADDRESS))
    assert store.serve(supervisor_end)


def test_a_program_that_has_ended_needs_no_answer():
    program_end, supervisor_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    program, answer = socket.socketpair()
    store = SocketStore()
    with program_end, supervisor_end, answer, socket.create_server(("127.0.0.1", 0)) as listener:
        supervisor_end.setblocking(False)
        socket.send_fds(program_end, [pack(CLAIM, ADDRESS)], [answer.fileno()])
        program.close()
        socket.send_fds(program_end, [pack(KEEP, ADDRESS)], [listener.fileno()])
        answer.close()
        store.serve(supervisor_end)
        assert len(store._kept) == 1
        store.close()


def test_only_a_socket_that_still_listens_is_kept_for_the_next_run():
    store = SocketStore()
    listening, bound = socket.create_server(("127.0.0.1", 0)), socket.socket()
    bound.bind(("127.0.0.1", 0))
    with listening, bound:
        for number, sock in enumerate((listening, bound)):
            store._kept.append(
                (("2", "127.0.0.1", str(number), "0", "0", "0"), os.dup(sock.fileno()))
            )
        store.begin_run()
        assert len(store._kept) == 1
        store.close_unclaimed()
        assert len(store._kept) == 0


def test_with_reuse_port_each_worker_claims_a_socket_of_its_own():
    store = SocketStore()
    address = ("2", "127.0.0.1", "8000", "0", "0", "1")
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        store._kept += [(address, os.dup(one.fileno())), (address, os.dup(two.fileno()))]
        claimed = [store._claim(address) for _ in range(3)]
        assert claimed[2] is None
        assert len(set(claimed)) == 3
        store.close()
