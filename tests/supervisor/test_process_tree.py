"""The processes that descend from the program: they are found, and ended with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from evreload._supervisor.process_tree import (
    _by_ps,
    descendants,
    kill_all,
    marked,
    tree,
    waits_for_signal,
)
from support.processes import have_ended, is_alive
from support.waiting import until

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only there are orphans found, and processes awaited"
)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_to_the_command_ends_all_processes(app, start_tree, name):
    descriptors = start_tree()
    app.signal(signal.Signals[name])
    assert app.wait() == 128 + signal.Signals[name]
    have_ended(descriptors, 1)  # by the end of the command, not at some time after it


def test_a_restart_ends_all_processes_of_the_previous_run(app, start_tree):
    descriptors = start_tree()
    app.write("helper.py", "VALUE = 2")
    app.line("ready 2")
    have_ended(descriptors)


def test_a_process_with_a_clean_environment_is_not_foreign(app):
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
    app.await_watching()
    app.write("helper.py", "VALUE = 2")
    second = os.pidfd_open(int(app.line("ready 2").split()[-1]))
    app.signal(signal.SIGTERM)
    app.wait()
    have_ended([first, second])


def fork_chain(depth):
    """Fork a chain of processes; return the ID of the first once all of them exist."""
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for _ in range(depth - 1):
                if os.fork():
                    break
            os.write(sender, b".")
            while True:
                signal.pause()
        finally:
            os._exit(0)
    received = b""
    while len(received) < depth:
        received += os.read(receiver, depth)
    os.close(receiver)
    os.close(sender)
    return pid


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_descendants_are_found_and_killed():
    pid = fork_chain(4)
    try:
        below = list(descendants(pid))
        assert len(below) == 3
        assert tree(pid) == [pid, *below]
        assert set(tree(pid)) <= set(descendants(os.getpid()))
        processes = [os.pidfd_open(one) for one in below]
        kill_all(lambda: tree(pid))
        have_ended(processes)
    finally:
        os.waitpid(pid, 0)
    assert list(descendants(pid)) == []
    kill_all(lambda: [pid])  # it does not exist any more, which is no error


def test_a_process_is_marked_by_the_whole_number_of_its_supervisor(app):
    app.start("-c", "import time; print('up', flush=True); time.sleep(60)", EVRELOAD_PID="1234567")
    app.line("up")
    assert app.pid in marked(1234567)
    assert app.pid not in marked(123456)


def test_a_process_that_was_started_before_the_command_is_not_ended(app):
    """The first command of a container may start a database, before an exec makes it evreload."""
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", "import helper; print('ready', helper.VALUE, flush=True)")
    script = 'sh -c "sleep 1000; true" >/dev/null 2>&1 & echo before $!; exec "$@"'
    app.start_command(["sh", "-c", script, "sh", sys.executable, "-m", "evreload", "app.py"])
    shell = int(app.line("before ").split()[1])
    before = until(lambda: found if len(found := tree(shell)) > 1 else None, "it sleeps")
    app.line("ready 1")
    app.line("exited with status 0")
    app.write("helper.py", "VALUE = 2")
    app.line("ready 2")
    app.signal(signal.SIGTERM)
    app.wait()
    assert all(map(is_alive, before))


def test_a_process_that_such_a_process_starts_later_is_not_ended(app):
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", "import helper; print('ready', helper.VALUE, flush=True)")
    waiting = "while [ ! -e go ]; do sleep 0.05; done; sleep 1000 >/dev/null 2>&1 & echo late $!"
    shell = f'sh -c "{waiting}" & exec "$@"'.replace("$!", "\\$!")
    app.start_command(["sh", "-c", shell, "sh", sys.executable, "-m", "evreload", "app.py"])
    app.line("ready 1")
    app.line("exited with status 0")
    app.write("go")
    late = int(app.line("late ").split()[1])
    until(lambda: late in tree(app.pid)[1:], "the command has become its parent")
    app.write("helper.py", "VALUE = 2")
    app.line("ready 2")
    app.signal(signal.SIGTERM)
    app.wait()
    assert is_alive(late)


def test_ps_lists_the_descendants_where_there_is_no_proc():
    with subprocess.Popen(["sleep", "60"]) as child:
        assert child.pid in _by_ps()(os.getpid())
        assert child.pid not in _by_ps()(child.pid)
        assert all(map(is_alive, _by_ps()(os.getpid())))  # ps itself is not listed
        child.kill()


@pytest.mark.parametrize(
    ("code", "waits"),
    [
        ("signal.pause()", True),
        ("signal.sigwait({signal.SIGUSR1})", True),
        ("input()", False),
    ],
)
def test_a_process_that_waits_for_a_signal_is_recognised(code, waits):
    """The supervisor must send it none."""
    code = f"import signal; print(flush=True); {code}"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            if waits:
                until(lambda: waits_for_signal(process.pid), "it waits")
            else:
                until(lambda: "pipe" in wchan(process.pid), "it reads")
                assert not waits_for_signal(process.pid)
        finally:
            process.kill()


def wchan(pid):
    with open(f"/proc/{pid}/wchan") as file:
        return file.read()
