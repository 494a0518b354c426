"""Workers that Tornado forks, none of which can restart the program by itself.

Any thread. Imports nothing of Tornado, since a program that forks them has.
"""

from __future__ import annotations

import sys

ADVICE = "start the program with `python -m evreload`, which replaces them all"


def obstacle() -> str | None:
    """Return why this process cannot begin again, if that is since it is a worker."""
    if number() is not None:
        return f"it is one worker of several; {ADVICE}"
    return None


def number() -> int | None:
    """Return which worker this process is, from 0 on, if it is one."""
    process = sys.modules.get("tornado.process")
    return process.task_id() if process else None


def are_being_forked() -> bool:
    """Whether that is what this thread does just now."""
    process = sys.modules.get("tornado.process")
    frame = sys._getframe()
    while process and frame.f_back:
        frame = frame.f_back
        if frame.f_code is process.fork_processes.__code__:
            return True
    return False
