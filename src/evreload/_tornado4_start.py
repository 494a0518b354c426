"""The arguments that `tornado.autoreload.start` took in Tornado 4.

See https://www.tornadoweb.org/en/branch4.5/autoreload.html

Runs in: the program, on the thread that calls `evreload.start`.
Owns: nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def with_legacy_loop(start: Callable[..., None]) -> Callable[..., None]:
    """Return a function that can be called like *start*, or as ``start(io_loop, check_time)``.

    For `inspect.signature`, it has the parameters of *start*.
    """

    def start_with_loop(*args: Any, **kwargs: Any) -> None:
        has_loop = args and (args[0] is None or hasattr(args[0], "add_callback"))
        if has_loop or "io_loop" in kwargs:
            import warnings

            warnings.warn(
                "start(io_loop) is deprecated: the current loop is used",
                DeprecationWarning,
                stacklevel=2,
            )
            kwargs = {name: value for name, value in kwargs.items() if name != "io_loop"}
            args = args[1:] if has_loop else args
        start(*args, **kwargs)

    for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(start_with_loop, attribute, getattr(start, attribute))
    start_with_loop.__wrapped__ = start  # type: ignore[attr-defined]  # for inspect.signature
    return start_with_loop
