"""Programs for Tornado run unchanged: its names, its own tests, its workers."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from support.files import await_tick
from support.processes import assert_gone, is_alive
from support.servers import free_port

posix = pytest.mark.skipif(sys.platform == "win32", reason="no fork there")

# Tornado's own tests


def tornados_tests() -> str:
    spec = importlib.util.find_spec("tornado.test.autoreload_test")
    assert spec
    assert spec.origin
    text = Path(spec.origin).read_text(encoding="utf-8")
    return text.replace("range(40)", "range(300)")  # four seconds are too few on a busy machine


def with_our_names(text: str) -> str:
    return text.replace("tornado.autoreload", "evreload").replace("_reload()", "reload()")


def with_our_command(text: str) -> str:
    return re.sub(r'"-m",\s*"tornado\.autoreload"', '"-m", "evreload"', text)


@pytest.mark.parametrize("changed", [with_our_names, with_our_command])
def test_tornados_own_tests_pass(app, changed):
    text = changed(tornados_tests())
    assert text.count('"-m", "evreload"') >= 3 or text.count('"evreload"') >= 3
    app.write("ported_test.py", text)
    app.start("-m", "unittest", "-v", "ported_test")
    status = app.wait(timeout=100)
    assert status == 0, app.output
    app.output.index("OK")
    count = re.search(r"Ran (\d+) tests", app.output)
    assert count
    assert int(count[1]) >= 4


# Its names

IMPORTS = {
    "import": "import tornado.autoreload\nwatch = tornado.autoreload.watch\n"
    "hook = tornado.autoreload.add_reload_hook",
    "from-package": "from tornado import autoreload\n"
    "watch = autoreload.watch\nhook = autoreload.add_reload_hook",
    "from-module": "from tornado.autoreload import watch, add_reload_hook as hook",
    "as": "import tornado.autoreload as ta\nwatch = ta.watch\nhook = ta.add_reload_hook",
}

# Prints "ready VALUE" when it serves; fails if a timer of Tornado's reloader runs.
NAMES = """
import asyncio, gc, logging, sys
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
{early}
import helper
from tornado.ioloop import PeriodicCallback
from tornado.web import Application

async def main():
    {late}
    watch("data.txt")
    hook(lambda: print("hook", helper.VALUE, flush=True))
    Application(debug=True).listen(0, "127.0.0.1")
    await asyncio.sleep(0)
    assert not [one for one in gc.get_objects() if type(one) is PeriodicCallback]
    print("ready", helper.VALUE, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def names(moment: str, style: str, *, install: bool) -> str:
    lines = IMPORTS[style]
    early = "import evreload; evreload.install()\n" if install else ""
    if moment == "early":
        return NAMES.replace("{early}", early + lines).replace("{late}", "")
    return NAMES.replace("{early}", early).replace("{late}", lines.replace("\n", "\n    "))


@pytest.mark.parametrize("style", IMPORTS)
@pytest.mark.parametrize("moment", ["early", "late"])
@pytest.mark.parametrize("how", ["command", "install"])
def test_a_program_for_tornado_reloads_unchanged(app, how, moment, style):
    app.write("helper.py", "VALUE = 1")
    app.write("data.txt", "1")
    app.write("app.py", names(moment, style, install=how == "install"))
    app.start(*(["-m", "evreload"] if how == "command" else []), "app.py")
    app.line("ready 1")
    app.await_watching(by_now=True)
    app.write("data.txt", "2")
    app.line("data.txt modified; restarting server")
    app.line("hook 1")
    app.line("ready 1")
    app.write("helper.py", "VALUE = 2")
    app.line("helper.py modified; restarting server")
    app.line("hook 1")
    app.line("ready 2")


def test_install_changes_the_module_that_was_imported_before(app):
    app.write(
        "app.py",
        """
        import tornado.autoreload, tornado.web, evreload
        from tornado import autoreload
        evreload.install()
        evreload.install()
        for name in ("start", "wait", "watch", "add_reload_hook"):
            assert getattr(autoreload, name) is getattr(evreload, name), name
        assert autoreload._reload is evreload.reload
        """,
    )
    app.start("app.py")
    assert app.wait() == 0, app.output


# The reloader of Tornado runs already when evreload replaces it.
LATE = """
import asyncio, gc, logging, sys
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
import tornado.autoreload, tornado.ioloop, tornado.web
import evreload, helper

async def main():
    tornado.autoreload.watch("data.txt")
    tornado.autoreload.add_reload_hook(lambda: print("hook", helper.VALUE, flush=True))
    tornado.web.Application(debug=True).listen(0, "127.0.0.1")
    await asyncio.sleep(0)
    {late}
    await asyncio.sleep(0)
    timers = [one for one in gc.get_objects() if type(one) is tornado.ioloop.PeriodicCallback]
    assert not any(timer.is_running() for timer in timers)
    print("ready", helper.VALUE, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("late", ["evreload.start()", "evreload.install()"])
def test_a_running_reloader_of_tornado_is_replaced(app, late):
    app.write("helper.py", "VALUE = 1")
    app.write("data.txt", "1")
    app.write("app.py", LATE.format(late=late))
    app.start("app.py")
    app.line("ready 1")
    app.await_watching(by_now=True)
    app.write("helper.py", "VALUE = (")
    app.line("SyntaxError: '(' was never closed; still running the previous version")
    app.write("helper.py", "VALUE = 2")
    app.line("hook 1")
    app.line("ready 2")
    app.await_lines("evreload: watching ", times=2)
    await_tick()
    app.write("data.txt", "2")
    app.line("data.txt modified; restarting server")
    app.line("hook 2")
    app.line("ready 2")
    assert app.count("hook") == 2


def test_debug_mode_after_start_starts_no_second_reloader(app):
    app.write("helper.py", "VALUE = 1")
    app.write(
        "app.py",
        LATE.replace("{late}", "").replace(
            "async def main():", "async def main():\n    evreload.start()"
        ),
    )
    app.start("app.py")
    app.line("ready 1")


@pytest.mark.parametrize("how", ["command", "install"])
def test_tornados_reload_and_wait(app, how):
    app.write(
        "app.py",
        """
        import os
        if "COMMAND" not in os.environ:
            import evreload
            evreload.install()
        import logging, sys
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
        import tornado.autoreload
        import helper
        print("ran", helper.VALUE, os.environ.get("TWICE"), flush=True)
        if "TWICE" not in os.environ:
            os.environ["TWICE"] = "yes"
            tornado.autoreload._reload()
        tornado.autoreload.wait()
        """,
    )
    app.write("helper.py", "VALUE = 1")
    if how == "command":
        app.start("-m", "evreload", "app.py", COMMAND="1")
    else:
        app.start("app.py")
    app.line("ran 1 None")
    app.line("ran 1 yes")
    app.await_watching()
    app.write("helper.py", "VALUE = 2")
    app.line("ran 2")


def test_start_imports_nothing_of_tornado_under_the_command(app):
    app.write(
        "app.py",
        """
        import sys, evreload
        evreload.start()
        assert "tornado" not in sys.modules
        print("fine", flush=True)
        """,
    )
    app.start("-m", "evreload", "--until-success", "app.py")
    app.line("fine")


def test_the_stand_in_looks_like_a_module(app):
    """Under the command evreload does not import Tornado. A program that does finds it complete."""
    app.write(
        "app.py",
        """
        import importlib, importlib.util, pkgutil, sys
        assert "tornado" not in sys.modules
        import tornado
        assert tornado.autoreload is sys.modules["tornado.autoreload"]
        assert importlib.import_module("tornado.autoreload") is tornado.autoreload
        assert importlib.util.find_spec("tornado.autoreload")
        assert tornado.autoreload.__name__ == "tornado.autoreload"
        print("fine", flush=True)
        """,
    )
    app.start("-m", "evreload", "--until-success", "app.py")
    app.line("fine")


# Its workers

WORKERS = 4

FORK = """
import asyncio, os, signal, sys
import evreload, helper
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.process import fork_processes, task_id
from tornado.web import Application

port = int(sys.argv[1])
{before}
{body}
"""

# One write for each line, or the lines of several processes would be mixed.
PRINT_PIDS = 'os.write(1, b"pid %d %d %d\\n" % (os.getpid(), os.getppid(), helper.VALUE))'

BODIES = {
    "fork_processes": f"""
sockets = bind_sockets(port, "127.0.0.1")
fork_processes({WORKERS})

async def main():
    HTTPServer(Application()).add_sockets(sockets)
    {PRINT_PIDS}
    await asyncio.Event().wait()

asyncio.run(main())
""",
    "start": f"""
server = HTTPServer(Application(debug=DEBUG))
server.bind(port, "127.0.0.1")
server.start({WORKERS})
{PRINT_PIDS}
IOLoop.current().start()
""",
    "reuse_port": f"""
fork_processes({WORKERS})

async def main():
    sockets = bind_sockets(port, "127.0.0.1", reuse_port=True)
    HTTPServer(Application()).add_sockets(sockets)
    {PRINT_PIDS}
    await asyncio.Event().wait()

asyncio.run(main())
""",
}


def start_workers(app, body, *command, before="", debug=False):
    app.write("helper.py", "VALUE = 1")
    text = FORK.replace("{before}", before).replace("{body}", BODIES[body])
    app.write("app.py", text.replace("DEBUG", str(debug)))
    app.start(*command, "app.py", str(free_port()))


def workers(app, value: int) -> set[int]:
    """Return the process IDs of as many workers as there should be, and of their parent."""
    found = [app.line("pid ").split() for _ in range(WORKERS)]
    assert {one[3] for one in found} == {str(value)}, app.output
    pids = {int(pid) for one in found for pid in one[1:3]}
    assert len(pids) == WORKERS + 1
    return pids


def save_and_see_all_replaced(app) -> None:
    old = workers(app, 1)
    app.await_watching(by_now=True)
    for value in (2, 3):
        app.write("helper.py", f"VALUE = {value}")
        new = workers(app, value)
        assert not old & new
        assert_gone(old)
        old = new
    assert app.count("modified; restarting server") == 2
    assert app.count("cannot restart") == 0


@posix
@pytest.mark.parametrize("body", BODIES)
def test_the_command_replaces_every_worker(app, body):
    start_workers(app, body, "-m", "evreload")
    save_and_see_all_replaced(app)


@posix
@pytest.mark.parametrize("body", BODIES)
def test_start_before_the_fork_replaces_every_worker(app, body):
    start_workers(app, body, before="evreload.start(debounce=15)")
    save_and_see_all_replaced(app)
    first = app.pid
    app.signal(15)
    app.wait()
    assert not is_alive(first)


@posix
def test_tornados_debug_mode_before_the_fork_replaces_every_worker(app):
    start_workers(app, "start", before="evreload.install()", debug=True)
    save_and_see_all_replaced(app)


@posix
def test_a_program_ends_after_its_workers(app):
    app.write(
        "app.py",
        """
        import os
        import evreload
        from tornado.process import fork_processes
        evreload.start()
        os.write(1, b"worker %d\\n" % fork_processes(2))
        """,
    )
    app.start("app.py")
    assert app.wait() == 0, app.output
    assert app.count("worker 0") == app.count("worker 1") == 1


@posix
def test_start_in_workers_only_logs_one_warning(app):
    app.write(
        "app.py",
        """
        import asyncio, os
        import evreload
        from tornado.process import fork_processes
        fork_processes(3)

        async def main():
            evreload.start()
            evreload.start()
            os.write(1, b"worker runs on\\n")
            evreload.reload()
            os.write(1, b"as before\\n")

        asyncio.run(main())
        """,
    )
    app.start("app.py")
    assert app.wait() == 0, app.output
    assert app.count("worker runs on") == app.count("as before") == 3, app.output
    warnings = [line for line in app.seen if "evreload" in line]
    assert all("python -m evreload" in line for line in warnings)
    assert len(warnings) == 1 + 3, app.output  # none of the three restarted


@posix
def test_a_program_without_a_file_that_forks_gets_advice(app):
    app.write(
        "code.txt",
        """
        import os
        import evreload
        from tornado.process import fork_processes
        evreload.start()
        os.write(1, b"worker %d\\n" % fork_processes(2))
        """,
    )
    app.start("-c", (app.directory / "code.txt").read_text())
    assert app.wait() == 0, app.output
    assert app.count("evreload cannot restart this process") == 1
    assert app.count("python -m evreload") == 1
    assert app.count("worker") >= 2


@posix
def test_reload_in_a_worker_replaces_them_all(app):
    body = BODIES["fork_processes"].replace(
        "    await asyncio",
        "    if evreload.generation() == 0 and task_id() == 1:\n"
        "        evreload.reload()\n"
        "    await asyncio",
    )
    text = FORK.replace("{before}", "").replace("{body}", body)
    app.write("app.py", text.replace("helper.VALUE", "evreload.generation()"))
    app.write("helper.py")
    app.start("-m", "evreload", "app.py", str(free_port()))
    pids: dict[str, set[int]] = {"0": set(), "1": set()}
    while len(pids["1"]) < WORKERS:  # the last old worker may print its line late
        _, pid, _, generation = app.line("pid ").split()
        pids[generation].add(int(pid))
    assert pids["0"]
    assert not pids["0"] & pids["1"]
    assert_gone(pids["0"])
    assert app.count("restarting server") == 1


def replace_both_workers(app):
    for _ in range(2):
        app.line("worker 1")
    app.await_watching(by_now=True)
    app.write("helper.py", "VALUE = 2")
    for _ in range(2):
        app.line("worker 2")


@posix
def test_workers_have_time_to_end_gracefully(app):
    """The parent of the workers ends by SIGTERM at once; its workers may need longer."""
    body = """
fork_processes(2)

async def main():
    bind_sockets(port, "127.0.0.1", reuse_port=True)
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, done.set)
    os.write(1, b"worker %d\\n" % helper.VALUE)
    await done.wait()
    await asyncio.sleep(0.2)
    os.write(1, b"saved %d\\n" % helper.VALUE)

asyncio.run(main())
"""
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", FORK.replace("{before}", "").replace("{body}", body))
    app.start("-m", "evreload", "--stop-timeout", "20", "app.py", str(free_port()))
    replace_both_workers(app)
    assert app.count("saved 1") == 2, app.output


@posix
def test_only_the_parent_of_workers_runs_hooks(app):
    before = """
async def slow():
    os.write(1, b"slow\\n")
    await asyncio.sleep(0.1)
    os.write(1, b"done\\n")

import evreload
evreload.add_reload_hook(slow)
evreload.add_reload_hook(lambda: os.write(1, b"plain\\n"))
"""
    body = """
fork_processes(2)

async def main():
    HTTPServer(lambda request: None).add_sockets(bind_sockets(port, "127.0.0.1", reuse_port=True))
    os.write(1, b"worker %d\\n" % helper.VALUE)
    await asyncio.Event().wait()

asyncio.run(main())
"""
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", FORK.replace("{before}", before).replace("{body}", body))
    app.start("-m", "evreload", "app.py", str(free_port()))
    replace_both_workers(app)
    assert [app.count(word) for word in ("slow", "done", "plain")] == [1, 1, 1], app.output
