"""The spare: the process of the next run, before it is needed."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from support.files import await_tick
from support.waiting import until

if sys.platform == "win32":
    pytest.skip("there is no supervisor there", allow_module_level=True)

from evreload._child import client
from evreload._common.protocol import FileRead, Release
from evreload._settings import Settings
from evreload._supervisor import program_process
from evreload._supervisor.program_process import start_cold
from evreload._supervisor.spare import Spare


@pytest.fixture
def spare(tmp_path):
    (tmp_path / "app.py").write_text("import time; time.sleep(1000)")
    settings = Settings(target=[str(tmp_path / "app.py")])
    present = start_cold(settings.target)
    started = {present.pid}
    made: Spare

    def note():
        started.update(made.pids)

    made = Spare(settings, present, lambda requests: None, note)
    yield made
    present.close()
    made.close()
    for pid in started:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_spare_that_is_ready_is_taken(spare):
    spare.make_ready()
    (pid,) = spare.pids
    taken = spare.take({})
    assert taken.pid == pid
    assert not spare.pids
    taken.close()


def test_a_spare_that_was_just_killed_is_not_taken(spare):
    spare.make_ready()
    (pid,) = spare.pids
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    taken = spare.take({})
    assert taken.pid != pid
    taken.release(Release(1.0, time.time_ns()))
    taken.close()
    os.kill(taken.pid, signal.SIGKILL)
    os.waitpid(taken.pid, 0)


def test_a_spare_that_began_before_a_package_was_installed_is_not_taken(
    spare, tmp_path, monkeypatch
):
    """It has read all `.pth` files, and would not find what a new one adds to the path."""
    packages = tmp_path / "site-packages"
    packages.mkdir()
    monkeypatch.setattr(program_process, "PACKAGE_DIRECTORIES", [str(packages)])
    spare.make_ready()
    (pid,) = spare.pids
    await_tick()
    (packages / "editable.pth").write_text("/somewhere/else")
    taken = spare.take({})
    assert taken.pid != pid
    taken.close()
    os.waitpid(taken.pid, 0)


def test_a_spare_that_has_read_a_changed_file_is_not_taken(spare):
    spare.make_ready()
    (pid,) = spare.pids
    own = client.__file__

    def has_read():
        messages = spare._process.peek()
        return own in {message.path for message in messages if isinstance(message, FileRead)}

    until(has_read, "the spare has imported that")
    taken = spare.take({own: None})
    assert taken.pid != pid
    taken.close()
    os.waitpid(taken.pid, 0)
