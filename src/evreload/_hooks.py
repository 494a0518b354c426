"""What the program wants done before it is replaced.

The thread of the program's loop. Imported into the program itself, so it imports next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    Hook = Callable[[], object]

TIMEOUT = 5.0  # seconds a coroutine hook may take


class Hooks:
    """Reload hooks, in the order they were added.

    Coroutine functions are awaited first; then the others are called in one step with the
    restart, or a hook that stops the loop would end the program instead.
    """

    def __init__(self) -> None:
        self._hooks: list[Hook] = []

    def add(self, hook: Hook) -> None:
        self._hooks.append(hook)

    def remove(self, hook: Hook) -> None:
        """Forget *hook*. Raises ValueError if it was not added."""
        if hook not in self._hooks:
            raise ValueError(f"{_name(hook)} is no reload hook: it was not added")
        self._hooks.remove(hook)

    async def wait(self) -> bool:
        """Await the coroutine hooks, each for a bounded time; return whether there are any."""
        import asyncio

        waiting = [hook for hook in self._hooks if _is_coroutine(hook)]
        for hook in waiting:
            try:
                await asyncio.wait_for(hook(), TIMEOUT)  # type: ignore[arg-type]
            except TimeoutError:
                _logger().error("reload hook %s took over %g s", _name(hook), TIMEOUT)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task and task.cancelling():  # the program ends
                    raise
                _logger().exception("reload hook %s failed", _name(hook))
            except Exception:
                _logger().exception("reload hook %s failed", _name(hook))
        return bool(waiting)

    def wait_outside_a_loop(self) -> None:
        """Await the coroutine hooks where nobody else can; on the loop itself, leave them out."""
        waiting = [hook for hook in self._hooks if _is_coroutine(hook)]
        if not waiting:
            return
        import asyncio

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(self.wait())
            return
        for hook in waiting:
            _logger().warning("reload() was called on the loop: %s is not awaited", _name(hook))

    def call(self) -> None:
        """Call the ordinary hooks. What one raises is logged, but for SystemExit."""
        for hook in [hook for hook in self._hooks if not _is_coroutine(hook)]:
            try:
                hook()
            except Exception:
                _logger().exception("reload hook %s failed", _name(hook))


def _is_coroutine(hook: Hook) -> bool:
    import inspect

    call = getattr(hook, "__call__", None)  # noqa: B004  # an object with `async def __call__`
    return inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(call)


def _name(hook: Hook) -> str:
    return getattr(hook, "__qualname__", None) or repr(hook)


def _logger() -> logging.Logger:
    import logging

    return logging.getLogger("evreload")
