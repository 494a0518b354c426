"""Nothing is left behind, however the command ends, and wherever the program's children went."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import DEADLINE, assert_gone, have_ended, is_alive, until

from evreload._supervisor.process_tree import _by_ps, descendants, family, kill_all, marked

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only there are orphans found, and processes awaited"
)

# Itself, a worker, a worker's worker in a session of its own, and a daemon, which has no parent.
# None of them heeds a polite request.
FAMILY = """
import os, signal, sys, time
import helper

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)

def tell(name):
    with open("pids", "a") as file:
        file.write(f"{name} {os.getpid()}\\n")
    os.write(ready, b".")

def rest():
    while True:
        time.sleep(60)

told, ready = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        tell("grandchild")
        rest()
    tell("child")
    rest()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        tell("daemon")
        rest()
    os._exit(0)
os.wait()
tell("program")
count = 0
while count < 4:
    count += len(os.read(told, 4))
print("ready", helper.VALUE, flush=True)
if ENDS:
    sys.exit()
rest()
"""


@pytest.fixture
def members(app):
    """Start the family; return a function that gives descriptors of its processes."""

    def start(*, ends=False):
        app.write("app.py", f"ENDS = {ends}\n{FAMILY}")
        app.write("helper.py", "VALUE = 1")
        app.start("-m", "evreload", "--stop-timeout", "0.2", "app.py")
        app.line("ready 1")
        if ends:
            app.line("exited")
        told = (app.directory / "pids").read_text().splitlines()
        pids = {name: int(pid) for name, pid in map(str.split, told)}
        assert len(pids) == 4
        if ends:
            del pids["program"]
        return [os.pidfd_open(pid) for pid in pids.values()]

    return start


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_leaves_nothing_behind(app, members, name):
    descriptors = members()
    app.signal(signal.Signals[name])
    assert app.wait() == 128 + signal.Signals[name]
    have_ended(descriptors, 1)  # by then, not only some day


def test_sigkill_leaves_nothing_behind(app, members):
    descriptors = members()
    app.signal(signal.SIGKILL)
    have_ended(descriptors)


def test_sigkill_for_the_whole_group_leaves_nothing_behind(app, members):
    descriptors = members()
    os.killpg(app.pid, signal.SIGKILL)
    have_ended(descriptors)


def test_sigkill_after_the_program_ended_leaves_nothing_behind(app, members):
    descriptors = members(ends=True)
    app.signal(signal.SIGKILL)
    have_ended(descriptors)


def guardian(supervisor):
    """Block until there is one: a fork of the supervisor, so called like it. Return its id."""
    deadline = time.monotonic() + DEADLINE
    own = Path(f"/proc/{supervisor}/cmdline").read_bytes()
    while time.monotonic() < deadline:
        for pid in family(supervisor)[1:]:
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if Path(f"/proc/{pid}/cmdline").read_bytes() == own:
                    return pid
    return pytest.fail("there is no guardian")


def test_sigkill_for_the_guardian_leaves_another(app, members):
    descriptors = members()
    first = guardian(app.pid)
    os.kill(first, signal.SIGKILL)
    assert_gone({first})
    assert guardian(app.pid) != first
    app.write("helper.py", "VALUE = 2")
    app.line("ready 2")
    have_ended(descriptors)
    everyone = family(app.pid)
    app.signal(signal.SIGKILL)
    app.wait()
    assert_gone(set(everyone))


def test_a_clean_environment_makes_nobody_a_stranger(app):
    app.write("helper.py", "VALUE = 1")
    app.write(
        "app.py",
        """
import subprocess, time
import helper
started = subprocess.Popen(["sleep", "1000"], env={"A": "1"}, start_new_session=True)
print("ready", helper.VALUE, started.pid, flush=True)
time.sleep(1000)
""",
    )
    app.start("-m", "evreload", "app.py")
    first = os.pidfd_open(int(app.line("ready 1").split()[-1]))
    app.armed()
    app.write("helper.py", "VALUE = 2")
    second = os.pidfd_open(int(app.line("ready 2").split()[-1]))
    app.signal(signal.SIGTERM)
    app.wait()
    have_ended([first, second])


def test_a_restart_leaves_nothing_behind(app, members):
    descriptors = members()
    app.write("helper.py", "VALUE = 2")
    app.line("ready 2")
    have_ended(descriptors)


def test_the_guardian_keeps_nothing_open(app, members):
    """Whoever reads what the command prints would wait for it."""
    members()
    app.signal(signal.SIGKILL)
    app.wait()
    app._reader.join(DEADLINE)
    assert not app._reader.is_alive()


def tree(depth):
    """Fork a chain of processes; return a descriptor that is readable once all are there."""
    told, ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for _ in range(depth - 1):
                if os.fork():
                    break
            os.write(ready, b".")
            while True:
                signal.pause()
        finally:
            os._exit(0)
    seen = b""
    while len(seen) < depth:
        seen += os.read(told, depth)
    os.close(told)
    os.close(ready)
    return pid


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_descendants_are_found_and_killed():
    pid = tree(4)
    try:
        below = list(descendants(pid))
        assert len(below) == 3
        assert family(pid) == [pid, *below]
        assert set(family(pid)) <= set(descendants(os.getpid()))
        processes = [os.pidfd_open(one) for one in below]
        kill_all(lambda: family(pid))
        have_ended(processes)
    finally:
        os.waitpid(pid, 0)
    assert list(descendants(pid)) == []
    kill_all(lambda: [pid])  # it is gone: no matter


def test_the_marked_are_those_that_bear_the_whole_mark(app):
    app.start("-c", "import time; print('up', flush=True); time.sleep(60)", EVRELOAD_PID="1234567")
    app.line("up")
    assert app.pid in marked(1234567)
    assert app.pid not in marked(123456)


def test_what_was_started_before_the_command_is_none_of_its_business(app):
    """As the first command of a container may start a database, before it becomes ours."""
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", "import helper; print('ready', helper.VALUE, flush=True)")
    script = 'sh -c "sleep 1000; true" >/dev/null 2>&1 & echo before $!; exec "$@"'
    app.start_command(["sh", "-c", script, "sh", sys.executable, "-m", "evreload", "app.py"])
    shell = int(app.line("before ").split()[1])
    before = until(lambda: len(found := family(shell)) > 1 and found, "it sleeps")
    app.line("ready 1")
    app.line("exited with status 0")
    app.write("helper.py", "VALUE = 2")
    app.line("ready 2")
    app.signal(signal.SIGTERM)
    app.wait()
    assert all(map(is_alive, before))


def test_ps_knows_the_family_where_proc_does_not():
    with subprocess.Popen(["sleep", "60"]) as child:
        assert child.pid in _by_ps()(os.getpid())
        assert child.pid not in _by_ps()(child.pid)
        assert all(map(is_alive, _by_ps()(os.getpid())))  # ps itself is not
        child.kill()


def test_what_such_a_stranger_starts_later_is_none_of_its_business_either(app):
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", "import helper; print('ready', helper.VALUE, flush=True)")
    late = "while [ ! -e go ]; do sleep 0.05; done; sleep 1000 >/dev/null 2>&1 & echo late $!"
    shell = f'sh -c "{late}" & exec "$@"'.replace("$!", "\\$!")
    app.start_command(["sh", "-c", shell, "sh", sys.executable, "-m", "evreload", "app.py"])
    app.line("ready 1")
    app.line("exited with status 0")
    app.write("go")
    late = int(app.line("late ").split()[1])
    until(lambda: late in family(app.pid)[1:], "it has come to the command")
    app.write("helper.py", "VALUE = 2")
    app.line("ready 2")
    app.signal(signal.SIGTERM)
    app.wait()
    assert is_alive(late)
