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
    """Replace the functions of `tornado.autoreload`, whoever imported it."""
    from tornado import autoreload

    for name, function in OURS.items():
        setattr(autoreload, name, function)


def stand_in() -> None:
    """Be found as `tornado.autoreload` by whoever comes to import it.

    So no name of it can have been bound before, and Tornado is not imported for our sake.
    """
    here = sys.modules.get("tornado.autoreload")
    if getattr(here, "start", None) is evreload.start:  # whoever forked us has done it
        return
    module = ModuleType("tornado.autoreload", __doc__)
    module.__dict__.update(OURS)
    # Without a spec, importlib.util.find_spec would call it broken.
    module.__spec__ = type(__spec__)("tornado.autoreload", None)
    sys.modules["tornado.autoreload"] = module
