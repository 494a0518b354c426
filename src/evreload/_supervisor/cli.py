"""The command line, and the same settings from pyproject.toml: both become one `Options`.

The main thread. What is wrong is said in one sentence, with status 2, before anything starts.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import tomllib
from collections.abc import Container, Sequence
from typing import Any, NoReturn

import evreload

from .._common import process as _process
from .._common import startup as _origin
from .._program.imports import absolute
from .._settings import Options, number, poll_by_environment
from .target import BadInput, check, rival

FLAGS = "cqv"  # which may stand together, before another option
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

logger = logging.getLogger("evreload")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command with *arguments*, by default those of the process; end with its status."""
    try:
        options = parse(sys.argv[1:] if arguments is None else list(arguments))
        check(options.target)
        if options.warm and not _process.CAN_FORK:
            raise BadInput("--warm needs Linux: leave it out")
    except BadInput as error:
        _refuse(error)
    if _process.CAN_SUPERVISE:
        _supervise(options)
    _run_here(options)


def _refuse(reason: object) -> NoReturn:
    sys.stderr.write(f"evreload: {reason}\n")
    sys.exit(2)


def _supervise(options: Options) -> NoReturn:
    from .._common.run_info import VARIABLE
    from .process_tree import Guardian
    from .program_process import cold

    os.environ.pop(VARIABLE, None)  # it was meant for whoever started us
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # or nobody would tell of the program's end
    guardian = Guardian()
    # The program starts at once; what we need for watching it is imported meanwhile.
    try:
        first = cold(options)
    except OSError as error:
        guardian.dismiss()
        _refuse(f"cannot start the program: {error}")
    guardian.protect(first.pid)
    first.go(options.grace)
    # They wait until the supervisor is there to take them.
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    _process.adopt_orphans()
    from .._common import log as _console
    from .supervisor import Supervisor

    _console.configure(quiet=options.quiet, verbose=options.verbose)
    if remedy := rival(options.target):
        logger.warning("the program has a reloader of its own, and it is on: %s", remedy)
    sys.exit(Supervisor(options, first, guardian).run())


def _run_here(options: Options) -> NoReturn:
    """Where a child can't be handed pipes: run the program in this process, then wait."""
    from .._program.runner import run_and_wait

    evreload.install()
    here = _origin.working_directory()
    if not sys.flags.safe_path and here and here not in sys.path:
        sys.path.append(here)
    run_and_wait(options.target, until_success=options.until_success)
    sys.exit(0)


# The command line


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message} (see {PROG} --help)")


class _Format(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)  # one line an option: it fits on a screen


def _parser() -> _Parser:
    parser = _Parser(
        prog=PROG,
        usage=USAGE,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=_Format,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-m", metavar="MODULE", help="run a module")
    add("-w", "--watch", action="append", metavar="PATH", help="also watch this file or directory")
    add("-i", "--ignore", action="append", metavar="GLOB", help="do not restart for these paths")
    add("--no-gitignore", dest="gitignore", action="store_false",
        help="also watch what .gitignore excludes")  # fmt: skip
    add("--until-success", action="store_true", help="end when the program ends with status 0")
    add("--poll", action="store_true", help="poll files instead of waiting for events")
    add("--check-time", type=_time, metavar="MS",
        help="how often to poll, where there are no events (500)")  # fmt: skip
    add("--debounce", type=_time, metavar="MS",
        help="wait until files are unchanged for this long (5)")  # fmt: skip
    add("--stop-signal", metavar="NAME", help="signal that asks the program to end (SIGTERM)")
    add("--stop-timeout", type=_time, metavar="SECONDS",
        help="kill the program after this time; 0: never (2)")  # fmt: skip
    add("--no-keep-sockets", dest="keep_sockets", action="store_false",
        help="close listening sockets when the program ends")  # fmt: skip
    add("--grace", type=_time, metavar="SECONDS",
        help="how long requests in progress may take (1)")  # fmt: skip
    add("--warm", action="store_true", help="import in advance what does not change (Linux)")
    add("--cold", action="append", metavar="MODULE",
        help="with --warm, do not import this in advance")  # fmt: skip
    add("-c", "--clear", action="store_true", help="clear the terminal before each restart")
    add("-q", "--quiet", action="store_true", help="print problems only")
    add("-v", "--verbose", action="store_true", help="also print why it is restarted, or not")
    add("--version", action="version", version=f"evreload {evreload.__version__}")
    return parser


def parse(arguments: list[str]) -> Options:
    """Return the options that *arguments* and pyproject.toml make together.

    Raises BadInput for what is unknown or wrong in either.
    """
    parser = _parser()
    ours, target = _split(arguments, parser)
    given = vars(parser.parse_args(ours))
    if target in ([], ["-m"]):
        raise BadInput(f"give a script to run, or a module with -m (see {PROG} --help)")
    here = _origin.working_directory()
    if here is None:
        raise BadInput('the working directory was removed; if it exists again, run: cd "$PWD"')
    poll = poll_by_environment()
    environment = {} if poll is None else {"poll": poll}
    told = {**_from_project(here, given), **environment, **_convert(given, here, "--{}")}
    return Options(target=target, **told)


def _split(arguments: list[str], parser: _Parser) -> tuple[list[str], list[str]]:
    """Part our own options from the target, which argparse would not leave as it is."""
    with_value = {
        name for one in parser._actions if one.nargs is None for name in one.option_strings
    }
    index = 0
    while index < len(arguments) and arguments[index].startswith("-"):
        argument, rest = arguments[index], arguments[index + 1 :]
        if argument == "--":
            target = rest if rest[:1] == ["-m"] else _origin.split(arguments[index:])[1]
            return arguments[:index], target
        last = "" if argument.startswith("--") else argument[1:].lstrip(FLAGS)
        if last.startswith("m"):  # -m, -mNAME, -qm
            flags, name = argument.removesuffix(last), last[1:]
            ours = [flags] if flags != "-" else []
            return [*arguments[:index], *ours], ["-m", *([name] if name else []), *rest]
        index += 2 if {argument, f"-{last}"} & with_value else 1
    return arguments[:index], arguments[index:]


def _from_project(directory: str, besides: Container[str]) -> dict[str, Any]:
    """Return the settings under [tool.evreload] in the nearest pyproject.toml, *besides* some."""
    while not os.path.isfile(path := os.path.join(directory, "pyproject.toml")):
        if directory == os.path.dirname(directory):
            return {}
        directory = os.path.dirname(directory)
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file).get("tool", {}).get("evreload", {})
    except (OSError, ValueError) as error:  # of TOML, or of UTF-8
        raise BadInput(f"cannot read {path}: {error}") from None
    except AttributeError:
        raise BadInput(f"'tool' must be a table in {path}") from None
    if not isinstance(table, dict):
        raise BadInput(f"'evreload' must be a table under [tool] in {path}")
    known = {name.replace("_", "-") for name in Options._fields} - {"target"}
    for key in table:
        if key.replace("_", "-") not in known:
            raise BadInput(
                f"unknown key {key!r} under [tool.evreload] in {path}; "
                f"there are {', '.join(sorted(known))}"
            )
    given = {key.replace("-", "_"): value for key, value in table.items()}
    wanted = {name: value for name, value in given.items() if name not in besides}
    return _convert(wanted, directory, f"{{}} under [tool.evreload] in {path}")


# From text to values


def _convert(given: dict[str, Any], directory: str, where: str) -> dict[str, Any]:
    """Return *given* as the fields of Options; relative paths are relative to *directory*."""
    converted: dict[str, Any] = {}
    for name, value in given.items():
        told = where.format(name.replace("_", "-"))
        if name == "watch":
            texts = _texts(told, value)
            converted[name] = tuple(_readable(told, directory, path) for path in texts)
        elif name in ("ignore", "cold"):
            converted[name] = tuple(filter(None, _texts(told, value)))
        elif name == "stop_signal":
            converted[name] = _signal(told, value)
        elif name in ("stop_timeout", "grace"):
            converted[name] = _number(told, value, "seconds")
        elif name == "check_time":
            converted[name] = _number(told, value, "milliseconds", least=1) / 1000
        elif name == "debounce":
            converted[name] = _number(told, value, "milliseconds") / 1000
        elif isinstance(value, bool):
            converted[name] = value
        else:
            raise BadInput(f"{told} must be true or false, not {value!r}")
    return converted


def _texts(told: str, value: object) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    raise BadInput(f"{told} must be a list of strings, not {value!r}")


def _readable(told: str, directory: str, path: str) -> str:
    if not path:
        raise BadInput(f"cannot watch a path without a name; leave it out, or write . ({told})")
    path = os.path.join(directory, path)
    if not os.path.exists(path):
        raise BadInput(f"cannot watch {path}: there is no such file or directory ({told})")
    if not os.access(path, os.R_OK):
        raise BadInput(f"cannot watch {path}: it may not be read ({told})")
    return absolute(path)


def _number(told: str, value: object, unit: str, *, least: int = 0) -> float:
    try:
        return number(told, value, unit, at_least=least)
    except (TypeError, ValueError) as error:
        raise BadInput(str(error)) from None


def _time(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # which is refused by the option's name


def _signal(told: str, value: object) -> int:
    name = str(value).upper()
    name = name if name.startswith("SIG") else "SIG" + name
    wanted = getattr(signal, name, None)
    if not isinstance(wanted, signal.Signals):
        raise BadInput(f"{told} must be the name of a signal, like SIGINT, not {value!r}")
    return wanted
