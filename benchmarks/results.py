"""The result of a measure: tables, written as JSON, as Markdown, and into a report."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Cell = float | str | None
SPREAD = ("median", "p90", "worst")


def without_places(text: str) -> str:
    """Return *text* without the directories of Python and of temporary files on this machine."""
    for place in (sys.prefix, sys.base_prefix, tempfile.gettempdir()):
        text = text.replace(place, "...")
    return text


@dataclass
class Table:
    """Rows of numbers and texts, with a title and remarks.

    *bars* is the column that the picture shows. With *lines*, the picture shows all columns, and
    the names of the columns are numbers.
    """

    title: str
    columns: Sequence[str]
    rows: list[tuple[str, list[Cell]]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    bars: str = ""
    lines: str = ""  # the unit of the columns' names
    samples: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, *cells: Cell, samples: Iterable[float] = ()) -> None:
        self.rows.append((name, list(cells)))
        if kept := [round(one, 6) for one in samples]:
            self.samples[name] = kept

    def fail(self, name: str, reason: str) -> None:
        self.add(name, "failed")
        self.remarks.append(f"{name} failed: {without_places(reason)}.")

    def column(self, name: str) -> list[tuple[str, float]]:
        """Return the numbers in the column *name*, each with the name of its row."""
        index = list(self.columns).index(name)
        numbers = ((row, cells[index]) for row, cells in self.rows if index < len(cells))
        return [(row, cell) for row, cell in numbers if isinstance(cell, (int, float))]

    def __str__(self) -> str:
        lines = [
            f"**{self.title}**",
            "",
            f"|  | {' | '.join(self.columns)} |",
            "|---" + "|--:" * len(self.columns) + "|",
        ]
        for name, cells in self.rows:
            filled = [*cells, *[""] * (len(self.columns) - len(cells))]
            lines.append(f"| {name} | {' | '.join(map(figure, filled))} |")
        return "\n".join([*lines, *(f"\n{remark}" for remark in self.remarks)])


def figure(value: Cell) -> str:
    """Write a number with about three digits."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(values: Iterable[float], unit: float = 1e3) -> list[Cell]:
    """Return median, 90th percentile and worst of *values*, by default seconds as milliseconds."""
    ordered = sorted(value * unit for value in values)
    if not ordered:
        return [None] * 3
    p90 = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    return [statistics.median(ordered), p90, ordered[-1]]


def ratio(values: Sequence[float], to: Sequence[float]) -> Cell:
    return statistics.median(values) / statistics.median(to) if values and to else None


def machine() -> str:
    """Describe the machine and the interpreter."""
    uname = platform.uname()
    return (
        f"{os.cpu_count()} cores, {uname.system} {uname.release} on {uname.machine}, "
        f"{platform.python_implementation()} {platform.python_version()}"
    )


def keep(place: Path, name: str, about: dict[str, Any], tables: Sequence[Table]) -> None:
    """Write the JSON and the Markdown of a measure into *place*."""
    place.mkdir(parents=True, exist_ok=True)
    record = {"measure": name, **about, "tables": [asdict(table) for table in tables]}
    (place / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    (place / f"{name}.md").write_text("\n\n".join(map(str, tables)) + "\n")


def fill_in(report: Path, name: str, text: str) -> None:
    """Replace the text between the marks of *name* in the report by *text*."""
    marks = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
    old = report.read_text()
    new, found = re.subn(marks, lambda m: f"{m[1]}{text}\n{m[2]}", old, flags=re.DOTALL)
    if not found:
        raise ValueError(f"{report} has no marks for {name}")
    report.write_text(new)
