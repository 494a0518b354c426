"""The options of the command line, and the same settings from pyproject.toml.

Both are made from the declarations in `_settings`. An error is reported in one sentence, before the
program's first line runs.

Runs in: the supervisor, on its main thread, while the program's interpreter starts.
Owns: nothing.
"""

from __future__ import annotations

import os

import evreload

from .._common import startup
from .._common.paths import absolute
from .._settings import (
    GLOBS,
    LISTS,
    MILLISECONDS,
    NAMES,
    OPTIONS,
    PATHS,
    SECONDS,
    SIGNAL,
    SWITCH,
    Option,
    Settings,
    poll_by_environment,
    to_number,
)
from .target import UsageError

TYPE_CHECKING = False  # `typing` costs 2 ms before the program starts
if TYPE_CHECKING:
    import argparse
    from collections.abc import Container
    from typing import Any, NoReturn

PROG = "python -m evreload"
USAGE = "%(prog)s [option ...] (-m module | path) [argument ...]"
EPILOG = """\
examples:
  python -m evreload server.py --port 8000
  python -m evreload -w config/ -i '*.log' -m uvicorn app:app
  python -m evreload --until-success -m pytest -x

The same settings can be given in pyproject.toml, under [tool.evreload].
"""
DESCRIPTION = "Run a program, and run it again the moment its source changes."


def parse(arguments: list[str], target: list[str]) -> Settings:
    """Return the settings that *arguments* and pyproject.toml make together, to run *target*.

    *arguments* are those before the target. Raises UsageError for what is unknown or wrong in
    either; SystemExit after ``--help`` and ``--version``.
    """
    # argparse takes 10 ms to import, and is mostly not needed.
    given = vars(parser().parse_args(arguments)) if arguments else {}
    if target in ([], ["-m"]):
        raise UsageError(f"give a script to run, or a module with -m (see {PROG} --help)")
    here = startup.working_directory()
    if here is None:
        raise UsageError('the working directory was removed; if it exists again, run: cd "$PWD"')
    poll = poll_by_environment()
    environment = {} if poll is None else {"poll": poll}
    values = {**_from_project(here, given), **environment, **_convert(given, here, "--{}")}
    return Settings(target=target, **values)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options before the target."""
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise UsageError(f"{message} (see {PROG} --help)")

    class Formatter(argparse.RawDescriptionHelpFormatter):
        def __init__(self, prog: str) -> None:
            super().__init__(prog, max_help_position=28)  # one line for each option

    made = Parser(
        prog=PROG,
        usage=USAGE,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=Formatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    made.add_argument("-m", metavar="MODULE", help="run a module")
    for name, option in OPTIONS.items():
        kwargs: dict[str, Any] = {"dest": name, "help": option.help}
        if option.type == SWITCH:
            kwargs["action"] = "store_false" if option.default else "store_true"
        else:
            kwargs["metavar"] = option.metavar
            if option.type in LISTS:
                kwargs["action"] = "append"
            elif option.type != SIGNAL:
                kwargs["type"] = _float_or_text
        made.add_argument(*option.flags, **kwargs)
    version = f"evreload {evreload.__version__}"
    made.add_argument("--version", action="version", version=version)
    return made


def _from_project(directory: str, besides: Container[str]) -> dict[str, Any]:
    """Return the settings in the nearest pyproject.toml, except those named in *besides*."""
    while not os.path.isfile(path := os.path.join(directory, "pyproject.toml")):
        if directory == os.path.dirname(directory):
            return {}
        directory = os.path.dirname(directory)
    table = _read_table(path)
    known = {name.replace("_", "-") for name in OPTIONS}
    for key in table:
        if key.replace("_", "-") not in known:
            raise UsageError(
                f"unknown key {key!r} under [tool.evreload] in {path}; "
                f"there are {', '.join(sorted(known))}"
            )
    given = {key.replace("-", "_"): value for key, value in table.items()}
    wanted = {name: value for name, value in given.items() if name not in besides}
    return _convert(wanted, directory, f"{{}} under [tool.evreload] in {path}")


def _read_table(path: str) -> dict[str, Any]:
    import tomllib

    try:
        with open(path, encoding="utf-8-sig") as file:  # some editors of Windows write a BOM
            table = tomllib.loads(file.read()).get("tool", {}).get("evreload", {})
    except (OSError, ValueError) as error:  # of TOML, or of UTF-8
        raise UsageError(f"cannot read {path}: {error}") from None
    except AttributeError:
        raise UsageError(f"'tool' must be a table in {path}") from None
    if not isinstance(table, dict):
        raise UsageError(f"'evreload' must be a table under [tool] in {path}")
    return table


# From text to values


def _convert(given: dict[str, Any], directory: str, where: str) -> dict[str, Any]:
    """Return *given* as fields of Settings; relative paths are relative to *directory*.

    *where* is a format string: it makes the name of a setting for messages. Raises UsageError.
    """
    return {
        name: _convert_one(where.format(name.replace("_", "-")), value, OPTIONS[name], directory)
        for name, value in given.items()
    }


def _convert_one(name: str, value: object, option: Option, directory: str) -> object:
    if option.type == PATHS:
        return tuple(_readable(name, directory, path) for path in _texts(name, value))
    if option.type in (GLOBS, NAMES):
        return tuple(filter(None, _texts(name, value)))
    if option.type == SIGNAL:
        return _signal(name, value)
    if option.type in (SECONDS, MILLISECONDS):
        try:
            return to_number(name, value, option)
        except (TypeError, ValueError) as error:
            raise UsageError(str(error)) from None
    if isinstance(value, bool):
        return value
    raise UsageError(f"{name} must be true or false, not {value!r}")


def _texts(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    raise UsageError(f"{name} must be a list of strings, not {value!r}")


def _readable(name: str, directory: str, path: str) -> str:
    if not path:
        raise UsageError(f"cannot watch a path without a name; leave it out, or write . ({name})")
    path = os.path.join(directory, path)
    if not os.path.exists(path):
        raise UsageError(f"cannot watch {path}: there is no such file or directory ({name})")
    if not os.access(path, os.R_OK):
        raise UsageError(f"cannot watch {path}: it may not be read ({name})")
    return absolute(path)


def _float_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # `to_number` refuses it, with the name of the option


def _signal(name: str, value: object) -> int:
    import signal

    text = str(value).upper()
    text = text if text.startswith("SIG") else "SIG" + text
    wanted = getattr(signal, text, None)
    if not isinstance(wanted, signal.Signals):
        raise UsageError(f"{name} must be the name of a signal, like SIGINT, not {value!r}")
    return wanted
