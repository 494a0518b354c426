"""The run that will be next, before it is."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from conftest import await_tick, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no supervisor there")


@pytest.fixture
def standby(tmp_path):
    from evreload._settings import Options
    from evreload._supervisor.program_process import cold
    from evreload._supervisor.spare import Standby

    (tmp_path / "app.py").write_text("import time; time.sleep(1000)")
    options = Options(target=[str(tmp_path / "app.py")])
    started = set()

    def note():
        started.update(standby.pids)

    present = cold(options)
    standby = Standby(options, present, lambda wants: None, note)
    started.add(present.pid)
    yield standby
    present.close()
    standby.close()
    for pid in started:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_what_is_ready_is_taken(standby):
    standby.make_ready()
    (pid,) = standby.pids
    taken = standby.take({})
    assert taken.pid == pid
    assert not standby.pids
    taken.close()


def test_of_what_was_just_killed_nothing_is_taken(standby):
    standby.make_ready()
    (pid,) = standby.pids
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    taken = standby.take({})
    assert taken.pid != pid
    taken.go(1.0)
    taken.close()
    os.kill(taken.pid, signal.SIGKILL)
    os.waitpid(taken.pid, 0)


def test_what_began_before_something_was_installed_is_not_taken(standby, tmp_path, monkeypatch):
    """It has read all `.pth` files, and would not find what a new one leads to."""
    from evreload._supervisor import program_process as run

    packages = tmp_path / "site-packages"
    packages.mkdir()
    monkeypatch.setattr(run, "INSTALLED", [str(packages)])
    standby.make_ready()
    (pid,) = standby.pids
    await_tick()
    (packages / "editable.pth").write_text("/somewhere/else")
    taken = standby.take({})
    assert taken.pid != pid
    taken.close()
    os.waitpid(taken.pid, 0)


def test_what_has_read_a_change_is_not_taken(standby):
    from evreload._child import client as child

    standby.make_ready()
    (pid,) = standby.pids
    own = child.__file__
    until(lambda: own in {record[-1] for record in standby._run.peek()}, "it has imported that")
    taken = standby.take({own: None})
    assert taken.pid != pid
    taken.close()
    os.waitpid(taken.pid, 0)
