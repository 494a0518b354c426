"""One run of the program, as the supervisor sees it: its pipes, and its messages in their order."""

from __future__ import annotations

import os
import re
import signal
import sys
import time

import pytest

if sys.platform == "win32":
    pytest.skip("there is no supervisor there", allow_module_level=True)

from evreload._common import spawn
from evreload._common.protocol import (
    Decoder,
    Drain,
    DrainTimeNeeded,
    FileRead,
    Release,
    Started,
    encode,
)
from evreload._supervisor.program_process import ProgramProcess, start_cold

WRITER = """
import time
with open("stamp.txt", "w") as file:
    file.write(str(time.time_ns()))
print("wrote", flush=True)
time.sleep(1000)
"""

SERVER = """
import socket, time
with socket.socket() as sock:
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    time.sleep(1000)
"""


def test_a_file_that_differs_after_each_start_soon_causes_no_more_restarts(app):
    app.write("stamp.txt")
    app.write("app.py", WRITER)
    app.start("-m", "evreload", "-w", "stamp.txt", "app.py")
    app.line("stamp.txt changes at each start")
    assert app.count("stamp.txt modified; restarting server") == 4
    app.await_watching()
    app.write("stamp.txt", "something else")
    app.line("stamp.txt modified; restarting server")


def test_all_files_announced_are_watched_even_if_a_socket_is_bound_at_once(app):
    app.write("app.py", SERVER)
    app.start("-m", "evreload", "app.py")
    count = re.search(r"watching (\d+) files", app.await_watching())
    assert count
    assert int(count[1]) > 10
    app.write("app.py", "print('other', flush=True)")
    app.line("other")
    app.signal(signal.SIGTERM)
    assert app.wait() == 128 + signal.SIGTERM


@pytest.fixture
def start_program(tmp_path):
    """Return a function that starts a run of a program; each is killed at the end."""
    (tmp_path / "app.py").write_text("import time; time.sleep(1000)")
    processes = []

    def start():
        processes.append(start_cold([str(tmp_path / "app.py")]))
        return processes[-1]

    yield start
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
        os.waitpid(process.pid, 0)


def test_a_process_that_was_just_killed_may_be_released(start_program):
    process = start_program()
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is still to be reaped
    process.release(Release(1.0, time.time_ns()))
    process.close()


@pytest.fixture
def connected():
    """Return a process that is the test itself, and its ends of the pipes to send and receive."""
    ends: list[int] = []

    def start(pipes):
        ends.extend(map(os.dup, pipes[:2]))
        return os.getpid()

    process = ProgramProcess.start(start)
    yield process, *ends
    process.close()
    for end in ends:
        os.close(end)


def test_messages_that_were_peeked_at_are_read_with_those_that_came_since(connected):
    process, output, _ = connected
    os.write(output, encode(Started()))
    assert process.peek() == [Started()]
    os.write(output, encode(DrainTimeNeeded(1, 5.0)))
    assert process.read() == [Started(), DrainTimeNeeded(1, 5.0)]


def test_paths_that_the_pipe_does_not_hold_are_left_out(monkeypatch):
    """A user who has used up the limit of all pipes gets pipes that hold one page."""
    monkeypatch.setattr(spawn, "capacity", lambda pipe: 4096)
    ends = []

    def start(pipes):
        ends.append(os.dup(pipes[1]))
        return os.getpid()

    process = ProgramProcess.start(start)
    paths = [f"/a/long/path/to/{number}" for number in range(1000)]
    process.drain(1.0, paths, stop_accepting=True)
    data = os.read(ends[0], 1 << 16)
    (message,) = Decoder().feed(data)
    assert isinstance(message, Drain)
    count = len(message.changed)
    assert 0 < count < 1000
    assert message == Drain(1.0, True, tuple(paths[:count]))
    assert len(data) <= 2048
    assert process.max_message == 2048
    process.close()
    os.close(ends[0])


def test_foreign_bytes_in_the_pipe_do_not_prevent_later_messages(connected, caplog):
    """A program may have written into a descriptor that it took for its own."""
    process, output, _ = connected
    os.write(output, encode(FileRead("/a", 1)))
    assert process.read() == [FileRead("/a", 1)]
    for _ in range(2):
        os.write(output, b"\xff\xff\xff\xffnot a message")
        assert process.read() == []
    os.write(output, encode(FileRead("/b", 1)))
    assert process.read() == [FileRead("/b", 1)]
    assert caplog.text.count("the program has written into evreload's pipe: ") == 1
