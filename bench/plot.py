"""The roofline: how fast X is read by fastgd, by its peers, and by who does nothing but read it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ceiling import PLAIN
from report import Row, best_read_rate, rate

__all__ = ["roofline"]

BEST = "best read"
#: Who is drawn, and how.
STYLES: dict[str, dict[str, Any]] = {
    BEST: {"color": "0.55", "linestyle": ":", "linewidth": 1.8},
    PLAIN: {"color": "0.25", "linestyle": "--", "linewidth": 1.8},
    "fastgd": {"color": "#d62728", "marker": "o", "linewidth": 2.6, "zorder": 5},
    "NumPy": {"color": "#1f77b4", "marker": "s", "linewidth": 1.2, "markersize": 5},
    "PyTorch": {"color": "#ff7f0e", "marker": "^", "linewidth": 1.2, "markersize": 5},
    "Numba": {"color": "#2ca02c", "marker": "v", "linewidth": 1.2, "markersize": 5},
    "JAX": {"color": "#9467bd", "marker": "D", "linewidth": 1.2, "markersize": 4},
}
LABELS = {BEST: "best of several plain reads of X", PLAIN: "plain read of X (the roof)"}


class Panel(NamedTuple):
    """Some rows, and what of them the horizontal axis shows."""

    title: str
    label: str
    rows: Callable[[Row], bool]
    place: Callable[[Row], float]
    tick: Callable[[float], str]
    yscale: str = "linear"


def in_memory(order: str) -> Callable[[Row], bool]:
    return lambda row: "in memory" in row["problem"]["name"] and row["problem"]["order"] == order


def width(row: Row) -> float:
    return row["problem"]["d"]


def count(value: float) -> str:
    return f"{value:g}" if value < 1000 else f"{value / 1000:g}k"


def size(value: float) -> str:
    return f"{value / 1e3:.0f} KB" if value < 1e6 else f"{value / 1e6:.0f} MB"


PANELS = [
    Panel("C order, in memory", "columns of X", in_memory("C"), width, count),
    Panel("Fortran order, in memory", "columns of X", in_memory("F"), width, count),
    Panel(
        "100 columns in C order",
        "size of X",
        lambda row: row["problem"]["d"] == 100 and row["problem"]["order"] == "C",
        lambda row: row["bytes"],
        size,
        "log",
    ),
]


def roofline(rows: list[Row], caption: str, path: Path) -> None:
    """Draw the speed of the gradient on one thread, against the width of X and against its size.

    Raises
    ------
    ImportError
        If matplotlib is not there.
    """
    from matplotlib.figure import Figure

    rows = [row for row in rows if row["case"] == "gradient" and row["threads"] == 1]
    figure = Figure(figsize=(16, 9), layout="constrained")
    axes = figure.subplots(2, len(PANELS), width_ratios=[2, 0.9, 1.1])
    for dtype, line in zip(("float32", "float64"), axes, strict=True):
        for panel, axis in zip(PANELS, line, strict=True):
            draw(axis, panel, [row for row in rows if row["problem"]["dtype"] == dtype and panel.rows(row)])
            axis.set_title(f"{dtype}, {panel.title}")
    lines = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=len(STYLES), frameon=False)
    lines = ["Gradient of the mean squared error, one thread: how fast X is read", *textwrap.wrap(caption, 150)]
    figure.suptitle("\n".join(lines))
    figure.savefig(path, dpi=100)


def draw(axis: Any, panel: Panel, rows: list[Row]) -> None:
    """A line for each contestant; nothing where nothing was measured."""
    axis.set_visible(bool(rows))
    rows = sorted(rows, key=panel.place)
    for name, style in STYLES.items():
        points = [(panel.place(row), speed) for row in rows if (speed := speed_of(row, name))]
        if points:
            axis.plot(*zip(*points, strict=True), label=LABELS.get(name, name), **style)
    places = [panel.place(row) for row in rows]
    axis.set(xlabel=panel.label, ylabel="GB/s of X", xscale="log", yscale=panel.yscale)
    axis.set_xticks(places, [panel.tick(place) for place in places], rotation=45 if len(places) > 6 else 0)
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    if panel.yscale == "linear":
        axis.set_ylim(bottom=0)
    else:
        ticks = [tick for decade in range(-3, 4) for tick in (10**decade, 2 * 10**decade, 5 * 10**decade)]
        least, most = axis.get_ylim()
        axis.set_yticks([tick for tick in ticks if least <= tick <= most], minor=False)
        axis.yaxis.set_major_formatter("{x:g}")


def speed_of(row: Row, name: str) -> float | None:
    return best_read_rate(row) if name == BEST else rate(row, name)
