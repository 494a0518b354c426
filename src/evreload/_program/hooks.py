"""What the program wants done before it is replaced.

The thread of the program's loop. Imported into the program itself, so it imports next to nothing.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from typing import Any

    Hook = Callable[[], object]

TIMEOUT = 5.0  # seconds a coroutine hook may take
CO_COROUTINE = 0x80


class Hooks:
    """Reload hooks, in the order they were added.

    Coroutine functions are awaited first; then the others are called in one step with the
    restart, or a hook that stops the loop would end the program instead.
    """

    def __init__(self) -> None:
        self._coroutines: list[Hook] = []
        self._ordinary: list[Hook] = []
        self.are_running = False

    def add(self, hook: Hook) -> None:
        self._kin(hook).append(hook)

    def remove(self, hook: Hook) -> None:
        """Forget *hook*. Raises ValueError if it was not added."""
        if hook not in self._kin(hook):
            raise ValueError(f"{_name(hook)} was not added as a reload hook")
        self._kin(hook).remove(hook)

    def _kin(self, hook: Hook) -> list[Hook]:
        return self._coroutines if _is_coroutine(hook) else self._ordinary

    async def wait(self) -> bool:
        """Await the coroutine hooks, each for a bounded time; return whether there are any.

        Raises CancelledError if the caller's task is cancelled meanwhile, as by a hook that ends
        the loop: see `is_interrupted`.
        """
        self.are_running = True
        try:
            for hook in list(self._coroutines):
                await _await(hook)
        finally:
            self.are_running = False
        return bool(self._coroutines)

    def wait_outside_a_loop(self) -> None:
        """Await the coroutine hooks where nobody else can; on the loop itself, leave them out."""
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
            with contextlib.suppress(asyncio.CancelledError):  # by a hook
                asyncio.run(self.wait())
            return
        for hook in self._coroutines:
            _logger().warning("reload() was called on the loop: %s is not awaited", _name(hook))

    def call(self) -> None:
        """Call the ordinary hooks. What one raises is logged, but for SystemExit and Ctrl-C."""
        self.are_running = True
        try:
            for hook in list(self._ordinary):
                _call(hook)
        finally:
            self.are_running = False


def is_interrupted() -> bool:
    """Whether Ctrl-C ends the program, and its tasks were cancelled for that, not by a hook.

    While `asyncio.run` cancels them, it is handling what has ended the program. Not to be asked
    while another exception is handled.
    """
    return isinstance(sys.exception(), KeyboardInterrupt)


async def _await(hook: Hook) -> None:
    """Await *hook* in the task of the caller: it may cancel all others, or stop the loop."""
    import asyncio

    limit = asyncio.timeout(TIMEOUT)
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
            _logger().error("reload hook %s took over %g s", _name(hook), TIMEOUT)
        else:
            _logger().exception("reload hook %s failed", _name(hook))


def _call(hook: Hook) -> None:
    try:
        hook()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:  # CancelledError, say: it must not keep the program from its restart
        _logger().exception("reload hook %s failed", _name(hook))


def _is_coroutine(hook: Any) -> bool:
    # As `inspect` tells it, which costs 9 ms to import.
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
