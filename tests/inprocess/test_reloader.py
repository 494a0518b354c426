"""In-process mode: a process that watches its own files, and restarts in place."""

from __future__ import annotations

import pytest

from evreload._common import startup
from evreload._common.own_writes import OwnWrites
from evreload._inprocess import workers
from evreload._inprocess.inherited_sockets import InheritedSockets
from evreload._inprocess.reloader import Reloader
from evreload._program.imports import Imports
from evreload._watch.watcher import FileWatcher


def test_a_save_restarts_the_program(loop_app):
    loop_app.write("helper.py", "VALUE = 2")
    assert loop_app.line("modified; restarting server") == (
        f"evreload: {loop_app.path('helper.py')} modified; restarting server"
    )
    loop_app.line("ready 2")


def test_a_save_in_place_restarts_the_program(loop_app):
    loop_app.write_in_place("helper.py", "VALUE = 2")
    loop_app.line("ready 2")


def test_code_that_does_not_compile_leaves_the_old_program_running(loop_app):
    loop_app.write("helper.py", "VALUE = (")
    line = loop_app.line("SyntaxError")
    assert line.startswith(f"evreload: {loop_app.path('helper.py')}:1: SyntaxError: ")
    assert line.endswith("; still running the previous version")
    loop_app.write("helper.py", "VALUE = 2")
    loop_app.line("ready 2")
    assert loop_app.count("restarting server") == 1


def test_after_code_that_fails_at_import_the_program_waits_for_a_change(loop_app):
    loop_app.write("helper.py", "VALUE = undefined")
    loop_app.line("NameError")
    loop_app.await_watching()
    loop_app.write("helper.py", "VALUE = 2")
    loop_app.line("ready 2")


def test_the_second_of_two_quick_saves_of_one_length_runs(loop_app):
    for value in range(2, 10):
        loop_app.write("helper.py", f"VALUE = {value}")
        loop_app.line(f"ready {value}")
        loop_app.line("watching")


def test_a_save_counts_although_the_loop_ends_before_it_is_delivered(app):
    app.write("helper.py", "VALUE = 1")
    app.write(
        "app.py",
        """
        import asyncio, logging, os, sys
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
        import evreload
        import helper
        print("ready", helper.VALUE, flush=True)

        async def tests():
            while not os.path.exists("go"):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)  # by now the event has been handled, most likely

        evreload.start(debounce=1000)
        asyncio.run(tests())
        evreload.wait()
        """,
    )
    app.start("app.py")
    app.line("ready 1")
    app.await_watching()
    app.write("helper.py", "VALUE = 2")
    app.write("go")
    app.line("ready 2")


def test_a_restart_that_fails_is_logged_at_once(app):
    app.write("helper.py", "VALUE = 1")
    app.write(
        "app.py",
        """
        import asyncio, logging, sys
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
        import evreload
        import helper
        from evreload._watch.syntax_check import SyntaxCheck

        async def fail(self, *_):
            raise RuntimeError("out of order")

        async def main():
            SyntaxCheck.wait_until_checked = fail
            evreload.start()
            await asyncio.Event().wait()

        asyncio.run(main())
        """,
    )
    app.start("app.py")
    app.await_watching()
    for value in (2, 3):
        app.write("helper.py", f"VALUE = {value}")
        app.line("cannot restart; still running the previous version")
        app.line("RuntimeError: out of order")


def test_a_path_that_is_watched_again_and_again_is_kept_once(app):
    program = """
    import evreload
    for n in range(1000):
        evreload.watch(f"file{n % 3}")
    print("watched", len(evreload._backend.current()._watched))
    """
    app.write("app.py", program)
    app.start("app.py")
    assert app.line("watched") == "watched 3"


def test_what_git_ignores_counts(app):
    """Only the command leaves it out."""
    app.write("helper.py", "VALUE = 1")
    app.write(".gitignore", "*.html\n")
    app.write("pages/index.html", "1")
    app.write(
        "app.py",
        """
        import asyncio, logging, sys
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
        import evreload

        async def main():
            evreload.start()
            await asyncio.Event().wait()

        evreload.watch("pages")
        asyncio.run(main())
        """,
    )
    app.start("app.py")
    app.await_watching()
    app.write("pages/index.html", "2")
    page = app.path("pages/index.html")
    assert app.line("restarting") == f"evreload: {page} modified; restarting server"


# Forks


class NoWatcher(FileWatcher):
    """A file watcher that watches nothing."""

    def __init__(self) -> None:
        self.is_stopped = False

    def stop(self) -> None:
        self.is_stopped = True


class NoImports(Imports):
    """Notes no file. The audit hook of the real class could not be removed again."""

    def __init__(self) -> None:
        self.own_writes = OwnWrites()

    def end(self) -> None:
        pass


@pytest.fixture
def reloader():
    reloader = Reloader(NoImports(), InheritedSockets)
    reloader._watcher = NoWatcher()
    return reloader


def test_a_program_without_a_file_that_forks_workers_is_not_watched(reloader, monkeypatch, caplog):
    monkeypatch.setattr(startup, "TARGET", ["-c"])
    monkeypatch.setattr(workers, "are_being_forked", lambda: True)
    watcher = reloader._watcher
    reloader.before_fork()
    assert watcher.is_stopped
    assert not reloader.is_started
    assert "it forks workers" in caplog.text


def test_a_process_that_has_become_a_worker_is_not_watched(reloader, monkeypatch, caplog):
    assert reloader.may_continue()
    monkeypatch.setattr(workers, "number", lambda: 0)
    watcher = reloader._watcher
    assert not reloader.may_continue()
    assert watcher.is_stopped
    assert not reloader.is_started
    assert "one worker of several" in caplog.text
