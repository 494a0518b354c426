"""What a person sees."""

from __future__ import annotations

import logging
import os

import pytest

from evreload._common import log as _console


@pytest.fixture
def logger(monkeypatch):
    """Give the logger back as it was."""
    logger = logging.getLogger("evreload")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "level", logger.level)
    yield logger
    logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ({}, ["info", "warning", "error"]),
        ({"quiet": True}, ["warning", "error"]),
        ({"verbose": True}, ["debug", "info", "warning", "error"]),
        ({"quiet": True, "verbose": True}, ["warning", "error"]),
    ],
)
def test_what_is_printed(logger, capsys, options, printed):
    _console.configure(**{"quiet": False, "verbose": False, **options})
    for level in ("debug", "info", "warning", "error"):
        getattr(logger, level)(level)
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [f"evreload: {level}" for level in printed]
    assert captured.out == ""


def test_paths_are_shortened_below_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _console.shorten(str(tmp_path / "a" / "b.py")) == os.path.join("a", "b.py")
    assert _console.shorten(f"{tmp_path}x/b.py") == f"{tmp_path}x/b.py"
    monkeypatch.setattr(os, "getcwd", lambda: (_ for _ in ()).throw(FileNotFoundError()))
    assert _console.shorten("/a/b.py") == "/a/b.py"


def test_some_are_named_and_the_others_counted():
    assert _console.name_some(["b"]) == "b"
    assert _console.name_some(["c", "a", "b"]) == "a, b, c"
    assert _console.name_some(map(str, range(5))) == "0, 1, 2 and 2 more"


def test_what_is_no_terminal_is_not_cleared(capsys):
    _console.clear()
    assert capsys.readouterr().err == ""
