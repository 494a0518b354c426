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

from .. import _origin, _process
from .._modules import absolute
from .._settings import Options, poll_by_environment

PROG = "python -m evreload"
USAGE = "%(prog)s [option ...] (-m module | path) [argument ...]"
EPILOG = """\
examples:
  python -m evreload server.py --port 8000
  python -m evreload -w config/ -i '*.log' -m uvicorn app:app
  python -m evreload --until-success -m pytest -x

The same settings may stand in pyproject.toml, under [tool.evreload].
"""
DESCRIPTION = "Run a program, and run it again the moment its source changes."


class BadInput(Exception):
    """Something the user gave is wrong; the message says what, and what to do."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command with *arguments*, by default those of the process; end with its status."""
    try:
        options = parse(sys.argv[1:] if arguments is None else list(arguments))
        check_target(options.target)
        if options.warm and not _process.CAN_FORK:
            raise BadInput("--warm needs Linux; leave it out, and every start is cold")
    except BadInput as error:
        sys.stderr.write(f"evreload: {error}\n")
        sys.exit(2)
    if _process.CAN_SUPERVISE:
        _supervise(options)
    _run_here(options)


def _supervise(options: Options) -> NoReturn:
    from .._handover import VARIABLE
    from .family import Guardian
    from .run import cold

    os.environ.pop(VARIABLE, None)  # it was meant for whoever started us
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # or nobody would tell of the program's end
    guardian = Guardian()
    # The program starts at once; what we need for watching it is imported meanwhile.
    first = cold(options)
    guardian.protect(first.pid)
    first.go(options.grace)
    # They wait until the supervisor is there to take them.
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    _process.adopt_orphans()
    from .. import _console
    from .supervisor import Supervisor

    _console.configure(quiet=options.quiet, verbose=options.verbose)
    sys.exit(Supervisor(options, first, guardian).run())


def _run_here(options: Options) -> NoReturn:
    """Where a child can't be handed pipes: run the program in this process, then wait."""
    from .._program import run_and_wait

    evreload.install()
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
    add("-w", "--watch", action="append", metavar="PATH", help="watch a file or directory, too")
    add("-i", "--ignore", action="append", metavar="GLOB", help="do not restart for these paths")
    add("--no-gitignore", dest="gitignore", action="store_false",
        help="also watch what .gitignore excludes")  # fmt: skip
    add("--until-success", action="store_true", help="end when the program ends with status 0")
    add("--poll", action="store_true", help="poll files instead of waiting for events")
    add("--check-time", metavar="MS", help="how often to poll, where there are no events (500)")
    add("--debounce", metavar="MS", help="how long files must have been quiet (5)")
    add("--stop-signal", metavar="NAME", help="what asks the program to end (SIGTERM)")
    add("--stop-timeout", metavar="SECONDS", help="kill it after this time; 0 for never (2)")
    add("--no-keep-sockets", dest="keep_sockets", action="store_false",
        help="let listening sockets end with the program")  # fmt: skip
    add("--grace", metavar="SECONDS", help="how long requests in progress may take (1)")
    add("--warm", action="store_true", help="import in advance what does not change (Linux)")
    add("--cold", action="append", metavar="MODULE", help="with --warm, leave this module out")
    add("-c", "--clear", action="store_true", help="clear the terminal before each restart")
    add("-q", "--quiet", action="store_true", help="print problems only")
    add("-v", "--verbose", action="store_true", help="print why a restart comes, or does not")
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
        raise BadInput("the working directory was removed; if it is there again, enter it again")
    poll = poll_by_environment()
    environment = {} if poll is None else {"poll": poll}
    told = {**_from_project(here), **environment, **_convert(given, here, "--{}")}
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
            return arguments[:index], rest
        flags, m, name = argument.partition("m")
        if m and set(flags[1:]) <= {"c", "q", "v"}:  # -m, -mNAME, -qm
            ours = [flags] if flags != "-" else []
            return [*arguments[:index], *ours], ["-m", *([name] if name else []), *rest]
        index += 2 if argument in with_value else 1
    return arguments[:index], arguments[index:]


def _from_project(directory: str) -> dict[str, Any]:
    """Return the settings under [tool.evreload] in the nearest pyproject.toml."""
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
    return _convert(given, directory, f"{{}} under [tool.evreload] in {path}")


# From text to values


def _convert(given: dict[str, Any], directory: str, where: str) -> dict[str, Any]:
    """Return *given* as the fields of Options; relative paths are relative to *directory*."""
    converted: dict[str, Any] = {}
    for name, value in given.items():
        told = where.format(name.replace("_", "-"))
        if name == "watch":
            converted[name] = tuple(_readable(directory, path) for path in _texts(told, value))
        elif name in ("ignore", "cold"):
            converted[name] = tuple(filter(None, _texts(told, value)))
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
    if not path:
        raise BadInput("cannot watch a path without a name; leave it out, or write .")
    path = os.path.join(directory, path)
    if not os.path.exists(path):
        raise BadInput(f"cannot watch {path}: there is no such file or directory")
    if not os.access(path, os.R_OK):
        raise BadInput(f"cannot watch {path}: it may not be read")
    return absolute(path)


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
        above, spec = spec, _find(".".join(parts[:count]), where)
        if spec is None and above and _extends_its_path(above):
            return  # only the package itself knows where to look
        if spec is None:
            raise BadInput(f"there is no module {name!r} to run from {os.getcwd()}")
        where = spec.submodule_search_locations
        if where is None and count < len(parts):
            raise BadInput(f"there is no module {name!r} to run: {spec.name!r} is no package")
    if where is not None and _find(name + ".__main__", where) is None:
        raise BadInput(f"the package {name!r} has no __main__.py to run")


def _extends_its_path(package: importlib.machinery.ModuleSpec) -> bool:
    """Whether *package* may do so when it is imported, as those of pkgutil do."""
    try:
        with open(package.origin or "", "rb") as file:
            return b"__path__" in file.read()
    except OSError:
        return False


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
