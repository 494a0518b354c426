"""What the command learns from the program, in the order it matters."""

from __future__ import annotations

import os
import re
import signal

import pytest

from evreload._common import process as _process
from evreload._common.protocol import pack
from evreload._settings import Options
from evreload._supervisor.program_process import Run, cold

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


def test_a_file_that_differs_at_each_start_is_soon_let_be(app):
    app.write("stamp.txt")
    app.write("app.py", WRITER)
    app.start("-m", "evreload", "-w", "stamp.txt", "app.py")
    app.line("stamp.txt is different after each start")
    assert app.count("stamp.txt modified; restarting server") == 5
    app.armed()
    app.write("stamp.txt", "something else")
    app.line("stamp.txt modified; restarting server")


def test_what_is_announced_is_armed_even_if_a_socket_is_bound_at_once(app):
    app.write("app.py", SERVER)
    app.start("-m", "evreload", "app.py")
    count = re.search(r"watching (\d+) files", app.armed())
    assert count
    assert int(count[1]) > 10
    app.write("app.py", "print('other', flush=True)")
    app.line("other")
    app.signal(signal.SIGTERM)
    assert app.wait() == 128 + signal.SIGTERM


@pytest.fixture
def cold_runs(tmp_path):
    """Return what starts runs of a program, and at the end stops them."""
    (tmp_path / "app.py").write_text("import time; time.sleep(1000)")
    options = Options(target=[str(tmp_path / "app.py")])
    runs = []

    def start():
        runs.append(cold(options))
        return runs[-1]

    yield start
    for run in runs:
        os.kill(run.pid, signal.SIGKILL)
        os.waitpid(run.pid, 0)


def killed(run):
    """Kill the process of *run*, and leave it to be reaped."""
    os.kill(run.pid, signal.SIGKILL)
    os.waitid(os.P_PID, run.pid, os.WEXITED | os.WNOWAIT)


def test_a_run_that_was_just_killed_may_be_let_go(cold_runs):
    run = cold_runs()
    killed(run)
    run.go(1.0)
    run.close()


def test_what_was_peeked_at_and_what_came_since_are_read_at_once():
    ends = []

    def start(pipes):
        ends.append(os.dup(pipes[0]))
        return os.getpid()

    run = Run(start, keep_sockets=False)
    os.write(ends[0], pack(("began",)))
    assert run.peek() == [("began",)]
    os.write(ends[0], pack(("wishes", "5.0", "1")))
    assert run.read() == [("began",), ("wishes", "5.0", "1")]
    run.close()
    os.close(ends[0])


def test_what_the_pipe_does_not_hold_is_left_out(monkeypatch):
    """Where a user has all pipes that one may have, another holds but a page."""
    monkeypatch.setattr(_process, "capacity", lambda pipe: 4096)
    ends = []

    def start(pipes):
        ends.append(os.dup(pipes[1]))
        return os.getpid()

    def heed(number, frame):
        pass

    before = signal.signal(signal.SIGURG, heed)
    run = Run(start, keep_sockets=False)
    assert run.request_to_prepare(1.0, [f"/a/long/path/to/{number}" for number in range(1000)])
    told = os.read(ends[0], 1 << 16)
    assert told.startswith(b"prepare\x001.0\0/a/long/path/to/0\0")
    assert told.endswith(b"\0\0")
    assert len(told) <= 2048
    assert run.most_told == 2048
    run.close()
    os.close(ends[0])
    signal.signal(signal.SIGURG, before)
