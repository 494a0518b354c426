"""The list of the modules that the program has imported, for preloading them in the next run.

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

# The modules that Python's own loaders are defined in: of files, archives, and builtin modules.
PYTHON_LOADERS = ("_frozen_importlib", "_frozen_importlib_external", "zipimport")


def loaded_modules() -> Iterator[tuple[str, bool, list[str]]]:
    """Yield the name of each module, in the order in which their imports ended.

    With it, whether one of Python's own loaders has loaded it, and the file or the directories it
    is from. Modules listed under a name other than their own are left out.
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
