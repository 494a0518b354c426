"""Replaces `tornado.autoreload` by the public functions of evreload.

It imports Tornado only if the program has imported `tornado.autoreload`, or calls `install`.

Runs in: the program, in both modes, on any of its threads.
Owns: the entry ``tornado.autoreload`` of `sys.modules`, and the functions of that module.
"""

from __future__ import annotations

import sys
from types import ModuleType

import evreload

REPLACEMENTS = {
    "start": evreload.start,
    "wait": evreload.wait,
    "watch": evreload.watch,
    "add_reload_hook": evreload.add_reload_hook,
    "main": evreload.main,
    "_reload": evreload.reload,
}


def install() -> None:
    """Replace the functions in the module `tornado.autoreload`, for all modules that use it.

    evreload takes over the files and hooks of Tornado's reloader, and stops that if it runs. Two
    reloaders would restart the program twice, and Tornado's even into code that does not compile.
    """
    from tornado import autoreload

    if _is_replaced(autoreload):
        return
    for name, function in REPLACEMENTS.items():
        setattr(autoreload, name, function)
    for path in autoreload._watched_files:
        evreload.watch(path)
    for hook in autoreload._reload_hooks:
        evreload.add_reload_hook(hook)
    if autoreload._io_loops:  # it runs
        _stop_timers(autoreload)
        evreload.start()


def take_over() -> None:
    """Replace Tornado's reloader, whether the program has imported it already or not."""
    here = sys.modules.get("tornado.autoreload")
    if here and not _is_replaced(here):
        install()
    else:
        stand_in()


def stand_in() -> None:
    """Make a module that the program gets when it imports `tornado.autoreload`.

    So the program cannot import a function of Tornado's reloader, and evreload does not import
    Tornado.
    """
    if _is_replaced(sys.modules.get("tornado.autoreload")):  # the fork server has done it
        return
    module = ModuleType("tornado.autoreload", __doc__)
    module.__dict__.update(REPLACEMENTS)
    # Without a spec, importlib.util.find_spec would raise ValueError.
    module.__spec__ = type(__spec__)("tornado.autoreload", None)
    sys.modules["tornado.autoreload"] = module


def _is_replaced(autoreload: ModuleType | None) -> bool:
    return getattr(autoreload, "start", None) is REPLACEMENTS["start"]


def _stop_timers(autoreload: ModuleType) -> None:
    """Stop the timer that checks all files twice a second; Tornado keeps no reference to it."""
    import gc

    from tornado.ioloop import PeriodicCallback

    for thing in gc.get_objects():
        if type(thing) is PeriodicCallback:
            callback = getattr(thing.callback, "func", None)
            if callback is autoreload._reload_on_update:
                thing.stop()
