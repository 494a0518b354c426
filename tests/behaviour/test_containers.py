"""File systems and processes as in containers: the mounts and the namespaces are real."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.files import replace
from support.processes import assert_gone, in_a_namespace, is_alive, process_tree
from support.programs import MODES, assert_no_other_change, await_restart, runner
from support.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are no namespaces")

MOUNTED = "sys.path.append('mounted'); import helper"


@pytest.fixture
def source(app):
    """Write a module in the directory to mount, and return its path; make the other directories."""
    for directory in ("upper", "work", "mounted"):
        (app.directory / directory).mkdir()
    return app.write("source/helper.py", "VALUE = 1")


def as_root(*arguments):
    """Return a prefix that runs a command as root of new namespaces."""
    mapping = () if os.getuid() == 0 else ("--user", "--map-root-user")
    return in_a_namespace(*mapping, *arguments)


def mounting(command):
    """Return a prefix that runs *command* in a new mount namespace, then the program."""
    return [*as_root("--mount"), "sh", "-ec", f'{command}; exec "$@"', "sh"]


def usable(prefix, app):
    """Return *prefix*; skip the test if it fails here."""
    trial = subprocess.run([*prefix, "true"], cwd=app.directory, capture_output=True, text=True)
    if trial.returncode:
        pytest.skip(trial.stderr)
    return prefix


def assert_saves_restart(app, path):
    """Check that a save of *path* restarts the program, by a rename and in place."""
    replace(path, "VALUE = 2")
    assert await_restart(app, "mounted/helper.py") == "ready 2"
    path.write_text("VALUE = 3")
    assert await_restart(app, "mounted/helper.py") == "ready 3"
    assert_no_other_change(app)


OVERLAY = "mount -t overlay overlay -o lowerdir=source,upperdir=upper,workdir=work mounted"


@MODES
@pytest.mark.parametrize(
    ("mount", "is_outside"),
    [
        ("mount --bind source mounted", True),
        ("mount -t tmpfs tmpfs mounted; cp source/helper.py mounted", False),
        (OVERLAY, False),
        (f"{OVERLAY}; mount --bind source mounted", True),
    ],
    ids=["bind", "tmpfs", "overlay", "bind over an overlay"],
)
def test_a_mount_that_delivers_events_is_not_polled(app, source, mount, is_outside, mode):
    prefix = usable(mounting(mount), app)
    runner(app, mode=mode)(MOUNTED, prefix=prefix)
    assert "polled" not in app.output
    # Only the program has this mount: the test reaches it through the program's root directory.
    assert_saves_restart(
        app, source if is_outside else Path(f"/proc/{app.pid}/root{app.path('mounted/helper.py')}")
    )


@MODES
def test_a_file_that_is_mounted_by_itself_is_polled(app, source, mode):
    """Its events go to the source directory. The mount never shows a file renamed over it there."""
    bind = "touch mounted/helper.py; mount --bind source/helper.py mounted/helper.py"
    prefix = usable(mounting(bind), app)
    runner(app, mode=mode)(MOUNTED, prefix=prefix, await_watching=False)
    assert f"polling {app.path('mounted/helper.py')}" in app.line("it is mounted by itself")
    assert "1 of them polled" in app.await_watching()
    source.write_text("VALUE = 2")
    assert await_restart(app, "mounted/helper.py") == "ready 2"
    assert_no_other_change(app)


@MODES
def test_a_file_system_in_user_space_is_polled(app, source, mode):
    if os.getuid() or not os.path.exists("/dev/fuse") or not shutil.which("bindfs"):
        pytest.skip("needs root, /dev/fuse and bindfs")
    mounted = "until mountpoint -q mounted; do kill -0 $!; sleep 0.05; done"
    prefix = mounting(f"bindfs -f source mounted & {mounted}")
    runner(app, mode=mode)(MOUNTED, prefix=prefix, await_watching=False)
    app.line("mounted every ")
    assert "fuse delivers no file events" in app.seen[-1]
    assert "(inotify; 1 of them polled)" in app.await_watching()
    assert_saves_restart(app, source)


# Process 1


@MODES
def test_as_process_1_the_program_restarts_and_orphans_are_reaped(app, mode):
    orphans = "; import subprocess; subprocess.run('sleep 0 & sleep 1000 &', shell=True)"
    body = f"import helper{orphans if mode else ''}"
    value = "helper.VALUE, 1 in (os.getpid(), os.getppid())"
    prefix = as_root("--pid", "--fork", "--kill-child", "--mount-proc")
    app.write("helper.py", "VALUE = 1")
    runner(app, mode=mode)(body, value, prefix=prefix)
    for number in (2, 3, 4):
        app.write("helper.py", f"VALUE = {number}")
        assert await_restart(app, "helper.py") == f"ready {number} True"
    # Processes that have ended are reaped, and only orphans of the current run are left.
    until(lambda: all(map(is_alive, process_tree(app.pid))), "all processes left are alive")
    _, first, *others = process_tree(app.pid)
    sleeping = [Path(f"/proc/{pid}/comm").read_text() for pid in others].count("sleep\n")
    assert sleeping == (1 if mode else 0)
    if mode:
        os.kill(first, signal.SIGTERM)
        assert app.wait() == 128 + signal.SIGTERM
    else:
        app.signal(signal.SIGKILL)
    assert_gone({first, *others})
