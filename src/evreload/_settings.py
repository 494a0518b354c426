"""How to watch: what `start` was told, or the command.

The caller's thread. What is wrong fails here, at the border, naming the argument.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

CHECK_TIME = 500  # milliseconds, as in Tornado
DEBOUNCE = 5  # milliseconds
GRACE = 1.0  # seconds
NO = ("off", "0", "no", "false")  # for a switch in the environment


class Settings(NamedTuple):
    """All times in seconds."""

    check_time: float
    debounce: float
    poll: bool
    ignore: tuple[str, ...]
    grace: float

    def as_arguments(self) -> list[str]:
        """Return what tells the command the same."""
        times = {"--check-time": self.check_time, "--debounce": self.debounce}
        arguments = [f"{name}={time * 1000}" for name, time in times.items()]
        arguments.append(f"--grace={self.grace}")
        arguments += [f"--ignore={glob}" for glob in self.ignore]
        return [*arguments, "--poll"] if self.poll else arguments


class Options(NamedTuple):
    """What the command was asked to do; all times in seconds."""

    target: list[str]
    until_success: bool = False
    watch: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    gitignore: bool = True
    poll: bool = False
    check_time: float = CHECK_TIME / 1000
    debounce: float = DEBOUNCE / 1000
    stop_signal: int = signal.SIGTERM
    stop_timeout: float = 2.0  # 0 for none
    grace: float = GRACE
    keep_sockets: bool = True
    warm: bool = False
    cold: tuple[str, ...] = ()
    clear: bool = False
    quiet: bool = False
    verbose: bool = False


def start(
    check_time: float = CHECK_TIME,
    *,
    debounce: float = DEBOUNCE,
    poll: bool | None = None,
    ignore: Iterable[str] = (),
    grace: float = GRACE,
) -> Settings:
    """Return the settings for the arguments of `evreload.start`; see there.

    It has the same name, since that is what Python says of arguments it does not know.
    """
    if isinstance(ignore, str) or not isinstance(ignore, Iterable):
        raise TypeError(f"ignore must be a list of globs, such as ['*.log'], not {ignore!r}")
    globs = tuple(ignore)
    if not all(isinstance(glob, str) for glob in globs):
        raise TypeError(f"ignore must be a list of globs, such as ['*.log'], not {ignore!r}")
    if poll not in (None, True, False):
        raise TypeError(f"poll must be True, False or None, not {poll!r}")
    if poll is None:
        poll = poll_by_environment()
    return Settings(
        check_time=number("check_time", check_time, "milliseconds", at_least=1) / 1000,
        debounce=number("debounce", debounce, "milliseconds", at_least=0) / 1000,
        poll=bool(poll),
        ignore=globs,
        grace=number("grace", grace, "seconds", at_least=0),
    )


def poll_by_environment() -> bool | None:
    """Return what ``EVRELOAD_POLL`` says, or None if it says nothing."""
    told = os.environ.get("EVRELOAD_POLL", "").lower()
    return told not in NO if told else None


def number(name: str, value: object, unit: str, *, at_least: int) -> float:
    """Return *value* if it is such a number; raise TypeError or ValueError, by *name*, if not."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of {unit}, not {value!r}")
    if not at_least <= value < float("inf"):
        raise ValueError(f"{name} must be a number of {unit}, at least {at_least}, not {value!r}")
    return value


def without_loop(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Take the loop out of the arguments of Tornado's older ``start(io_loop, check_time)``."""
    if "io_loop" in kwargs:
        kwargs = {name: value for name, value in kwargs.items() if name != "io_loop"}
    elif args and (args[0] is None or hasattr(args[0], "add_callback")):
        args = args[1:]
    else:
        return args, kwargs
    warnings.warn(
        "start(io_loop) is deprecated: the current loop is used", DeprecationWarning, stacklevel=4
    )
    return args, kwargs
