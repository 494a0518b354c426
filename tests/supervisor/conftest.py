"""Fixtures of the tests of the supervisor."""

from __future__ import annotations

import os

import pytest

# The program, a worker, a worker of the worker in a session of its own, and a daemon, which has
# lost its parent. None of them ends by a signal that it can ignore.
PROCESS_TREE = """
import os, signal, sys, time
import helper

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)

def report(name):
    with open("pids", "a") as file:
        file.write(f"{name} {os.getpid()}\\n")
    os.write(output, b".")

def rest():
    while True:
        time.sleep(60)

input, output = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        report("grandchild")
        rest()
    report("child")
    rest()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        report("daemon")
        rest()
    os._exit(0)
os.wait()
report("program")
count = 0
while count < 4:
    count += len(os.read(input, 4))
print("ready", helper.VALUE, flush=True)
if ENDS:
    sys.exit()
rest()
"""


@pytest.fixture
def start_tree(app):
    """Return a function that starts the process tree, and returns descriptors of its processes."""

    def start(*, ends=False):
        app.write("app.py", f"ENDS = {ends}\n{PROCESS_TREE}")
        app.write("helper.py", "VALUE = 1")
        app.start("-m", "evreload", "--stop-timeout", "0.2", "app.py")
        app.line("ready 1")
        if ends:
            app.line("exited")
        lines = (app.directory / "pids").read_text().splitlines()
        pids = {name: int(pid) for name, pid in map(str.split, lines)}
        assert len(pids) == 4
        if ends:
            del pids["program"]
        return [os.pidfd_open(pid) for pid in pids.values()]

    return start
