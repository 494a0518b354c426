"""A program that is about to be stopped lets nobody in; here, this one is held itself."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys

import pytest
from conftest import DEADLINE

from evreload._program.runner import stop_accepting as hold

needs_epoll = pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")


@pytest.fixture(autouse=True)
def accept(monkeypatch):
    monkeypatch.setattr(socket.socket, "accept", socket.socket.accept)  # as it was, in the end


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def epoll():
    with contextlib.closing(select.epoll()) as epoll:
        yield epoll


@pytest.fixture
def come(listener):
    """Return what lets somebody connect."""
    with contextlib.ExitStack() as stack:
        address = listener.getsockname()
        yield lambda: stack.enter_context(socket.create_connection(address, DEADLINE))


def ready(epoll, seconds=0.0):
    return [descriptor for descriptor, _ in epoll.poll(seconds)]


@needs_epoll
def test_no_loop_is_woken_for_who_comes_but_for_whom_it_has_let_in(epoll, listener, come):
    epoll.register(listener.fileno(), select.EPOLLIN)
    client = come()
    assert ready(epoll, DEADLINE) == [listener.fileno()]
    served, _ = listener.accept()
    with served:
        epoll.register(served.fileno(), select.EPOLLIN)
        hold.hold([])
        come()
        assert ready(epoll) == []
        client.send(b"a question")
        assert ready(epoll, DEADLINE) == [served.fileno()]


@needs_epoll
def test_a_loop_may_let_go_of_what_it_is_not_woken_for(epoll, listener, come):
    """Twisted's does as it ends, and gives up the rest of it where that fails."""
    epoll.register(listener.fileno(), select.EPOLLIN)
    hold.hold([])
    epoll.modify(listener.fileno(), select.EPOLLIN)
    come()
    assert ready(epoll, DEADLINE) == [listener.fileno()]
    epoll.unregister(listener.fileno())


@needs_epoll
def test_who_is_alone_to_be_woken_is_not_either(epoll, listener, come):
    epoll.register(listener.fileno(), select.EPOLLIN | select.EPOLLEXCLUSIVE)
    hold.hold([])
    come()
    assert ready(epoll) == []


@needs_epoll
def test_sockets_of_other_kinds_are_left_to_their_loops(epoll, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        epoll.register(listener.fileno(), select.EPOLLIN)
        hold.hold([])
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(listener.getsockname())
            assert ready(epoll, DEADLINE) == [listener.fileno()]


@needs_epoll
def test_a_free_port_is_left_open(epoll, listener, come):
    """The next run will have another, so that nobody would be answered there."""
    epoll.register(listener.fileno(), select.EPOLLIN)
    hold.hold([listener.getsockname()])
    come()
    assert ready(epoll, DEADLINE) == [listener.fileno()]
    listener.accept()[0].close()


@needs_epoll
def test_an_epoll_that_cannot_be_asked_does_not_keep_the_others_from_it(
    monkeypatch, epoll, listener, come
):
    with contextlib.closing(select.epoll()) as other:
        awaited = hold._awaited

        def fail_for_other(descriptor):
            if descriptor == other.fileno():
                raise FileNotFoundError("another thread has closed it")
            return awaited(descriptor)

        monkeypatch.setattr(hold, "_awaited", fail_for_other)
        epoll.register(listener.fileno(), select.EPOLLIN)
        hold.hold([])
        come()
        assert ready(epoll) == []


@needs_epoll
def test_a_number_that_means_another_socket_by_now_does_no_harm(epoll, listener, come):
    copy, other = listener.dup(), socket.create_server(("127.0.0.1", 0))
    with copy, other, listener.dup() as another:  # which comes after the copy
        for one in (copy, another):
            epoll.register(one.fileno(), select.EPOLLIN)
        number = copy.fileno()
        os.dup2(other.fileno(), number)  # the listener itself is still open
        hold.hold([])
        come()
        assert ready(epoll, DEADLINE) == [number]


@needs_epoll
def test_where_gevent_has_taken_epoll_away_accept_is_left(monkeypatch, listener):
    monkeypatch.delattr(select, "epoll")
    listener.setblocking(False)
    hold.hold([])
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_who_polls_is_told_that_nobody_has_come(listener, come):
    listener.setblocking(False)
    come()
    assert select.select([listener], [], [], DEADLINE)[0]
    hold.hold([])
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_who_waits_in_accept_lets_nobody_in_before_it_has_got_its_signal(
    monkeypatch, listener, come
):
    monkeypatch.setattr(hold.time, "sleep", waited := [].append)
    come()
    hold.hold([])
    served, _ = listener.accept()
    served.close()
    assert waited.__self__ == [hold.TO_BE_STOPPED]
