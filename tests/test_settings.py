"""The settings: arguments of start(), the environment, pyproject.toml, and options made of them."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from evreload import _backend, _settings
from support.command_line import parse

DEFAULTS = {"check_time": 500, "debounce": 5, "poll": None, "ignore": (), "grace": 1}


def from_start(**arguments):
    """Return the settings of start() with *arguments*."""
    return _settings.from_start(**{**DEFAULTS, **arguments})


@pytest.mark.parametrize(
    ("variable", "expected"),
    [("1", True), ("yes", True), ("0", False), ("OFF", False), ("", None), (None, None)],
)
def test_the_environment_says_whether_to_poll(monkeypatch, variable, expected):
    if variable is None:
        monkeypatch.delenv("EVRELOAD_POLL", raising=False)
    else:
        monkeypatch.setenv("EVRELOAD_POLL", variable)
    assert _settings.poll_by_environment() is expected
    assert _backend.default_settings().poll is bool(expected)
    assert from_start(poll=True).poll is True
    assert from_start(poll=False).poll is False


def test_options_override_the_environment_which_overrides_the_project_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.evreload]\npoll = true\n")
    monkeypatch.delenv("EVRELOAD_POLL", raising=False)
    assert parse(["app.py"]).poll is True
    monkeypatch.setenv("EVRELOAD_POLL", "no")
    assert parse(["app.py"]).poll is False
    assert parse(["--poll", "app.py"]).poll is True


def test_an_empty_glob_is_left_out():
    """It would match the part before the first slash of every path."""
    assert from_start(ignore=["", "*.log"]).ignore == ("*.log",)


# Without "--", which argparse removes: https://github.com/python/cpython/issues/109475
GLOBS = st.lists(st.text().filter(lambda glob: glob != "--"))


def numbers(minimum: int) -> st.SearchStrategy[float]:
    return st.integers(minimum, 10**300) | st.floats(minimum, allow_infinity=False, allow_nan=False)


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    check_time=numbers(1), debounce=numbers(0), poll=st.booleans(), ignore=GLOBS, grace=numbers(0)
)
def test_the_settings_of_start_survive_as_options(here, **arguments):
    """start() passes them on so when it restarts the program under the command."""
    settings = _settings.from_start(**arguments)
    assert parse([*settings.as_arguments(), "app.py"]) == settings.replace(target=["app.py"])
