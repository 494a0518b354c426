"""Warm restarts: a process that has imported what does not change forks the program."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from pathlib import Path
from unittest import mock

import pytest

from evreload._common import spawn
from evreload._common.role import FORK_SERVER, Role
from evreload._snapshot.fork_server import ForkServer
from evreload._supervisor import cli
from support.files import await_tick
from support.processes import assert_gone, children, was_forked
from support.servers import free_port
from support.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="--warm needs Linux")

IS_WARM = "the next start is warm"

# Prints what a program can see of how it was started.
PORTRAIT = """
import atexit, json, logging, os, random, signal, sys, tempfile, threading, uuid, warnings
import xml.dom.minidom
import helper

def handler(number):
    return getattr(signal.getsignal(number), "__qualname__", str(signal.getsignal(number)))

def portrait():
    return {
        "argv": sys.argv,
        "orig_argv": sys.orig_argv,
        "path": sys.path,
        "flags": list(sys.flags),
        "directory": os.getcwd(),
        "main": sorted(__import__("__main__").__dict__),
        "file": __file__,
        "name": __name__,
        "filters": list(map(str, warnings.filters)),
        "handlers": [handler(number) for number in signal.valid_signals()],
        "mask": list(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "thread": [threading.current_thread().name, threading.active_count()],
        "main thread": threading.main_thread() is threading.current_thread(),
        "loggers": sorted(logging.root.manager.loggerDict),
        "scheduling": [os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)],
        "group": os.getpgrp(),
        "session": os.getsid(0),
        "parent": os.getppid(),
        "descriptors": sorted(os.readlink(f"/proc/self/fd/{i}") for i in range(3)),
        "project": [name for name in sys.modules if name == "helper"],
    }

print("ready", helper.VALUE, json.dumps(portrait()), flush=True)
print("chance", random.random(), uuid.uuid4(), tempfile.mktemp(), flush=True)
atexit.register(lambda: print("goodbye", helper.VALUE, flush=True))
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
threading.Event().wait()
"""

COUNTING = """
import {imports}
import helper
colorsys = sys.modules["colorsys"]
colorsys.counter = getattr(colorsys, "counter", 0) + 1
print("ready", helper.VALUE, colorsys.counter, os.getpid(), flush=True)
{body}
time.sleep(1000)
"""


def start(app, body, *options, value=1, **environment):
    app.write("helper.py", f"VALUE = {value}")
    app.write("app.py", body)
    app.start("-m", "evreload", "-v", "--warm", *options, "app.py", **environment)


def counting(imports="colorsys", body=""):
    return COUNTING.format(imports=f"os, signal, sys, time, {imports}", body=body)


def save(app, value):
    await_tick()
    app.write("helper.py", f"VALUE = {value}")


def modules_in_advance(line):
    count = re.search(r"(\d+) modules are imported", line)
    assert count
    return int(count[1])


def is_cold(line):
    """Whether the program that printed *line* was not forked."""
    return not was_forked(int(line.split()[3]))


def test_a_warm_start_looks_like_a_cold_one(app):
    start(app, PORTRAIT)
    cold = json.loads(app.line("ready 1").partition("{")[1] + app.seen[-1].partition("{")[2])
    app.line(IS_WARM)
    save(app, 2)
    app.line("goodbye 1")
    warm = json.loads("{" + app.line("ready 2").partition("{")[2])
    assert warm == cold
    chances = app.line("chance")
    save(app, 3)
    app.line("goodbye 2")
    again = json.loads("{" + app.line("ready 3").partition("{")[2])
    assert again == cold
    others = app.line("chance")
    assert not set(chances.split()[1:]) & set(others.split()[1:])


def test_each_run_finds_modules_as_they_are_after_their_import(app):
    start(app, counting())
    assert app.line("ready 1").split()[2] == "1"
    app.line(IS_WARM)
    for value in (2, 3, 4):
        save(app, value)
        line = app.line(f"ready {value}")
        assert line.split()[2] == "1"
        assert not is_cold(line)


def test_no_module_of_the_project_is_imported_before_the_first_line(app):
    app.write("package/__init__.py", "import helper")
    body = """
    import os, sys
    here = os.path.dirname(os.path.abspath(__file__))
    own = [name for name, module in sys.modules.items()
            if (getattr(module, "__file__", None) or "").startswith(here)
            and module is not sys.modules["__main__"]]  # also named __mp_main__ at times
    print("before the first line:", own, "wave" in sys.modules, flush=True)
    import package, time, wave
    print("ready", package.helper.VALUE, flush=True)
    time.sleep(1000)
    """
    start(app, body)
    app.line("before the first line: [] False")
    app.line(IS_WARM)
    save(app, 2)
    app.line("before the first line: [] True")
    app.line("ready 2")


WORKERS = """
import concurrent.futures, multiprocessing, os, sys, threading, time
import helper

class Square:
    def __init__(self, number):
        self.value = number * number

if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            print(method, [square.value for square in pool.map(Square, range(4))], flush=True)
        queue = context.Queue()
        process = context.Process(target=queue.put, args=(method,))
        process.start()
        print("queue", queue.get(timeout=30), process.join(), process.exitcode, flush=True)
    thread = threading.Thread(target=print, args=("thread",), kwargs={"flush": True})
    thread.start()
    thread.join()
    print("ready", helper.VALUE, flush=True)
    time.sleep(1000)
"""


def test_workers_of_every_kind_start_in_a_warm_program(app):
    start(app, WORKERS)
    app.line("ready 1")
    app.line(IS_WARM)
    for value in (2, 3):
        save(app, value)
        for method in ("fork", "spawn", "forkserver"):
            app.line(f"{method} [0, 1, 4, 9]")
            app.line(f"queue {method} None 0")
        app.line("thread")
        app.line(f"ready {value}")


NUMBERS = """
import tempfile, time, numpy, sqlalchemy
import helper

matrix = numpy.random.default_rng().random((300, 300))
assert numpy.allclose(numpy.linalg.inv(matrix) @ matrix, numpy.eye(300), atol=1e-6)
with tempfile.NamedTemporaryFile() as file:
    engine = sqlalchemy.create_engine(f"sqlite:///{file.name}")
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("create table t (n integer)"))
        connection.execute(sqlalchemy.text("insert into t values (42)"))
        assert connection.execute(sqlalchemy.text("select n from t")).scalar() == 42
print("ready", helper.VALUE, flush=True)
time.sleep(1000)
"""


def test_numpy_and_sqlalchemy_work_in_a_warm_program(app):
    pytest.importorskip("numpy")
    pytest.importorskip("sqlalchemy")
    start(app, NUMBERS)
    app.line("ready 1")
    assert modules_in_advance(app.line(IS_WARM)) > 300
    for value in (2, 3):
        save(app, value)
        app.line(f"ready {value}")


def test_a_change_before_all_is_imported_leads_to_a_cold_start(app, tmp_path):
    slow = "import sys, time\nif 'helper' not in sys.modules: time.sleep(1000)"
    site = installed(app, tmp_path, slow=slow)
    start(app, counting("colorsys, helper, slow"), **site)
    app.await_watching()
    save(app, 2)
    assert is_cold(app.line("ready 2"))


def test_a_module_that_the_program_imports_later_is_preloaded_the_next_time(app):
    start(app, counting())
    app.line(IS_WARM)
    app.write("app.py", counting("colorsys, wave"))
    assert not is_cold(app.line("ready 1"))
    app.line("modules are imported in advance now")
    body = 'print("wave is there" if "wave" in sys.modules else "no wave", flush=True)'
    app.write("app.py", counting(body=body))
    app.line("wave is there")


def test_a_changed_package_is_imported_again(app, tmp_path):
    site = installed(app, tmp_path, parcel="CONTENT = 1")
    start(app, counting("colorsys, parcel", "print('parcel', parcel.CONTENT, flush=True)"), **site)
    app.line("parcel 1")
    app.line(IS_WARM)
    save(app, 2)
    app.line("parcel 1")
    await_tick()
    (tmp_path / "site" / "parcel.py").write_text("CONTENT = 22")
    assert is_cold(app.line("ready 2"))
    app.line("parcel 22")
    app.line("in advance")
    save(app, 3)
    assert not is_cold(app.line("ready 3"))
    app.line("parcel 22")


def test_a_new_module_of_the_project_takes_the_place_of_an_installed_one(app, tmp_path):
    site = installed(app, tmp_path, parcel="CONTENT = 1")
    start(app, counting("colorsys, parcel", "print('parcel', parcel.CONTENT, flush=True)"), **site)
    app.line(IS_WARM)
    app.write("parcel/__init__.py", "CONTENT = 'of the project'")
    save(app, 2)
    app.line("parcel of the project")


# What is not preloaded


def installed(app, tmp_path, **modules):
    """Put *modules* where installed packages are; return the environment that makes it so."""
    site = tmp_path / "site"
    site.mkdir()
    for name, text in modules.items():
        (site / f"{name}.py").write_text(text)
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        f"import site; site.addsitedir({str(site)!r}); get = site.getsitepackages\n"
        f"site.getsitepackages = lambda: [{str(site)!r}, *get()]\n"
    )
    return {"PYTHONPATH": str(hook)}


THREAD = """
import threading, time
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
"""
FAILING = """
import sys
if "helper" not in sys.modules:
    raise RuntimeError("too early")
"""
BY_PATH = """
import importlib.util, os
spec = importlib.util.spec_from_file_location("by_path", os.path.join(os.getcwd(), "aside.py"))
spec.loader.exec_module(importlib.util.module_from_spec(spec))
"""


@pytest.mark.parametrize(
    ("culprit", "reason"),
    [
        (THREAD, "it starts a thread"),
        ("import socket\nlistener = socket.socket()", "it opens a socket"),
        ("import os\npipe = os.pipe()", "it keeps open pipe:"),
        ("import helper", "it imports helper"),
        ("DATA = open(__file__)", "it keeps open /"),
        ("import tempfile\nplace = tempfile.mkdtemp()", "it makes /"),
        ("import os\nos.chdir('/')", "it changes the working directory"),
        (FAILING, "RuntimeError: too early"),
        (BY_PATH, "aside.py"),
    ],
    ids=[
        "thread",
        "socket",
        "pipe",
        "project",
        "file",
        "temporary",
        "directory",
        "failing",
        "by path",
    ],
)
def test_a_module_that_cannot_be_preloaded_is_left_out_with_all_that_import_it(
    app, tmp_path, culprit, reason
):
    site = installed(
        app,
        tmp_path,
        culprit=culprit,
        importer="import wave, culprit",
        outer="import importer, colorsys",
        other="import colorsys",
    )
    app.write("aside.py")
    body = 'print(*(n in before for n in "culprit importer outer other".split()))'
    app.write("helper.py", "VALUE = 1")
    app.write(
        "app.py",
        "import sys, os\nbefore = set(sys.modules)\nimport helper, outer, other, time\n"
        'print("ready", helper.VALUE, os.getpid(), flush=True)\n' + body + "\n"
        "sys.stdout.flush()\ntime.sleep(1000)",
    )
    app.start("-m", "evreload", "-v", "--warm", "app.py", **site)
    app.line("False False False False")
    app.line(IS_WARM)
    lines = [line for line in app.seen if "culprit is not imported in advance" in line]
    assert len(lines) == 1
    assert reason in lines[0]
    assert app.count("importer is not imported in advance: it imports culprit") == 1
    assert app.count("outer is not imported in advance") == 1
    save(app, 2)
    app.line("ready 2")
    app.line("False False False True")


def test_modules_that_import_each_other_are_imported_in_the_order_of_the_program(app, tmp_path):
    site = installed(
        app,
        tmp_path,
        first="NAME = 1\nfrom second import OTHER",
        second="from first import NAME\nOTHER = 2",
    )
    body = 'print("first" in before, "second" in before, flush=True)'
    imports = "sys, os\nbefore = set(sys.modules)\nimport time, colorsys, first"
    start(app, COUNTING.format(imports=imports, body=body), **site)
    app.line("False False")
    app.line(IS_WARM)
    assert not app.count("not imported in advance")
    save(app, 2)
    app.line("True True")


def test_a_module_that_tries_to_import_gevent_or_eventlet_is_preloaded(app, tmp_path):
    optional_user = "try:\n    import eventlet\nexcept ImportError:\n    eventlet = None"
    site = installed(app, tmp_path, optional_user=optional_user)
    body = 'print("optional_user", "optional_user" in before, flush=True)'
    imports = "sys, os\nbefore = set(sys.modules)\nimport time, colorsys, optional_user"
    start(app, COUNTING.format(imports=imports, body=body), **site)
    app.line(IS_WARM)
    save(app, 2)
    app.line("optional_user True")


SLOW = """
import os, sys, time
if "helper" not in sys.modules and not os.path.exists({!r}):
    print("it imports", os.getpid(), flush=True)
    time.sleep(1000)
"""


@pytest.mark.parametrize("kills", [1, 2])
def test_a_module_is_blamed_when_a_second_fork_server_is_killed_in_it(app, tmp_path, kills):
    site = installed(app, tmp_path, slow=SLOW.format(app.path("go on")))
    start(app, counting("helper, slow, colorsys"), **site)
    for times in range(1, 1 + kills):
        pid = int(app.await_lines("it imports", times).split()[-1])
        if times == kills:
            (app.directory / "go on").touch()
        os.kill(pid, signal.SIGKILL)
        save(app, 1 + times)
        app.line(f"ready {1 + times} 1")
    app.await_lines(IS_WARM)
    assert app.count("slow is not imported in advance") == (kills == 2)


def test_a_module_whose_import_ends_the_process_is_left_out(app, tmp_path):
    deadly = "import os, sys\nif 'helper' not in sys.modules: os._exit(3)"
    site = installed(app, tmp_path, deadly=deadly)
    start(app, counting("helper, deadly, colorsys"), **site)
    app.line("deadly is not imported in advance: its import ended the process")
    app.line(IS_WARM)
    save(app, 2)
    assert not is_cold(app.line("ready 2"))


def test_a_package_is_left_out_by_name(app, tmp_path):
    site = installed(app, tmp_path, parcel="import colorsys", outer="import parcel")
    body = 'print("outer" in before, "parcel" in before, "wave" in before, flush=True)'
    imports = "sys, os\nbefore = set(sys.modules)\nimport time, colorsys, outer, wave"
    start(app, COUNTING.format(imports=imports, body=body), "--cold", "parcel", **site)
    app.line("False False False")
    app.line("outer is not imported in advance: it imports parcel")
    app.line(IS_WARM)
    save(app, 2)
    app.line("False False True")


def test_a_program_that_is_patched_is_always_cold(app, tmp_path):
    site = installed(app, tmp_path)
    (tmp_path / "site" / "gevent").mkdir()
    (tmp_path / "site" / "gevent" / "__init__.py").touch()
    (tmp_path / "site" / "gevent" / "monkey.py").touch()
    start(app, counting("colorsys, gevent.monkey"), **site)
    app.line("--warm has no effect: gevent.monkey patches what others import")
    save(app, 2)
    assert is_cold(app.line("ready 2"))


def test_if_python_itself_starts_a_thread_all_starts_are_cold(app, tmp_path):
    site = installed(app, tmp_path)
    with (tmp_path / "hook" / "sitecustomize.py").open("a") as file:
        file.write(THREAD)
    body = "import threading\nprint(threading.active_count(), 'threads', flush=True)"
    start(app, counting(body=body), **site)
    app.line("2 threads")
    app.line("--warm has no effect: a thread is started before the program begins")
    save(app, 2)
    app.line("2 threads")


def test_a_package_in_a_watched_directory_is_not_preloaded(app, tmp_path):
    site = installed(app, tmp_path, parcel="CONTENT = 1")
    body = 'print("parcel", "parcel" in before, flush=True)'
    imports = "sys, os\nbefore = set(sys.modules)\nimport time, colorsys, parcel"
    watched = str(tmp_path / "site")
    start(app, COUNTING.format(imports=imports, body=body), "-w", watched, **site)
    app.line(IS_WARM)
    save(app, 2)
    app.line("parcel False")


def test_modules_that_pytest_rewrites_are_not_preloaded(app):
    app.write("test_it.py", "def test(): assert 1")
    app.start("-m", "evreload", "-v", "--warm", "-m", "pytest", "-q", "-p", "no:cacheprovider")
    app.line("1 passed")
    app.line(IS_WARM)
    app.write("test_it.py", "def test(): assert 1 == 2")
    app.line("assert 1 == 2")
    app.line("1 failed")
    assert not app.count("cannot be rewritten")


# When it goes wrong


def test_after_a_warm_start_that_ended_by_a_signal_the_next_is_cold(app):
    start(app, counting(body="if helper.VALUE == 2: os.kill(os.getpid(), 11)"))
    app.line(IS_WARM)
    save(app, 2)
    app.line("a warm start has failed, perhaps because it was warm: the next start is cold")
    app.line("program was killed by SIGSEGV; waiting for a change")
    save(app, 3)
    assert is_cold(app.line("ready 3"))
    app.line("in advance")
    save(app, 4)
    assert not is_cold(app.line("ready 4"))


def server_and_fork(app):
    """Block until the fork server has forked the next run; return both."""

    def found():
        # In this order: the program itself is not forked yet.
        pids = [pid for pid in children(app.pid) if was_forked(pid)]
        return len(pids) == 2 and pids

    return until(found, "the fork server has forked", app)


def test_the_program_restarts_though_fork_servers_are_killed(app):
    start(app, counting())
    for value in (2, 3):
        program = int(app.line(f"ready {value - 1}").split()[3])

        def servers(program=program):
            return [pid for pid in children(app.pid) if pid != program and was_forked(pid)]

        for pid in until(servers, "there is a fork server", app):
            os.kill(pid, signal.SIGKILL)
        save(app, value)
    app.line("ready 3")


def test_a_fork_server_that_was_killed_while_its_last_fork_waited_is_replaced(app):
    start(app, counting())
    app.line(IS_WARM)
    server, _ = server_and_fork(app)
    os.kill(server, signal.SIGKILL)
    save(app, 2)
    app.line(
        "ready 2"
    )  # warm, unless the server was killed before it sent the process ID of the fork
    app.await_lines(IS_WARM, 2)


def test_the_next_run_continues_if_it_was_stopped_by_a_signal(app):
    start(app, counting())
    app.line(IS_WARM)
    for pid in server_and_fork(app):
        os.kill(pid, signal.SIGSTOP)
    save(app, 2)
    assert not is_cold(app.line("ready 2"))


# Ends a forked program when it is released.
FRAGILE = """
import os, sys

def hook(event, arguments):
    if event == "os.putenv" and arguments[0] == b"EVRELOAD_RUN" and "helper" not in sys.modules:
        os._exit(3)

sys.addaudithook(hook)
"""


def test_after_a_warm_start_that_ended_before_the_first_line_a_cold_one_follows(app, tmp_path):
    site = installed(app, tmp_path, fragile=FRAGILE)
    start(app, counting("helper, colorsys, fragile"), **site)
    app.line(IS_WARM)
    save(app, 2)
    app.line("a warm start has failed, perhaps because it was warm: the next start is cold")
    assert is_cold(app.line("ready 2"))


NO_GRANDCHILDREN = """
import sys
forks = []

def hook(event, arguments):
    if event == "os.fork" and "helper" not in sys.modules:
        forks.append(event)
        if len(forks) > 1:
            raise OSError("no more processes")

sys.addaudithook(hook)
"""


def test_a_fork_server_that_cannot_fork_leads_to_a_cold_start(app, tmp_path):
    site = installed(app, tmp_path, scarce=NO_GRANDCHILDREN)
    start(app, counting("helper, colorsys, scarce"), **site)
    app.line("ready 1")
    app.line("the fork server does not fork: it has ended")
    save(app, 2)
    assert is_cold(app.line("ready 2"))


def test_a_program_that_waits_for_a_signal_is_not_sent_one(app):
    start(app, counting(body="signal.pause()\nprint('woken', flush=True)"))
    app.await_watching()
    until(lambda: len(children(app.pid)) == 3, "the next run waits", app)
    save(app, 2)
    app.line("ready 2")
    assert not app.count("woken")


def test_nothing_is_left_when_the_command_is_killed(app):
    start(app, counting())
    app.line(IS_WARM)
    save(app, 2)
    app.line("ready 2")
    pids = children(app.pid)  # the program, the monitor, the fork server, perhaps a spare
    assert len(pids) >= 3
    app.signal(signal.SIGKILL)
    assert_gone(set(pids))


def test_a_fork_server_waits_with_a_single_thread(app):
    start(app, counting("colorsys, asyncio, logging, concurrent.futures"))
    line = app.line(IS_WARM)
    assert modules_in_advance(line) > 50
    status = [Path(f"/proc/{pid}/status") for pid in server_and_fork(app)]

    def is_idle():
        texts = [path.read_text() for path in status]
        return all("State:\tS" in text and "Threads:\t1\n" in text for text in texts)

    until(is_idle, "the fork server and its fork wait, with one thread each", app)


def test_sockets_are_kept(app):
    port = free_port()
    body = (
        f'listener = socket.create_server(("127.0.0.1", {port}))\n'
        "while True:\n"
        "    with listener.accept()[0] as client:\n"
        "        client.sendall(str(helper.VALUE).encode())\n"
    )
    start(app, counting("socket, colorsys", body))
    app.line(IS_WARM)
    for value in (2, 3):
        save(app, value)
        assert not is_cold(app.line(f"ready {value}"))
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            assert client.recv(10) == str(value).encode()
        app.line("(warm)")


def test_warm_is_refused_on_other_systems_in_one_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(spawn, "CAN_FORK", False)
    (tmp_path / "app.py").touch()
    with pytest.raises(SystemExit, match=r"^2$"):
        cli.main(["--warm", str(tmp_path / "app.py")])
    assert capsys.readouterr().err == "evreload: --warm needs Linux: leave it out\n"


def test_a_request_to_fork_without_pipes_is_an_error():
    ends = [*os.pipe(), *os.pipe()]
    supervisor_end, server_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with supervisor_end:
        pipes = (ends[1], ends[2], server_end.detach())
        server = ForkServer(Role(FORK_SERVER, pipes), mock.Mock())
        supervisor_end.send(b".")
        with pytest.raises(OSError, match="pipes"):
            server._receive_pipes()
    for number in (*ends, pipes[2]):
        os.close(number)
