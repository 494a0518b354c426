"""The command line, and the same settings from pyproject.toml: both become one `Options`.

The main thread. What is wrong is said in one sentence, with status 2, before anything starts.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import os
import signal
import sys
import tomllib
from collections.abc import Sequence
from typing import Any, NoReturn

import evreload

from . import _process
from ._settings import Options, poll_by_environment

PROG = "python -m evreload"
USAGE = "%(prog)s [option ...] (-m module | path) [argument ...]"
EPILOG = """\
examples:
  python -m evreload server.py --port 8000
  python -m evreload -w config/ -i '*.log' -m uvicorn app:app
  python -m evreload --until-success -m pytest -x

The same settings may stand in the nearest pyproject.toml, under [tool.evreload].
"""
DESCRIPTION = "Run a program, and run it again the moment its source changes."


class BadInput(Exception):
    """Something the user gave is wrong; the message says what, and what to do."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command with *arguments*, by default those of the process; end with its status."""
    try:
        options = parse(sys.argv[1:] if arguments is None else list(arguments))
        check_target(options.target)
    except BadInput as error:
        sys.stderr.write(f"evreload: {error}\n")
        sys.exit(2)
    if _process.CAN_SUPERVISE:
        _supervise(options)
    _run_here(options)


def _supervise(options: Options) -> NoReturn:
    from ._family import Guardian
    from ._handover import VARIABLE
    from ._run import Run

    os.environ.pop(VARIABLE, None)  # it was meant for whoever started us
    guardian = Guardian()
    # The program starts at once; what we need for watching it is imported meanwhile.
    first = Run(options.target, keep_sockets=options.keep_sockets)
    first.go()
    from . import _console
    from ._supervisor import Supervisor

    _console.configure(quiet=options.quiet, verbose=options.verbose)
    sys.exit(Supervisor(options, first, guardian).run())


def _run_here(options: Options) -> NoReturn:
    """Where a child can't be handed pipes: run the program in this process, then wait."""
    from ._program import run_and_wait

    evreload.install()
    run_and_wait(options.target, until_success=options.until_success)
    sys.exit(0)


# The command line


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message} (see {PROG} --help)")


def _parser() -> _Parser:
    parser = _Parser(
        prog=PROG,
        usage=USAGE,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-m", dest="module", nargs=argparse.REMAINDER, metavar="MODULE", help="run a module")
    add("target", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    add("-w", "--watch", action="append", metavar="PATH", help="watch a file or directory, too")
    add("-i", "--ignore", action="append", metavar="GLOB", help="do not restart for these paths")
    add("--no-gitignore", dest="gitignore", action="store_false",
        help="in a watched directory, watch what git ignores, too")  # fmt: skip
    add("--until-success", action="store_true", help="end when the program ends with status 0")
    add("--poll", action="store_true", help="look at the files instead of awaiting events")
    add("--check-time", metavar="MS", help="how often to look, where events can't be had (500)")
    add("--debounce", metavar="MS", help="how long files must have been quiet (10)")
    add("--stop-signal", metavar="NAME", help="what asks the program to end (SIGTERM)")
    add("--stop-timeout", metavar="SECONDS", help="kill it after this time; 0 for never (2)")
    add("--no-keep-sockets", dest="keep_sockets", action="store_false",
        help="let listening sockets end with the program")  # fmt: skip
    add("--grace", metavar="SECONDS", help="how long requests in progress may take (1)")
    add("-c", "--clear", action="store_true", help="clear the terminal before each restart")
    add("-q", "--quiet", action="store_true", help="print problems only")
    add("-v", "--verbose", action="store_true", help="print why a restart comes, or does not")
    add("--version", action="version", version=f"evreload {evreload.__version__}")
    return parser


def parse(arguments: list[str]) -> Options:
    """Return the options that *arguments* and pyproject.toml make together.

    Raises BadInput for what is unknown or wrong in either.
    """
    given = vars(_parser().parse_args(arguments))
    module, rest = given.pop("module", None), given.pop("target", [])
    target = ["-m", *module] if module is not None else rest[rest[:1] == ["--"] :]
    if target in ([], ["-m"]):
        raise BadInput(f"give a script to run, or a module with -m (see {PROG} --help)")
    here = os.getcwd()
    poll = poll_by_environment()
    environment = {} if poll is None else {"poll": poll}
    told = {**_from_project(here), **environment, **_convert(given, here, "--{}")}
    return Options(target=target, **told)


def _from_project(directory: str) -> dict[str, Any]:
    """Return the settings under [tool.evreload] in the nearest pyproject.toml."""
    while not os.path.isfile(path := os.path.join(directory, "pyproject.toml")):
        if directory == os.path.dirname(directory):
            return {}
        directory = os.path.dirname(directory)
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file).get("tool", {}).get("evreload", {})
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"cannot read {path}: {error}") from None
    known = {name.replace("_", "-") for name in Options._fields} - {"target"}
    for key in table:
        if key.replace("_", "-") not in known:
            raise BadInput(
                f"unknown key {key!r} under [tool.evreload] in {path}; "
                f"there are {', '.join(sorted(known))}"
            )
    given = {key.replace("-", "_"): value for key, value in table.items()}
    return _convert(given, directory, f"{{}} under [tool.evreload] in {path}")


# From text to values


def _convert(given: dict[str, Any], directory: str, where: str) -> dict[str, Any]:
    """Return *given* as the fields of Options; relative paths are relative to *directory*."""
    converted: dict[str, Any] = {}
    for name, value in given.items():
        told = where.format(name.replace("_", "-"))
        if name == "watch":
            converted[name] = tuple(_readable(directory, path) for path in _texts(told, value))
        elif name == "ignore":
            converted[name] = _texts(told, value)
        elif name == "stop_signal":
            converted[name] = _signal(told, value)
        elif name in ("stop_timeout", "grace"):
            converted[name] = _number(told, value, "seconds", least=0)
        elif name == "check_time":
            converted[name] = _number(told, value, "milliseconds", least=1) / 1000
        elif name == "debounce":
            converted[name] = _number(told, value, "milliseconds", least=0) / 1000
        elif isinstance(value, bool):
            converted[name] = value
        else:
            raise BadInput(f"{told} must be true or false, not {value!r}")
    return converted


def _texts(told: str, value: object) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    raise BadInput(f"{told} must be a list of strings, not {value!r}")


def _readable(directory: str, path: str) -> str:
    path = os.path.join(directory, path)
    if not os.path.exists(path):
        raise BadInput(f"cannot watch {path}: there is no such file or directory")
    if not os.access(path, os.R_OK):
        raise BadInput(f"cannot watch {path}: it may not be read")
    return os.path.normpath(path)


def _number(told: str, value: object, unit: str, *, least: int) -> float:
    try:
        number = float(value) if isinstance(value, (str, int, float)) else float("nan")
    except ValueError:
        number = float("nan")
    if isinstance(value, bool) or not least <= number < float("inf"):
        raise BadInput(f"{told} must be a number of {unit}, at least {least}, not {value!r}")
    return number


def _signal(told: str, value: object) -> int:
    name = str(value).upper()
    name = name if name.startswith("SIG") else "SIG" + name
    number = getattr(signal, name, None)
    if not isinstance(number, signal.Signals):
        raise BadInput(f"{told} must be the name of a signal, like SIGINT, not {value!r}")
    return number


# The target: what is not there is bad input; what is there but broken is run, and waited for


def check_target(target: list[str]) -> None:
    """Raise BadInput if there is nothing of the name of *target*; nothing of it is run."""
    if target[0] == "-m":
        _check_module(target[1])
        return
    path = target[0]
    if not os.path.exists(path):
        raise BadInput(f"there is no script {path!r}; to run a module, give its name after -m")
    if os.path.isdir(path) and not any(
        os.path.isfile(os.path.join(path, "__main__" + ending)) for ending in (".py", ".pyc")
    ):
        raise BadInput(f"the directory {path!r} has no __main__.py to run")
    if not os.access(path, os.R_OK):
        raise BadInput(f"the script {path!r} may not be read")


def _check_module(name: str) -> None:
    spec = None
    where: Sequence[str] | None = None
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        spec = _find(".".join(parts[:count]), where)
        if spec is None:
            raise BadInput(f"there is no module {name!r} to run from {os.getcwd()}")
        where = spec.submodule_search_locations
        if where is None:
            break
    if where is not None and _find(name + ".__main__", where) is None:
        raise BadInput(f"the package {name!r} has no __main__.py to run")


def _find(name: str, where: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
    """Find a module as the program's Python will, without importing the packages above it."""
    here = [] if sys.flags.safe_path else [os.getcwd()]
    path = list(where) if where is not None else [*here, *sys.path]
    for finder in sys.meta_path:
        is_path_finder = finder is importlib.machinery.PathFinder
        spec = finder.find_spec(name, path if is_path_finder or where is not None else None)
        if spec is not None:
            return spec
    return None
