"""Whether changed source files compile."""

from __future__ import annotations

import asyncio

import pytest

from evreload._common.filestat import Fingerprint
from evreload._watch.listener import Changes
from evreload._watch.syntax_check import SyntaxCheck, compile_error


@pytest.fixture
def file(tmp_path):
    return tmp_path / "file.py"


@pytest.mark.parametrize("source", ["(", "\0", "return", "a = '\n", "x\n# coding: nonsense\n("])
def test_a_file_that_does_not_compile_has_an_error(file, source):
    file.write_text(source)
    assert isinstance(compile_error(str(file)), (SyntaxError, ValueError))


@pytest.mark.parametrize("source", ["", "x = 1", "'\\d'", "assert (1, '')", "-" * 100_000 + "1"])
def test_a_file_that_may_compile_in_the_program_has_no_error(file, source):
    """Warnings are left to the program's own import, as is a file that is nested too deeply."""
    file.write_text(source)
    assert compile_error(str(file)) is None


@pytest.mark.parametrize("head", ["# coding: nonsense\n", "#!python\n# -*- coding: nonsense -*-\n"])
def test_a_file_in_an_encoding_that_only_the_program_may_know_has_no_error(file, head):
    file.write_text(head + "(")
    assert compile_error(str(file)) is None


@pytest.mark.parametrize(
    ("before", "is_broken"), [(None, True), (b"x = 1", True), (b"<p>", False), (b"", True)]
)
def test_a_file_is_not_judged_if_the_program_runs_what_does_not_compile_here(
    file, before, is_broken, caplog
):
    file.write_text("x = (")
    check = SyntaxCheck(lambda path: True, lambda path: before)
    changes: Changes = {str(file): Fingerprint(1, 2, 3, 4, 5)}
    checked = asyncio.run(check.wait_until_checked(lambda: changes, "waiting"))
    assert checked == (None if is_broken else changes)
    assert ("never closed; waiting" in caplog.text) == is_broken


def test_a_missing_file_has_no_error(file):
    assert compile_error(str(file)) is None
