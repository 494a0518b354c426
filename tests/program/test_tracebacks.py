"""Which files an exception passed through."""

from __future__ import annotations

import sys

import pytest

from evreload._program.tracebacks import traceback_files


def test_the_files_of_an_error_are_those_of_all_errors_that_led_to_it(tmp_path):
    def fail(name, text="1 / 0"):
        path = str(tmp_path / name)
        try:
            exec(compile(text, path, "exec"))
        except Exception as error:
            return error

    cause, context, member = fail("cause.py"), fail("context.py"), fail("member.py")
    error = ExceptionGroup(
        "all", [member, fail("syntax.py", "exec(compile('(', '/x.py', 'exec'))")]
    )
    error.__cause__ = cause
    cause.__context__ = context
    context.__context__ = error  # a circle
    names = {"cause.py", "context.py", "member.py", "syntax.py"}
    assert set(traceback_files(error)) == {str(tmp_path / name) for name in names} | {
        "/x.py",
        __file__,
    }


def test_an_import_error_blames_the_missing_init_file_of_a_package(package):
    with pytest.raises(ImportError) as caught:
        exec("from package import name")
    assert set(traceback_files(caught.value)) == {__file__, package}


def test_an_attribute_error_blames_the_missing_init_file_of_a_package(package):
    with pytest.raises(AttributeError) as caught:
        exec("import package; package.name")
    assert set(traceback_files(caught.value)) == {__file__, package}


class OddError(Exception):
    """Has attributes that mean something else than those of Python's own exceptions."""

    exceptions = 3


def syntax_error():
    error = SyntaxError("odd")
    error.filename = ["no name"]  # type: ignore[assignment]
    return error


def import_error():
    return ImportError("odd", name=["no name"])  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [OddError(), syntax_error(), import_error()])
def test_an_exception_with_odd_attributes_hides_no_file(error):
    with pytest.raises(type(error)) as caught:
        raise error
    assert __file__ in traceback_files(caught.value)


def test_a_relative_file_in_a_removed_directory_hides_no_other(here, monkeypatch):
    (here / "gone").mkdir()
    monkeypatch.chdir(here / "gone")
    (here / "gone").rmdir()
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile("1 / 0", "relative.py", "exec"))
    assert list(traceback_files(caught.value)) == [__file__]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return where the `__init__.py` of the package `package` would be."""
    (tmp_path / "package").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    yield str(tmp_path / "package" / "__init__.py")
    del sys.modules["package"]
