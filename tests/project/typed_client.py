"""A program that uses all of evreload; `test_release.py` checks it with mypy.

It is never run. Each ignored error must exist: `--strict` reports a comment without an error.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import evreload


class Path2(os.PathLike[str]):
    def __fspath__(self) -> str:
        return "x"


async def close() -> None:
    print("closing")


def count() -> int:
    changed: frozenset[str] = evreload.changed_files()
    return len(changed)


def begin(io_loop: object) -> None:
    evreload.install()
    evreload.start()
    evreload.start(250)
    evreload.start(check_time=250, debounce=5, poll=None, ignore=["*.log"], grace=1.5)
    evreload.start(ignore=("a", "b"), poll=True, debounce=0.5)
    evreload.watch("config.toml")
    evreload.watch(Path("templates"))
    evreload.watch(Path2())
    evreload.add_reload_hook(close)
    evreload.add_reload_hook(count)
    evreload.remove_reload_hook(close)
    kept: list[socket.socket] = evreload.bind_sockets(8888)
    kept += evreload.bind_sockets(8888, "localhost", socket.AF_INET, 64, None, reuse_port=True)
    first: bool = evreload.generation() == 0
    print(kept, first)


def end() -> None:
    evreload.stop()
    evreload.disable()
    evreload.wait()
    evreload.reload()
    evreload.main()


def wrong() -> None:
    evreload.start("500")  # type: ignore[call-overload]
    evreload.start(500, 20)  # type: ignore[call-overload]
    evreload.start(debounce="5")  # type: ignore[call-overload]
    evreload.start(nonsense=1)  # type: ignore[call-overload]
    evreload.watch(3)  # type: ignore[arg-type]
    evreload.add_reload_hook(3)  # type: ignore[arg-type]
    evreload.add_reload_hook(lambda changed: None)  # type: ignore[arg-type, misc]
    evreload.bind_sockets("8888")  # type: ignore[arg-type]
    evreload.generation = 3  # type: ignore[assignment]
    evreload.nonsense()  # type: ignore[attr-defined]
