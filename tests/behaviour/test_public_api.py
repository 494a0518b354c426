"""The public functions: what they accept, what they refuse, and what importing them costs."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

import evreload
from evreload import _backend

untyped: Any = evreload  # for calls that a type checker refuses as well


@pytest.fixture
def off(monkeypatch):
    """Turn evreload off: it only checks arguments."""
    monkeypatch.setenv("EVRELOAD", "off")


def python(code, *flags):
    command = [sys.executable, *flags, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("error", "name", "call"),
    [
        (TypeError, "path", lambda: untyped.watch(3)),
        (TypeError, "path", lambda: untyped.watch(None)),
        (TypeError, "fn", lambda: untyped.add_reload_hook("no hook")),
        (TypeError, "fn", lambda: untyped.add_reload_hook(None)),
        (ValueError, "check_time", lambda: evreload.start(check_time=-1)),
        (ValueError, "check_time", lambda: evreload.start(0)),
        (ValueError, "check_time", lambda: evreload.start(float("inf"))),
        (ValueError, "check_time", lambda: evreload.start(float("nan"))),
        (TypeError, "check_time", lambda: untyped.start("500")),
        (TypeError, "check_time", lambda: evreload.start(True)),
        (TypeError, "check_time", lambda: untyped.start(check_time=None)),
        (ValueError, "debounce", lambda: evreload.start(debounce=-0.1)),
        (TypeError, "debounce", lambda: untyped.start(debounce="20")),
        (TypeError, "ignore", lambda: evreload.start(ignore="*.log")),
        (TypeError, "ignore", lambda: untyped.start(ignore=3)),
        (TypeError, "ignore", lambda: untyped.start(ignore=[3])),
        (TypeError, "poll", lambda: untyped.start(poll="yes")),
        (TypeError, "nonsense", lambda: untyped.start(nonsense=1)),
        (TypeError, "positional", lambda: untyped.start(500, 20)),
    ],
)
def test_a_wrong_argument_is_refused_at_once_with_its_name(off, error, name, call):
    with pytest.raises(error, match=name):
        call()


def test_the_signature_of_start_is_that_of_its_arguments():
    """Its older form with a loop, and the types, are not shown."""
    signature = inspect.signature(evreload.start)
    plain = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
    shown = signature.replace(parameters=plain, return_annotation=signature.empty)
    assert str(shown) == "(check_time=500, *, debounce=5, poll=None, ignore=(), grace=1)"


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
        lambda loop: untyped.start(None, 500),
        lambda loop: evreload.start(io_loop=None),
    ],
)
def test_the_older_signature_causes_a_deprecation_warning_for_the_caller(off, call):
    class Loop:
        def add_callback(self):
            pass

    with pytest.warns(DeprecationWarning, match=r"start\(io_loop\) is deprecated") as warned:
        call(Loop())
    assert [warning.filename for warning in warned] == [__file__]


def test_the_arguments_of_the_older_signature_are_checked_too(off):
    class Loop:
        add_callback = None

    with (
        pytest.warns(DeprecationWarning, match="io_loop"),
        pytest.raises(ValueError, match="check_time"),
    ):
        untyped.start(Loop(), -1)


@pytest.mark.parametrize("value", ["off", "OFF", "0", "no", "false"])
def test_the_environment_turns_it_off(monkeypatch, value):
    monkeypatch.setenv("EVRELOAD", value)
    evreload.start()
    evreload.watch("x")
    evreload.wait()
    backend = _backend.existing()
    assert backend is None or not backend.is_started


def test_an_empty_path_is_not_the_current_directory():
    code = """if True:
        import evreload, os
        from evreload import _backend
        for path in ("", b"", ".", b"x"):
            evreload.watch(path)
        print(*map(os.path.relpath, _backend.current()._requests))
    """
    assert python(code) == ". x\n"


def test_importing_evreload_imports_no_large_package():
    code = "import sys; bare = set(sys.modules); import evreload; print(*set(sys.modules) - bare)"
    heavy = {"tornado", "watchdog", "asyncio", "typing", "logging", "threading", "enum", "json"}
    imported = set(python(code).split())
    assert "evreload" in imported
    assert not imported & heavy


def test_tornado_is_imported_only_if_a_loop_is_needed():
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


def test_install_replaces_tornado_autoreload():
    code = """if True:
        import evreload
        import tornado.autoreload
        evreload.install()
        for name in ("start", "wait", "watch", "add_reload_hook", "main"):
            assert getattr(tornado.autoreload, name) is getattr(evreload, name)
        assert tornado.autoreload._reload is evreload.reload
    """
    python(code, "-W", "error")


def test_every_public_name_exists_and_is_documented():
    for name in evreload.__all__:
        assert getattr(evreload, name).__doc__, name
