"""Supervised mode, end to end: `python -m evreload` runs real programs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest

from evreload._supervisor.supervisor import GROUP_SIGNAL_WINDOW
from support.files import await_tick
from support.processes import children, idle, memory, processor_ticks, threads
from support.programs import MODES, await_restart, runner
from support.waiting import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no supervisor there")

SLEEPER = """
import os, signal, sys, time
import helper
print("ready", helper.VALUE, os.getpid(), flush=True)
time.sleep(3600)
"""
ENDER = """
import helper
print("ready", helper.VALUE, flush=True)
"""
# Answers each connection with the version it runs.
SERVER = """
import socket
import helper
listener = socket.create_server(("127.0.0.1", 0))
print("ready", helper.VALUE, *listener.getsockname(), flush=True)
while True:
    with listener.accept()[0] as client:
        client.sendall(str(helper.VALUE).encode())
"""


def start(app, body=SLEEPER, *options, value=1, **environment):
    app.write("app.py", body)
    app.write("helper.py", f"VALUE = {value}")
    app.start("-m", "evreload", *options, "app.py", **environment)
    return app.line(f"ready {value}")


def save(app, value):
    app.write("helper.py", f"VALUE = {value}")


# Broken code


def test_a_syntax_error_leaves_the_old_program_serving(app):
    *_, host, port = start(app, SERVER).split()

    def answer():
        with socket.create_connection((host, int(port)), 10) as client:
            return client.recv(10)

    save(app, "(")
    assert app.line("SyntaxError") == (
        "evreload: helper.py:1: SyntaxError: '(' was never closed; "
        "still running the previous version"
    )
    assert answer() == b"1"
    os.chmod(app.path("helper.py"), 0o600)  # not another save: the message is not repeated
    save(app, "2 +")
    app.line("SyntaxError: invalid syntax")
    assert answer() == b"1"
    assert app.count("never closed") == 1
    save(app, 2)
    app.line("ready 2")
    assert app.count("restarting server") == 1


@pytest.mark.parametrize(
    ("body", "error", "mended"),
    [
        ("VALUE = undefined", "NameError: name 'undefined' is not defined", "helper.py"),
        ("import not_there\nVALUE = 2", "No module named 'not_there'", "not_there.py"),
        ("import sub.not_there\nVALUE = 2", "No module named 'sub.not_there'", "sub/not_there.py"),
        ("import other\nVALUE = 2", "ZeroDivisionError: division by zero", "other.py"),
    ],
)
def test_an_error_at_import_is_printed_once_and_its_fix_is_waited_for(app, body, error, mended):
    app.write("sub/__init__.py")
    app.write("other.py", "1 / 0")
    start(app)
    app.write("helper.py", body)
    assert app.line("Error: ").endswith(error)
    assert app.line("exited") == "evreload: program exited with status 1; waiting for a change"
    assert app.count("Traceback") == 1
    assert "runner.py" not in app.output
    assert "main_module.py" not in app.output
    app.write(mended, "VALUE = 2")
    app.line("ready 2")


def test_a_file_that_does_not_compile_is_named_again_at_another_save(app):
    app.write("other.py")
    start(app, "import other" + SLEEPER)
    save(app, "(")
    app.line("helper.py:1: SyntaxError")
    app.write("other.py", "# changed")
    assert app.line("helper.py") == (
        "evreload: helper.py still does not compile; still running the previous version"
    )
    save(app, 2)
    app.line("ready 2")


def test_a_program_that_has_ended_is_started_though_a_file_does_not_compile(app):
    """No run would be lost, and the program may do without that file, as a test runner does."""
    app.write("other.py")
    body = """
    import other
    try:
        import helper
    except SyntaxError:
        print("ready without", flush=True)
    else:
        print("ready", helper.VALUE, flush=True)
    """
    start(app, body)
    app.line("exited with status 0")
    save(app, "(")
    app.line("ready without")
    app.line("exited with status 0")
    app.write("other.py", "# changed")
    assert app.line("other.py") == "evreload: other.py modified; restarting server"
    app.line("ready without")


def test_a_save_is_not_lost_though_one_of_several_workers_has_read_it(app):
    body = """
    import os, time
    if os.fork() == 0:
        import helper
        print("ready", helper.VALUE, flush=True)
    else:
        while not os.path.exists("go"):
            time.sleep(0.01)
        import helper
        print("second", helper.VALUE, flush=True)
    time.sleep(1000)
    """
    start(app, body, "--debounce", "1000")
    app.await_watching(by_now=True)
    save(app, 22)
    app.write("go")
    app.line("second 22")
    app.line("helper.py modified; restarting server")


def test_a_script_needs_no_suffix(app):
    app.write("serve", "#!/usr/bin/env python3" + SLEEPER)
    save(app, 1)
    app.start("-m", "evreload", "serve")
    app.line("ready 1")
    app.await_watching(by_now=True)
    app.write("serve", "#!/usr/bin/env python3" + SLEEPER.replace("ready", "well"))
    app.line("serve modified; restarting server")
    app.line("well 1")
    app.line("serving again") if app.count("serving again") else None
    app.write("serve", "print(")
    app.line("serve:1: SyntaxError: '(' was never closed; still running the previous version")


@pytest.mark.parametrize(
    ("before", "after"), [("helper.py", "helper/__init__.py"), ("helper/__init__.py", "helper.py")]
)
@pytest.mark.parametrize("moved", [True, False])
def test_a_module_may_become_a_package_and_a_package_a_module(app, before, after, moved):
    app.write("app.py", SLEEPER)
    app.write(before, "VALUE = 1")
    app.start("-m", "evreload", "app.py")
    app.line("ready 1")
    app.await_watching(by_now=True)
    if moved:
        aside = app.directory / "aside.py"
        (app.directory / before).rename(aside)
        (app.directory / after).parent.mkdir(exist_ok=True)
        aside.rename(app.directory / after)
        app.line("ready 1")
    else:
        (app.directory / before).unlink()
        app.write(after, "VALUE = 2")
        app.line("ready 2")
    app.write(after, "VALUE = 3")
    app.line("ready 3")


def test_a_package_with_the_name_of_the_script_does_not_replace_it(app):
    app.write("app/__init__.py")
    app.write("app/__main__.py", "print('the package', flush=True)")
    await_tick()
    start(app)
    app.await_watching(by_now=True)
    (app.directory / "app.py").unlink()
    save(app, 2)
    assert app.line("restarting server") == "evreload: helper.py modified; restarting server"


@pytest.mark.parametrize("use", ["from package import VALUE", "import package; package.VALUE"])
def test_a_missing_init_file_is_waited_for(app, use):
    app.write("package/module.py")
    app.write("app.py", f"{use}\nprint('ready', flush=True)")
    app.start("-m", "evreload", "app.py")
    app.line("exited with status 1")
    app.write("package/__init__.py", "VALUE = 1")
    app.line("ready")


def test_a_program_that_fails_at_its_first_start_is_waited_for(app):
    app.write("app.py", "import helper; print('ready', helper.VALUE, flush=True)")
    app.start("-m", "evreload", "app.py")
    app.line("No module named 'helper'")
    save(app, 1)
    app.line("ready 1")
    app.write("app.py", "print('ready', (")
    app.line("SyntaxError")
    app.write("app.py", "print('ready', 2)")
    app.line("ready 2")


def test_a_script_that_does_not_compile_at_first_is_waited_for(app):
    app.write("app.py", "print('ready', (")
    app.start("-m", "evreload", "app.py")
    app.line("SyntaxError: '(' was never closed")
    app.line("exited with status 1")
    app.write("app.py", "print('ready', 2)")
    app.line("ready 2")


def test_the_fix_of_an_import_error_that_the_program_catches_is_noticed(app):
    body = """
    import sys
    try:
        import helper
    except Exception:
        print("could not import", flush=True)
        sys.exit(1)
    print("ready", helper.VALUE, flush=True)
    """
    start(app, body)
    save(app, "undefined")
    app.line("could not import")
    app.line("exited with status 1")
    save(app, 2)
    app.line("ready 2")
    app.write("helper.py", "import not_there; VALUE = 3")
    app.line("could not import")
    app.write("not_there.py")
    app.line("ready 3")


def test_a_rebase_with_conflicts_ends_with_the_final_tree(app):
    names = [f"part{n}" for n in range(40)]
    for name in names:
        app.write(f"{name}.py", "VALUE = 1")
    imports = f"import {', '.join(names)}\nVALUE = sum(part.VALUE for part in ({', '.join(names)}))"
    app.write("app.py", SLEEPER)
    app.write("helper.py", imports)
    app.start("-m", "evreload", "app.py")
    app.line("ready 40")
    for name in names:
        app.write(f"{name}.py", "<<<<<<< HEAD\nVALUE = 1\n=======\nVALUE = 2\n>>>>>>> theirs")
    app.line("SyntaxError")
    for name in names:
        app.write_in_place(f"{name}.py", "VALUE = 2")
    app.line("ready 80")


def test_a_program_that_always_fails_is_not_restarted_without_a_change(app):
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", "import helper; print('begun', flush=True); 1 / 0")
    app.start("-m", "evreload", "app.py")
    app.line("exited with status 1")
    for value in (2, 3):
        save(app, value)
        app.line("exited with status 1")
    app.signal(signal.SIGTERM)
    app.wait()
    assert app.seen.count("begun") == 3


def test_a_failing_program_that_writes_its_own_source_is_not_restarted_endlessly(app):
    app.write("helper.py", "VALUE = 1")
    app.write(
        "app.py",
        """
        import helper, time
        print("begun", flush=True)
        with open("helper.py", "w") as file:
            file.write(f"VALUE = {time.time_ns()}")
        1 / 0
        """,
    )
    app.start("-m", "evreload", "app.py")
    app.line("changes at each start")
    app.signal(signal.SIGTERM)
    app.wait()
    assert 2 <= app.seen.count("begun") <= 7


# The end of a program


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("pass", "program exited with status 0"),
        ("sys.exit(3)", "program exited with status 3"),
        ("sys.exit('sorry')", "program exited with status 1"),
        ("1 / 0", "program exited with status 1"),
        ("os._exit(7)", "program exited with status 7"),
        ("os.abort()", "program was killed by SIGABRT"),
        ("ctypes.string_at(0)", "program was killed by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "program was killed by SIGKILL"),
        (
            "os.kill(os.getpid(), signal.SIGRTMIN + 3)",
            f"was killed by signal {signal.SIGRTMIN + 3}",
        ),
    ],
)
def test_each_end_is_logged_and_the_next_change_starts_the_program_again(app, ending, message):
    start(app, f"import ctypes, os, signal, sys\n{ENDER}\n{ending}")
    assert app.line("waiting for a change").endswith(f"{message}; waiting for a change")
    save(app, 2)
    app.line("ready 2")
    assert app.count("waiting for a change") == 1


@pytest.mark.parametrize(
    ("target", "main"),
    [("app.py", "app.py"), ("-m pkg", "pkg/__main__.py"), ("dir", "dir/__main__.py")],
)
def test_after_the_end_an_edit_of_any_of_its_files_runs_the_program_again(app, target, main):
    beside = os.path.join(os.path.dirname(main) if main[:3] == "dir" else "", "helper.py")
    app.write("pkg/__init__.py")
    for number, ending in enumerate(["pass", "raise SystemExit(1)", "1 / 0"]):
        app.write(beside, "VALUE = 0")
        app.write(main, f"{ENDER}\nprint('first', {number}, flush=True)\n{ending}")
        if number == 0:
            app.start("-m", "evreload", *target.split())
        app.line(f"first {number}")
        app.line("waiting for a change")
        app.write(beside, f"VALUE = 'helper{number}'")
        app.line(f"ready helper{number}")
        app.line("waiting for a change")


def test_until_success(app):
    start(app, f"{ENDER}\nraise SystemExit(helper.VALUE)", "--until-success", value=3)
    app.line("exited with status 3; waiting for a change")
    save(app, 0)
    assert app.wait() == 0
    assert "ready 0" in app.output
    assert app.count("waiting") == 1


def test_until_success_at_once(app):
    start(app, ENDER, "--until-success")
    assert app.wait() == 0


# Signals to the command


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_the_command_and_the_program(app, name):
    program = int(start(app).split()[-1])
    app.signal(signal.Signals[name])
    assert app.wait() == 128 + signal.Signals[name]
    with pytest.raises(ProcessLookupError):
        os.kill(program, 0)
    assert "Traceback" not in app.output
    assert app.output.count("\n") <= 1  # the ready line, and perhaps what is being watched


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_to_the_whole_process_group_does_not_make_the_command_wait(app, name):
    program = int(start(app).split()[-1])
    app.await_watching()
    began = time.monotonic()
    os.kill(program, signal.Signals[name])  # the kernel signals a group one process after another
    app.signal(signal.Signals[name])
    took = time.monotonic() - began
    assert app.wait() == 128 + signal.Signals[name]
    assert took > GROUP_SIGNAL_WINDOW / 2 or "waiting for a change" not in app.output


def test_a_program_may_take_its_time_after_ctrl_c(app):
    body = """
    import time
    import helper
    try:
        print("ready", helper.VALUE, flush=True)
        time.sleep(3600)
    finally:
        time.sleep(0.7)
        print("cleaned up", flush=True)
    """
    start(app, body, "--stop-timeout", "20")
    app.signal(signal.SIGINT)  # to the command alone
    assert app.wait() == 130
    assert "cleaned up" in app.output
    assert "Traceback" not in app.output


def test_a_second_ctrl_c_kills_the_program(app):
    body = """
    import signal, time
    import helper
    signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("ready", helper.VALUE, flush=True)
    while True:
        time.sleep(1)
        print("tick", flush=True)
    """
    start(app, body, "--stop-timeout", "0")
    app.signal(signal.SIGINT)
    app.line("interrupted")
    app.line("tick")
    app.line("tick")
    app.signal(signal.SIGINT)
    assert app.wait() == 130


def start_ignoring(app, name):
    app.write("app.py", SLEEPER)
    save(app, 1)
    ignoring = f"signal.signal(signal.{name}, signal.SIG_IGN)"
    command = "os.execv(sys.executable, [sys.executable, '-m', 'evreload', 'app.py'])"
    app.start("-c", f"import os, signal, sys; {ignoring}; {command}")
    app.line("ready 1")
    app.await_watching()


def test_a_signal_that_was_ignored_stays_ignored(app):
    """As SIGHUP is under nohup."""
    start_ignoring(app, "SIGHUP")
    app.signal(signal.SIGHUP)
    save(app, 2)
    app.line("ready 2")


def test_the_end_of_the_program_is_noticed_though_sigchld_was_ignored(app):
    start_ignoring(app, "SIGCHLD")
    save(app, 2)
    app.line("ready 2")
    app.signal(signal.SIGTERM)
    assert app.wait() == 128 + signal.SIGTERM
    assert "Traceback" not in app.output


def test_a_save_while_the_command_ends_has_no_effect(app):
    body = """
    import os, signal, sys, time
    import evreload, helper
    def end(*_):
        print("asked to end", flush=True)
        time.sleep(1)
        os._exit(0)
    signal.signal(signal.SIGTERM, end)
    evreload.add_reload_hook(lambda: print("a hook", flush=True))
    print("ready", helper.VALUE, flush=True)
    while True:
        time.sleep(1)
    """
    start(app, body, "--stop-timeout", "20")
    app.await_watching()
    app.signal(signal.SIGTERM)
    app.line("asked to end")
    save(app, 2)
    assert app.wait() == 128 + signal.SIGTERM
    assert not app.count("modified")
    assert not app.count("a hook")


def test_a_second_ctrl_c_kills_what_the_program_has_left_behind(app):
    body = """
    import os, signal, time
    import helper
    if os.fork() == 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: print("asked to end", flush=True))
        print("ready", helper.VALUE, flush=True)
        while True:
            time.sleep(1)
            print("tick", flush=True)
    time.sleep(3600)
    """
    start(app, body, "--stop-timeout", "0")
    app.signal(signal.SIGINT)
    app.line("asked to end")
    app.line("tick")
    app.line("tick")
    app.signal(signal.SIGINT)
    assert app.wait() == 130


def test_sigusr1_restarts_by_hand(app):
    first = start(app)
    app.await_watching()
    app.signal(signal.SIGUSR1)
    assert app.line("restarting") == "evreload: restarting server"
    assert app.line("ready 1") != first


@pytest.mark.parametrize(("body", "up"), [(ENDER, "exited"), (SERVER, "serving again")])
def test_each_touch_restarts_however_soon(app, body, up):
    start(app, body)
    app.await_watching()
    for _ in range(5):
        await_tick()
        os.utime(app.path("helper.py"))
        app.line("helper.py modified; restarting server")
        app.line(up)


def test_the_program_knows_the_process_id_of_the_command(app):
    start(app, f"{ENDER}\nimport os; print('under', os.environ['EVRELOAD_PID'], flush=True)")
    assert app.line("under") == f"under {app.pid}"


# The stop and its deadline

STUBBORN = {
    "ignores SIGTERM": "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    "blocked in C": (
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGURG});"
        "ctypes.PyDLL(None).sleep(3600)"  # holds the interpreter's lock
    ),
    "stopped": "os.kill(os.getpid(), signal.SIGSTOP)",
    "waits for its threads": (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit());"
        "threading.Thread(target=time.sleep, args=[3600]).start()"
    ),
}


@pytest.mark.parametrize("stubborn", STUBBORN)
def test_the_stop_has_a_deadline(app, stubborn):
    body = f"""
    import ctypes, os, signal, sys, threading, time
    import helper
    print("ready", helper.VALUE, flush=True)
    {STUBBORN[stubborn]}
    time.sleep(3600)
    """
    start(app, textwrap.dedent(body), "--stop-timeout", "0.3")
    save(app, 2)
    app.line("ready 2")


def test_a_client_that_never_leaves_does_not_block_the_stop(app):
    """A server that ends once its clients are gone, and an open stream of events."""
    body = """
    import asyncio, signal
    import tornado.web
    import helper

    streams = set()

    class Events(tornado.web.RequestHandler):
        async def get(self):
            streams.add(self)
            self.set_header("Content-Type", "text/event-stream")
            while True:
                self.write("data: x\\n\\n")
                await self.flush()
                await asyncio.sleep(0.05)

        def on_connection_close(self):
            streams.discard(self)

    async def main():
        server = tornado.web.Application([("/", Events)]).listen(0, "127.0.0.1")
        port = next(iter(server._sockets.values())).getsockname()[1]
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        print("ready", helper.VALUE, port, flush=True)
        await stop.wait()
        print("asked to stop", flush=True)
        while streams:
            await asyncio.sleep(0.01)

    asyncio.run(main())
    """
    port = start(app, body, "--stop-timeout", "0.3").split()[-1]
    with socket.create_connection(("127.0.0.1", int(port)), 10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while b"data: x" not in client.recv(1000):
            pass
        save(app, 2)
        app.line("asked to stop")
        app.line("ready 2")


def test_a_stop_timeout_of_0_means_never(app):
    body = """
    import signal, sys, time
    import helper

    def stop(number, frame):
        print("asked", signal.Signals(number).name, flush=True)
        time.sleep(2.5)  # longer than the usual timeout
        print("gone by itself", flush=True)
        sys.exit()

    signal.signal(signal.SIGINT, stop)
    print("ready", helper.VALUE, flush=True)
    while True:
        time.sleep(60)
    """
    start(app, body, "--stop-timeout", "0", "--stop-signal", "int")
    save(app, 2)
    app.line("asked SIGINT")
    app.line("gone by itself")
    app.line("ready 2")


# The log


def test_the_complete_log(app):
    start(app, SERVER)
    assert re.fullmatch(
        r"evreload: watching \d+ files in \d+ directories \(.+\)", app.await_watching()
    )
    if app.warm:
        line = app.line("evreload:")
        assert re.fullmatch(
            r"evreload: \d+ modules are imported in advance; the next start is warm", line
        )
    save(app, 2)
    assert app.line("evreload:") == "evreload: helper.py modified; restarting server"
    line = app.line("evreload:")
    assert re.fullmatch(r"evreload: serving again after \d+ ms" + " \\(warm\\)" * app.warm, line)
    app.signal(signal.SIGUSR1)
    assert app.line("evreload:") == "evreload: restarting server"
    again = app.line("evreload:")
    elapsed = re.search(r"(\d+) ms", again)
    assert elapsed
    assert int(elapsed[1]) < 10_000  # since the signal, not since the last change


def test_quiet_logs_problems_only(app):
    start(app, ENDER, "-q")
    save(app, 2)
    app.line("ready 2")
    save(app, "1 / 0")
    app.line("exited with status 1")
    logged = [line for line in app.seen if line.startswith("evreload:")]
    assert len(logged) == 1, logged


def test_verbose_logs_each_reason(app):
    subprocess.run(["git", "init", "-q"], cwd=app.directory, check=True)
    start(app, SERVER, "-v", "-i", "*.log")
    app.await_watching()
    (app.directory.parent / "beside.txt").touch()  # no file of the program lies there
    app.write_in_place("notes.txt", "x")
    assert app.line("not imported") == f"evreload: {app.path('notes.txt')}: not imported"
    app.write_in_place("app.log", "x")
    assert app.line("app.log") == f"evreload: {app.path('app.log')}: ignored (*.log)"
    os.chmod(app.path("helper.py"), 0o600)
    assert app.line("helper.py") == f"evreload: {app.path('helper.py')}: unchanged on disk"
    save(app, "(")
    app.line("SyntaxError")
    app.write_in_place(".git/index.lock", "")
    save(app, 2)
    assert app.line("waiting") == "evreload: waiting for git to finish"
    os.unlink(app.path(".git/index.lock"))
    app.line("ready 2")
    app.write("helper.py", "from other import VALUE")
    app.line("exited")
    with open(app.path("other.py"), "w") as new:
        assert app.line("waiting") == "evreload: waiting for a writer to finish"
        new.write("VALUE = 3")
    app.line("ready 3")


# What else is watched


def test_a_watched_directory_leaves_out_what_git_ignores(app):
    app.write(".gitignore", "*.log\nbuild/\n")
    app.write("conf/a.yaml", "1")
    app.write("build/page.html", "1")
    start(app, SLEEPER, "--watch", ".")
    app.await_watching()
    app.write("build/page.html", "2")
    app.write("conf/app.log", "2")
    app.write("conf/.a.yaml.swp", "2")
    app.write("conf/a.yaml", "2")
    assert app.line("restarting") == "evreload: conf/a.yaml modified; restarting server"
    app.line("ready")
    app.write("conf/new.yaml", "2")
    assert app.line("restarting") == "evreload: conf/new.yaml modified; restarting server"
    app.line("ready")
    os.unlink(app.path("conf/new.yaml"))
    assert app.line("restarting") == "evreload: conf/new.yaml modified; restarting server"
    app.line("ready")
    app.write(".gitignore", "*.yaml\nbuild/\n")  # from now on
    assert app.line("restarting") == "evreload: .gitignore modified; restarting server"
    app.line("ready")
    app.write("conf/other.yaml", "2")
    app.write("conf/other.log", "2")
    assert app.line("restarting") == "evreload: conf/other.log modified; restarting server"


def test_what_git_ignores_counts_if_asked_for(app):
    app.write(".gitignore", "*.log\n")
    start(app, SLEEPER, "--watch", ".", "--no-gitignore")
    app.await_watching()
    app.write("app.log", "2")
    assert app.line("restarting") == "evreload: app.log modified; restarting server"


def test_a_directory_that_git_ignores_counts_if_named(app):
    app.write(".gitignore", "build/\n*.log\n")
    app.write("build/page.html", "1")
    start(app, SLEEPER, "--watch", "build")
    app.await_watching()
    app.write("build/page.html", "2")
    assert app.line("restarting") == "evreload: build/page.html modified; restarting server"


def test_ignored_paths_do_not_count_though_imported(app):
    app.write("generated.py")
    start(
        app, f"import generated\n{SLEEPER}", "--ignore", "gen*.py", "--ignore", "*.tmp", "-w", "."
    )
    app.await_watching()
    app.write("generated.py", "x = 1")
    app.write("a.tmp", "1")
    save(app, 2)
    assert app.line("restarting") == "evreload: helper.py modified; restarting server"


def test_the_project_file_names_what_is_watched(app):
    app.write("pyproject.toml", '[tool.evreload]\nwatch = ["conf"]\nstop-timeout = 0.1\n')
    app.write("conf/a.yaml", "1")
    app.write("sub/helper.py", "VALUE = 1")
    app.write("sub/app.py", SLEEPER)
    app.start("-c", "import os; os.chdir('sub'); import evreload; evreload.main()", "app.py")
    app.line("ready 1")
    app.write("conf/a.yaml", "2")
    assert app.line("restarting").endswith("conf/a.yaml modified; restarting server")


# What one run passes to the next


def test_the_environment_holds_the_generation_and_what_changed(app):
    start(app, f"{ENDER}\nimport os; print('passed', os.environ.get('EVRELOAD_RUN'), flush=True)")
    assert app.line("passed") == "passed None"
    for generation in (1, 2):
        save(app, generation + 1)
        passed = json.loads(app.line("passed").removeprefix("passed "))
        assert passed["generation"] == generation
        assert passed["changed"] == [app.path("helper.py")]
        assert passed["owner"] == app.pid


def test_the_public_functions_return_the_same(app):
    body = f"{ENDER}\nimport evreload\nprint(evreload.generation(), *evreload.changed_files())"
    start(app, body)
    app.line("0")
    save(app, 2)
    app.line(f"1 {app.path('helper.py')}")
    app.signal(signal.SIGUSR1)
    app.line("2")


@pytest.mark.parametrize("after", [0, 2.5])
def test_a_directory_stays_watched_though_later_runs_fail_before_they_request_it(app, after):
    body = f"""
    import evreload, helper, time
    if open("conf/settings").read() == "broken":
        time.sleep({after})
        raise SystemExit("broken settings")
    evreload.watch("conf")
    print("ready", helper.VALUE, flush=True)
    time.sleep(600)
    """
    app.write("conf/settings")
    start(app, body)
    app.await_watching()
    for number in range(3):
        app.write("conf/settings", "broken")
        app.await_lines("broken settings", number + 1)
        app.await_lines("waiting for a change", number + 1)
        await_tick()
    app.write("conf/settings", "mended")
    app.line("ready 1")


def test_a_save_while_the_program_ends_is_passed_to_the_next_run(app):
    body = """
    import os, signal, sys, time
    import evreload, helper
    def end(*_):
        print("asked to end", flush=True)
        while not os.path.exists("go"):
            time.sleep(0.01)
        sys.exit()
    signal.signal(signal.SIGTERM, end)
    print("ready", helper.VALUE, *sorted(evreload.changed_files()), flush=True)
    while True:
        time.sleep(1)
    """
    app.write("other")
    start(app, body, "-w", "other", "--stop-timeout", "0")
    app.await_watching()
    save(app, 2)
    app.line("asked to end")
    app.write("other", "changed")
    app.write("go")
    assert app.line("ready 2") == f"ready 2 {app.path('helper.py')} {app.path('other')}"


def test_reload_restarts_in_the_same_process_with_its_environment(app):
    body = """
    import os, sys
    import evreload, helper
    print("ready", helper.VALUE, os.getpid(), os.environ.get("MINE"), sys.argv, flush=True)
    os.environ["MINE"] = str(int(os.environ.get("MINE", 0)) + 1)
    if os.environ["MINE"] < "3":
        evreload.reload()
    import time; time.sleep(3600)
    """
    pid = start(app, body).split()[2]
    assert app.line("ready") == f"ready 1 {pid} 1 ['app.py']"
    assert app.line("ready") == f"ready 1 {pid} 2 ['app.py']"
    save(app, 2)
    assert app.line("ready 2").split()[3] == "None"


@pytest.mark.parametrize(
    ("obstacle", "reason"),
    [
        (
            "evreload._common.startup.EXECUTABLE = '/nowhere'",
            "the interpreter /nowhere is not there",
        ),
        ("os.environ['X'] = 'x' * 10**7", "[Errno 7] Argument list too long"),
    ],
    ids=["no interpreter", "no room"],
)
def test_a_reload_that_fails_leaves_the_program_as_it_was(app, obstacle, reason):
    body = f"""
    import os
    import evreload, helper
    evreload.add_reload_hook(lambda: print("the hook ran", flush=True))
    if helper.VALUE == 1:
        {obstacle}
        evreload.reload()
    print("ready", helper.VALUE, flush=True)
    import time; time.sleep(3600)
    """
    start(app, body)
    assert app.count(f"cannot restart: {reason}") == 1
    hooks = app.count("the hook ran")
    save(app, 2)
    app.line("ready 2")
    assert app.count("the hook ran") == hooks + 1


# Hooks


def test_a_hook_that_was_added_just_before_the_change_runs(app):
    body = """
    import os, signal, time
    import evreload, helper

    def add(*_):
        evreload.add_reload_hook(lambda: print("the hook ran", flush=True))
        print("added", flush=True)

    signal.signal(signal.SIGUSR2, add)
    print("ready", helper.VALUE, os.getpid(), flush=True)
    while True:
        time.sleep(3600)
    """
    pid = int(start(app, body).split()[2])
    app.await_watching()
    os.kill(pid, signal.SIGUSR2)
    app.line("added")
    save(app, 2)
    app.line("ready 2")
    assert app.count("the hook ran") == 1


def test_hooks_run_in_order_and_know_what_changed(app):
    body = """
    import asyncio, threading
    import evreload, helper

    def report(what):
        print(what, threading.current_thread() is threading.main_thread(), flush=True)

    async def slow():
        await asyncio.sleep(0.05)
        report("slow")

    def failing():
        report("failing")
        raise ValueError("never mind")

    def last():
        report("last")
        print(*evreload.changed_files(), flush=True)

    async def main():
        evreload.add_reload_hook(failing)
        evreload.add_reload_hook(removed := lambda: report("removed"))
        evreload.add_reload_hook(last)
        evreload.add_reload_hook(slow)
        evreload.remove_reload_hook(removed)
        print("ready", helper.VALUE, flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
    """
    start(app, body)
    for value in (2, 3):
        save(app, value)
        app.line(f"ready {value}")
    reports = [line for line in app.seen if line.endswith(" True") or line == app.path("helper.py")]
    assert reports == ["slow True", "failing True", "last True", app.path("helper.py")] * 2
    assert app.count("ValueError: never mind") == 2
    assert app.count("failing failed") == 2
    assert "removed" not in app.output


def test_hooks_of_a_program_without_a_loop(app):
    body = """
    import time
    import evreload, helper

    async def slow():
        print("slow", flush=True)

    evreload.add_reload_hook(lambda: print("plain", flush=True))
    evreload.add_reload_hook(slow)
    print("ready", helper.VALUE, flush=True)
    time.sleep(3600)
    """
    start(app, body)
    save(app, 2)
    app.line("ready 2")
    assert [line for line in app.seen if line in ("slow", "plain")] == ["slow", "plain"]


def test_a_hook_that_stops_the_loop_ends_in_a_restart(app):
    body = """
    import evreload, helper
    from tornado.ioloop import IOLoop
    evreload.add_reload_hook(lambda: IOLoop.current().stop())
    IOLoop.current().add_callback(print, "ready", helper.VALUE, flush=True)
    IOLoop.current().start()
    """
    start(app, body)
    save(app, 2)
    app.line("ready 2")


def test_a_program_that_ends_by_os_exit_in_a_hook_is_started_again(app):
    body = """
    import os, time
    import evreload, helper
    evreload.add_reload_hook(lambda: os._exit(5))
    print("ready", helper.VALUE, flush=True)
    time.sleep(3600)
    """
    start(app, body)
    save(app, 2)
    app.line("ready 2")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_hook_that_exits_ends_the_program_with_its_status(app, kind):
    body = f"""
    import asyncio, sys
    import evreload, helper

    {kind} end():
        sys.exit(3)

    async def main():
        evreload.add_reload_hook(end)
        print("ready", helper.VALUE, flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
    """
    start(app, body)
    save(app, 2)
    app.line("program exited with status 3; waiting for a change")
    assert app.count("ready") == 1
    save(app, 4)
    app.line("ready 4")


def test_many_changes_at_once_reach_the_hooks(app):
    """More of them than a pipe holds."""
    directory = "d" * 100
    body = """
    import time
    import evreload, helper
    evreload.add_reload_hook(lambda: print("changed", len(evreload.changed_files()), flush=True))
    print("ready", helper.VALUE, flush=True)
    time.sleep(3600)
    """
    for number in range(800):
        app.write(f"{directory}/{number}.txt", "1")
    start(app, body, "--debounce", "100", "-w", directory)
    app.await_watching()
    for number in range(800):
        app.write_in_place(f"{directory}/{number}.txt", "22")
    assert int(app.line("changed").split()[1]) >= 100
    app.line("ready 1")


# As plain Python runs it

STATE = """
import json, os, sys
{extra}
print("state", json.dumps([
    __name__, __package__, __spec__ and [__spec__.name, __spec__.origin], __file__, __doc__,
    sorted(globals()), sys.argv, sys.path[0], repr(sys.flags), sys.warnoptions, os.getcwd(),
    sys.modules["__main__"].__dict__ is globals(), sys.orig_argv[1:], sys.stdin.isatty(),
]), flush=True)
"""


@pytest.mark.parametrize(
    "target",
    [
        "app.py a --b -m c",
        "./sub/app.py",
        "-m app",
        "-m sub",
        "-m sub.app -x",
        "sub",
        "-u -O -B -E -X utf8 -W error::UserWarning app.py",
        "-P app.py",
    ],
)
def test_the_program_finds_what_plain_python_gives_it(app, target):
    app.write("sub/__init__.py")
    for name in ("app.py", "sub/app.py", "sub/__main__.py"):
        # __package__ is what it should be if this import works.
        extra = "from . import sibling" if "-m sub" in target else ""
        app.write(name, STATE.format(extra=extra))
    app.write("sub/sibling.py")
    words = target.split()
    place = next(n for n, word in enumerate(words) if word[0] != "-" and "=" not in word
                 and "::" not in word and word != "utf8")  # fmt: skip
    place -= words[place - 1] == "-m"
    app.start(*words)
    plain = app.line("state")
    app.wait()
    app.close()
    app.start(*words[:place], "-m", "evreload", "--until-success", *words[place:])
    assert app.line("state") == plain


def test_a_script_in_a_folder_imports_its_siblings_and_from_the_working_directory(app):
    app.write("sub/sibling.py", "NAME = 'sibling'")
    app.write("sub/both.py", "NAME = 'beside the script'")
    app.write("both.py", "NAME = 'in the working directory'")
    app.write("top.py", "NAME = 'top'")
    app.write("sub/app.py", "import both, sibling, top; print(sibling.NAME, top.NAME, both.NAME)")
    app.start("-m", "evreload", "--until-success", "sub/app.py")
    app.line("sibling top beside the script")


def test_the_runner_leaves_no_traces_in_the_program(app):
    app.write("platform.py", "NAME = 'mine'")
    app.write("signal_.py")
    app.write(
        "app.py",
        """
        import pickle, platform, sys
        class Thing: pass
        assert type(pickle.loads(pickle.dumps(Thing()))) is Thing
        try:
            def annotated(x: undefined_name): pass
            leaked = sys.version_info < (3, 14)
        except NameError:
            leaked = False
        print("ready", platform.NAME, leaked, flush=True)
        """,
    )
    app.start("-m", "evreload", "--until-success", "app.py")
    app.line("ready mine False")


@pytest.mark.parametrize("runner", ["unittest", "pytest"])
def test_test_runners_run_under_the_command(app, runner):
    def write(value):
        app.write(
            "test_it.py",
            f"""
            import unittest
            class TestIt(unittest.TestCase):
                def test_it(self):
                    self.assertEqual({value}, 2)
            """,
        )

    write(1)
    arguments = ["-p", "no:cacheprovider"] if runner == "pytest" else []
    app.start("-m", "evreload", "--until-success", "-m", runner, *arguments, "test_it.py")
    app.line("exited with status 1; waiting for a change")
    write(2)
    assert app.wait() == 0


def test_evreload_imports_next_to_nothing_into_the_program(app):
    app.write("app.py", "import sys; print('modules', *sys.modules, flush=True)")
    app.start("app.py")
    plain = set(app.line("modules").split())
    app.wait()
    app.close()
    app.start("-m", "evreload", "--until-success", "app.py")
    added = set(app.line("modules").split()) - plain
    added -= {"tornado.autoreload"}  # a stand-in, for a program that imports it
    others = {name for name in added if not name.startswith("evreload")}
    assert others <= {"__future__", "atexit", "types"}


def test_evreload_causes_no_warning(app):
    body = """
    import os, sys, time
    import helper
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    print("ready", helper.VALUE, flush=True)
    time.sleep(3600)
    """
    app.write("app.py", body)
    save(app, 1)
    app.start("-W", "error", "-X", "dev", "-m", "evreload", "app.py")
    app.line("ready 1")
    for value in (2, 3):
        save(app, value)
        app.line(f"ready {value}")
    app.signal(signal.SIGTERM)
    app.wait()
    assert "Warning" not in app.output
    assert "Traceback" not in app.output


# What cannot be started


def test_an_interpreter_that_has_moved_is_waited_for(app):
    python = app.directory / "python"
    python.symlink_to(os.path.realpath(sys.executable))
    app.write("app.py", SLEEPER)
    save(app, 1)
    packages = os.pathsep.join(path for path in sys.path if path)
    app.start_command([str(python), "-m", "evreload", "app.py"], PYTHONPATH=packages)
    app.line("ready 1")
    app.await_watching()
    python.rename(app.directory / "moved")
    save(app, 2)
    assert app.line("cannot restart") == (
        f"evreload: cannot restart: the interpreter {python} is not there any more; "
        "still running the previous version"
    )
    (app.directory / "moved").rename(python)
    save(app, 3)
    app.line("ready 3")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("name", ["server", "/opt/server"])
@MODES
def test_python_was_started_under_another_name(app, mode, name):
    """Python then has no `sys.executable`, or one that does not exist."""
    as_server = f"import os, sys; os.execv(sys.argv[1], [{name!r}, *sys.argv[2:]])"
    app.environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    save(app, 1)
    runner(app, mode=mode)(prefix=[sys.executable, "-c", as_server])
    save(app, 2)
    assert await_restart(app, "helper.py") == "ready 2"


REFUSED_ONCE = """
import evreload
from evreload._supervisor.spare import Spare

def refuse(self, changes):
    Spare.take = take
    raise OSError("no more processes")

take, Spare.take = Spare.take, refuse
evreload.main()
"""


def test_a_start_that_fails_is_tried_again_at_the_next_change(app):
    app.write("app.py", SLEEPER)
    save(app, 1)
    app.start("-c", REFUSED_ONCE, "app.py")
    app.line("ready 1")
    save(app, 2)
    assert app.line("cannot start") == (
        "evreload: cannot start the program: no more processes; waiting for a change"
    )
    save(app, 3)
    app.line("ready 3")
    assert app.count("restarting server") == 2


def test_hooks_do_not_run_in_a_program_that_has_closed_all_descriptors(app):
    body = """
    import os, time
    import evreload, helper
    evreload.add_reload_hook(lambda: print("the hook ran", flush=True))
    os.closerange(3, 100)
    print("ready", helper.VALUE, flush=True)
    time.sleep(3600)
    """
    start(app, body)
    save(app, 2)
    app.line("the program has closed evreload's pipe")
    app.line("ready 2")
    assert not app.count("the hook ran")


def test_no_message_goes_to_a_file_that_was_opened_after_the_pipe_was_closed(app):
    body = """
    import os, sys
    import helper
    os.closerange(3, 100)
    files = [open(f"data{n}", "w") for n in range(20)]
    import late
    sizes = [os.fstat(file.fileno()).st_size for file in files]
    print("ready", helper.VALUE, sum(sizes), flush=True)
    """
    app.write("late.py")
    assert start(app, body) == "ready 1 0"


def test_nor_does_a_message_of_a_worker(app):
    body = """
    import multiprocessing, os, sys
    import helper
    if __name__ == "__main__":
        os.closerange(3, 100)
        files = [open(f"data{n}", "w") for n in range(20)]
        worker = multiprocessing.get_context("spawn").Process(target=print, args=("here",))
        worker.start()
        worker.join()
        sizes = [os.fstat(file.fileno()).st_size for file in files]
        print("ready", helper.VALUE, sum(sizes), worker.exitcode, flush=True)
    """
    assert start(app, body) == "ready 1 0 0"


# Nothing accumulates


def state(pid):
    """Return what a process holds that lives as long as the command."""
    return {
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": len(threads(pid)),
        "memory": memory(pid),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("restarts", [20, pytest.param(500, marks=pytest.mark.soak)])
def test_restarts_leave_nothing_behind(app, restarts):
    start(app, SERVER, value=0)
    before: dict[int, dict[str, int]] = {}
    for value in range(1, 10 + restarts):
        save(app, value)
        app.line(f"ready {value} ")
        if value == 9:
            before = states(app.pid)
    after = states(app.pid)
    # The supervisor, the parent-death monitor, the fork server.
    lasting = before.keys() & after.keys()
    assert len(lasting) == (3 if app.warm else 2)
    for pid in lasting:
        assert after[pid]["threads"] == before[pid]["threads"]
        # With or without a spare.
        assert abs(after[pid]["descriptors"] - before[pid]["descriptors"]) <= 4
        assert after[pid]["memory"] - before[pid]["memory"] < 1024  # kilobytes
    assert len(after.keys() - lasting) <= 2  # the program, and the spare


def states(pid):
    """Return the states of *pid* and its children, once they have nothing to do."""
    idle(pid, does=processor_ticks)
    found = {}
    for one in (pid, *children(pid)):
        with contextlib.suppress(OSError):  # it has just ended
            found[one] = state(one)
    return found


# Its output is buffered until it ends, as that of any program that prints into a pipe.
BUFFERS = """
import asyncio, logging.handlers, socket, sys, threading, time
import helper

target = logging.StreamHandler(sys.stdout)
logging.root.addHandler(logging.handlers.MemoryHandler(1000, target=target))
print("printed", helper.VALUE)
logging.warning("logged %s", helper.VALUE)
open(f"begun {helper.VALUE}", "w").close()
"""
SLEEPS = "time.sleep(1000)"
ACCEPTS = """
with socket.create_server(("127.0.0.1", 0)) as listener:
    while True:
        listener.accept()[0].close()
"""
TURNS = "asyncio.run(asyncio.sleep(1000))"
BUSY = """
def work():
    while True:
        pass

threading.Thread(target=work, daemon=True).start()
time.sleep(1000)
"""
HOOKED = """
import evreload
evreload.add_reload_hook(lambda: print("hooked", helper.VALUE))
"""


@pytest.mark.parametrize("options", [(), ("--grace", "0"), ("--no-keep-sockets",)], ids=" ".join)
@pytest.mark.parametrize("hook", ["", HOOKED], ids=["", "hook"])
@pytest.mark.parametrize(
    "body", [SLEEPS, ACCEPTS, TURNS, BUSY], ids=["sleeps", "accepts", "asyncio", "busy thread"]
)
def test_buffered_output_is_not_lost(app, hook, body, options):
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", hook + BUFFERS + body)
    app.start("-m", "evreload", *options, "app.py")
    for value in range(3):
        until((app.directory / f"begun {value}").exists, "the program begins", app)
        await_tick()
        app.write("helper.py", f"VALUE = {value + 1}")
        app.line(f"printed {value}")
        if hook:
            app.line(f"hooked {value}")
        app.line(f"logged {value}")
    assert app.count("printed") == 3


# Its main thread stays in C, as that of a Qt program does. Like urllib3, it binds port 0.
IN_C = """
import ctypes, socket, threading, time
import helper

with socket.socket() as sock:
    sock.bind(("127.0.0.1", 0))
thread = threading.Thread(target=time.sleep, args=[1000], daemon=True)
thread.start()
print("ready", helper.VALUE, flush=True)
ctypes.CDLL(None).pthread_join(ctypes.c_ulong(thread.ident), None)
"""


WAITS_FOR_EVER = """
import evreload
from evreload._supervisor import shutdown

shutdown.EXIT_GRACE = shutdown.ANSWER_TIME = 1e9
evreload.main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="on Linux only")
def test_a_program_whose_main_thread_stays_in_c_is_not_waited_for(app):
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", IN_C)
    app.write("command.py", WAITS_FOR_EVER)
    app.start("command.py", "app.py")
    app.line("ready 0")
    app.await_watching()
    for value in (1, 2):
        app.write("helper.py", f"VALUE = {value}")
        app.line(f"ready {value}")


def test_buffered_output_is_written_once_though_the_program_forks(app):
    app.write("helper.py", "VALUE = 0")
    forks = """
    import os
    for _ in range(2):
        if os.fork() == 0:
            time.sleep(1000)
    open(f"forked {helper.VALUE}", "w").close()
    time.sleep(1000)
    """
    app.write("app.py", BUFFERS + textwrap.dedent(forks))
    app.start("-m", "evreload", "app.py")
    for value in range(2):
        until((app.directory / f"forked {value}").exists, "the program forks", app)
        await_tick()
        app.write("helper.py", f"VALUE = {value + 1}")
        app.await_lines(f"printed {value}")
    assert app.count("printed 0") == 1


def test_a_program_that_has_closed_all_descriptors_is_not_interrupted(app):
    body = """
    import os, time
    import helper
    if os.fork() == 0:
        time.sleep(1000)
    os.closerange(3, 256)
    print("ready", helper.VALUE, flush=True)
    time.sleep(1000)
    """
    start(app, body)
    for value in (2, 3):
        save(app, value)
        app.line(f"ready {value}")
    assert not app.count("Traceback"), app.output
