"""The settings: each is declared once, for the command line, pyproject.toml and `start`.

`Settings` declares them. From `OPTIONS`, `_supervisor.options` makes the parsers of the command
line and of pyproject.toml. The tests compare the tables of the docs with it.

Runs in: the program, on the thread that calls evreload; the supervisor, on its main thread.
Owns: nothing.
"""

from __future__ import annotations

import os

from ._common.record import Record

TYPE_CHECKING = False  # `typing` costs 2 ms, and the command has not started the program yet
if TYPE_CHECKING:
    from typing import Any

SIGTERM = 15  # on every system; importing `signal` costs 5 ms
OFF = ("off", "0", "no", "false")  # values of environment variables that turn a switch off

# The types of options: how their values are written.
SWITCH, GLOBS, PATHS, NAMES = "switch", "globs", "paths", "names"
MILLISECONDS, SECONDS, SIGNAL = "milliseconds", "seconds", "signal"
LISTS = (GLOBS, PATHS, NAMES)


class Option(Record):
    """The declaration of a setting: its type, default, flags of the command, and help text.

    The key in pyproject.toml is the name of the setting, with hyphens. *minimum* is in the unit
    of the type. *in_start*: `start` has an argument of the same name.
    """

    type: str
    default: Any
    flags: tuple[str, ...]
    help: str
    metavar: str = ""
    minimum: int = 0
    in_start: bool = False

    @property
    def scale(self) -> int:
        """The number of the option's units in a second."""
        return 1000 if self.type == MILLISECONDS else 1

    @property
    def shown_default(self) -> float:
        """The default of a number, in the option's unit."""
        shown: float = self.default * self.scale
        return shown


def _option(type: str, default: Any, *flags: str, **more: Any) -> Any:  # noqa: A002
    return Option(type, default, flags, **more)


class Settings(Record):
    """What to run, and how to watch and restart it. All times are in seconds."""

    target: list[str] = []  # noqa: RUF012  # Python's command line, without its flags; no option
    watch: tuple[str, ...] = _option(
        PATHS, (), "-w", "--watch", metavar="PATH", help="also watch this file or directory"
    )
    ignore: tuple[str, ...] = _option(
        GLOBS,
        (),
        "-i",
        "--ignore",
        metavar="GLOB",
        help="do not restart for these paths",
        in_start=True,
    )
    gitignore: bool = _option(
        SWITCH, True, "--no-gitignore", help="also watch what .gitignore excludes"
    )
    until_success: bool = _option(
        SWITCH, False, "--until-success", help="end when the program ends with status 0"
    )
    poll: bool = _option(
        SWITCH, False, "--poll", help="poll files instead of waiting for events", in_start=True
    )
    check_time: float = _option(
        MILLISECONDS,
        0.5,  # as in Tornado
        "--check-time",
        metavar="MS",
        help="how often to poll, where there are no events (500)",
        minimum=1,
        in_start=True,
    )
    debounce: float = _option(
        MILLISECONDS,
        0.005,
        "--debounce",
        metavar="MS",
        help="wait until files are unchanged for this long (5)",
        in_start=True,
    )
    stop_signal: int = _option(
        SIGNAL,
        SIGTERM,
        "--stop-signal",
        metavar="NAME",
        help="signal that asks the program to end (SIGTERM)",
    )
    stop_timeout: float = _option(  # 0 for none
        SECONDS,
        2.0,
        "--stop-timeout",
        metavar="SECONDS",
        help="kill the program after this time; 0: never (2)",
    )
    keep_sockets: bool = _option(
        SWITCH, True, "--no-keep-sockets", help="close listening sockets when the program ends"
    )
    grace: float = _option(
        SECONDS,
        1.0,
        "--grace",
        metavar="SECONDS",
        help="how long requests in progress may take (1)",
        in_start=True,
    )
    full_exit: bool = _option(
        SWITCH, False, "--full-exit", help="let Python delete all objects before each restart"
    )
    warm: bool = _option(
        SWITCH, False, "--warm", help="import in advance what does not change (Linux)"
    )
    cold: tuple[str, ...] = _option(
        NAMES, (), "--cold", metavar="MODULE", help="with --warm, do not import this in advance"
    )
    clear: bool = _option(
        SWITCH, False, "-c", "--clear", help="clear the terminal before each restart"
    )
    quiet: bool = _option(SWITCH, False, "-q", "--quiet", help="print problems only")
    verbose: bool = _option(
        SWITCH, False, "-v", "--verbose", help="also print why it is restarted, or not"
    )

    def as_arguments(self) -> list[str]:
        """Return the command's options for the settings that are arguments of `start`."""
        arguments = []
        for name, option in OPTIONS.items():
            value, flag = getattr(self, name), option.flags[-1]
            if not option.in_start:
                continue
            if option.type == SWITCH:
                arguments += [flag] if value != option.default else []
            elif option.type in LISTS:
                arguments += [f"{flag}={one}" for one in value]
            else:
                arguments.append(f"{flag}={value * option.scale}")
        return arguments


OPTIONS: dict[str, Option] = {
    name: value for name, value in vars(Settings).items() if isinstance(value, Option)
}
for _name, _declared in OPTIONS.items():
    setattr(Settings, _name, _declared.default)


def from_start(
    *, check_time: object, debounce: object, poll: object, ignore: object, grace: object
) -> Settings:
    """Return the settings for the arguments of `evreload.start`, which documents them.

    Raises TypeError or ValueError with the name of the argument that is wrong.
    """
    if isinstance(ignore, (str, bytes)) or not hasattr(ignore, "__iter__"):
        raise TypeError(f"ignore must be a list of globs, such as ['*.log'], not {ignore!r}")
    globs = tuple(ignore)
    if not all(isinstance(glob, str) for glob in globs):
        raise TypeError(f"ignore must be a list of globs, such as ['*.log'], not {ignore!r}")
    if poll not in (None, True, False):
        raise TypeError(f"poll must be True, False or None, not {poll!r}")
    if poll is None:
        poll = poll_by_environment()
    return Settings(
        check_time=to_number("check_time", check_time, OPTIONS["check_time"]),
        debounce=to_number("debounce", debounce, OPTIONS["debounce"]),
        poll=bool(poll),
        ignore=tuple(filter(None, globs)),  # an empty one would match every path
        grace=to_number("grace", grace, OPTIONS["grace"]),
    )


def poll_by_environment() -> bool | None:
    """Return whether ``EVRELOAD_POLL`` turns polling on, or None if it is not set."""
    value = os.environ.get("EVRELOAD_POLL", "").lower()
    return value not in OFF if value else None


def to_number(name: str, value: object, option: Option) -> float:
    """Convert *value* from the unit of *option* to seconds.

    Raises TypeError or ValueError with the *name* if it is no number, or too small.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of {option.type}, not {value!r}")
    if not option.minimum <= value < float("inf"):
        raise ValueError(
            f"{name} must be a number of {option.type}, at least {option.minimum}, not {value!r}"
        )
    return value / option.scale
