"""The supervisor keeps the listening sockets of the program."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys

import pytest

from evreload._common.socket_messages import (
    CLAIM,
    KEEP,
    RELEASE,
    UNCLAIMED,
    pack,
    receive,
    unpack_places,
)
from evreload._supervisor import socket_store
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
def members():
    """Return the processes of the program; this process has all sockets open, and is none."""
    return []


@pytest.fixture
def store(members):
    store = SocketStore(lambda: members)
    yield store
    store.close()
    assert store._kept == []
    assert not store.has_claimed


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
    return answer_to(store, service, kind, address)[1]


def answer_to(store, service, kind, address):
    supervisor_end, program_end = service
    answer, sent = socket.socketpair()
    with answer, sent:
        socket.send_fds(program_end, [pack(kind, address)], [sent.fileno()])
        served = store.serve(supervisor_end)
        answer.settimeout(DEADLINE)
        data, descriptors = receive(answer)
        assert data
        assert served == bool(descriptors)  # nothing else lets the program have more time
        return data, descriptors


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
    assert not store.serve(supervisor_end)


def test_a_program_that_has_ended_needs_no_answer(store):
    program_end, supervisor_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    program, answer = socket.socketpair()
    with program_end, supervisor_end, answer, socket.create_server(("127.0.0.1", 0)) as listener:
        supervisor_end.setblocking(False)
        socket.send_fds(program_end, [pack(CLAIM, ADDRESS)], [answer.fileno()])
        program.close()
        socket.send_fds(program_end, [pack(KEEP, ADDRESS)], [listener.fileno()])
        answer.close()
        store.serve(supervisor_end)
        assert len(store._kept) == 1


def test_only_a_socket_that_still_listens_is_kept_for_the_next_run(store):
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


# What a process of the present run has open


@contextlib.contextmanager
def holder(members, listener):
    """Run a process of the program that has *listener* open."""
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(
        command, pass_fds=[listener.fileno()], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        members.append(process.pid)
        yield process
        process.communicate(b"\n")


@pytest.fixture
def kept(store, service, listener):
    """Keep the listener; the present run has not claimed it."""
    keep(store, service, ADDRESS, listener)
    store.begin_run()


def claims(store, service, address=ADDRESS):
    """Claim the socket at *address*; return whether there was one."""
    descriptors = ask_for(store, service, CLAIM, address)
    for descriptor in descriptors:
        os.close(descriptor)
    return bool(descriptors)


def test_a_socket_that_another_process_has_claimed_is_taken_until_that_closes_it(
    store, service, listener, members, kept
):
    assert claims(store, service)
    with holder(members, listener):
        assert not claims(store, service)
        ask_for(store, service, RELEASE, ADDRESS)
        assert len(store._kept) == 1, "what another process has bound is not closed"
    assert claims(store, service)


def test_a_socket_that_another_process_keeps_is_taken(store, service, listener, members):
    keep(store, service, ADDRESS, listener)
    with holder(members, listener):
        assert not claims(store, service)
    assert claims(store, service)


def test_a_socket_is_claimed_though_a_process_of_the_previous_run_has_it_open(
    store, service, listener, members, kept
):
    with holder(members, listener):
        assert claims(store, service)
        assert not claims(store, service)


def test_a_socket_is_taken_from_the_moment_in_which_it_is_passed(store, service, kept):
    """Two workers may bind at the same time: none has it open when the second one asks."""
    supervisor_end, program_end = service
    pairs = [socket.socketpair() for _ in range(2)]
    for answer, sent in pairs:
        socket.send_fds(program_end, [pack(CLAIM, ADDRESS)], [sent.fileno()])
        sent.close()
        answer.settimeout(DEADLINE)
    assert store.serve(supervisor_end)
    received = [receive(answer)[1] for answer, _ in pairs]
    assert list(map(len, received)) == [1, 0]
    os.close(received[0][0])
    for answer, _ in pairs:
        answer.close()
    assert claims(store, service)


def test_where_open_files_are_unknown_a_socket_is_taken_while_its_process_lives(
    monkeypatch, store, service, members, kept
):
    monkeypatch.setattr(socket_store, "has_open", lambda pid, descriptor: None)
    members.append(os.getpid())
    assert claims(store, service)
    assert claims(store, service), "a process knows itself what it has open"
    (descriptor,) = store._claimed
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        store._claimed[descriptor] = process.pid
        members.append(process.pid)
        assert not claims(store, service)
        members.remove(process.pid)
        process.communicate(b"\n")
    assert claims(store, service)


def test_with_reuse_port_each_worker_claims_a_socket_of_its_own(store, service, members):
    address = (*ADDRESS[:-1], "1")
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    with listeners[0], listeners[1]:
        for listener in listeners:
            keep(store, service, address, listener)
        store.begin_run()
        with contextlib.ExitStack() as stack:
            claimed = set()
            for _ in listeners:
                (descriptor,) = ask_for(store, service, CLAIM, address)
                with socket.socket(fileno=descriptor) as sock:
                    claimed.add(sock.getsockname())
                    stack.enter_context(holder(members, sock))
            assert len(claimed) == 2
            assert not claims(store, service, address)  # the third one makes another socket
        assert claims(store, service, address)


# Where nothing serves


def unclaimed(store, service):
    return unpack_places(answer_to(store, service, UNCLAIMED, ())[0])


def test_a_socket_is_unclaimed_until_a_process_binds_it(store, service, listener, members, kept):
    host, port = listener.getsockname()
    assert unclaimed(store, service) == {("2", host, str(port))}
    with holder(members, listener):
        assert claims(store, service)
        assert unclaimed(store, service) == set()
    assert unclaimed(store, service) == {("2", host, str(port))}


@pytest.mark.parametrize("dual_stack", [False, True])
def test_a_socket_of_ipv6_may_be_reached_by_ipv4(store, service, dual_stack):
    try:
        listener = socket.create_server(
            ("::", 0), family=socket.AF_INET6, dualstack_ipv6=dual_stack
        )
    except OSError:
        pytest.skip("no IPv6")
    with listener:
        keep(store, service, ("10", "::", "1", "0", str(int(not dual_stack)), "0"), listener)
        store.begin_run()
        port = str(listener.getsockname()[1])
        both = {("10", "::", port), ("2", "0.0.0.0", port)}
        assert unclaimed(store, service) == (both if dual_stack else {("10", "::", port)})
