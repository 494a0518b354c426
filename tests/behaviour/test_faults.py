"""Faults of real machines, produced for real, with and without the command.

After each fault, the next save restarts the program. A process that is killed at any moment leaves
neither processes nor a held port.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import random
import shlex
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from evreload._supervisor.process_tree import marked, tree
from support.deadline import DEADLINE
from support.processes import assert_gone, in_a_namespace, with_limit
from support.programs import LOOP, MODES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


def run(app, mode, helper="VALUE = 1", *, prefix=(), program="app.py", **environment):
    """Run a program that prints `ready VALUE`; return evreload's line about what it watches."""
    app.write("helper.py", helper)
    app.write("app.py", LOOP)
    app.start_command([*prefix, sys.executable, *mode, program], **environment)
    line = app.await_watching()
    app.await_lines("ready ")
    return line


def await_up(app, mode):
    """Block until the present run is up: before that, evreload may put off some restarts."""
    app.line("serving again" if mode else "watching")


def save(app, value, name="helper.py"):
    app.write(name, f"VALUE = {value}")
    app.line(f"ready {value}")


# The limits of the kernel


@MODES
@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("max_inotify_instances", 0, "fs.inotify.max_user_instances"),
        ("max_inotify_watches", 0, "fs.inotify.max_user_watches"),
        ("max_inotify_watches", 3, "fs.inotify.max_user_watches"),
    ],
)
def test_at_a_kernel_limit_files_are_polled(app, mode, name, value, remedy):
    app.write("far/away/far.py", "VALUE = 1")
    helper = "import sys; sys.path.append('far/away'); from far import VALUE"
    assert "poll" in run(app, mode, helper, prefix=with_limit(name, value))
    for value in (2, 3):
        save(app, value, "far/away/far.py")
        if not mode:
            app.await_watching()
    assert app.count(remedy) == (1 if mode else 3)  # once per process


@MODES
def test_at_a_kernel_limit_reached_later_new_modules_are_polled(app, mode):
    """Modules imported after the limit is reached are polled."""
    app.write("far/away/far.py", "VALUE = 2")
    run(app, mode, prefix=with_limit("max_inotify_watches", 10_000))
    lower = "open('/proc/sys/user/max_inotify_watches', 'w').write('0')"
    app.write(
        "helper.py", f"{lower}\nimport sys; sys.path.append('far/away'); from far import VALUE"
    )
    app.line("ready 2")
    app.await_lines("fs.inotify.max_user_watches")
    save(app, 3, "far/away/far.py")
    save(app, 4)


# The thread of the observer


SABOTAGE = """
import ctypes, os, signal, threading

def kill(thread, error):
    ident = ctypes.c_ulong(thread.ident)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(error))

def sabotage(*_):
    for thread in threading.enumerate():
        if thread.name in ("evreload-inotify", "evreload-polling"):
            {action}
    os.write(1, b"sabotaged\\n")

signal.signal(signal.SIGUSR2, sabotage)
"""
CLOSE = """[
    os.close(int(name)) for name in os.listdir('/proc/self/fd')
    if 'inotify' in os.path.realpath(f'/proc/self/fd/{{name}}')
]"""


def run_with_sabotage(app, mode, action, **environment):
    """Run a program whose watching process executes *action* when it gets SIGUSR2."""
    sabotage = SABOTAGE.format(action=action)
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", LOOP if mode else sabotage + LOOP)
    command = f"{sabotage}\nimport evreload\nevreload.main()"
    app.start(*(["-c", command] if mode else []), "app.py", **environment)
    app.await_watching()
    app.await_lines("ready ")


@MODES
@pytest.mark.parametrize(
    "action",
    [CLOSE.format(), "kill(thread, MemoryError)", "kill(thread, SystemExit)"],
    ids=["closed", "MemoryError", "SystemExit"],
)
def test_after_the_event_thread_was_killed_files_are_polled(app, mode, action):
    run_with_sabotage(app, mode, action)
    app.signal(signal.SIGUSR2)
    app.line("sabotaged")
    app.write("helper.py.unwanted")  # the thread may notice only at this event
    app.line("no more file events: polling every 0.5 s from now on")
    save(app, 2)
    save(app, 3)
    assert app.count("no more file events") == 1


@MODES
def test_after_an_error_in_the_polling_thread_polling_goes_on(app, mode):
    run_with_sabotage(app, mode, "kill(thread, MemoryError)", EVRELOAD_POLL="1")
    app.signal(signal.SIGUSR2)
    app.line("polling has failed; trying again")
    save(app, 2)
    save(app, 3)


# Directories


def as_unprivileged_user(directory):
    """Return a prefix that makes the permissions of *directory* apply: root ignores them."""
    return in_a_namespace("-U") if os.access(directory, os.R_OK) else ()


@MODES
def test_an_unreadable_directory_is_polled(app, mode):
    cfg = app.write("closed/cfg.yaml", "1")
    beside = app.write("closed/beside", "2")
    cfg.parent.chmod(0o311)
    helper = "import evreload; evreload.watch('closed/cfg.yaml'); VALUE = 1"
    run(app, mode, helper, prefix=as_unprivileged_user(cfg.parent))
    app.await_lines(f"polling {cfg.parent} every 0.5 s: it may not be read (make it readable)")
    beside.replace(cfg)
    app.line("cfg.yaml modified; restarting server")
    app.line("ready 1")
    cfg.parent.chmod(0o755)


@MODES
def test_a_package_that_was_unreadable_for_a_while_is_watched(app, mode):
    """The program imports it while its directory is closed; the directory is opened later."""
    part = app.write("pkg/part.py", "VALUE = 1")
    run(app, mode, "from pkg.part import VALUE", prefix=as_unprivileged_user(part.parent))
    part.parent.chmod(0)
    app.write("helper.py", "from pkg.part import VALUE  # changed")
    app.line("Error: ")
    app.line("waiting for a change")
    part.parent.chmod(0o755)
    save(app, 2, "pkg/part.py")
    save(app, 3, "pkg/part.py")


def remove(directory, other):
    shutil.rmtree(directory)
    other.rename(directory)


def rename(directory, other):
    directory.rename(directory.with_name("away"))
    other.rename(directory)


def exchange(directory, other):
    rename(directory, other)
    directory.with_name("away").rename(other)


def link(directory, other):
    directory.rename(directory.with_name("away"))
    directory.symlink_to(other.name)


def unlink(directory, other):
    """Replace a link by a directory."""
    link(directory, other)
    directory.unlink()
    other.rename(directory)


def block(directory, other):
    """Put a file in the place of the directory for a while."""
    shutil.rmtree(directory)
    directory.write_text("")
    directory.unlink()
    other.rename(directory)


@MODES
@pytest.mark.parametrize("change", [remove, rename, exchange, link, unlink, block])
@pytest.mark.parametrize("depth", ["pkg", "pkg/deep/inside"])
def test_a_directory_that_replaces_another_is_watched(app, mode, change, depth):
    app.write(f"{depth}/part.py", "VALUE = 1")
    app.write(depth.replace("pkg", "other") + "/part.py", "VALUE = 2")
    run(app, mode, f"import sys; sys.path.append({depth!r}); from part import VALUE")
    for value in (2, 4):
        app.write(depth.replace("pkg", "other") + "/part.py", f"VALUE = {value}")
        change(app.directory / "pkg", app.directory / "other")
        app.line(f"ready {value}")
        save(app, value + 1, f"{depth}/part.py")
        for name in ("other", "away"):
            shutil.rmtree(app.directory / name, ignore_errors=True)
    save(app, 8)


@MODES
def test_a_directory_that_was_missing_for_a_while_is_watched(app, mode):
    """The program fails while the directory is missing, and runs once it is back."""
    app.write("pkg/part.py", "VALUE = 1")
    run(app, mode, "from pkg.part import VALUE")
    shutil.rmtree(app.directory / "pkg")
    app.write("helper.py", "from pkg.part import VALUE  # changed")
    app.line("waiting for a change")
    app.write("pkg/part.py", "VALUE = 2")
    app.line("ready 2")
    save(app, 3, "pkg/part.py")


# The disk


@MODES
def test_after_a_save_on_a_full_disk_the_next_save_restarts(app, mode):
    """A save on the full disk leaves half a file. Once there is space, the next save restarts."""
    mount = 'mkdir small && mount -t tmpfs -o size=64k tmpfs small && cd small && exec "$@"'
    prefix = [*in_a_namespace("-Urm"), "sh", "-c", mount, "sh"]
    app.write("app.py", LOOP)
    app.write("helper.py", "VALUE = 1")
    app.start_command(
        [*prefix, "sh", "-c", 'cp ../*.py . && exec "$@"', "sh", sys.executable, *mode, "app.py"]
    )
    app.await_watching()
    app.await_lines("ready 1")
    inside = Path(f"/proc/{app.pid}/cwd/helper.py")
    filler = inside.with_name("filler")
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(b"x" * 100_000)
    for value in (2, 3):
        with pytest.raises(OSError, match="No space"):
            inside.write_text(f"VALUE = {value}\n" + "# no room for this\n" * 5_000)
        filler.unlink()
        inside.write_text(f"VALUE = {value}")
        app.line(f"ready {value}")
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(b"x" * 100_000)
    filler.unlink()


@MODES
def test_log_output_to_a_full_disk_prevents_no_restart(app, mode):
    app.write("app.py", LOOP.replace("stream=sys.stdout", "stream=sys.stderr"))
    app.write("helper.py", "VALUE = 1")
    command = shlex.join([sys.executable, *mode, "app.py"])
    app.start_command(["sh", "-c", f"exec {command} 2>/dev/full"])
    app.line("ready 1")
    save(app, 2)
    save(app, 3)
    app.write("helper.py", "VALUE = (")
    save(app, 4)


YEAR = 365 * 24 * 3600 * 10**9


@MODES
def test_a_save_with_any_modification_time_restarts(app, mode):
    """Archives, other machines and some tools set such times."""
    run(app, mode)
    now = time.time_ns()
    times = [now + 50 * YEAR, now, 10**9, 0, -YEAR, now + YEAR, now + YEAR, 2**32 * 10**9, 0, now]
    for value, ns in enumerate(times, 2):
        beside = app.write("beside", f"VALUE = {value}")
        os.utime(beside, ns=(ns, ns))
        beside.replace(app.path("helper.py"))
        app.line(f"ready {value}")
        await_up(app, mode)
    save(app, 99)


# Python runs this at the start of each interpreter.
CLOCK = """
import os, time

def set_back(read):
    def shifted(*clock):
        hours = os.path.exists(os.path.join(os.path.dirname(__file__), "an-hour"))
        return read(*clock) - hours * 3600 * 10**9
    return shifted

time.time_ns = set_back(time.time_ns)
time.clock_gettime_ns = set_back(time.clock_gettime_ns)
"""


@MODES
def test_after_the_clock_was_set_back_each_save_restarts_once(app, mode):
    """By the new clock, each file was saved after the next run began."""
    app.write("clock/sitecustomize.py", CLOCK)
    run(app, mode, PYTHONPATH=app.path("clock"))
    app.write("clock/an-hour")
    for value in range(2, 5):
        save(app, value)
        if not mode:
            app.await_watching()
    assert app.count("restarting server") == 3, app.output


# Names and directories


@MODES
@pytest.mark.parametrize(
    "name",
    [
        b"with a space",
        b"with a\nnewline",
        b"\xff\xfe",
        "\u00e4\u3042\U0001f40d".encode(),
        b"%s {} \\ '\"",
    ],
)
def test_files_with_unusual_names_are_watched(app, mode, name):
    name = os.fsdecode(name)
    app.write(f"{name}/part.py", "VALUE = 1")
    app.write(f"{name}/{name}.txt", "1")
    inside = f"import sys, evreload; sys.path.append({name!r}); evreload.watch({name!r})"
    run(app, mode, f"{inside}; from part import VALUE")
    save(app, 2, f"{name}/part.py")
    app.write(f"{name}/{name}.txt", "2")
    app.line("modified; restarting server")
    app.line("ready 2")
    app.write(f"{name}/part.py", "VALUE = (")
    save(app, 3, f"{name}/part.py")


@MODES
@pytest.mark.parametrize("name", ["a b", "a\nb", os.fsdecode(b"\xff")])
def test_a_project_directory_with_an_unusual_name_is_watched(app, mode, name):
    directory = app.directory / name
    directory.mkdir()
    app.directory = directory
    run(app, mode, program=f"{directory}/app.py")
    save(app, 2)
    save(app, 3)


@pytest.fixture
def elsewhere(app):
    """Return a prefix that runs a command in a directory without the program's files."""
    directory = app.directory / "elsewhere"
    directory.mkdir()
    return ["env", "-C", str(directory)]


@MODES
def test_saves_restart_after_the_working_directory_was_removed(app, mode, elsewhere):
    run(app, mode, prefix=elsewhere, program=app.path("app.py"))
    (app.directory / "elsewhere").rmdir()
    for value in (2, 3):
        save(app, value)
    app.write("helper.py", "import evreload; evreload.watch('relative'); VALUE = 4")
    app.line("ready 4")
    app.write("helper.py", "VALUE = (")
    app.line("SyntaxError")
    app.write("helper.py", "1 / 0")
    app.line("waiting for a change")
    save(app, 5)


@MODES
def test_saves_restart_a_module_after_the_working_directory_was_removed(app, mode, elsewhere):
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", LOOP)
    command = [*elsewhere, sys.executable, *mode, "-m", "app"]
    app.start_command(command, PYTHONPATH=str(app.directory))
    app.await_watching()
    app.await_lines("ready 1")
    (app.directory / "elsewhere").rmdir()
    for value in (2, 3, 4):
        save(app, value)


def test_the_command_refuses_to_start_in_a_removed_directory(app, elsewhere):
    app.write("app.py", LOOP)
    removed = ["sh", "-c", f'rmdir {shlex.quote(elsewhere[-1])} && exec "$@"', "sh"]
    app.start_command([*elsewhere, *removed, sys.executable, "-m", "evreload", app.path("app.py")])
    assert app.wait() == 2
    assert app.output.startswith("evreload: the working directory was removed")


@MODES
@pytest.mark.parametrize("target", ["app.py", "-m app", "."])
def test_saves_restart_after_the_working_directory_was_recreated(app, mode, target):
    """A checkout of a commit without the directory, and back, does this."""
    app.write("sub/helper.py", "VALUE = 1")
    app.write("sub/app.py", LOOP)
    app.write("sub/__main__.py", LOOP)
    command = ["env", "-C", app.path("sub"), sys.executable, *mode, *target.split()]
    app.start_command(command)
    app.await_watching()
    app.await_lines("ready 1")
    for value in (2, 4, 6):
        shutil.copytree(app.path("sub"), app.path("copy"))
        app.write("copy/helper.py", f"VALUE = {value}")
        shutil.rmtree(app.path("sub"))
        os.rename(app.path("copy"), app.path("sub"))
        app.line(f"ready {value}")
        await_up(app, mode)
        save(app, value + 1, "sub/helper.py")
        await_up(app, mode)


# Very many changes


@MODES
@pytest.mark.parametrize("watched", [False, True], ids=["beside", "watched"])
@pytest.mark.parametrize(
    ("files", "seconds"), [(2_000, 4), pytest.param(20_000, 60, marks=pytest.mark.soak)]
)
def test_the_final_state_runs_after_thousands_of_changes(app, mode, watched, files, seconds):
    where = "tree/{}" if watched else "tree"  # the latter is the directory of an imported module
    paths = [app.directory / where.format(n % 50) / f"{n}.txt" for n in range(files)]
    for path in [app.directory / "tree/__init__.py", *paths]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    helper = f"import evreload, tree; {'evreload.watch(tree.__path__[0]); ' * watched}VALUE = "
    run(app, mode, f"{helper} 1")
    end = time.monotonic() + seconds
    for number, path in enumerate(itertools.cycle(paths)):
        if number % 10 == 9:
            path.unlink()
        path.write_text(str(number))
        if number % 500 == 0 and time.monotonic() > end:
            break
    app.write("helper.py", f"{helper} 2")
    app.line("ready 2")
    save(app, 3)
    assert (app.count("restarting server") > 2) == watched
    assert app.count("Traceback") == 0


# Killed at any moment

FEW = 10  # rounds by default
SERVER = """
import socket, sys
import helper
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("ready", helper.VALUE, flush=True)
while True:
    with listener.accept()[0] as client:
        client.sendall(str(helper.VALUE).encode())
"""


def await_answer(app, port, value):
    """Block until the server at *port* answers *value*."""
    deadline = time.monotonic() + DEADLINE
    answer = b""
    while answer != str(value).encode():
        if time.monotonic() > deadline:
            app.signal(signal.SIGTERM)
            app.wait()
            pytest.fail(f"the server answers {answer!r}, not {value}:\n{app.output}")
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), DEADLINE) as client,
        ):
            answer = client.recv(100)


def assert_free(port):
    """Check that no process listens at *port* or holds it."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ignores past connections
        one.bind(("127.0.0.1", port))


def processes(supervisor):
    """Return the supervisor, its descendants, and processes that left its tree."""
    return sorted({*tree(supervisor), *marked(supervisor)})


def save_in_another_size(app, value):
    """Save *value* with a size that differs from the size before.

    After a start by hand, Python uses the old bytecode if time (in seconds) and size are equal.
    """
    app.write("helper.py", f"VALUE = {value}{' ' * (value % 7)}")


def assert_all_gone(supervisor, pids):
    assert_gone({*pids, *processes(supervisor)} - {supervisor})
    assert not list(marked(supervisor))


@pytest.mark.parametrize("options", [(), ("--warm",)], ids=["cold", "warm"])
@pytest.mark.parametrize("rounds", [FEW, pytest.param(200, marks=pytest.mark.soak)])
def test_after_a_kill_at_any_moment_nothing_is_left(app, port, capsys, options, rounds):
    """Neither an orphan nor a held port is left, and the next save restarts the program."""
    command = ["-m", "evreload", *options, "app.py", str(port)]
    chance = random.Random(rounds)
    killed: collections.Counter[str] = collections.Counter()
    app.write("app.py", SERVER)
    app.write("helper.py", "VALUE = 0")
    app.start(*command)
    await_answer(app, port, 0)
    for value in range(1, 2 * rounds, 2):
        save_in_another_size(app, value)
        time.sleep(chance.uniform(0, 0.3))
        pids_before = processes(app.pid)
        victim = chance.choice(pids_before)
        with contextlib.suppress(ProcessLookupError):  # it has just ended: the next run replaces it
            os.kill(victim, signal.SIGKILL)
        killed["supervisor" if victim == app.pid else "another"] += 1
        if victim == app.pid:
            app.wait()
            assert_all_gone(app.pid, pids_before)
            assert_free(port)
            app.close()
            app.start(*command)
        save_in_another_size(app, value + 1)
        await_answer(app, port, value + 1)
    app.signal(signal.SIGTERM)
    pids_before = processes(app.pid)
    app.wait()
    assert_all_gone(app.pid, pids_before)
    assert_free(port)
    if rounds > FEW:
        with capsys.disabled():
            print(f"\n{rounds} rounds, killed: {dict(killed)}; none left, none lost")
