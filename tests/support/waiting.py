"""Waiting for a condition, with a generous deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from support.app import App
from support.deadline import DEADLINE

T = TypeVar("T")


def until(fact: Callable[[], T | None], what: str | Callable[[], str], app: App | None = None) -> T:
    """Block until *fact* returns a true value, and return that value.

    At the deadline, fail with *what* (a text, or a function that returns it) and the output of
    *app*.
    """
    deadline = time.monotonic() + DEADLINE
    while not (value := fact()):
        if time.monotonic() > deadline:
            after = f" after:\n{app.output}" if app else ""
            pytest.fail(f"not in {DEADLINE} s: {what if isinstance(what, str) else what()}{after}")
        time.sleep(0.01)
    return value
