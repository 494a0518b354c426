"""How processes are started, and their pipes."""

from __future__ import annotations

import os
import sys

import pytest

from evreload._common import spawn, startup
from evreload._common.role import PROGRAM, WORKER, Role


def test_the_runner_is_given_the_whole_command_line():
    *start, role = spawn.runner_command()[: len(startup.FLAGS) + 3]
    assert start == [startup.EXECUTABLE, *startup.FLAGS, startup.RUNNER]
    assert spawn.runner_command() == [*start, role, *sys.orig_argv]


def test_the_runner_is_given_the_role():
    role = Role(PROGRAM, (3, 4, 5))
    command = spawn.runner_command(role, ["python", "app.py"])
    assert command[-3:] == [str(role), "python", "app.py"]


def test_a_worker_keeps_its_flags_and_its_command_line():
    command = ["/usr/bin/python", "-B", "-X", "dev", "-c", "work()", "7"]
    assert spawn.worker_command(command, [3, 4], 17, 0.5) == [
        *command[:4],
        startup.RUNNER,
        str(Role(WORKER, (3, 4), 17, grace=0.5)),
        *command,
    ]


def test_a_process_is_started_with_three_ways_to_it():
    """The starting process keeps one end of each, and no process started later inherits them."""
    theirs: list[int] = []

    def start(pipes):
        assert len(pipes) == 3
        theirs.extend(map(os.dup, pipes))
        return 17

    pid, (receive, send, service) = spawn.start_with_pipes(start)
    their_send, their_receive, their_service = theirs
    assert pid == 17
    os.write(their_send, b"report")
    os.write(send, b"request")
    os.write(their_service, b"socket")
    assert os.read(receive, 100) == b"report"
    assert os.read(their_receive, 100) == b"request"
    assert os.read(service, 100) == b"socket"
    for number in (receive, send, service):
        assert not os.get_inheritable(number)
        assert not os.get_blocking(number)
    for number in (receive, send, service, *theirs):
        os.close(number)


def test_no_pipe_is_left_if_no_process_can_be_started():
    before = os.listdir("/proc/self/fd")

    def start(pipes):
        raise OSError("no more processes")

    with pytest.raises(OSError, match="no more processes"):
        spawn.start_with_pipes(start)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a pipe's size cannot be set")
def test_a_pipe_can_be_made_larger():
    receive, send = os.pipe()
    spawn.set_capacity(send, 1 << 18)
    assert spawn.capacity(send) == 1 << 18
    spawn.set_capacity(send, 1 << 30)  # more than a user may have; root may
    assert spawn.capacity(send) >= 1 << 18
    os.close(receive)
    os.close(send)


def test_a_descriptor_that_means_another_file_has_another_identity():
    receive, send = os.pipe()
    with open(os.devnull) as other:
        before = startup.identity(send)
        assert startup.identity(send) == before
        os.dup2(other.fileno(), send)
        assert startup.identity(send) != before
    os.close(receive)
    os.close(send)
    with pytest.raises(OSError, match="Bad file descriptor"):
        startup.identity(send)
