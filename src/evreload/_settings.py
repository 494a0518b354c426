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
GRACE = 1000  # milliseconds
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
    grace: float = GRACE / 1000
    keep_sockets: bool = True
    warm: bool = False
    cold: tuple[str, ...] = ()
    clear: bool = False
    quiet: bool = False
    verbose: bool = False


def checked(
    check_time: float = CHECK_TIME,
    *,
    debounce: float = DEBOUNCE,
    poll: bool | None = None,
    ignore: Iterable[str] = (),
    grace: float = GRACE,
) -> Settings:
    """Return the settings for the arguments of `evreload.start`; see there."""
    if isinstance(ignore, str) or not isinstance(ignore, Iterable):
        raise TypeError(f"ignore must be several globs, not {ignore!r}")
    globs = tuple(ignore)
    if not all(isinstance(glob, str) for glob in globs):
        raise TypeError(f"ignore must be globs, not {globs!r}")
    if poll not in (None, True, False):
        raise TypeError(f"poll must be True, False or None, not {poll!r}")
    if poll is None:
        poll = poll_by_environment()
    return Settings(
        check_time=seconds("check_time", check_time, at_least=1),
        debounce=seconds("debounce", debounce, at_least=0),
        poll=bool(poll),
        ignore=globs,
        grace=seconds("grace", grace, at_least=0),
    )


def poll_by_environment() -> bool | None:
    """Return what ``EVRELOAD_POLL`` says, or None if it says nothing."""
    told = os.environ.get("EVRELOAD_POLL", "").lower()
    return told not in NO if told else None


def seconds(name: str, milliseconds: object, *, at_least: int) -> float:
    """Return *milliseconds* in seconds. Raises TypeError or ValueError, with the *name*."""
    if not isinstance(milliseconds, (int, float)) or isinstance(milliseconds, bool):
        raise TypeError(f"{name} must be a number of milliseconds, not {milliseconds!r}")
    if not at_least <= milliseconds < float("inf"):
        raise ValueError(f"{name} must be at least {at_least} millisecond(s), not {milliseconds!r}")
    return milliseconds / 1000


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
