"""The file systems and processes of containers, made for the test: what mounts do is real."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import (
    WAYS,
    assert_gone,
    family,
    in_a_namespace,
    is_alive,
    nothing_else,
    replace,
    restarted,
    runner,
    until,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are no namespaces")

MOUNTED = "sys.path.append('mounted'); import helper"


@pytest.fixture
def source(app):
    """Make what is mounted; the program imports `helper` from where that is."""
    for directory in ("upper", "work", "mounted"):
        (app.directory / directory).mkdir()
    return app.write("source/helper.py", "VALUE = 1")


def as_root(*arguments):
    """Return what runs a command in new namespaces, as their root."""
    mapping = () if os.getuid() == 0 else ("--user", "--map-root-user")
    return in_a_namespace(*mapping, *arguments)


def mounting(command):
    """Return what runs a program after *command*, in a mount namespace of its own."""
    return [*as_root("--mount"), "sh", "-ec", f'{command}; exec "$@"', "sh"]


def tried(prefix, app):
    """Return *prefix*, or skip the test where the command in it fails."""
    trial = subprocess.run([*prefix, "true"], cwd=app.directory, capture_output=True, text=True)
    if trial.returncode:
        pytest.skip(trial.stderr)
    return prefix


def is_served(app, path):
    """Check that edits of *path* are, whichever way they are saved."""
    replace(path, "VALUE = 2")
    assert restarted(app, "mounted/helper.py") == "ready 2"
    path.write_text("VALUE = 3")
    assert restarted(app, "mounted/helper.py") == "ready 3"
    nothing_else(app)


OVERLAY = "mount -t overlay overlay -o lowerdir=source,upperdir=upper,workdir=work mounted"


@WAYS
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
def test_file_systems_that_deliver_events(app, source, mount, is_outside, way):
    prefix = tried(mounting(mount), app)
    runner(app, way=way)(MOUNTED, prefix=prefix)
    assert "polled" not in app.output
    # What the program alone has mounted is reached by way of its own root.
    is_served(
        app, source if is_outside else Path(f"/proc/{app.pid}/root{app.path('mounted/helper.py')}")
    )


@WAYS
def test_a_file_that_is_mounted_by_itself_is_polled(app, source, way):
    """Its events go to the directory it comes from; of another renamed there it never learns."""
    bind = "touch mounted/helper.py; mount --bind source/helper.py mounted/helper.py"
    prefix = tried(mounting(bind), app)
    runner(app, way=way)(MOUNTED, prefix=prefix, armed=False)
    assert f"polling {app.path('mounted/helper.py')}" in app.line("it is mounted by itself")
    assert "1 of them polled" in app.armed()
    source.write_text("VALUE = 2")
    assert restarted(app, "mounted/helper.py") == "ready 2"
    nothing_else(app)


@WAYS
def test_what_changes_beneath_a_file_system_in_user_space_is_polled_for(app, source, way):
    if os.getuid() or not os.path.exists("/dev/fuse") or not shutil.which("bindfs"):
        pytest.skip("needs root, /dev/fuse and bindfs")
    mounted = "until mountpoint -q mounted; do kill -0 $!; sleep 0.05; done"
    prefix = mounting(f"bindfs -f source mounted & {mounted}")
    runner(app, way=way)(MOUNTED, prefix=prefix, armed=False)
    app.line("mounted every ")
    assert "fuse delivers no file events" in app.seen[-1]
    assert "(inotify; 1 of them polled)" in app.armed()
    is_served(app, source)


# The first process


@WAYS
def test_the_first_process_of_a_container(app, way):
    orphans = "; import subprocess; subprocess.run('sleep 0 & sleep 1000 &', shell=True)"
    body = f"import helper{orphans if way else ''}"
    value = "helper.VALUE, 1 in (os.getpid(), os.getppid())"
    prefix = as_root("--pid", "--fork", "--kill-child", "--mount-proc")
    app.write("helper.py", "VALUE = 1")
    runner(app, way=way)(body, value, prefix=prefix)
    for number in (2, 3, 4):
        app.write("helper.py", f"VALUE = {number}")
        assert restarted(app, "helper.py") == f"ready {number} True"
    # What has ended is reaped, and of the orphans only those of the present run are left.
    until(lambda: all(map(is_alive, family(app.pid))), "nobody but the living is left")
    _, first, *others = family(app.pid)
    sleeping = [Path(f"/proc/{pid}/comm").read_text() for pid in others].count("sleep\n")
    assert sleeping == (1 if way else 0)
    if way:
        os.kill(first, signal.SIGTERM)
        assert app.wait() == 128 + signal.SIGTERM
    else:
        app.signal(signal.SIGKILL)
    assert_gone({first, *others})
