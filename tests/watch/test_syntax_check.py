"""Whether changed source files compile."""

from __future__ import annotations

import pytest

from evreload._watch.syntax_check import compile_error


@pytest.fixture
def file(tmp_path):
    return tmp_path / "file.py"


@pytest.mark.parametrize("source", ["(", "\0", "return", "a = '\n", "# coding: nonsense\n"])
def test_a_file_that_does_not_compile_has_an_error(file, source):
    file.write_text(source)
    assert isinstance(compile_error(str(file)), (SyntaxError, ValueError))


@pytest.mark.parametrize("source", ["", "x = 1", "'\\d'", "assert (1, '')", "-" * 100_000 + "1"])
def test_a_file_that_may_compile_in_the_program_has_no_error(file, source):
    """Warnings are left to the program's own import, as is a file that is nested too deeply."""
    file.write_text(source)
    assert compile_error(str(file)) is None


def test_a_missing_file_has_no_error(file):
    assert compile_error(str(file)) is None
