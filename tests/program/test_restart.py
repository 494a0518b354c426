"""The restart in place: the process stays, and begins again as plain Python began it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import zipapp
from pathlib import Path

import pexpect
import pytest

from support.deadline import DEADLINE
from support.files import await_tick, write_modules
from support.programs import COMMAND, MODES
from support.waiting import until

HEAD = """
import asyncio, builtins, json, logging, os, sys

def plain(name, value):
    if name == "__builtins__":
        return value is builtins or value is builtins.__dict__
    if name == "__loader__":
        kind = value if isinstance(value, type) else type(value)
        return [kind.__name__, str(getattr(value, "path", None))]
    if name == "__spec__" and value:
        return [value.name, value.origin, value.parent, value.cached, value.has_location]
    return value

STATE = {
    "globals": {n: plain(n, v) for n, v in list(globals().items()) if n.startswith("__")},
    "main": sys.modules["__main__"].__dict__ is globals(),
    "argv": list(sys.argv),
    "orig_argv": list(sys.orig_argv),
    "path": sys.path[:2],
    "flags": repr(sys.flags),
    "warnoptions": sys.warnoptions,
    "xoptions": sys._xoptions,
    "directory": os.getcwd(),
    "pids": [os.getpid(), os.getppid(), os.getpgrp(), os.getsid(0)],
}
"""
TAIL = """
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
import evreload

async def main():
    evreload.start()
    print("state", json.dumps(STATE), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
PROGRAM = HEAD + TAIL

LOOP = """
import asyncio, logging, os, signal, sys
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
import evreload
{start}
async def main():
    evreload.start()
    print("ready", {what}, flush=True)
    {then}
    await asyncio.Event().wait()

asyncio.run(main())
"""


def program(what="''", start="", then=""):
    return LOOP.format(what=what, start=start, then=then)


def save(app, name):
    """Save the program or a part of it, with another content that means the same."""
    path = app.directory / name
    before = path.read_bytes()
    beside = path.with_name(path.name + ".beside~")
    beside.write_bytes(b"#\n" + before if name.endswith(".pyz") else before + b"\n#")
    shutil.copymode(path, beside)
    beside.replace(path)


def restart(app, name):
    app.await_watching()
    save(app, name)
    app.line("restarting server")


def state(app):
    return json.loads(app.line("state ").removeprefix("state "))


def reloads_three_times_alike(app, name):
    first = state(app)
    for _ in range(3):
        restart(app, name)
        assert state(app) == first
    return first


# How the program was named


def test_a_script_with_arguments(app):
    app.write("app.py", PROGRAM)
    app.start("app.py", "--port=80", "a b", "-m", "", "ünï")
    first = reloads_three_times_alike(app, "app.py")
    assert first["argv"] == ["app.py", "--port=80", "a b", "-m", "", "ünï"]


def test_a_script_named_by_a_path_that_is_not_normalised(app):
    app.write("sub/app.py", PROGRAM)
    app.start("./sub/../sub/app.py")
    reloads_three_times_alike(app, "sub/app.py")


def test_a_script_behind_a_symbolic_link(app):
    app.write("real/app.py", PROGRAM)
    os.symlink("real/app.py", app.path("link.py"))
    app.start("link.py")
    first = reloads_three_times_alike(app, "real/app.py")
    assert first["path"][0] == app.path("real")


def test_an_executable_script(app):
    app.write("app.py", f"#!{sys.executable}\n{PROGRAM}").chmod(0o755)
    app.start_command(["./app.py", "x"])
    reloads_three_times_alike(app, "app.py")


def test_a_module(app):
    app.write("app.py", PROGRAM)
    app.start("-m", "app", "x", "-c")
    first = reloads_three_times_alike(app, "app.py")
    assert first["globals"]["__spec__"][0] == "app"


def test_a_module_named_in_one_argument_with_flags(app):
    app.write("app.py", PROGRAM)
    app.start("-uBmapp", "x")
    reloads_three_times_alike(app, "app.py")


def test_a_package(app):
    app.write("pkg/__init__.py")
    app.write("pkg/__main__.py", PROGRAM)
    app.start("-m", "pkg")
    first = reloads_three_times_alike(app, "pkg/__main__.py")
    assert first["globals"]["__package__"] == "pkg"


def test_a_submodule_with_relative_imports(app):
    app.write("pkg/__init__.py")
    app.write("pkg/sister.py")
    app.write(
        "pkg/sub.py", HEAD + "from . import sister\nfrom .sister import __name__ as _\n" + TAIL
    )
    app.start("-m", "pkg.sub")
    reloads_three_times_alike(app, "pkg/sister.py")


def test_a_directory(app):
    app.write("dir/__main__.py", HEAD + "import sister\n" + TAIL)
    app.write("dir/sister.py")
    app.start("dir/", "x")
    reloads_three_times_alike(app, "dir/sister.py")


def test_an_archive(app):
    app.write("dir/__main__.py", HEAD + "import sister\n" + TAIL)
    app.write("dir/sister.py")
    zipapp.create_archive(app.path("dir"), app.path("app.pyz"))
    app.start("app.pyz", "x")
    reloads_three_times_alike(app, "app.pyz")


def test_compiled_code_without_its_source(app):
    source = app.write("app.py", HEAD + "import helper\n" + TAIL)
    app.write("helper.py")
    code = "import py_compile; py_compile.compile('app.py', cfile='app.pyc')"
    subprocess.run([sys.executable, "-c", code], cwd=app.directory, check=True)
    source.unlink()
    app.start("app.pyc")
    reloads_three_times_alike(app, "helper.py")


def test_a_console_script(app):
    app.write(
        "tool.py", HEAD + TAIL.replace("asyncio.run(main())", "def run(): asyncio.run(main())")
    )
    app.write("bin/tool", f"#!{sys.executable}\nfrom tool import run\nrun()\n").chmod(0o755)
    app.start_command([app.path("bin/tool"), "x"], PYTHONPATH=app.path(""))
    reloads_three_times_alike(app, "tool.py")


def test_code_on_the_command_line(app):
    app.write("helper.py")
    app.start("-c", HEAD + "import helper\n" + TAIL, "x")
    first = reloads_three_times_alike(app, "helper.py")
    assert first["argv"] == ["-c", "x"]


# How Python was called


@pytest.mark.parametrize(
    "flags",
    [
        "-u -O -B -s -q -X dev -X utf8 -W error::UserWarning -Wignore::ImportWarning",
        "-OO -E --check-hash-based-pycs never -Xno_debug_ranges",
        "-sBuW once",
        "-bb --",
    ],
)
def test_flags_survive(app, flags):
    app.write("app.py", PROGRAM)
    app.start(*flags.split(), "app.py", "-O")
    reloads_three_times_alike(app, "app.py")


def test_an_isolated_program(app):
    app.write("app.py", PROGRAM)
    app.start("-I", "app.py", PYTHONPATH="/nowhere", PYTHONUNBUFFERED="1")
    first = reloads_three_times_alike(app, "app.py")
    assert app.directory not in first["path"]


def test_a_program_without_site(app):
    app.write("app.py", PROGRAM)
    app.start("-S", "app.py", PYTHONPATH=os.pathsep.join(where_imports_come_from()))
    reloads_three_times_alike(app, "app.py")


def where_imports_come_from():
    """Return the directories of evreload and of what it needs."""
    import tornado
    import watchdog

    import evreload

    return [str(Path(module.__path__[0]).parent) for module in (evreload, tornado, watchdog)]


@pytest.mark.parametrize("target", ["sub/app.py", "-m sub.app", "sub", "./sub/"])
def test_a_program_may_change_everything_before_it_imports_evreload(app, target):
    app.write("sub/helper.py")
    changes = "os.chdir('/'); sys.argv[:] = ['?']\n"
    if not target.startswith("-m"):  # or nothing would show the first directory
        changes += "sys.path.insert(0, '/')\n"
    text = (
        HEAD + f"import sys; sys.path.append({app.path('sub')!r}); import helper\n" + changes + TAIL
    )
    app.write("sub/app.py", text)
    app.write("sub/__main__.py", text)
    app.start(*target.split(), "x", PYTHONPATH="/tmp")
    first = reloads_three_times_alike(app, "sub/helper.py")
    assert first["directory"] == str(app.directory)


# Programs that cannot be restarted run on

RUNS_ON = """
import asyncio, logging, sys, types
logging.basicConfig(format="%(message)s", stream=sys.stdout)
{odd}
import evreload

async def main():
    evreload.start()
    evreload.watch("x")
    evreload.reload()
    print("runs on", flush=True)

asyncio.run(main())
"""


KERNEL = """
class IPKernelApp:
    initialized = classmethod(lambda cls: True)
sys.modules['ipykernel.kernelapp'] = types.SimpleNamespace(IPKernelApp=IPKernelApp)
"""


@pytest.mark.parametrize(
    ("command", "odd", "reason"),
    [
        ("python < app.py", "", "read from a stream"),
        ("python - x < app.py", "", "read from a stream"),
        ("python /dev/stdin < app.py", "", "read from a stream"),
        ("python <(cat app.py)", "", "read from a stream"),
        ("python app.py", "sys.frozen = True", "frozen"),
        ("python app.py", KERNEL, "Jupyter"),
        ("python app.py", "sys.ps1 = '>>> '", "interactive"),
    ],
)
def test_a_program_that_cannot_be_restarted_logs_why_and_runs_on(app, command, odd, reason):
    app.write("app.py", RUNS_ON.format(odd=odd))
    app.start_command(["bash", "-c", command.replace("python", sys.executable, 1)])
    assert app.wait() == 0
    assert app.count("runs on") == 1
    assert app.count(reason) == 2  # for start, and for reload


def test_an_interactive_session_logs_why_and_runs_on(app):
    session = pexpect.spawn(sys.executable, ["-i", "-q"], env=app.environment, timeout=DEADLINE)
    session.sendline("import evreload; evreload.start()")
    session.expect("cannot restart this process: an interactive session")
    session.sendline("print(6 * 7)")
    session.expect_exact("42")
    session.close(force=True)


@pytest.mark.parametrize(
    "then",
    [
        "sys.ps1 = '>>> '  # as code.interact(), pdb's `interact` and IPython.embed() leave it",
        "sys.modules['ipykernel'] = sys  # imported, and no kernel runs",
    ],
)
def test_a_program_that_only_resembles_a_session_is_restarted(app, then):
    app.write("app.py", program("evreload.generation()", then=then))
    app.start("app.py")
    for n in range(2):
        app.line(f"ready {n}")
        restart(app, "app.py")
    app.line("ready 2")
    assert app.count("cannot restart") == 0


# What outlives an exec


def test_the_environment_survives_with_the_changes_of_the_program(app):
    app.write(
        "app.py", program("os.environ['N']", "os.environ['N'] = os.environ.get('N', '') + 'x'")
    )
    app.start("app.py")
    for n in range(1, 4):
        assert app.line("ready") == "ready " + n * "x"
        restart(app, "app.py")


def test_the_program_can_see_which_run_it_is(app):
    app.write("app.py", program("evreload.generation(), *evreload.changed_files()"))
    app.start("app.py")
    assert app.line("ready") == "ready 0"
    for n in range(1, 4):
        restart(app, "app.py")
        assert app.line("ready") == f"ready {n} {app.path('app.py')}"


@MODES
def test_a_deleted_file_is_not_among_the_changed_files(app, mode):
    app.write("gone.py")
    start = "try:\n    import gone\nexcept ImportError:\n    pass"
    app.write("app.py", program("*map(os.path.basename, evreload.changed_files())", start))
    app.start(*mode, "app.py")
    app.await_watching()
    os.unlink(app.path("gone.py"))
    save(app, "app.py")
    assert app.line("ready app.py") == "ready app.py"


def test_buffered_output_is_written(app):
    start = """
import logging.handlers
buffered = logging.handlers.MemoryHandler(1000, logging.CRITICAL, logging.StreamHandler())
logging.getLogger("app").addHandler(buffered)
"""
    then = "logging.getLogger('app').warning('logged'); print('printed')"
    app.write("app.py", program(start=start, then=then).replace("sys.stdout", "sys.stderr"))
    app.start("app.py")
    app.await_watching()
    save(app, "app.py")
    app.line("restarting")
    app.line("ready")
    assert {"logged", "printed"} <= set(app.seen)


def test_timers_and_signals_are_reset(app):
    what = """
signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.getsignal(signal.SIGUSR1),
signal.getsignal(signal.SIGPIPE), signal.getitimer(signal.ITIMER_REAL),
signal.getitimer(signal.ITIMER_PROF)"""
    then = """
    signal.setitimer(signal.ITIMER_REAL, 60)
    signal.setitimer(signal.ITIMER_PROF, 60)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR2, signal.SIGTERM))
"""
    app.write("app.py", program(what, then=then))
    app.start("app.py")
    first = app.line("ready")
    for _ in range(2):
        restart(app, "app.py")
        assert app.line("ready") == first


def test_the_umask_and_the_niceness_are_reset(app):
    what = """
oct(os.umask(0o027)), os.getpriority(os.PRIO_PROCESS, 0)"""
    app.write("app.py", program(what, then="os.nice(3 if os.getuid() == 0 else 0)"))
    app.start("app.py")
    first = app.line("ready")
    for _ in range(2):
        restart(app, "app.py")
        assert app.line("ready") == first


@MODES
def test_a_debugger_may_replace_the_functions_that_start_programs(app, mode):
    """Those of pydevd end the process if its debugger is not there any more."""
    start = """
def replaced(*arguments):
    print("replaced", flush=True)
    os._exit(1)

for name in ("execl", "execle", "execv", "execve", "execvp", "execvpe", "posix_spawn", "fork"):
    setattr(os, name, replaced)
"""
    then = """
    loop = asyncio.get_running_loop()
    if evreload.generation() == 2:
        loop.call_soon(evreload.reload)
"""
    app.write("app.py", program("evreload.generation()", start, then))
    app.start(*mode, "app.py")
    for generation in range(2):
        app.line(f"ready {generation}")
        if not (mode and generation):
            app.await_watching()
        save(app, "app.py")
    app.line("ready 3")
    assert app.count("replaced") == 0


HELPERS = """
import subprocess
if evreload.generation() == 0:
    # One ends when this run does, one a moment later, and one goes on.
    subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    code = "import sys, time; sys.stdin.read(); time.sleep(1); print('late', flush=True)"
    subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    subprocess.Popen(["sleep", "600"])
"""


def states_of_children(pid):
    """Return the state of each child, as ps shows it."""
    command = ["ps", "-o", "stat=", "--ppid", str(pid)]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [state[0] for state in table.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="on Linux only")
def test_no_zombies_of_earlier_runs_are_left(app):
    app.write("app.py", program(start=HELPERS))
    app.start("app.py")
    app.line("ready")
    restart(app, "app.py")
    app.line("ready")
    app.line("late")
    until(lambda: states_of_children(app.pid) == ["S"], "only the last helper is left", app)
    app.await_lines("evreload: watching", 2)
    save(app, "app.py")
    app.line("ready")
    assert states_of_children(app.pid) == ["S"]


@pytest.mark.skipif(sys.platform != "linux", reason="on Linux only")
def test_no_zombies_are_left_by_a_reload_under_the_command(app):
    start = HELPERS.replace("time.sleep(1)", "time.sleep(0.01)")
    then = """
    if evreload.generation() == 0:
        asyncio.get_running_loop().call_soon(evreload.reload)
    else:
        asyncio.get_running_loop().call_later(0.5, __import__, "helper")
"""
    app.write("helper.py", "print('helper', flush=True)")
    app.write("app.py", program("os.getpid()", start, then))
    app.start(*COMMAND, "app.py")
    pid = app.line("ready").split()[1]
    app.line("late")
    app.line("helper")
    until(lambda: states_of_children(pid) == ["S"], "only the last helper is left", app)


@pytest.mark.skipif(sys.platform != "linux", reason="on Linux only")
def test_the_status_of_a_child_of_this_run_is_left_to_the_program(app):
    start = (
        HELPERS
        + """
child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
"""
    )
    then = """
    await asyncio.sleep(0.5)
    print("status", child.wait(), flush=True)
"""
    app.write("app.py", program(start=start, then=then))
    app.start("app.py")
    for run in (1, 2):
        app.await_lines("status 3", run)
        app.await_lines("evreload: watching", run)
        if run == 1:
            save(app, "app.py")


@pytest.mark.parametrize("then", ["", "signal.signal(signal.SIGHUP, lambda *_: None)"])
def test_a_signal_ignored_at_first_stays_ignored(app, then):
    app.write("app.py", program("int(signal.getsignal(signal.SIGHUP))", then=then))
    app.start_command(["nohup", sys.executable, "app.py"])
    first = app.line("ready")
    assert first == f"ready {int(signal.SIG_IGN)}"
    restart(app, "app.py")
    assert app.line("ready") == first


def test_ctrl_c_works_after_five_restarts(app):
    app.write("app.py", program())
    app.start("app.py")
    for _ in range(5):
        restart(app, "app.py")
    app.await_watching()
    app.signal(signal.SIGINT)
    assert app.wait() == -signal.SIGINT
    assert "KeyboardInterrupt" in app.output
    assert "evreload/_program" not in app.output


def test_the_terminal_echoes_again(app):
    then = "import tty; tty.setcbreak(0)"
    start = "import termios; echo = bool(termios.tcgetattr(0)[3] & termios.ECHO)"
    app.write("app.py", program("echo", start, then))
    terminal = pexpect.spawn(
        sys.executable, ["app.py"], cwd=app.path(""), env=app.environment, timeout=DEADLINE
    )
    for _ in range(3):
        terminal.expect_exact("ready True")
        terminal.expect_exact("watching")
        save(app, "app.py")
    terminal.close(force=True)


def test_open_files_do_not_pile_up(app):
    app.write("app.py", program("count", "count = len(os.listdir('/proc/self/fd'))"))
    app.start("app.py")
    first = app.line("ready")
    for _ in range(3):
        restart(app, "app.py")
        assert app.line("ready") == first


# Forks

AWAITS_WATCHING = """
class Watching(logging.Handler):
    def __init__(self):
        super().__init__()
        self.event = asyncio.Event()
    def emit(self, record):
        if "watching" in record.getMessage():
            asyncio.get_running_loop().call_soon(self.event.set)

watching = Watching()
logging.getLogger("evreload").addHandler(watching)
"""


def test_a_daemon_reloads_once_its_parents_have_ended(app):
    start = """
def detach():
    if os.fork():
        os._exit(0)

evreload.start()
detach()
os.setsid()
detach()
"""
    then = "asyncio.get_running_loop().call_later(60, os._exit, 1)  # nothing else would end it"
    what = "os.getpid(), os.getsid(0), evreload.generation()"
    app.write("app.py", program(what, start, then))
    app.start("-W", "error", "app.py")
    pids = []
    try:
        for generation in range(4):
            pid, session, number = map(int, app.line("ready").split()[1:])
            pids.append(pid)
            assert number == generation
            assert session not in (pid, app.pid)
            app.await_watching()
            save(app, "app.py")
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert app.count("Warning") == 0
    assert app.count("(None)") == 0
    assert len(set(pids)) == 4


def test_a_forked_child_that_does_not_run_the_loop_does_not_restart(app):
    then = """
    await watching.event.wait()
    if os.fork() == 0:
        import time
        time.sleep(3600)
    print("forked", flush=True)
"""
    app.write("app.py", program("os.getpid()", AWAITS_WATCHING, then))
    app.start("-W", "error", "app.py")
    for _ in range(3):
        assert app.line("ready") == f"ready {app.pid}"
        app.line("forked")
        save(app, "app.py")
    app.line("ready")
    assert app.count("ready") == 4
    assert app.count("restarting server") == 3
    assert app.count("Warning") == 0


def test_forks_on_other_threads_wait_until_the_loop_has_released_the_lock(app):
    write_modules(app, 200)
    start = """
import concurrent.futures.thread, importlib, threading  # it registers its own fork handlers

def fork():
    for _ in range(20):
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.waitpid(pid, 0)
"""
    then = """
    threads = [threading.Thread(target=fork) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(200):
        importlib.import_module(f"package{number // 20}.module{number}")
        await asyncio.sleep(0)
    for thread in threads:
        await asyncio.to_thread(thread.join)
    print("loaded", flush=True)
"""
    app.write("app.py", program("evreload.generation()", start, then))
    app.start("app.py")
    for n in range(3):
        app.line(f"ready {n}")
        app.line("loaded")
        app.await_lines("evreload: watching", n + 1)
        await_tick()
        save(app, "package9/module199.py")
    app.line("ready 3")
    for sign in ("polling", "Traceback", "Exception"):
        assert app.count(sign) == 0, app.output


@pytest.mark.parametrize("pool", ["Pool(2)", "Pool(2, None, (), 1)", "ProcessPoolExecutor(2)"])
def test_the_workers_of_a_pool_end_with_the_program(app, pool):
    start = """
import concurrent.futures, functools, multiprocessing, warnings

def children():
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return "none"

context = multiprocessing.get_context("fork")
Pool = context.Pool
ProcessPoolExecutor = functools.partial(concurrent.futures.ProcessPoolExecutor, mp_context=context)
"""
    then = f"""
    await watching.event.wait()
    pool = {pool}
    print("made", list(pool.map(abs, [-1, -2])), flush=True)
"""
    app.write("app.py", program("children()", AWAITS_WATCHING + start, then))
    app.start("-W", "error", "app.py")
    for _ in range(3):
        assert app.line("ready") == "ready none"
        app.line("made [1, 2]")
        save(app, "app.py")
    app.line("ready none")
    assert app.count("Warning") == 0


MULTIPROCESSING = """
import asyncio, logging, multiprocessing, sys, threading
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
import evreload

async def serve():
    evreload.start()
    evreload.reload()
    names = {{thread.name for thread in threading.enumerate() if "evreload" in thread.name}}
    return sorted(names - {{"evreload-loop-search"}})  # it waits for the end of the parent

def work(number):
    return asyncio.run(serve())

if __name__ == "__main__":
    {start}
    with multiprocessing.get_context("{method}").Pool(1) as pool:
        print("threads", pool.map(work, [1, 2]), flush=True)
"""
METHODS = pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])


@METHODS
@pytest.mark.parametrize("start", ["", "evreload.start()"])
def test_a_child_of_multiprocessing_logs_once_why_it_cannot_restart_and_runs_on(app, method, start):
    app.write("app.py", MULTIPROCESSING.format(method=method, start=start))
    app.start("app.py")
    assert app.line("threads") == "threads [[], []]"
    assert app.wait() == 0
    reason = "evreload cannot restart this process: it is a child of multiprocessing"
    assert app.count(reason) == 3  # for start, and for reload each time


@METHODS
def test_an_unguarded_start_does_not_warn_in_each_child_of_multiprocessing(app, method):
    start = f"""
import multiprocessing
context = multiprocessing.get_context("{method}")
{{awaits_watching}}
evreload.start()
"""
    then = """
    await watching.event.wait()
    pool = context.Pool(2)
    print("made", pool.map(abs, [-1, -2]), flush=True)
"""
    text = program("evreload.generation()", start.format(awaits_watching=AWAITS_WATCHING), then)
    app.write("app.py", text.replace("asyncio.run", 'if __name__ == "__main__": asyncio.run'))
    app.start("app.py")
    for n in range(2):
        app.line(f"ready {n}")
        app.line("made [1, 2]")
        save(app, "app.py")
    app.line("ready 2")
    assert app.count("cannot restart") == 0


# Failure


def test_a_failed_restart_leaves_all_as_it_was(tmp_path):
    code = f"""if True:
        import os, signal
        from evreload._common import startup
        from evreload._program.restart import restart
        os.chdir({str(tmp_path)!r})
        try:
            restart({{"X": "x" * 10**7}})  # more than an environment may hold
        except OSError as error:
            print(error.errno, os.getcwd(), "X" in os.environ)
        startup.EXECUTABLE = "/nowhere"
        try:
            restart({{}})
        except OSError as error:
            print(error)
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [
        f"7 {tmp_path} False",
        "the interpreter /nowhere is not there any more",
    ]


def test_a_program_runs_on_while_its_interpreter_is_missing(app):
    python = app.path("python")
    os.symlink(os.path.realpath(sys.executable), python)
    app.write("app.py", program("os.getcwd(), evreload.generation()", "os.chdir('/')"))
    app.start_command(
        [python, app.path("app.py")], PYTHONPATH=os.pathsep.join(where_imports_come_from())
    )
    app.line("ready / 0")
    app.await_watching()
    os.rename(python, python + ".moved")
    save(app, "app.py")
    assert "still running the previous version" in app.line("cannot restart")
    os.rename(python + ".moved", python)
    save(app, "app.py")
    app.line("ready / 1")


READS = """
import asyncio, logging, os, sys
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
import evreload
import helper

async def main():
    evreload.start()
    print("run", helper.VALUE, "read", sys.stdin.read().split(), flush=True)
    while not (helper.VALUE == 2 and os.path.exists("again")):
        await asyncio.sleep(0.01)
    os.unlink("again")
    evreload.reload()

asyncio.run(main())
"""


@MODES
def test_standard_input_from_a_file_is_read_again_from_where_the_first_run_began(app, mode):
    app.write("input.txt", "skipped\nfirst\nsecond\n")
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", READS)
    shell = ["sh", "-c", '{ read skipped; exec "$@"; } < input.txt', "sh"]
    app.start_command([*shell, sys.executable, *mode, "app.py"])
    for value in range(3):
        assert app.line("run") == f"run {value} read ['first', 'second']"
        if value < 2:
            app.await_watching() if not mode or value == 0 else await_tick()
            app.write("helper.py", f"VALUE = {value + 1}")
    app.write("again")
    assert app.line("run") == "run 2 read ['first', 'second']"


def test_standard_input_may_be_closed(app):
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", "import helper; print('run', helper.VALUE, flush=True)")
    app.start_command(["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, *COMMAND, "app.py"])
    app.line("run 0")
    app.await_watching()
    app.write("helper.py", "VALUE = 1")
    app.line("run 1")
