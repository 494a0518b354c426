"""Half-written code: the program stays, or waits to be mended."""

from __future__ import annotations

import signal
import urllib.request

import pytest

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


def test_the_old_program_answers_while_the_new_one_does_not_compile(app):
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", SERVER)
    app.start("app.py")
    port = port_of(app)
    app.armed()
    app.write("helper.py", "\n\nVALUE = (\n")
    assert app.line("SyntaxError").startswith(f"evreload: {app.path('helper.py')}:3: SyntaxError")
    assert [get(port) for _ in range(5)] == ["1"] * 5
    app.write("helper.py", "VALUE = 2")
    port = port_of(app)
    assert get(port) == "2"
    assert app.count("SyntaxError") == 1
    assert app.count("restarting server") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"if x:\npass", ":2: IndentationError"),
        (b"x = '\xff'", ": SyntaxError"),
        (b"x = 1\0", "null bytes"),
        (b"# coding: nonsense\n", ": SyntaxError"),
        (b"return 1\n", ":1: SyntaxError"),
    ],
)
def test_every_kind_of_broken_source_is_kept_out(loop_app, text, said):
    loop_app.write("helper.py").write_bytes(text)
    assert "still running the previous version" in loop_app.line(said)
    loop_app.write("helper.py", "VALUE = 2")
    loop_app.line("ready 2")


def test_all_must_compile_of_what_was_saved(app):
    app.write("helper.py", "VALUE = 1")
    app.write("other.py")
    app.write("app.py", SERVER.replace("import helper", "import helper, other"))
    app.start("app.py")
    port_of(app)
    app.armed()
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


# What compiles and fails as it starts


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
def test_what_fails_at_import_is_shown_and_waited_for(loop_app, broken, message):
    loop_app.write("helper.py", broken)
    loop_app.line("restarting server")
    loop_app.line(message)
    loop_app.armed()
    loop_app.write("helper.py", "VALUE = 2")
    loop_app.line("ready 2")
    assert loop_app.count("Traceback") == ("Error" in message or "Group" in message)
    assert loop_app.count("evreload/_") == 0


def test_ctrl_c_ends_the_waiting_quietly(loop_app):
    loop_app.write("helper.py", "VALUE = undefined")
    loop_app.line("the program failed; waiting for a change")
    loop_app.armed()
    loop_app.signal(signal.SIGINT)
    assert loop_app.wait() == 130
    assert loop_app.count("Traceback") == 1


def test_a_change_of_any_file_of_the_traceback_counts(loop_app):
    loop_app.write("deep.py", "def value(): return undefined")
    loop_app.write("middle.py", "import deep\ndef value(): return deep.value()")
    loop_app.write("helper.py", "import middle\nVALUE = middle.value()")
    loop_app.line("NameError")
    loop_app.armed()
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
    app.armed()
    return app


def test_what_the_restart_was_for_counts_though_the_new_run_never_asked_for_it(configured_app):
    configured_app.write("config.json", '{"a": ')
    configured_app.line("JSONDecodeError")
    configured_app.armed()
    configured_app.write("config.json", '{"a": 2}')
    configured_app.line("ready 2")
    assert configured_app.count("restarting server") == 2


def test_what_an_earlier_run_has_watched_counts_though_the_new_one_never_asked_for_it(
    configured_app,
):
    for key in "bc":
        configured_app.write("helper.py", f"KEY = '{key}'")
        configured_app.line("KeyError")
        configured_app.armed()
    configured_app.write("config.json", '{"c": 3}')
    configured_app.line("ready 3")
    assert configured_app.count("restarting server") == 3


def test_a_missing_module_that_appears_counts(loop_app):
    loop_app.write("helper.py", "from pkg.sub import VALUE")
    loop_app.line("No module named 'pkg'")
    loop_app.armed()
    loop_app.write("pkg/sub.py", "VALUE = 2")
    loop_app.line("ready 2")


def test_an_error_of_the_main_script_is_waited_for(loop_app):
    text = (loop_app.directory / "app.py").read_text()
    for broken in ("import helper\n1 / 0", "raise OSError('port in use')\nimport helper"):
        loop_app.write("app.py", text.replace("import helper", broken))
        loop_app.line("Error: ")
        loop_app.armed()
    loop_app.write("app.py", text.replace("helper.VALUE", "'again'"))
    loop_app.line("ready again")


def test_an_error_on_the_loop_is_waited_for(loop_app):
    text = (loop_app.directory / "app.py").read_text()
    loop_app.write("app.py", text.replace("await", "1 / 0; await"))
    loop_app.line("ready 1")
    loop_app.line("ZeroDivisionError")
    loop_app.armed()
    loop_app.write("helper.py", "VALUE = 2")
    loop_app.line("ready 2")
    loop_app.line("ZeroDivisionError")


def test_a_syntax_error_is_not_run_into_while_waiting(loop_app):
    loop_app.write("helper.py", "VALUE = undefined")
    loop_app.line("NameError")
    loop_app.armed()
    loop_app.write("helper.py", "VALUE = (")
    told = loop_app.line("helper.py:1: SyntaxError")  # ours, not Python's own
    assert told.endswith("; waiting for a change")
    loop_app.write("helper.py", "VALUE = 2")
    loop_app.line("ready 2")
    assert loop_app.count("restarting server") == 2, loop_app.output


def test_an_import_error_that_is_swallowed_is_waited_for(app):
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
    app.armed()
    app.write("helper.py", "import nowhere")
    app.line("the program failed; waiting for a change")
    app.armed()
    app.write("helper.py", "VALUE = 2")
    app.line("ready 2")


def test_the_end_of_a_program_after_a_reload_is_its_end(app):
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


@pytest.mark.parametrize("way", [(), ("-m", "evreload", "-w", "samples")], ids=["start", "command"])
def test_what_is_broken_but_not_run_keeps_nobody_from_a_restart(app, way):
    app.write("samples/bad.py", "VALUE = 1")
    watch = "" if way else "evreload.watch('samples'); evreload.start()"
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
    app.start(*way, "app.py")
    app.line("ready 1")
    app.armed()
    app.write("samples/bad.py", "VALUE = (")
    app.line("ready 1")
    app.armed() if not way else None
    app.write("helper.py", "VALUE = 2")
    app.line("ready 2")
    assert not app.count("SyntaxError")


def test_a_program_that_always_fails_does_not_spin(loop_app):
    loop_app.write("helper.py", "print('tried', flush=True)\nundefined")
    loop_app.line("NameError")
    loop_app.armed()
    loop_app.write("helper.py", "print('tried', flush=True)\nundefined_again")
    loop_app.line("NameError")
    loop_app.armed()
    loop_app.write("helper.py", "VALUE = 2")
    loop_app.line("ready 2")
    assert loop_app.count("tried") == 2
