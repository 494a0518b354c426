"""The list of the modules that the program has imported, to preload them for the next run.

Runs in: the program, on its main thread.
Owns: nothing.
"""

from __future__ import annotations

import sys

from .._common.paths import absolute

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.machinery import ModuleSpec

# The modules that define Python's own loaders: of files, of archives, and of built-in modules.
PYTHON_LOADERS = ("_frozen_importlib", "_frozen_importlib_external", "zipimport")


def loaded_modules() -> Iterator[tuple[str, bool, list[str]]]:
    """Yield each module, in the order in which their imports ended.

    Of each: its name, whether one of Python's own loaders has loaded it, and its file or its
    directories. A module that `sys.modules` has under another name than its own is left out.
    """
    for name, module in list(sys.modules.items()):
        try:
            spec = object.__getattribute__(module, "__dict__").get("__spec__")
            if spec is None or spec.name != name:
                continue
            loader = spec.loader if isinstance(spec.loader, type) else type(spec.loader)
            places = [spec.origin] if spec.has_location else list(_directories(spec))
            yield name, loader.__module__ in PYTHON_LOADERS, [absolute(one) for one in places]
        except Exception:  # a module that raises here cannot be preloaded
            continue


def _directories(spec: ModuleSpec) -> Iterable[str]:
    return spec.submodule_search_locations or ()
