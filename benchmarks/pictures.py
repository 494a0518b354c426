"""The picture of a measure: a panel for each table with `bars` or `lines`. Needs matplotlib."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .results import Table, figure

OWN_COLOR, PEER_COLOR, LIMIT_COLOR = "tab:orange", "tab:blue", "tab:gray"
STYLES = ("-", "--", ":", "-.")
WIDE = 30  # above this ratio of the largest to the smallest value, the axis is logarithmic


def can_draw() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def draw(tables: Sequence[Table], path: Path) -> bool:
    """Draw the *tables* that have `bars` or `lines` into *path*; return whether there are any."""
    from matplotlib.figure import Figure

    panels = [one for one in tables if (one.bars and one.column(one.bars)) or one.lines]
    if not panels:
        return False
    heights = [0.6 + 0.25 * len(one.rows) if one.bars else 5.0 for one in panels]
    drawing = Figure(figsize=(9, sum(heights) + 0.6 * len(panels)), layout="constrained")
    axes = drawing.subplots(len(panels), squeeze=False, height_ratios=heights)
    for table, (axis,) in zip(panels, axes, strict=True):
        axis.set_title(table.title, fontsize="medium")
        (_bars if table.bars else _lines)(table, axis)
    drawing.savefig(path, dpi=100, metadata={"Software": None})
    return True


def _color(name: str) -> str:
    if "evreload" in name:
        return OWN_COLOR
    return LIMIT_COLOR if name.startswith(("bare start", "oracle")) else PEER_COLOR


def _bars(table: Table, axis: Any) -> None:
    ordered = sorted(table.column(table.bars), key=lambda one: -one[1])
    if is_ratio := "ratio" in table.bars:  # it is 1 for each bare start
        ordered = [one for one in ordered if not one[0].startswith("bare start")]
        axis.axvline(1, color=LIMIT_COLOR, linestyle=":")
    names, values = [name for name, _ in ordered], [value for _, value in ordered]
    bars = axis.barh(names, values, color=[_color(name) for name in names])
    axis.bar_label(bars, [figure(value) for value in values], padding=3, fontsize="small")
    axis.set_xlabel(table.bars)
    axis.margins(x=0.1)
    positive = [value for value in values if value > 0]
    if positive and not is_ratio and max(positive) > WIDE * min(positive):
        axis.set_xscale("symlog", linthresh=max(min(positive), max(positive) / 1e5))


def _lines(table: Table, axis: Any) -> None:
    places = [float(column.replace(",", "")) for column in table.columns]
    lowest = 1.0
    for number, (name, cells) in enumerate(table.rows):
        points = [(x, y) for x, y in zip(places, cells, strict=False) if isinstance(y, float)]
        if points:
            style = STYLES[number // len(STYLES) % len(STYLES)]
            drawn: dict[str, Any] = {"linewidth": 1.0}
            if "evreload" in name:
                style, drawn = STYLES[number % len(STYLES)], {"linewidth": 2.5, "color": OWN_COLOR}
            axis.plot(*zip(*points, strict=True), style, marker=".", label=name, **drawn)
            lowest = min(lowest, *(y for _, y in points))
    axis.set_xscale("log")
    if lowest < 1:
        axis.set_yscale("symlog", linthresh=1)
        axis.set_ylim(bottom=0)
    else:
        axis.set_yscale("log")
    axis.set_xticks(places, table.columns)
    axis.minorticks_off()
    axis.set_xlabel(table.lines)
    axis.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
