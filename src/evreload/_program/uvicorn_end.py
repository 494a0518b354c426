"""Ends uvicorn without its fixed sleeps, when the supervisor stops the program.

uvicorn looks every 0.1 s whether it is to end. Then it sleeps for 0.1 s while its connections are
closed, and looks every 0.1 s whether they are. Here the signal wakes it, and it goes on as soon as
there are no connections and no requests left. It does all the rest itself: it finishes the
requests in progress, and runs the shutdown of the application.
https://github.com/encode/uvicorn/blob/0.54.0/uvicorn/server.py

A version of uvicorn whose functions use other names than the known ones is left alone.

Runs in: the program, under the supervisor, and its workers; on the main thread.
Owns: the name `asyncio` in `uvicorn.server`, and uvicorn's handler of the stop signal, from the
drain on.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` is not needed
import asyncio
import contextlib
import sys
from collections.abc import Callable, Collection, Coroutine
from types import CodeType
from typing import Any

SIGNALS = (_signal.SIGTERM, _signal.SIGINT)  # those that uvicorn handles
LOOK_INTERVAL = 0.001  # seconds between two looks whether the connections are closed
# The names that the functions use which sleep; those of uvicorn 0.34 to 0.54.
KNOWN_NAMES = {
    "main_loop": "asyncio on_tick sleep",
    "shutdown": (
        "TimeoutError _wait_tasks_to_complete asyncio cancel close config connections error "
        "force_exit info len lifespan list logger server_state servers shutdown sleep tasks "
        "timeout_graceful_shutdown wait_for"
    ),
    "_wait_tasks_to_complete": (
        "asyncio connections force_exit info logger server_state servers sleep tasks wait_closed"
    ),
}


def end_without_sleeps() -> None:
    """Make the servers of `uvicorn.server`, which is imported, end at once after the signal."""
    module = sys.modules["uvicorn.server"]
    server_type = getattr(module, "Server", None)
    codes = [_code(server_type, name) for name in KNOWN_NAMES]
    if None in codes or getattr(module, "asyncio", None) is not asyncio:
        return
    for number in SIGNALS:
        handler: Any = _signal.getsignal(number)
        if isinstance(getattr(handler, "__self__", None), server_type):  # type: ignore[arg-type]
            _signal.signal(number, _waking(handler, codes[0]))
    vars(module)["asyncio"] = _Asyncio(codes[1:])


def _code(server_type: object, name: str) -> CodeType | None:
    """Return the code of a function of uvicorn's server, if it is known."""
    code: CodeType | None = getattr(getattr(server_type, name, None), "__code__", None)
    return code if code and set(code.co_names) == set(KNOWN_NAMES[name].split()) else None


# The main loop


def _waking(handler: Callable[[int, object], object], main_loop: CodeType | None) -> Any:
    """Return a signal handler that calls *handler*, and then ends the sleep of the main loop."""

    def handle(number: int, frame: object) -> None:
        handler(number, frame)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop = asyncio.get_running_loop()
            loop.call_soon_threadsafe(_end_sleep, main_loop)  # call_soon would not wake it

    return handle


def _end_sleep(sleeper: CodeType | None) -> None:
    """End the call of `asyncio.sleep` that the function with the code *sleeper* awaits."""
    for task in asyncio.all_tasks():
        outer: Any = task.get_coro()
        while inner := getattr(outer, "cr_await", None):
            is_sleep = getattr(inner, "cr_code", None) is asyncio.sleep.__code__
            if outer.cr_code is sleeper and is_sleep:
                timer, future = map(dict(inner.cr_frame.f_locals).get, ("h", "future"))
                if timer and future and not future.done():
                    timer.cancel()  # it may be due in this very turn of the loop
                    future.set_result(None)
            outer = inner


# The end


class _Asyncio:
    """The module `asyncio`, except that `sleep` is shorter for the functions *enders*."""

    def __init__(self, enders: Collection[CodeType | None]) -> None:
        self._enders = enders

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    def sleep(self, delay: float, result: Any = None) -> Coroutine[Any, Any, Any]:
        caller = sys._getframe(1)
        if caller.f_code in self._enders:
            return _until_idle(caller.f_locals["self"].server_state, delay)
        return asyncio.sleep(delay, result)


async def _until_idle(state: Any, delay: float) -> None:
    """Wait until a server has no connections and no requests, for *delay* seconds at most."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + delay
    await asyncio.sleep(0)  # connections that were just closed are removed
    while (state.connections or state.tasks) and loop.time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(LOOK_INTERVAL)
