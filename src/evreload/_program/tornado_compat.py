"""evreload in the place of `tornado.autoreload`.

The program's threads. Imports Tornado only if it is asked to change what is there already.
"""

from __future__ import annotations

import sys
from types import ModuleType

import evreload

OURS = {
    "start": evreload.start,
    "wait": evreload.wait,
    "watch": evreload.watch,
    "add_reload_hook": evreload.add_reload_hook,
    "main": evreload.main,
    "_reload": evreload.reload,
}


def install() -> None:
    """Replace the functions of `tornado.autoreload`, whoever imported it.

    What it was told before is told to us: two reloaders would restart the program twice, and
    Tornado's into code that does not compile.
    """
    from tornado import autoreload

    if _is_ours(autoreload):
        return
    for name, function in OURS.items():
        setattr(autoreload, name, function)
    for path in autoreload._watched_files:
        evreload.watch(path)
    for hook in autoreload._reload_hooks:
        evreload.add_reload_hook(hook)
    if autoreload._io_loops:  # it runs
        _stop_its_timers(autoreload)
        evreload.start()


def take_over() -> None:
    """Replace Tornado's reloader, or, if that was not imported yet, be there before it is."""
    here = sys.modules.get("tornado.autoreload")
    if here and not _is_ours(here):
        install()
    else:
        stand_in()


def stand_in() -> None:
    """Be found as `tornado.autoreload` by whoever comes to import it.

    So no name of it can have been bound before, and Tornado is not imported for our sake.
    """
    if _is_ours(sys.modules.get("tornado.autoreload")):  # whoever forked us has done it
        return
    module = ModuleType("tornado.autoreload", __doc__)
    module.__dict__.update(OURS)
    # Without a spec, importlib.util.find_spec would call it broken.
    module.__spec__ = type(__spec__)("tornado.autoreload", None)
    sys.modules["tornado.autoreload"] = module


def _is_ours(autoreload: ModuleType | None) -> bool:
    return getattr(autoreload, "start", None) is OURS["start"]


def _stop_its_timers(autoreload: ModuleType) -> None:
    """Stop what looks at all files twice a second; only the loop knows of it."""
    import gc

    from tornado.ioloop import PeriodicCallback

    for thing in gc.get_objects():
        if type(thing) is PeriodicCallback:
            look = getattr(thing.callback, "func", None)
            if look is autoreload._reload_on_update:
                thing.stop()
