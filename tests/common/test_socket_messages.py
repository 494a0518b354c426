"""How listening sockets pass between the program and the supervisor."""

from __future__ import annotations

import os
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evreload._common.socket_messages import (
    CLAIM,
    KEEP,
    MAX_DATAGRAM,
    RELEASE,
    Address,
    family_and_port,
    is_listening,
    is_tcp,
    kept_address,
    listening_address,
    pack,
    pack_places,
    receive,
    reuses_port,
    unpack,
    unpack_places,
)

# What an address is made of: no NUL, and what the file system's encoding can hold.
FIELDS = st.binary(max_size=30).map(lambda data: os.fsdecode(data.replace(b"\0", b"")))


@pytest.fixture
def pair():
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        yield one, other


@settings(deadline=None)
@given(st.sampled_from([KEEP, CLAIM, RELEASE]), st.lists(FIELDS).map(tuple))
def test_a_request_survives_its_datagram(kind, address):
    assert unpack(pack(kind, address)) == (kind, address, os.getpid())


PLACES = st.sets(st.tuples(st.sampled_from(["2", "10"]), st.sampled_from(["::1", "10.0.0.1"])))


@given(PLACES)
def test_the_places_where_sockets_are_kept_survive_their_answer(hosts):
    places = {(family, host, "80") for family, host in hosts}
    answer = pack_places(places)
    assert answer  # an empty one would be the end of the connection
    assert unpack_places(answer) == places


def address_at(sock: socket.socket, where: tuple[object, ...]) -> Address:
    """Return the address of a socket that is kept."""
    address = kept_address(sock, where)
    assert address
    return address


def test_the_longest_address_fits_into_a_datagram():
    with socket.socket() as sock:
        address = address_at(sock, ("h" * 255, 65535))
    assert len(pack(RELEASE, address)) < MAX_DATAGRAM


def test_a_descriptor_that_was_received_is_not_inherited(pair):
    one, other = pair
    with socket.create_server(("127.0.0.1", 0)) as listener:
        os.set_inheritable(listener.fileno(), True)
        socket.send_fds(one, [b"datagram"], [listener.fileno()])
        datagram, (received,) = receive(other)
        assert datagram == b"datagram"
        assert os.path.sameopenfile(received, listener.fileno())
        assert not os.get_inheritable(received)
        os.close(received)


@pytest.mark.parametrize("address", [("127.0.0.1", 0), ("127.0.0.1",), "path", (None, "x"), None])
def test_an_address_that_cannot_be_kept_is_left_to_bind(address):
    with socket.socket() as sock:
        assert kept_address(sock, address) is None


def test_only_tcp_sockets_are_kept():
    with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket(socket.AF_UNIX) as unix:
        assert not is_tcp(udp)
        assert kept_address(udp, ("127.0.0.1", 80)) is None
        assert kept_address(unix, "/run/socket") is None


def test_addresses_differ_by_what_makes_them_exclude_each_other():
    with socket.socket() as one, socket.socket() as shared, socket.socket(socket.AF_INET6) as v6:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        addresses = [
            address_at(one, ("127.0.0.1", 80)),
            address_at(one, ("127.0.0.1", 81)),
            address_at(one, ("", 80)),
            address_at(shared, ("", 80)),
            address_at(v6, ("", 80)),
            address_at(v6, ("fe80::1", 80, 0, 1)),
            address_at(v6, ("fe80::1", 80, 0, 2)),
        ]
        v6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        addresses.append(address_at(v6, ("", 80)))
        assert len(set(addresses)) == len(addresses)
        assert kept_address(one, ("", 80)) == kept_address(one, ("0.0.0.0", 80))
        assert kept_address(one, (b"localhost", "80")) == kept_address(one, ("localhost", 80))
    assert [address for address in addresses if reuses_port(address)] == [addresses[3]]


def test_host_names_of_one_family_share_a_port():
    with socket.socket() as v4, socket.socket(socket.AF_INET6) as v6:
        one, other = address_at(v4, ("127.0.0.1", 80)), address_at(v4, ("localhost", 80))
        assert family_and_port(one) == family_and_port(other)
        assert family_and_port(one) != family_and_port(address_at(v4, ("127.0.0.1", 81)))
        assert family_and_port(one) != family_and_port(address_at(v6, ("::", 80)))


def test_only_an_internet_socket_that_listens_has_a_listening_address(pair, tmp_path):
    listener, bound, unix = socket.socket(), socket.socket(), socket.socket(socket.AF_UNIX)
    with listener, bound, unix, open(os.devnull) as file:
        listener.bind(("127.0.0.1", 0))
        bound.bind(("127.0.0.1", 0))
        unix.bind(str(tmp_path / "socket"))
        listener.listen()
        unix.listen()
        assert is_listening(listener)
        assert not is_listening(bound)
        assert listening_address(listener.fileno()) == listener.getsockname()
        for other in (bound, unix, file, pair[0]):
            assert listening_address(other.fileno()) is None
        number = bound.fileno()
    assert listening_address(number) is None
