"""The program executes another program in its own place, as launchers do."""

from __future__ import annotations

import sys

import pytest

from support.files import await_tick
from support.programs import MODES
from support.servers import Clients, page_at

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the command runs in one process")

# Prints what evreload has left in the environment, then serves.
APP = """
import os, socket, sys
import evreload
import helper
traces = [name for name in os.environ if name == "EVRELOAD_EXECUTED"]
traces += [path for path in [*sys.path, os.environ.get("PYTHONPATH", "")] if "executed" in path]
print("ready", helper.VALUE, os.environ["MARK"], sys.argv[1:], traces, flush=True)
evreload.add_reload_hook(lambda: print("hook", helper.VALUE, flush=True))
with socket.create_server(("127.0.0.1", int(os.environ["PORT"]))) as listener:
    while True:
        with listener.accept()[0] as client:
            client.recv(4096)
            client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 1\\r\\n\\r\\n1")
"""
# Each line sets MARK in its own way.
EXECV = "os.environ['MARK'] = '1'; os.execv(sys.executable, [sys.executable, 'app.py', 'x'])"
EXECL = "os.environ['MARK'] = '1'; os.execl(sys.executable, 'python', '-m', 'app', 'x')"
EXECVE = """
env = {**os.environ, 'MARK': '1', 'PYTHONPATH': 'lib'}
os.execve(sys.executable, [sys.executable, 'app.py', 'x'], env)
"""
BYTES = """
env = {b'MARK': b'1', b'PYTHONPATH': b'lib', b'PORT': os.environb[b'PORT']}
os.execve(os.fsencode(sys.executable), [b'python', b'app.py', b'x'], env)
"""
SEARCH = """
path = f'/nowhere:{os.path.dirname(sys.executable)}'
name = os.path.basename(sys.executable)
os.execvpe(name, [name, 'app.py', 'x'], {**os.environ, 'MARK': '1', 'PATH': path})
"""
SHELL = "os.execlp('sh', 'sh', '-c', 'MARK=1 exec \"$0\" app.py x', sys.executable)"
TWICE = """
if 'MARK' not in os.environ:
    os.execlp('env', 'env', 'MARK=1', sys.executable, __file__)
os.execl(sys.executable, 'python', 'app.py', 'x')
"""
WARNING = "which evreload cannot follow: name the files to watch with --watch"


def write(app, launcher):
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", APP)
    app.write("run.py", f"import os, sys\n{launcher}")


@pytest.mark.parametrize(
    "launcher",
    [EXECV, EXECL, EXECVE, BYTES, SEARCH, SHELL, TWICE],
    ids=["execv", "execl", "execve", "bytes", "search", "shell", "twice"],
)
def test_python_that_the_program_executes_is_followed(app, port, launcher):
    write(app, launcher)
    app.start("-m", "evreload", "run.py", PORT=str(port))
    assert app.line("ready") == "ready 1 1 ['x'] []"
    app.await_watching()
    page_at(f"http://127.0.0.1:{port}")
    with Clients(port) as clients:
        for value in (22, 333):
            app.write("helper.py", f"VALUE = {value}")
            app.line("helper.py modified; restarting server")
            app.line("hook")
            assert app.line("ready") == f"ready {value} 1 ['x'] []"
            app.line("serving again")
            await_tick()
    assert "ConnectionRefusedError" not in clients.outcomes
    assert app.count(WARNING) == 0


def test_an_edit_of_the_launcher_or_of_sitecustomize_restarts(app, port):
    """The program has a `sitecustomize` of its own, which is imported as always."""
    write(app, EXECV)
    app.write("site/sitecustomize.py", "print('customized 1', flush=True)")
    app.start("-m", "evreload", "run.py", PORT=str(port), PYTHONPATH=app.path("site"))
    app.line("ready 1")
    app.await_watching()
    assert app.count("customized 1") >= 2  # the launcher imports it, too
    app.write("site/sitecustomize.py", "print('customized 22', flush=True)")
    app.line("sitecustomize.py modified; restarting server")
    app.line("customized 22")
    app.line("ready 1")
    app.line("serving again")
    await_tick()
    app.write("run.py", f"import os, sys\n{EXECV}  # changed")
    app.line("run.py modified; restarting server")
    app.line("ready 1")


def test_a_mistake_in_what_is_executed_is_mended(app, port):
    write(app, EXECV)
    app.write("app.py", "import helper\nprint('ready', helper.NAME)")
    app.start("-m", "evreload", "run.py", PORT=str(port))
    app.line("AttributeError")
    app.line("waiting for a change")
    app.write("helper.py", "NAME = 'mended'")
    app.line("ready mended")


FAILING = """
import os, subprocess, sys, time
import helper
for arguments in (["/nowhere"], [os.devnull], [sys.executable, 1]):
    try:
        os.execv(arguments[0], arguments)
    except (OSError, TypeError) as error:
        print(type(error).__name__, flush=True)
names = ("EVRELOAD_EXECUTED", "PYTHONPATH")
print("left", [name for name in names if name in os.environ], flush=True)
subprocess.run(["sh", "-c", "echo left $EVRELOAD_EXECUTED $PYTHONPATH"])
print("ready", helper.VALUE, flush=True)
time.sleep(1000)
"""


def test_a_program_that_could_not_execute_another_goes_on(app):
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", FAILING)
    app.start("-m", "evreload", "app.py")
    errors = [app.line("Error") for _ in range(3)]
    assert errors == ["FileNotFoundError", "PermissionError", "TypeError"]
    assert app.line("left") == "left []"
    assert app.line("left").rstrip() == "left"
    app.line("ready 1")
    app.await_watching()
    app.write("helper.py", "VALUE = 2")
    app.line("ready 2")
    assert app.count(WARNING) == 0


@pytest.mark.parametrize(
    "command",
    [
        "os.execlp('sleep', 'sleep', '1000')",
        "os.execl(sys.executable, 'python', '-I', '-c', 'import time; time.sleep(1000)')",
        "import posix; posix.execv('/bin/sh', ['sh', '-c', 'sleep 1000'])",
    ],
    ids=["program", "isolated", "posix"],
)
@pytest.mark.parametrize("watch", [[], ["-w", "lib"]], ids=["", "watch"])
def test_a_program_that_cannot_be_followed_is_reported(app, command, watch):
    app.write("lib/data", "1")
    app.write("app.py", f"import os, sys; print('ready', flush=True); {command}")
    app.start("-m", "evreload", *watch, "app.py")
    app.line("ready")
    app.await_watching()
    app.write("app.py", f"import os, sys; print('ready', flush=True); {command}  # changed")
    app.line("app.py modified; restarting server")
    app.line("ready")
    app.signal(15)
    app.wait()
    assert app.count(WARNING) == (not watch)


def test_a_child_of_the_program_that_executes_python_is_not_the_program(app):
    """Nor is one that has inherited the environment of what the program executes."""
    child = "import sys; print('child', 'evreload' in sys.modules, flush=True)"
    forking = f"""
    import os, sys, time
    import helper
    if os.fork() == 0:
        os.execl(sys.executable, "python", "-c", {child!r})
    os.wait()
    print("ready", helper.VALUE, flush=True)
    time.sleep(1000)
    """
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", forking)
    shell = f'"$0" -c "{child}"; exec "$0" app.py'
    app.write("run.py", f"import os, sys; os.execlp('sh', 'sh', '-c', {shell!r}, sys.executable)")
    app.start("-m", "evreload", "run.py")
    assert app.line("child") == "child False"
    assert app.line("child") == "child False"
    app.line("ready 1")
    app.await_watching()
    app.write("helper.py", "VALUE = 2")
    app.line("ready 2")
    assert app.count(WARNING) == 0


ITSELF = """
import asyncio, logging, os, sys
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
import evreload
import helper
if os.environ.get("MARK") != "1":
    os.environ["MARK"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.argv])

async def main():
    evreload.start()
    print("ready", helper.VALUE, os.getpid(), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@MODES
def test_a_program_that_executes_itself_in_another_environment(app, mode):
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", ITSELF)
    app.start(*mode, "app.py")
    app.line("ready 1")
    app.await_watching()
    for value in (2, 3):
        app.write("helper.py", f"VALUE = {value}")
        app.line("restarting server")
        ready = app.line(f"ready {value}")
        if not mode:
            assert ready.split()[-1] == str(app.pid)
            app.await_watching()
        await_tick()
