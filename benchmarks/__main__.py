"""The command line: runs the measures asked for, and prints their tables."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import contenders, idle, loop, restart, startup
from .harness import Scale, Table, machine

MEASURES: dict[str, Callable[[Path, Scale], list[Table]]] = {
    "startup": startup.measure,
    "loop": loop.measure,
    "idle": idle.measure,
    "restart": restart.measure,
}


def main() -> None:
    """Run the measures named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("measure", nargs="*", help=f"one of {', '.join(MEASURES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="few rounds, small trees")
    options = parser.parse_args()
    for name in options.measure:
        if name not in MEASURES:
            parser.error(f"there is no measure {name!r}; there are {', '.join(MEASURES)}")
    scale = Scale.quick() if options.quick else Scale.full()
    began = time.monotonic()
    print(f"{machine()}\n\n{contenders.versions()}", flush=True)
    for name in options.measure or MEASURES:
        with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as place:
            for table in MEASURES[name](Path(place), scale):
                print(f"\n{table}", flush=True)
    print(f"\nIn {time.monotonic() - began:.0f} s.")


if __name__ == "__main__":
    main()
