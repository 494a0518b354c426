"""The reload hooks: functions of the program, to call before a restart.

Runs in: the program, in both modes, on the thread of its loop or the main thread.
Owns: the list of hooks. The program imports it, so it imports next to nothing.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from typing import Any

    Hook = Callable[[], object]

COROUTINE_TIMEOUT = 5.0  # seconds a coroutine hook may take
CO_COROUTINE = 0x80  # of `inspect`, which costs 9 ms to import


class Hooks:
    """Reload hooks, in the order they were added.

    Coroutine functions are awaited first. Then the ordinary functions are called, and the restart
    follows without a return to the loop: otherwise, a hook that stops the loop would end the
    program.
    """

    def __init__(self) -> None:
        self._coroutines: list[Hook] = []
        self._ordinary: list[Hook] = []
        self.are_running = False

    def add(self, hook: Hook) -> None:
        """Add *hook* as the last one of its kind."""
        self._list_for(hook).append(hook)

    def remove(self, hook: Hook) -> None:
        """Remove *hook*. Raises ValueError if it was not added."""
        if hook not in self._list_for(hook):
            raise ValueError(f"{_name(hook)} was not added as a reload hook")
        self._list_for(hook).remove(hook)

    def _list_for(self, hook: Hook) -> list[Hook]:
        return self._coroutines if _is_coroutine(hook) else self._ordinary

    async def run_coroutines(self) -> bool:
        """Await each coroutine hook for `COROUTINE_TIMEOUT` at most; return whether there are any.

        Raises CancelledError if the caller's task is cancelled meanwhile: by Ctrl-C, or by a hook
        that cancels all tasks. `is_interrupted` distinguishes these.
        """
        self.are_running = True
        try:
            for hook in list(self._coroutines):
                await _await(hook)
        finally:
            self.are_running = False
        return bool(self._coroutines)

    def run_coroutines_outside_loop(self) -> None:
        """Await the coroutine hooks if no loop runs on this thread; else warn, and await none."""
        if not self._coroutines:
            return
        import asyncio
        import contextlib

        if not hasattr(asyncio, "run"):
            _logger().debug("asyncio is just being imported: no coroutine hook is awaited")
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            with contextlib.suppress(asyncio.CancelledError):  # a hook has cancelled all tasks
                asyncio.run(self.run_coroutines())
            return
        for hook in self._coroutines:
            _logger().warning("reload() was called on the loop: %s is not awaited", _name(hook))

    def run_ordinary(self) -> None:
        """Call the ordinary hooks; log their errors, but raise SystemExit and KeyboardInterrupt."""
        self.are_running = True
        try:
            for hook in list(self._ordinary):
                _call(hook)
        finally:
            self.are_running = False


def is_interrupted() -> bool:
    """Whether Ctrl-C has cancelled the tasks of the program; False if a hook has.

    `asyncio.run` cancels the tasks while it handles the KeyboardInterrupt, which is the exception
    being handled then. So this must not be called while another exception is handled.
    """
    return isinstance(sys.exception(), KeyboardInterrupt)


async def _await(hook: Hook) -> None:
    """Await *hook* in the caller's task: the hook may cancel all tasks but its own."""
    import asyncio

    limit = asyncio.timeout(COROUTINE_TIMEOUT)
    try:
        async with limit:
            await hook()  # type: ignore[misc]
    except (SystemExit, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
            raise
        if isinstance(error, TimeoutError) and limit.expired():
            _logger().error("reload hook %s took over %g s", _name(hook), COROUTINE_TIMEOUT)
        else:
            _logger().exception("reload hook %s failed", _name(hook))


def _call(hook: Hook) -> None:
    try:
        hook()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:  # even CancelledError: the restart must still happen
        _logger().exception("reload hook %s failed", _name(hook))


def _is_coroutine(hook: Any) -> bool:
    while hasattr(hook, "func") and hasattr(hook, "keywords"):  # functools.partial
        hook = hook.func
    calls = (hook, getattr(hook, "__call__", None))  # noqa: B004  # with `async def __call__`
    codes = [getattr(getattr(call, "__func__", call), "__code__", None) for call in calls]
    return any(getattr(code, "co_flags", 0) & CO_COROUTINE for code in codes)


def _name(hook: Hook) -> str:
    return getattr(hook, "__qualname__", None) or repr(hook)


def _logger() -> logging.Logger:
    import logging

    return logging.getLogger("evreload")
