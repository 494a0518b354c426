"""Whether this process is a worker, of Tornado or of multiprocessing.

A worker cannot restart the program by itself. This module imports neither package: a program with
such workers has imported it.

Runs in: the program, in in-process mode, on any thread.
Owns: nothing.
"""

from __future__ import annotations

import sys

ADVICE = "start the program with `python -m evreload`, which restarts all its processes"


def obstacle() -> str | None:
    """Return why this process cannot be restarted, if the reason is that it is a worker."""
    if number() is not None:
        return f"it is one worker of several; {ADVICE}"
    if is_of_multiprocessing():
        return f"it is a child of multiprocessing; {ADVICE}"
    return None


def is_of_multiprocessing() -> bool:
    """Whether multiprocessing has started, or forked, this process."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and (process.parent_process() is not None or is_being_prepared())


def is_being_prepared() -> bool:
    """Whether multiprocessing now imports the main module into this process, its child."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and hasattr(process.current_process(), "_inheriting")


def number() -> int | None:
    """Return the number of this worker of Tornado, from 0 on; None if it is no worker."""
    process = sys.modules.get("tornado.process")
    return process.task_id() if process else None


def are_being_forked() -> bool:
    """Whether this thread is in the middle of forking the workers of Tornado."""
    process = sys.modules.get("tornado.process")
    frame = sys._getframe()
    while process and frame.f_back:
        frame = frame.f_back
        if frame.f_code is process.fork_processes.__code__:
            return True
    return False
