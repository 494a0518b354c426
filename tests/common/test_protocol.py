"""The messages between the supervisor and other processes, and the pipes that carry them."""

from __future__ import annotations

import contextlib
import itertools
import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evreload._common import protocol
from evreload._common.protocol import (
    ATOMIC_SIZE,
    KINDS,
    LENGTH_SIZE,
    MAX_SIZE,
    Decoder,
    Pipes,
    encode,
)

MESSAGES = [
    protocol.Started(),
    protocol.FileRead("/a/b.py", 1234),
    protocol.FileRead("/ä/\udcff ü\n.py", 5, "abcdef", False),
    protocol.Exiting(),
]

# Any text: with lone surrogates, as in a path that is not UTF-8; with NULs; empty.
TEXT = st.text(st.characters(exclude_categories=()) | st.sampled_from("\0\udcff\ud800"))
VALUES = {
    "str": TEXT,
    "int": st.integers(),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.booleans(),
    "tuple[str, ...]": st.lists(TEXT, max_size=5).map(tuple),
}


def messages_of(kind):
    return st.builds(kind, *(VALUES[annotation] for annotation in kind.FIELDS.values()))


ANY_MESSAGE = st.sampled_from(list(KINDS.values())).flatmap(messages_of)


def feed_in_chunks(data, cuts):
    """Return what a decoder makes of *data*, if it is cut at *cuts*."""
    decoder = Decoder()
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    received = []
    for start, end in itertools.pairwise(places):
        received += decoder.feed(data[start:end])
    return received


def raw_message(*fields):
    """Return a message of the bytes *fields*, which need not be a valid one."""
    body = b"".join(with_length(field) for field in fields)
    return with_length(body)


def with_length(data):
    return len(data).to_bytes(LENGTH_SIZE, "big") + data


# Valid messages


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_each_message_survives_the_pipe(kind):
    @settings(deadline=None, max_examples=25)
    @given(messages_of(kind), st.lists(st.integers(0)))
    def survives(message, cuts):
        (received,) = feed_in_chunks(encode(message), cuts)
        assert received == message
        types = [type(getattr(received, field)) for field in kind.FIELDS]
        assert types == [type(getattr(message, field)) for field in kind.FIELDS]

    survives()


@settings(deadline=None)
@given(st.lists(ANY_MESSAGE), st.lists(st.integers(0)))
def test_many_messages_in_a_row_survive_in_any_chunks(messages, cuts):
    assert feed_in_chunks(b"".join(map(encode, messages)), cuts) == messages


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_messages_are_put_together_again(size):
    sent = b"".join(map(encode, MESSAGES))
    decoder = Decoder()
    received = []
    for start in range(0, len(sent), size):
        received += decoder.feed(sent[start : start + size])
    assert received == MESSAGES


def test_a_message_is_returned_once_it_is_complete():
    decoder = Decoder()
    data = encode(protocol.FileRead("/a", 1))
    assert decoder.feed(data[:-1]) == []
    assert decoder.feed(data[-1:]) == [protocol.FileRead("/a", 1)]


def test_each_kind_is_listed_by_its_name():
    assert all(kind.__name__ == name for name, kind in KINDS.items())
    assert {*VALUES} >= {one for kind in KINDS.values() for one in kind.FIELDS.values()}


# Invalid messages


@settings(deadline=None, max_examples=200)
@given(st.binary() | st.lists(st.binary(max_size=20)).map(lambda fields: raw_message(*fields)))
def test_malformed_bytes_raise_value_error_and_nothing_else(data):
    with contextlib.suppress(ValueError):
        assert all(type(message) in KINDS.values() for message in Decoder().feed(data))


@settings(deadline=None, max_examples=200)
@given(ANY_MESSAGE, st.data())
def test_a_damaged_message_raises_value_error_and_nothing_else(message, data):
    damaged = bytearray(encode(message))
    place = data.draw(st.integers(0, len(damaged) - 1))
    damaged[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        assert all(type(one) in KINDS.values() for one in Decoder().feed(bytes(damaged)))


@settings(deadline=None)
@given(ANY_MESSAGE, st.data())
def test_a_message_that_lacks_its_end_is_refused(message, data):
    body = encode(message)[LENGTH_SIZE:]
    shorter = body[: data.draw(st.integers(0, len(body) - 1))]
    with pytest.raises(ValueError, match=r"has this name|lacks a field|longer than its message"):
        Decoder().feed(with_length(shorter))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([], "no message has this name"),
        ([b""], "no message has this name"),
        ([b"Unknown"], "no message has this name"),
        ([b"Message"], "no message has this name"),
        ([b"FileRead"], "FileRead lacks a field"),
        ([b"FileRead", b"/a", b"1"], "FileRead lacks a field"),
        ([b"FileRead", b"/a", b"one", b""], "invalid literal for int"),
        ([b"FileRead", b"/\xff", b"1", b""], "codec can't decode"),
        ([b"FileRead", b"/a", b"1", b"", b"True", b"another"], "FileRead has a field too many"),
        ([b"ServerListening", b"soon"], "could not convert string to float"),
        ([b"Drained", b"1", b"maybe", b"0"], "'maybe' is no bool"),
        ([b"Drained", b"1", b"True", b"2", b"one client"], "Drained lacks a field"),
        ([b"Drained", b"1", b"True", b"1" * 100, b"one client"], "Drained lacks a field"),
        ([b"Drained", b"1", b"True", b"-1"], "-1 is no number of fields"),
    ],
)
def test_a_message_with_other_fields_is_refused(fields, reason):
    with pytest.raises(ValueError, match=reason):
        Decoder().feed(raw_message(*fields))


def test_an_announced_length_that_no_message_has_is_refused_at_once():
    with pytest.raises(ValueError, match="no message is that long"):
        Decoder().feed(MAX_SIZE.to_bytes(LENGTH_SIZE, "big"))


# The program's pipes


@pytest.fixture
def ends():
    """Return the program's pipes, and the supervisor's ends: to receive, and to send."""
    received, send = os.pipe()
    receive, sent = os.pipe()
    os.set_blocking(received, False)
    yield Pipes([send, receive]), received, sent
    for number in (received, send, receive, sent):
        with contextlib.suppress(OSError):  # the test has closed it
            os.close(number)


def test_the_supervisor_receives_what_the_program_sends(ends):
    pipes, received, _ = ends
    for message in MESSAGES:
        pipes.send(message)
    assert Decoder().feed(os.read(received, 1000)) == MESSAGES


def test_the_program_receives_what_the_supervisor_sends(ends):
    pipes, _, sent = ends
    assert pipes.receive() == []
    data = encode(protocol.Drain(1.5, True, ("/a",)))
    os.write(sent, data[:10])
    assert pipes.receive() == []
    os.write(sent, data[10:])
    assert pipes.receive() == [protocol.Drain(1.5, True, ("/a",))]
    os.write(sent, encode(protocol.ListModules()))
    assert pipes.wait() == [protocol.ListModules()]


def test_a_message_longer_than_a_pipe_keeps_together_is_not_sent(ends):
    pipes, received, _ = ends
    room = ATOMIC_SIZE - len(encode(protocol.FileWritten("")))
    pipes.send(protocol.FileWritten("x" * (room + 1)))
    with pytest.raises(BlockingIOError):
        os.read(received, 1)
    pipes.send(protocol.FileWritten("x" * room))
    assert len(os.read(received, 2 * ATOMIC_SIZE)) == ATOMIC_SIZE


def test_nothing_is_sent_to_another_file_that_has_the_number_of_a_closed_pipe(ends):
    pipes, received, _ = ends
    send, receive = pipes.numbers
    other_receive, other_send = os.pipe()
    os.set_blocking(other_receive, False)
    os.dup2(other_send, send)
    os.dup2(other_receive, receive)
    pipes.send(protocol.Started())
    os.write(other_send, encode(protocol.ListModules()))
    assert pipes.receive() == []
    assert not pipes.is_open(send)
    assert os.read(other_receive, 1000) == encode(protocol.ListModules())
    assert os.read(received, 1) == b""
    os.close(other_receive)
    os.close(other_send)


def test_a_program_goes_on_without_its_supervisor(ends):
    pipes, received, _ = ends
    os.close(received)
    pipes.send(protocol.Started())
    os.close(pipes.numbers[0])
    pipes.send(protocol.Started())


def test_a_fork_does_not_own_the_pipes_it_has_inherited(ends):
    pipes, *_ = ends
    assert pipes.are_own
    pid = os.fork()
    if pid == 0:
        os._exit(int(pipes.are_own))
    assert os.waitpid(pid, 0)[1] == 0


def test_the_pipes_are_not_inherited_by_what_the_program_starts(ends):
    pipes, *_ = ends
    assert not any(map(os.get_inheritable, pipes.numbers))


def test_the_socket_for_sockets_is_the_third_number_and_can_be_closed(ends):
    pipes, *_ = ends
    assert pipes.service == []
    third = os.open(os.devnull, os.O_RDONLY)
    with_service = Pipes([*pipes.numbers, third])
    assert with_service.service == [third]
    with_service.close_service()
    assert with_service.service == []
    assert with_service.numbers == pipes.numbers
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(third)


def test_a_time_survives_to_the_last_digit():
    at = math.nextafter(1 / 3, 1)
    assert Decoder().feed(encode(protocol.ServerListening(at))) == [protocol.ServerListening(at)]
