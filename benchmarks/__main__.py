"""Runs the measures named on the command line; prints and writes their tables."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import (
    broken,
    checkout,
    contenders,
    during,
    growth,
    heavy,
    idle,
    loop,
    pictures,
    restart,
    startup,
    warm,
)
from .results import Table, fill_in, keep, machine
from .runners import note
from .scale import Scale

MEASURES: dict[str, Callable[[Path, Scale], list[Table]]] = {
    "restart": restart.measure,
    "idle": idle.measure,
    "startup": startup.measure,
    "growth": growth.measure,
    "checkout": checkout.measure,
    "during": during.measure,
    "broken": broken.measure,
    "heavy": heavy.measure,
    "warm": warm.measure,
    "loop": loop.measure,
}


def main() -> int:
    """Run the measures named on the command line, or all; return how many failed."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends all processes, as Ctrl-C does
    scale = Scale.quick() if options.quick else Scale.full()
    if options.only:
        scale = dataclasses.replace(scale, only=tuple(options.only))
    about = {
        "machine": machine(),
        "versions": contenders.versions(),
        "left out": contenders.absences(),
        "quick": options.quick,
    }
    print(_introduction(about), flush=True)
    failed = []
    began = time.monotonic()
    for name in options.measure or MEASURES:
        try:
            _run(name, scale, about, options.results, options.report)
        except Exception:
            traceback.print_exc()
            failed.append(name)
    print(f"\nIn {time.monotonic() - began:.0f} s." + (f" Failed: {failed}." if failed else ""))
    return len(failed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("measure", nargs="*", help=f"of {', '.join(MEASURES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="few rounds, small trees")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="a contender; may be repeated"
    )
    places = parser.add_mutually_exclusive_group()
    places.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        default="benchmark-results",
        help="where JSON, Markdown and pictures go (benchmark-results)",
    )
    places.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="put them into DIR/results, and the tables into DIR/README.md",
    )
    options = parser.parse_args()
    names = {one.name for one in contenders.ALL}
    for given, known in ((options.measure, MEASURES), (options.only, names)):
        for name in given:
            if name not in known:
                parser.error(f"there is no {name!r}; there are {', '.join(known)}")
    if options.report:
        options.results = options.report / "results"
    return options


def _introduction(about: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {found}" for name, found in about["versions"].items())
    absences = "".join(f"\n\nLeft out: {name} ({why})." for name, why in about["left out"].items())
    return f"{about['machine']}\n\n{versions}.{absences}"


def _run(
    name: str, scale: Scale, about: dict[str, Any], results: Path, report: Path | None
) -> None:
    """Run one measure; print and write its tables."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as place:
        tables = MEASURES[name](Path(place), scale)
    seconds = round(time.monotonic() - began)
    text = "\n\n".join(map(str, tables)) + f"\n\nMeasured in {seconds} s."
    print(f"\n{text}", flush=True)
    keep(results, name, {**about, "seconds": seconds}, tables)
    picture = results / f"{name}.png"
    if not pictures.can_draw():
        note("no pictures: matplotlib is not installed")
    elif pictures.draw(tables, picture) and report:
        text += f"\n\n![{name}]({picture.relative_to(report).as_posix()})"
    if report:
        fill_in(report / "README.md", "machine", _introduction(about))
        fill_in(report / "README.md", name, text)


if __name__ == "__main__":
    raise SystemExit(main())
