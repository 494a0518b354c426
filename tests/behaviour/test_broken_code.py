"""Broken code: the old program keeps running, or evreload waits for the fix."""

from __future__ import annotations

import signal
import sys
import urllib.request

import pytest

from support.files import await_tick
from support.programs import COMMAND, MODES, START, await_next_run, await_restart, runner

SERVER = """
import asyncio, logging, sys
import tornado.web
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
import evreload
import helper

class Handler(tornado.web.RequestHandler):
    def get(self):
        self.write(str(helper.VALUE))

async def main():
    server = tornado.web.Application([("/", Handler)]).listen(0, "127.0.0.1")
    evreload.start()
    port = next(iter(server._sockets.values())).getsockname()[1]
    print("port", port, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def get(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
        return answer.read().decode()


def port_of(app):
    return app.line("port").split()[1]


def test_the_old_program_answers_while_the_new_code_does_not_compile(app):
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", SERVER)
    app.start("app.py")
    port = port_of(app)
    app.await_watching()
    app.write("helper.py", "\n\nVALUE = (\n")
    assert app.line("SyntaxError").startswith(f"evreload: {app.path('helper.py')}:3: SyntaxError")
    assert [get(port) for _ in range(5)] == ["1"] * 5
    app.write("helper.py", "VALUE = 2")
    port = port_of(app)
    assert get(port) == "2"
    assert app.count("SyntaxError") == 1
    assert app.count("restarting server") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"if x:\npass", ":2: IndentationError"),
        (b"x = '\xff'", ": SyntaxError"),
        (b"x = 1\0", "null bytes"),
        (b"# coding: ascii\nx = '\xff'", ": SyntaxError"),
        (b"return 1\n", ":1: SyntaxError"),
    ],
)
def test_source_that_does_not_compile_causes_no_restart(loop_app, text, message):
    loop_app.write("helper.py").write_bytes(text)
    assert "still running the previous version" in loop_app.line(message)
    loop_app.write("helper.py", "VALUE = 2")
    loop_app.line("ready 2")


CODEC = """
import codecs
def decode(data, errors="strict"):
    return bytes(data).decode().replace("unless ", "if not "), len(data)
info = codecs.CodecInfo(codecs.utf_8_encode, decode, name="unless")
codecs.register(lambda name: info if name == "unless" else None)
"""
LOADER = """
import importlib.machinery as machinery
class Loader(machinery.SourceFileLoader):
    def source_to_code(self, data, path, **options):
        return super().source_to_code(data.replace(b"let ", b"    "), path, **options)
class Finder(machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        spec = super().find_spec(name, path, target) if name == "helper" else None
        if spec:
            spec.loader = Loader(name, spec.origin)
        return spec
sys.meta_path.insert(0, Finder)
"""
PATCH = """
import importlib.machinery as machinery
def get_data(self, path, get=machinery.SourceFileLoader.get_data):
    return get(self, path).replace(b"let ", b"") if path.endswith("helper.py") else get(self, path)
machinery.SourceFileLoader.get_data = get_data
"""


@MODES
@pytest.mark.parametrize(
    ("setup", "source"),
    [
        (CODEC, "# coding: unless\nVALUE = {} unless False else 0"),
        (LOADER, "if True:\nlet VALUE = {}"),
        (PATCH, "let VALUE = {}"),
    ],
    ids=["codec", "loader", "patched loader"],
)
def test_a_file_that_only_the_program_can_compile_restarts(app, mode, setup, source):
    run = runner(app, mode=mode)
    app.write("helper.py", source.format(1))
    for number in range(1, 6, 2):  # at the second start there is bytecode
        run(f"{setup}\nimport helper")
        assert app.await_lines("ready") == f"ready {number}"
        for value in (number + 1, number + 2):
            app.write("helper.py", source.format(value))
            assert await_restart(app, "helper.py") == f"ready {value}"
        app.close()


@MODES
def test_a_file_that_the_program_compiles_in_its_own_way_is_judged_if_it_was_plain(app, mode):
    run = runner(app, mode=mode)
    app.write("helper.py", "VALUE = 1")
    run(f"{LOADER}\nimport helper")
    app.write("helper.py", "VALUE = (")
    app.line("SyntaxError: '(' was never closed; still running the previous version")
    app.write("helper.py", "VALUE = 2")
    assert await_restart(app, "helper.py") == "ready 2"


@MODES
def test_source_may_begin_with_a_byte_order_mark(app, mode):
    run = runner(app, mode=mode)
    app.write("helper.py", "\ufeffVALUE = 1")
    run()
    script = app.directory / "app.py"
    app.write("app.py", "\ufeff# coding: utf-8\n" + script.read_text())
    assert await_restart(app, "app.py") == "ready 1"
    app.write("helper.py", "\ufeffVALUE = (")
    app.line("still running the previous version")
    app.write("helper.py", "\ufeffVALUE = 2")
    assert await_restart(app, "helper.py") == "ready 2"


def test_a_restart_waits_until_all_changed_files_compile(app):
    app.write("helper.py", "VALUE = 1")
    app.write("other.py")
    app.write("app.py", SERVER.replace("import helper", "import helper, other"))
    app.start("app.py")
    port_of(app)
    app.await_watching()
    app.write("helper.py", "VALUE = (")
    app.line("helper.py:1: SyntaxError")
    app.write("other.py", "x = )")
    app.line("other.py:1: SyntaxError")
    app.write("helper.py", "VALUE = 2")
    app.write("helper.py", "VALUE = 3")
    app.write("other.py", "y = ]")
    app.line("other.py:1: SyntaxError")
    app.write("other.py", "x = 0")
    assert get(port_of(app)) == "3"
    assert app.count("restarting server") == 1


# Code that compiles, and fails when it runs


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("VALUE = undefined", "NameError: name 'undefined' is not defined"),
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("VALUE = 1 / 0", "ZeroDivisionError: division by zero"),
        ("raise ExceptionGroup('several', [ValueError('one')])", "ExceptionGroup: several"),
        ("raise SystemExit('no database')", "no database"),
        ("raise SystemExit(1)", "waiting for a change"),
        ("", "AttributeError: module 'helper' has no attribute 'VALUE'"),
    ],
)
def test_an_error_at_import_is_shown_and_its_fix_restarts(loop_app, broken, message):
    loop_app.write("helper.py", broken)
    loop_app.line("restarting server")
    loop_app.line(message)
    loop_app.await_watching()
    loop_app.write("helper.py", "VALUE = 2")
    loop_app.line("ready 2")
    assert loop_app.count("Traceback") == ("Error" in message or "Group" in message)
    assert loop_app.count("evreload/_") == 0


def test_ctrl_c_ends_the_wait_without_another_traceback(loop_app):
    loop_app.write("helper.py", "VALUE = undefined")
    loop_app.line("the program failed; waiting for a change")
    loop_app.await_watching()
    loop_app.signal(signal.SIGINT)
    assert loop_app.wait() == 130
    assert loop_app.count("Traceback") == 1


def test_after_an_error_a_change_of_any_file_in_the_traceback_restarts(loop_app):
    loop_app.write("deep.py", "def value(): return undefined")
    loop_app.write("middle.py", "import deep\ndef value(): return deep.value()")
    loop_app.write("helper.py", "import middle\nVALUE = middle.value()")
    loop_app.line("NameError")
    loop_app.await_watching()
    loop_app.write("deep.py", "def value(): return 2")
    loop_app.line("ready 2")


CONFIGURED = """
import asyncio, json, logging, sys
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
import evreload
import helper
value = json.load(open("config.json"))[helper.KEY]
evreload.watch("config.json")

async def main():
    evreload.start()
    print("ready", value, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def configured_app(app):
    app.write("config.json", '{"a": 1}')
    app.write("helper.py", "KEY = 'a'")
    app.write("app.py", CONFIGURED)
    app.start("app.py")
    app.line("ready 1")
    app.await_watching()
    return app


def test_a_failed_run_watches_the_file_that_triggered_it(configured_app):
    configured_app.write("config.json", '{"a": ')
    configured_app.line("JSONDecodeError")
    configured_app.await_watching()
    configured_app.write("config.json", '{"a": 2}')
    configured_app.line("ready 2")
    assert configured_app.count("restarting server") == 2


def test_a_failed_run_watches_the_files_that_an_earlier_run_watched(
    configured_app,
):
    for key in "bc":
        configured_app.write("helper.py", f"KEY = '{key}'")
        configured_app.line("KeyError")
        configured_app.await_watching()
    configured_app.write("config.json", '{"c": 3}')
    configured_app.line("ready 3")
    assert configured_app.count("restarting server") == 3


def test_after_an_import_error_creating_the_module_restarts(loop_app):
    loop_app.write("helper.py", "from pkg.sub import VALUE")
    loop_app.line("No module named 'pkg'")
    loop_app.await_watching()
    loop_app.write("pkg/sub.py", "VALUE = 2")
    loop_app.line("ready 2")


def test_after_an_error_in_the_main_script_its_fix_restarts(loop_app):
    text = (loop_app.directory / "app.py").read_text()
    for broken in ("import helper\n1 / 0", "raise OSError('port in use')\nimport helper"):
        loop_app.write("app.py", text.replace("import helper", broken))
        loop_app.line("Error: ")
        loop_app.await_watching()
    loop_app.write("app.py", text.replace("helper.VALUE", "'again'"))
    loop_app.line("ready again")


def test_after_an_error_on_the_loop_a_change_restarts(loop_app):
    text = (loop_app.directory / "app.py").read_text()
    loop_app.write("app.py", text.replace("await", "1 / 0; await"))
    loop_app.line("ready 1")
    loop_app.line("ZeroDivisionError")
    loop_app.await_watching()
    loop_app.write("helper.py", "VALUE = 2")
    loop_app.line("ready 2")
    loop_app.line("ZeroDivisionError")


def test_while_waiting_for_a_fix_a_syntax_error_causes_no_restart(loop_app):
    loop_app.write("helper.py", "VALUE = undefined")
    loop_app.line("NameError")
    loop_app.await_watching()
    loop_app.write("helper.py", "VALUE = (")
    message = loop_app.line("helper.py:1: SyntaxError")  # evreload's, not Python's
    assert message.endswith("; waiting for a change")
    loop_app.write("helper.py", "VALUE = 2")
    loop_app.line("ready 2")
    assert loop_app.count("restarting server") == 2, loop_app.output


def test_after_a_caught_import_error_and_exit_the_fix_restarts(app):
    program = """
    import logging, sys
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
    import evreload
    try:
        import helper
    except ImportError as error:
        sys.exit(1)
    import asyncio
    async def main():
        evreload.start()
        print("ready", helper.VALUE, flush=True)
        await asyncio.Event().wait()
    asyncio.run(main())
    """
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", program)
    app.start("app.py")
    app.await_watching()
    app.write("helper.py", "import nowhere")
    app.line("the program failed; waiting for a change")
    app.await_watching()
    app.write("helper.py", "VALUE = 2")
    app.line("ready 2")


def test_a_reloaded_program_ends_with_its_own_exit_status(app):
    program = """
    import asyncio, evreload, sys
    async def main():
        evreload.start()
        print("ready", evreload.generation(), flush=True)
        if evreload.generation() == 0:
            evreload.reload()
    asyncio.run(main())
    sys.exit({status})
    """
    for status in (0, 1, 3):
        app.write("app.py", program.format(status=status))
        app.start("app.py")
        assert app.wait() == status
        assert app.count("ready 1") == 1
        app.close()


@pytest.mark.parametrize(
    "mode", [(), ("-m", "evreload", "-w", "samples")], ids=["start", "command"]
)
def test_a_syntax_error_in_a_file_that_is_not_imported_blocks_no_restart(app, mode):
    app.write("samples/bad.py", "VALUE = 1")
    watch = "" if mode else "evreload.watch('samples'); evreload.start()"
    app.write(
        "app.py",
        f"""
import asyncio, logging, sys
import helper
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
async def main():
    import evreload
    {watch}
    print("ready", helper.VALUE, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
""",
    )
    app.write("helper.py", "VALUE = 1")
    app.start(*mode, "app.py")
    app.line("ready 1")
    app.await_watching()
    app.write("samples/bad.py", "VALUE = (")
    app.line("ready 1")
    app.await_watching() if not mode else None
    app.write("helper.py", "VALUE = 2")
    app.line("ready 2")
    assert not app.count("SyntaxError")


def test_a_program_that_always_fails_runs_once_per_change(loop_app):
    loop_app.write("helper.py", "print('tried', flush=True)\nundefined")
    loop_app.line("NameError")
    loop_app.await_watching()
    loop_app.write("helper.py", "print('tried', flush=True)\nundefined_again")
    loop_app.line("NameError")
    loop_app.await_watching()
    loop_app.write("helper.py", "VALUE = 2")
    loop_app.line("ready 2")
    assert loop_app.count("tried") == 2


# Files that are only half saved

LATE = """
print("runs", flush=True)
import pathlib, time
while not pathlib.Path("truncated").exists():
    time.sleep(0.01)
import leaf
if not hasattr(leaf, "VALUE"):
    raise SystemExit
VALUE = leaf.VALUE
"""
HALF_SAVED = "the program has ended, but {} may be only half saved; waiting for the rest"


@pytest.fixture(params=[START, (*COMMAND, "--until-success")], ids=["start", "command"])
def run(app, request):
    return runner(app, mode=request.param)


@pytest.mark.parametrize("kept", ["", "import asyncio\n"])
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell what is open")
def test_a_restart_waits_for_a_script_that_is_being_saved(app, run, kept):
    app.write("helper.py", "VALUE = 1")
    run("logging.getLogger('evreload').setLevel(10); import helper")
    script = app.directory / "app.py"
    text = script.read_text()
    with script.open("w") as file:
        file.write(kept)
        file.flush()
        app.write("helper.py", "VALUE = 2")
        if not app.mode:
            app.line("waiting for a writer to finish")
        file.write(text.removeprefix(kept))
    assert await_restart(app, "app.py", "helper.py") == "ready 2"


@pytest.mark.parametrize("kept", ["", "# first\n"])
def test_the_end_of_a_run_that_has_read_half_a_file_is_not_final(app, run, kept):
    app.write("helper.py", "VALUE = 1")
    app.write("leaf.py", "VALUE = 1")
    run()
    app.write("helper.py", LATE)
    app.line("runs")
    await_tick()
    with (app.directory / "leaf.py").open("w") as file:
        file.write(kept)
        file.flush()
        app.write("truncated")
        app.line(HALF_SAVED.format("leaf.py" if app.mode else app.path("leaf.py")))
        file.write("VALUE = 2")
    app.line("leaf.py modified; restarting server")
    assert await_next_run(app) == "ready 2"


@pytest.mark.parametrize("code", ["", "raise SystemExit"])
def test_a_run_ends_for_good_if_nothing_follows(app, run, code):
    app.write("helper.py", "VALUE = 1")
    run()
    app.write_in_place("app.py", code)
    app.line("restarting server")
    assert app.wait() == 0
    if app.mode:  # else the emptied script does not turn on logging
        assert app.count("half saved") == (not code)
