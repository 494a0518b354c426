"""What goes wrong on real machines, brought about for real, with and without the command.

After each fault the next save runs, wherever it was made; and whoever is killed, at whatever
moment, leaves nothing behind.
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
from conftest import DEADLINE, LOOP, WAYS, assert_gone, in_a_namespace, with_limit

from evreload._supervisor.process_tree import family, marked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks for what Linux does")


def run(app, way, helper="VALUE = 1", *, prefix=(), program="app.py", **environment):
    """Run a program that says `ready VALUE`; return how it is watched, once no edit is lost."""
    app.write("helper.py", helper)
    app.write("app.py", LOOP)
    app.start_command([*prefix, sys.executable, *way, program], **environment)
    line = app.armed()
    app.said("ready ")
    return line


def save(app, value, name="helper.py"):
    app.write(name, f"VALUE = {value}")
    app.line(f"ready {value}")


# The limits of the kernel


@WAYS
@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("max_inotify_instances", 0, "fs.inotify.max_user_instances"),
        ("max_inotify_watches", 0, "fs.inotify.max_user_watches"),
        ("max_inotify_watches", 3, "fs.inotify.max_user_watches"),
    ],
)
def test_a_limit_is_reached(app, way, name, value, remedy):
    app.write("far/away/far.py", "VALUE = 1")
    helper = "import sys; sys.path.append('far/away'); from far import VALUE"
    assert "poll" in run(app, way, helper, prefix=with_limit(name, value))
    for value in (2, 3):
        save(app, value, "far/away/far.py")
        if not way:
            app.armed()
    assert app.count(remedy) == (1 if way else 3)  # once in each process


@WAYS
def test_a_limit_is_reached_while_it_runs(app, way):
    """Others use them up meanwhile: what is imported from then on is polled."""
    app.write("far/away/far.py", "VALUE = 2")
    run(app, way, prefix=with_limit("max_inotify_watches", 10_000))
    lower = "open('/proc/sys/user/max_inotify_watches', 'w').write('0')"
    app.write(
        "helper.py", f"{lower}\nimport sys; sys.path.append('far/away'); from far import VALUE"
    )
    app.line("ready 2")
    app.said("fs.inotify.max_user_watches")
    save(app, 3, "far/away/far.py")
    save(app, 4)


# The thread that hears of changes


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


def run_with_sabotage(app, way, action, **environment):
    """Run a program whose watching process does *action* upon SIGUSR2."""
    sabotage = SABOTAGE.format(action=action)
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", LOOP if way else sabotage + LOOP)
    command = f"{sabotage}\nimport evreload\nevreload.main()"
    app.start(*(["-c", command] if way else []), "app.py", **environment)
    app.armed()
    app.said("ready ")


@WAYS
@pytest.mark.parametrize(
    "action",
    [CLOSE.format(), "kill(thread, MemoryError)", "kill(thread, SystemExit)"],
    ids=["closed", "MemoryError", "SystemExit"],
)
def test_the_thread_that_hears_of_events_is_killed(app, way, action):
    run_with_sabotage(app, way, action)
    app.signal(signal.SIGUSR2)
    app.line("sabotaged")
    app.write("helper.py.unwanted")  # it may notice only now
    app.line("no more file events: polling every 0.5 s from now on")
    save(app, 2)
    save(app, 3)
    assert app.count("no more file events") == 1


@WAYS
def test_the_thread_that_polls_is_hurt(app, way):
    run_with_sabotage(app, way, "kill(thread, MemoryError)", EVRELOAD_POLL="1")
    app.signal(signal.SIGUSR2)
    app.line("polling has failed; trying again")
    save(app, 2)
    save(app, 3)


# Directories


def as_nobody(directory):
    """Return what runs a command as somebody who heeds the permissions of *directory*."""
    return in_a_namespace("-U") if os.access(directory, os.R_OK) else ()  # root need not


@WAYS
def test_a_directory_may_not_be_read(app, way):
    cfg = app.write("closed/cfg.yaml", "1")
    beside = app.write("closed/beside", "2")
    cfg.parent.chmod(0o311)
    helper = "import evreload; evreload.watch('closed/cfg.yaml'); VALUE = 1"
    run(app, way, helper, prefix=as_nobody(cfg.parent))
    app.said(f"polling {cfg.parent} every 0.5 s: it may not be read (make it readable)")
    beside.replace(cfg)
    app.line("cfg.yaml modified; restarting server")
    app.line("ready 1")
    cfg.parent.chmod(0o755)


@WAYS
def test_a_package_may_not_be_read_for_a_while(app, way):
    """It is imported at a moment when its directory is closed, and opened afterwards."""
    part = app.write("pkg/part.py", "VALUE = 1")
    run(app, way, "from pkg.part import VALUE", prefix=as_nobody(part.parent))
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
    """Make a directory of what was a link."""
    link(directory, other)
    directory.unlink()
    other.rename(directory)


def block(directory, other):
    """Let a file lie in its place for a while."""
    shutil.rmtree(directory)
    directory.write_text("")
    directory.unlink()
    other.rename(directory)


@WAYS
@pytest.mark.parametrize("change", [remove, rename, exchange, link, unlink, block])
@pytest.mark.parametrize("depth", ["pkg", "pkg/deep/inside"])
def test_a_directory_becomes_another(app, way, change, depth):
    app.write(f"{depth}/part.py", "VALUE = 1")
    app.write(depth.replace("pkg", "other") + "/part.py", "VALUE = 2")
    run(app, way, f"import sys; sys.path.append({depth!r}); from part import VALUE")
    for value in (2, 4):
        app.write(depth.replace("pkg", "other") + "/part.py", f"VALUE = {value}")
        change(app.directory / "pkg", app.directory / "other")
        app.line(f"ready {value}")
        save(app, value + 1, f"{depth}/part.py")
        for name in ("other", "away"):
            shutil.rmtree(app.directory / name, ignore_errors=True)
    save(app, 8)


@WAYS
def test_a_directory_is_gone_for_long(app, way):
    """The program fails for the lack of it, and runs once it is back."""
    app.write("pkg/part.py", "VALUE = 1")
    run(app, way, "from pkg.part import VALUE")
    shutil.rmtree(app.directory / "pkg")
    app.write("helper.py", "from pkg.part import VALUE  # changed")
    app.line("waiting for a change")
    app.write("pkg/part.py", "VALUE = 2")
    app.line("ready 2")
    save(app, 3, "pkg/part.py")


# The disk


@WAYS
def test_the_disk_is_full(app, way):
    """A save that found no room has left half a file behind; there is room when it is mended."""
    mount = 'mkdir small && mount -t tmpfs -o size=64k tmpfs small && cd small && exec "$@"'
    prefix = [*in_a_namespace("-Urm"), "sh", "-c", mount, "sh"]
    app.write("app.py", LOOP)
    app.write("helper.py", "VALUE = 1")
    app.start_command(
        [*prefix, "sh", "-c", 'cp ../*.py . && exec "$@"', "sh", sys.executable, *way, "app.py"]
    )
    app.armed()
    app.said("ready 1")
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


@WAYS
def test_what_it_says_goes_to_a_full_disk(app, way):
    app.write("app.py", LOOP.replace("stream=sys.stdout", "stream=sys.stderr"))
    app.write("helper.py", "VALUE = 1")
    command = shlex.join([sys.executable, *way, "app.py"])
    app.start_command(["sh", "-c", f"exec {command} 2>/dev/full"])
    app.line("ready 1")
    save(app, 2)
    save(app, 3)
    app.write("helper.py", "VALUE = (")
    save(app, 4)


YEAR = 365 * 24 * 3600 * 10**9


@WAYS
def test_times_of_modification_are_whatever(app, way):
    """As from archives, from other machines, and from tools that set them."""
    run(app, way)
    now = time.time_ns()
    times = [now + 50 * YEAR, now, 10**9, 0, -YEAR, now + YEAR, now + YEAR, 2**32 * 10**9, 0, now]
    for value, ns in enumerate(times, 2):
        beside = app.write("beside", f"VALUE = {value}")
        os.utime(beside, ns=(ns, ns))
        beside.replace(app.path("helper.py"))
        app.line(f"ready {value}")
    save(app, 99)


# Runs at the start of each interpreter.
CLOCK = """
import os, time

def set_back(read):
    def tell(*clock):
        hours = os.path.exists(os.path.join(os.path.dirname(__file__), "an-hour"))
        return read(*clock) - hours * 3600 * 10**9
    return tell

time.time_ns = set_back(time.time_ns)
time.clock_gettime_ns = set_back(time.clock_gettime_ns)
"""


@WAYS
def test_the_clock_is_set_back_while_the_program_runs(app, way):
    """By it, all the files have been saved after the next run began; but they have not."""
    app.write("clock/sitecustomize.py", CLOCK)
    run(app, way, PYTHONPATH=app.path("clock"))
    app.write("clock/an-hour")
    for value in range(2, 5):
        save(app, value)
        if not way:
            app.armed()
    assert app.count("restarting server") == 3, app.output


# Names and places


@WAYS
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
def test_names_of_all_kinds(app, way, name):
    name = os.fsdecode(name)
    app.write(f"{name}/part.py", "VALUE = 1")
    app.write(f"{name}/{name}.txt", "1")
    inside = f"import sys, evreload; sys.path.append({name!r}); evreload.watch({name!r})"
    run(app, way, f"{inside}; from part import VALUE")
    save(app, 2, f"{name}/part.py")
    app.write(f"{name}/{name}.txt", "2")
    app.line("modified; restarting server")
    app.line("ready 2")
    app.write(f"{name}/part.py", "VALUE = (")
    save(app, 3, f"{name}/part.py")


@WAYS
@pytest.mark.parametrize("name", ["a b", "a\nb", os.fsdecode(b"\xff")])
def test_a_project_of_any_name(app, way, name):
    directory = app.directory / name
    directory.mkdir()
    app.directory = directory
    run(app, way, program=f"{directory}/app.py")
    save(app, 2)
    save(app, 3)


@pytest.fixture
def elsewhere(app):
    """Have the program run in a directory of its own, beside the one that its files are in."""
    directory = app.directory / "elsewhere"
    directory.mkdir()
    return ["env", "-C", str(directory)]


@WAYS
def test_the_working_directory_has_vanished(app, way, elsewhere):
    run(app, way, prefix=elsewhere, program=app.path("app.py"))
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


@WAYS
def test_the_working_directory_has_vanished_of_a_module(app, way, elsewhere):
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", LOOP)
    command = [*elsewhere, sys.executable, *way, "-m", "app"]
    app.start_command(command, PYTHONPATH=str(app.directory))
    app.armed()
    app.said("ready 1")
    (app.directory / "elsewhere").rmdir()
    for value in (2, 3, 4):
        save(app, value)


def test_the_command_does_not_begin_where_nothing_is(app, elsewhere):
    app.write("app.py", LOOP)
    removed = ["sh", "-c", f'rmdir {shlex.quote(elsewhere[-1])} && exec "$@"', "sh"]
    app.start_command([*elsewhere, *removed, sys.executable, "-m", "evreload", app.path("app.py")])
    assert app.wait() == 2
    assert app.output.startswith("evreload: the working directory was removed")


@WAYS
@pytest.mark.parametrize("target", ["app.py", "-m app", "."])
def test_the_working_directory_is_made_anew(app, way, target):
    """As by a checkout of a commit that lacks it, and back."""
    app.write("sub/helper.py", "VALUE = 1")
    app.write("sub/app.py", LOOP)
    app.write("sub/__main__.py", LOOP)
    command = ["env", "-C", app.path("sub"), sys.executable, *way, *target.split()]
    app.start_command(command)
    app.armed()
    app.said("ready 1")
    for value in (2, 4, 6):
        shutil.copytree(app.path("sub"), app.path("copy"))
        app.write("copy/helper.py", f"VALUE = {value}")
        shutil.rmtree(app.path("sub"))
        os.rename(app.path("copy"), app.path("sub"))
        app.line(f"ready {value}")
        save(app, value + 1, "sub/helper.py")


# Very many changes


@WAYS
@pytest.mark.parametrize("watched", [False, True], ids=["beside", "watched"])
@pytest.mark.parametrize(
    ("files", "seconds"), [(2_000, 4), pytest.param(20_000, 60, marks=pytest.mark.soak)]
)
def test_thousands_of_files_change_for_a_while(app, way, watched, files, seconds):
    where = "tree/{}" if watched else "tree"  # in the very directory that a module lies in
    paths = [app.directory / where.format(n % 50) / f"{n}.txt" for n in range(files)]
    for path in [app.directory / "tree/__init__.py", *paths]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    helper = f"import evreload, tree; {'evreload.watch(tree.__path__[0]); ' * watched}VALUE = "
    run(app, way, f"{helper} 1")
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

FEW = 10  # rounds, enough for every day
SERVER = """
import socket, sys
import helper
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("ready", helper.VALUE, flush=True)
while True:
    with listener.accept()[0] as client:
        client.sendall(str(helper.VALUE).encode())
"""


def is_served(app, port, value):
    """Block until *value* is what the port's server answers."""
    deadline = time.monotonic() + DEADLINE
    answer = b""
    while answer != str(value).encode():
        if time.monotonic() > deadline:
            app.signal(signal.SIGTERM)
            app.wait()
            pytest.fail(f"{answer!r} is served, not {value}:\n{app.output}")
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), DEADLINE) as client,
        ):
            answer = client.recv(100)


def is_free(port):
    """Check that nobody listens at *port*, nor holds it."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past connections do not count
        one.bind(("127.0.0.1", port))


def processes(supervisor):
    """Return the supervisor, and whatever came of it, wherever that went."""
    return sorted({*family(supervisor), *marked(supervisor)})


def save_in_another_size(app, value):
    """Save so that a start by hand, like plain Python's, does not trust the bytecode before."""
    app.write("helper.py", f"VALUE = {value}{' ' * (value % 7)}")


def are_gone(supervisor, pids):
    assert_gone({*pids, *processes(supervisor)} - {supervisor})
    assert not list(marked(supervisor))


@pytest.mark.parametrize("options", [(), ("--warm",)], ids=["cold", "warm"])
@pytest.mark.parametrize("rounds", [FEW, pytest.param(200, marks=pytest.mark.soak)])
def test_whoever_is_killed_at_any_moment(app, port, capsys, options, rounds):
    """Neither an orphan nor a held port is left, and the next save runs."""
    command = ["-m", "evreload", *options, "app.py", str(port)]
    chance = random.Random(rounds)
    killed = collections.Counter()
    app.write("app.py", SERVER)
    app.write("helper.py", "VALUE = 0")
    app.start(*command)
    is_served(app, port, 0)
    for value in range(1, 2 * rounds, 2):
        save_in_another_size(app, value)
        time.sleep(chance.uniform(0, 0.3))
        everyone = processes(app.pid)
        victim = chance.choice(everyone)
        with contextlib.suppress(ProcessLookupError):  # it has just made room for the next run
            os.kill(victim, signal.SIGKILL)
        killed["supervisor" if victim == app.pid else "another"] += 1
        if victim == app.pid:
            app.wait()
            are_gone(app.pid, everyone)
            is_free(port)
            app.close()
            app.start(*command)
        save_in_another_size(app, value + 1)
        is_served(app, port, value + 1)
    app.signal(signal.SIGTERM)
    everyone = processes(app.pid)
    app.wait()
    are_gone(app.pid, everyone)
    is_free(port)
    if rounds > FEW:
        with capsys.disabled():
            print(f"\n{rounds} rounds, killed: {dict(killed)}; none left, none lost")
