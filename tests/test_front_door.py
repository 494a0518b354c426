"""All that is public: what it takes, what it refuses, what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import evreload


@pytest.fixture
def off(monkeypatch):
    """Have arguments checked, and nothing else done."""
    monkeypatch.setenv("EVRELOAD", "off")


def python(code, *flags):
    command = [sys.executable, *flags, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("error", "name", "call"),
    [
        (TypeError, "path", lambda: evreload.watch(3)),
        (TypeError, "path", lambda: evreload.watch(None)),
        (TypeError, "fn", lambda: evreload.add_reload_hook("no hook")),
        (TypeError, "fn", lambda: evreload.add_reload_hook(None)),
        (ValueError, "check_time", lambda: evreload.start(check_time=-1)),
        (ValueError, "check_time", lambda: evreload.start(0)),
        (ValueError, "check_time", lambda: evreload.start(float("inf"))),
        (ValueError, "check_time", lambda: evreload.start(float("nan"))),
        (TypeError, "check_time", lambda: evreload.start("500")),
        (TypeError, "check_time", lambda: evreload.start(True)),
        (TypeError, "check_time", lambda: evreload.start(check_time=None)),
        (ValueError, "debounce", lambda: evreload.start(debounce=-0.1)),
        (TypeError, "debounce", lambda: evreload.start(debounce="20")),
        (TypeError, "ignore", lambda: evreload.start(ignore="*.log")),
        (TypeError, "ignore", lambda: evreload.start(ignore=3)),
        (TypeError, "ignore", lambda: evreload.start(ignore=[3])),
        (TypeError, "poll", lambda: evreload.start(poll="yes")),
        (TypeError, "nonsense", lambda: evreload.start(nonsense=1)),
        (TypeError, "positional", lambda: evreload.start(500, 20)),
    ],
)
def test_a_wrong_argument_is_refused_at_once_by_its_name(off, error, name, call):
    with pytest.raises(error, match=name):
        call()


def test_a_hook_that_was_not_added_cannot_be_removed():
    code = """if True:
        import evreload
        evreload.add_reload_hook(print)
        evreload.remove_reload_hook(print)
        try:
            evreload.remove_reload_hook(print)
        except ValueError as error:
            print(error)
    """
    assert python(code) == "print was not added as a reload hook\n"


@pytest.mark.parametrize(
    "call",
    [
        lambda loop: evreload.start(loop),
        lambda loop: evreload.start(loop, 500),
        lambda loop: evreload.start(loop, check_time=500),
        lambda loop: evreload.start(io_loop=loop),
        lambda loop: evreload.start(io_loop=loop, check_time=500),
        lambda loop: evreload.start(None, 500),
        lambda loop: evreload.start(io_loop=None),
    ],
)
def test_the_older_signature_is_deprecated_where_it_is_used(off, call):
    class Loop:
        def add_callback(self):
            pass

    with pytest.warns(DeprecationWarning, match=r"start\(io_loop\) is deprecated") as warned:
        call(Loop())
    assert [warning.filename for warning in warned] == [__file__]


def test_the_older_signature_is_checked_too(off):
    class Loop:
        add_callback = None

    with (
        pytest.warns(DeprecationWarning, match="io_loop"),
        pytest.raises(ValueError, match="check_time"),
    ):
        evreload.start(Loop(), -1)


@pytest.mark.parametrize("value", ["off", "OFF", "0", "no", "false"])
def test_the_environment_switches_it_off(monkeypatch, value):
    monkeypatch.setenv("EVRELOAD", value)
    evreload.start()
    evreload.watch("x")
    evreload.wait()
    assert not any(story.is_started for story in evreload._stories)


def test_an_empty_path_is_not_the_current_directory():
    code = """if True:
        import evreload, os
        for path in ("", b"", ".", b"x"):
            evreload.watch(path)
        print(*map(os.path.relpath, evreload._story()._asked))
    """
    assert python(code) == ". x\n"


def test_nothing_is_imported_that_a_program_may_not_need():
    code = "import sys; bare = set(sys.modules); import evreload; print(*set(sys.modules) - bare)"
    heavy = {"tornado", "watchdog", "asyncio", "typing", "logging", "threading", "enum", "json"}
    imported = set(python(code).split())
    assert "evreload" in imported
    assert not imported & heavy


def test_tornado_is_only_imported_where_a_loop_is_wanted():
    code = """if True:
        import sys, evreload
        evreload.disable()
        evreload.start()
        evreload.watch("x")
        evreload.stop()
        print("tornado" in sys.modules)
    """
    assert python(code) == "False\n"


def test_the_first_run_is_generation_0_without_changed_files():
    code = "import evreload; print(evreload.generation(), *evreload.changed_files())"
    assert python(code) == "0\n"


def test_install_puts_it_in_the_place_of_tornado_autoreload():
    code = """if True:
        import evreload
        import tornado.autoreload
        evreload.install()
        for name in ("start", "wait", "watch", "add_reload_hook", "main"):
            assert getattr(tornado.autoreload, name) is getattr(evreload, name)
        assert tornado.autoreload._reload is evreload.reload
    """
    python(code, "-W", "error")


def test_all_that_is_public_is_there_and_documented():
    for name in evreload.__all__:
        assert getattr(evreload, name).__doc__, name
