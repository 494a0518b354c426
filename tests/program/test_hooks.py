"""The reload hooks: functions of the program that run before it is replaced."""

from __future__ import annotations

import signal

import pytest

from support.files import await_tick

PROGRAM = """
import asyncio, functools, logging, os, sys, threading, time
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
import evreload
import helper

def say(*words):
    print(*words, flush=True)

async def until_there_is(name):
    while not os.path.exists(name):
        await asyncio.sleep(0.01)

{hooks}

async def main():
    evreload.start()
    say("ready", helper.VALUE)
    await asyncio.Event().wait()

asyncio.run(main())
say("the end of the program")
"""


def start(app, hooks, *flags):
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", PROGRAM.format(hooks=hooks))
    app.start(*flags, "app.py")
    app.line("ready 1")
    app.await_watching()


def save(app, value=2):
    app.write("helper.py", f"VALUE = {value}")


def test_hooks_run_once_in_order_on_the_thread_of_the_loop(app):
    start(
        app,
        """
def hook(name):
    running = asyncio.get_running_loop().is_running()
    say("hook", name, running, threading.current_thread() is threading.main_thread())

for name in "abc":
    evreload.add_reload_hook(functools.partial(hook, name))
""",
    )
    save(app)
    app.line("ready 2")
    hooks = [line for line in app.seen if line.startswith("hook")]
    assert hooks == [f"hook {name} True True" for name in "abc"]


@pytest.mark.parametrize(
    "end",
    [
        "asyncio.get_running_loop().stop()",
        "import tornado.ioloop; tornado.ioloop.IOLoop.current().stop()",
        "[task.cancel() for task in asyncio.all_tasks()]",
    ],
)
def test_a_hook_may_stop_the_loop_and_the_program_restarts(app, end):
    start(app, f"evreload.add_reload_hook(lambda: exec({end!r}))")
    save(app)
    app.line("ready 2")
    assert app.count("the end of the program") == 0


@pytest.mark.parametrize("hook", ["def", "async def"])
def test_a_hook_that_exits_ends_the_process(app, hook):
    start(app, f"{hook} hook(): sys.exit(3)\nevreload.add_reload_hook(hook)", "-X", "dev")
    save(app)
    assert app.wait() == 3
    assert app.count("Traceback") == 0
    assert app.count("never retrieved") == 0


def test_a_hook_that_raises_is_named_and_the_others_run(app):
    start(
        app,
        """
def broken(): raise ValueError("first")
async def broken_too(): raise ValueError("second")
async def cancelled():
    task = asyncio.ensure_future(asyncio.sleep(60))
    task.cancel()
    await task

evreload.add_reload_hook(broken)
evreload.add_reload_hook(broken_too)
evreload.add_reload_hook(cancelled)
evreload.add_reload_hook(lambda: say("the last"))
""",
    )
    save(app)
    app.line("ready 2")
    assert app.count("evreload: reload hook broken failed") == 1
    assert app.count("evreload: reload hook broken_too failed") == 1
    assert app.count("evreload: reload hook cancelled failed") == 1
    assert app.count("the last") == 1


def test_coroutine_hooks_are_awaited_first(app):
    start(
        app,
        """
class Server:
    async def close(self):
        await asyncio.sleep(0)
        say("hook 1")
    async def __call__(self):
        await asyncio.sleep(0)
        say("hook 3")

async def named(name):
    say("hook", name)

evreload.add_reload_hook(Server().close)
evreload.add_reload_hook(lambda: say("hook 4"))
evreload.add_reload_hook(functools.partial(named, 2))
evreload.add_reload_hook(Server())
evreload.add_reload_hook(lambda: say("hook 5"))
""",
    )
    save(app)
    app.line("ready 2")
    assert [line for line in app.seen if line.startswith("hook")] == [
        f"hook {n}" for n in range(1, 6)
    ]


def test_a_coroutine_hook_that_never_ends_is_cancelled(app):
    start(
        app,
        """
from evreload._program import hooks
hooks.COROUTINE_TIMEOUT = 0.1

async def forever():
    await asyncio.Event().wait()

evreload.add_reload_hook(forever)
""",
    )
    save(app)
    app.line("evreload: reload hook forever took over 0.1 s")
    app.line("ready 2")


def test_a_save_during_a_slow_coroutine_hook_is_part_of_the_same_restart(app):
    start(
        app,
        """
async def slow():
    say("waiting")
    await until_there_is("go")

evreload.add_reload_hook(slow)
""",
    )
    save(app, 2)
    app.line("waiting")
    for value in range(3, 8):
        save(app, value)
    app.write("go")
    app.line("ready 7")
    assert app.count("restarting server") == 1


def test_a_deleted_file_is_not_named_though_a_hook_is_slow(app):
    app.write("gone.py")
    start(
        app,
        """
import gone

async def slow():
    await asyncio.sleep(0.1)

evreload.add_reload_hook(slow)
""",
    )
    (app.directory / "gone.py").unlink()
    save(app)
    line = app.line("restarting server")
    assert line == f"evreload: {app.path('helper.py')} modified; restarting server"


def test_a_save_during_a_slow_hook_is_part_of_the_same_restart(app):
    start(
        app,
        """
def slow():
    say("waiting")
    while not os.path.exists("go"):
        time.sleep(0.01)

evreload.add_reload_hook(slow)
""",
    )
    save(app, 2)
    app.line("waiting")
    for value in range(3, 8):
        save(app, value)
    app.write("go")
    app.line("ready 7")
    app.await_watching()
    save(app, 8)
    app.line("ready 8")
    assert app.count("restarting server") == 2


def test_a_syntax_error_saved_during_a_coroutine_hook_leaves_the_old_program_running(app):
    start(
        app,
        """
async def slow():
    say("waiting")
    await until_there_is("go")

evreload.add_reload_hook(slow)
""",
    )
    save(app, 2)
    app.line("waiting")
    save(app, "(")
    app.write("go")
    assert "still running the previous version" in app.line("SyntaxError")
    save(app, 3)
    app.line("ready 3")


def test_a_hook_can_see_which_files_changed(app):
    start(
        app,
        """
def hook(): say("for", *map(os.path.basename, evreload.changed_files()))
async def coroutine(): hook()

say("from", *map(os.path.basename, evreload.changed_files()))
evreload.add_reload_hook(hook)
evreload.add_reload_hook(coroutine)
""",
    )
    save(app)
    app.line("ready 2")
    printed = [line for line in app.seen if line.startswith(("for", "from"))]
    assert printed == ["from", "for helper.py", "for helper.py", "from helper.py"]


@pytest.mark.parametrize("mode", [(), ("-m", "evreload")], ids=["start", "command"])
def test_a_coroutine_hook_may_cancel_all_tasks_and_the_program_restarts(app, mode):
    hooks = """
async def shut_down():
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks)

evreload.add_reload_hook(shut_down)
evreload.add_reload_hook(lambda: say("the last"))
"""
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", PROGRAM.format(hooks=hooks))
    app.start(*mode, "app.py")
    for value in (1, 2):
        app.line(f"ready {value}")
        app.await_watching(by_now=value == 1) if value == 1 or not mode else await_tick()
        save(app, value + 1)
    app.line("ready 3")
    assert app.count("the last") == 2
    assert mode or not app.count("Traceback")


@pytest.mark.parametrize("run", ["run_sync(main)", "spawn_callback(main), loop.start()"])
def test_a_coroutine_hook_may_stop_the_loop_and_the_program_restarts(app, run):
    hooks = """
import tornado.ioloop
loop = tornado.ioloop.IOLoop.current()

async def hook(): loop.stop()

evreload.add_reload_hook(hook)
"""
    app.write("helper.py", "VALUE = 1")
    text = PROGRAM.format(hooks=hooks).replace("asyncio.run(main())", f"loop.{run}")
    app.write("app.py", text)
    app.start("app.py")
    app.line("ready 1")
    app.await_watching()
    save(app)
    app.line("ready 2")
    assert app.count("the end of the program") == 0


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_ctrl_c_during_a_coroutine_hook_ends_the_program(app, loop):
    pytest.importorskip(loop)
    app.write("helper.py", "VALUE = 1")
    hooks = f"""
async def slow():
    say("waiting")
    await asyncio.sleep(60)

evreload.add_reload_hook(slow)
import {loop}
"""
    app.write("app.py", PROGRAM.format(hooks=hooks).replace("asyncio.run", f"{loop}.run"))
    app.start("app.py")
    app.line("ready 1")
    app.await_watching()
    save(app)
    app.line("waiting")
    app.signal(signal.SIGINT)
    assert app.wait() == -signal.SIGINT
    assert app.count("ready") == 1


@pytest.mark.parametrize("hook", ["def", "async def"])
def test_a_hook_that_raises_a_base_exception_is_named_and_the_program_restarts(app, hook):
    start(
        app,
        f"""
class Odd(BaseException): pass
{hook} cancelled(): raise asyncio.CancelledError
{hook} odd(): raise Odd

evreload.add_reload_hook(cancelled)
evreload.add_reload_hook(odd)
evreload.add_reload_hook(lambda: say("the last"))
""",
    )
    save(app)
    app.line("ready 2")
    assert app.count("evreload: reload hook cancelled failed") == 1
    assert app.count("evreload: reload hook odd failed") == 1
    assert app.count("the last") == 1


@pytest.mark.parametrize("hook", ["def", "async def"])
@pytest.mark.parametrize("mode", [(), ("-m", "evreload")], ids=["start", "command"])
def test_reload_in_a_hook_changes_nothing(app, hook, mode):
    hooks = f"""
{hook} hook():
    say("hook")
    evreload.reload()
    say("goes on")

evreload.add_reload_hook(hook)
"""
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", PROGRAM.format(hooks=hooks))
    app.start(*mode, "app.py")
    app.line("ready 1")
    app.await_watching(by_now=True)
    save(app)
    app.line("ready 2")
    assert app.seen.count("hook") == app.seen.count("goes on") == 1
    assert app.count("Error") == 0


def test_a_hook_that_was_removed_does_not_run(app):
    start(
        app,
        """
def hook(): say("never")

evreload.add_reload_hook(hook)
evreload.add_reload_hook(lambda: say("always"))
evreload.remove_reload_hook(hook)
""",
    )
    save(app)
    app.line("ready 2")
    assert app.count("always") == 1
    assert app.count("never") == 0


@pytest.mark.parametrize("module", ["asyncio", "inspect"])
def test_a_save_while_the_program_imports_a_module_that_hooks_need(app, module):
    app.write("helper.py", "VALUE = 1")
    app.write(
        "app.py",
        f"""
        import sys, time
        import evreload, helper
        def hook(): print("hook", helper.VALUE, flush=True)
        evreload.add_reload_hook(hook)
        class Slow:
            def find_spec(self, name, path=None, target=None):
                if name == "{module}.base_events" or name == "dis":
                    print("importing", helper.VALUE, flush=True)
                    if helper.VALUE == 1:
                        time.sleep(3600)
        for name in [name for name in sys.modules if name.partition(".")[0] in ("{module}", "dis")]:
            del sys.modules[name]
        sys.meta_path.insert(0, Slow())
        import {module}
        print("ready", helper.VALUE, flush=True)
        time.sleep(3600)
        """,
    )
    app.start("-m", "evreload", "app.py")
    app.line("importing 1")
    app.await_watching(by_now=True)
    app.write("helper.py", "VALUE = 2")
    app.line("ready 2")
    assert app.count("hook 1") == 1
    assert not app.count("Traceback"), app.output


RELOAD = """
import asyncio, logging, sys
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
import evreload

def hook(): print("hook", flush=True)
async def coroutine(): print("coroutine", flush=True)
async def main(): evreload.reload()

print("run", evreload.generation(), len(evreload.changed_files()), flush=True)
evreload.add_reload_hook(hook)
evreload.add_reload_hook(coroutine)
if evreload.generation() < 2:
    {reload}
"""


def test_reload_outside_a_loop_awaits_coroutine_hooks(app):
    app.write("app.py", RELOAD.format(reload="evreload.reload()"))
    app.start("app.py")
    assert app.wait() == 0
    once = ["coroutine", "evreload: restarting server", "hook"]
    assert app.seen == ["run 0 0", *once, "run 1 0", *once, "run 2 0"]


def test_reload_on_the_loop_leaves_coroutine_hooks_out_with_a_warning(app):
    app.write("app.py", RELOAD.format(reload="asyncio.run(main())"))
    app.start("app.py")
    assert app.wait() == 0
    once = [
        "evreload: reload() was called on the loop: coroutine is not awaited",
        "evreload: restarting server",
        "hook",
    ]
    assert app.seen == ["run 0 0", *once, "run 1 0", *once, "run 2 0"]
