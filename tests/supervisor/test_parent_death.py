"""The parent-death monitor: nothing of the program is left if the supervisor is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from evreload._supervisor.process_tree import tree
from support.deadline import DEADLINE
from support.processes import assert_gone, have_ended

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only there are orphans found, and processes awaited"
)


def test_sigkill_for_the_supervisor_ends_all_processes(app, start_tree):
    descriptors = start_tree()
    app.signal(signal.SIGKILL)
    have_ended(descriptors)


def test_sigkill_for_the_whole_process_group_ends_all_processes(app, start_tree):
    descriptors = start_tree()
    os.killpg(app.pid, signal.SIGKILL)
    have_ended(descriptors)


def test_sigkill_after_the_program_has_ended_ends_what_it_left_behind(app, start_tree):
    descriptors = start_tree(ends=True)
    app.signal(signal.SIGKILL)
    have_ended(descriptors)


def find_monitor(supervisor):
    """Block until there is a monitor; return its ID.

    It is a fork of the supervisor, so it has the same command line.
    """
    deadline = time.monotonic() + DEADLINE
    own = Path(f"/proc/{supervisor}/cmdline").read_bytes()
    while time.monotonic() < deadline:
        for pid in tree(supervisor)[1:]:
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if Path(f"/proc/{pid}/cmdline").read_bytes() == own:
                    return pid
    return pytest.fail("there is no monitor")


def test_a_monitor_that_is_killed_is_replaced(app, start_tree):
    descriptors = start_tree()
    first = find_monitor(app.pid)
    os.kill(first, signal.SIGKILL)
    assert_gone({first})
    assert find_monitor(app.pid) != first
    app.write("helper.py", "VALUE = 2")
    app.line("ready 2")
    have_ended(descriptors)
    everything = tree(app.pid)
    app.signal(signal.SIGKILL)
    app.wait()
    assert_gone(set(everything))


def test_the_monitor_keeps_nothing_open(app, start_tree):
    """A reader of the command's output would wait for it."""
    start_tree()
    app.signal(signal.SIGKILL)
    app.wait()
    app._reader.join(DEADLINE)
    assert not app._reader.is_alive()
