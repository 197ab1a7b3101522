"""Rows of results as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ceiling import PLAIN
from peers import PEERS

__all__ = [
    "Row",
    "best_read_rate",
    "caption",
    "line",
    "markdown",
    "median",
    "of_read",
    "rate",
    "ratio",
    "table",
    "time_of",
]

Row = dict[str, Any]


# ---- figures of a row ------------------------------------------------------------------------------------------------


def median(row: Row, name: str) -> float | None:
    """Seconds; None if this contestant was not timed."""
    return row["results"].get(name, {}).get("median")


def ratio(row: Row, name: str) -> float | None:
    """How many times as long as fastgd a contestant takes."""
    ours, theirs = median(row, "fastgd"), median(row, name)
    return theirs / ours if ours and theirs else None


def of_read(row: Row) -> float | None:
    """Which part of fastgd's time one plain read of X takes."""
    return ratio(row, PLAIN)


def reads(row: Row) -> list[float]:
    """Seconds of every way to read X."""
    return [seconds for name in row["results"] if name.startswith("read") and (seconds := median(row, name))]


def of_best_read(row: Row) -> float | None:
    """Which part of fastgd's time the fastest read of X takes."""
    ours = median(row, "fastgd")
    return min(reads(row)) / ours if ours and reads(row) else None


def rate(row: Row, name: str = "fastgd") -> float | None:
    """Gigabytes of X in a second."""
    seconds = median(row, name)
    return row["bytes"] / seconds / 1e9 if seconds and PLAIN in row["results"] else None


def best_read_rate(row: Row) -> float | None:
    return row["bytes"] / min(reads(row)) / 1e9 if reads(row) else None


def best_peer(row: Row) -> str | None:
    """The fastest of the others."""
    times = {name: seconds for name in PEERS if (seconds := median(row, name))}
    return min(times, key=times.__getitem__, default=None)


# ---- their text ------------------------------------------------------------------------------------------------------


def case_of(row: Row) -> str:
    return row["case"] if row["threads"] == 1 else f"{row['case']}, {row['threads']} threads"


def time_of(row: Row, name: str) -> str:
    """A time with its unit, or why there is none."""
    seconds = median(row, name)
    if seconds is None:
        return row["results"].get(name, {}).get("failed", "")[:40].replace("|", "/")
    scale, unit = next(((s, u) for s, u in ((1, "s"), (1e3, "ms"), (1e6, "µs")) if seconds * s >= 1), (1e9, "ns"))
    return f"{three_digits(seconds * scale)} {unit}"


def ratio_of(row: Row, name: str) -> str:
    """How many times as long as fastgd a peer takes, or why that is not known."""
    times = ratio(row, name)
    return time_of(row, name) if times is None else f"{three_digits(times)}×"


def best_of(row: Row) -> str:
    name = best_peer(row)
    return f"{name} {time_of(row, name)}" if name else ""


def three_digits(value: float) -> str:
    """At least three significant digits and at most two decimals."""
    return f"{value:,.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def decimal(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


COLUMNS: dict[str, Callable[[Row], str]] = {
    "case": case_of,
    "problem": lambda row: row["problem"]["label"],
    "fastgd": lambda row: time_of(row, "fastgd"),
    "best peer": best_of,
    **{name: partial(ratio_of, name=name) for name in PEERS},
    "GB/s of X": lambda row: decimal(rate(row), 1),
    "of plain read": lambda row: decimal(of_read(row), 2),
    "of best read": lambda row: decimal(of_best_read(row), 2),
}


def markdown(heads: list[str], lines: Iterable[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join(map(line, [heads, ["---"] * len(heads), *lines]))


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(rows: list[Row], columns: Iterable[str] = tuple(COLUMNS)) -> str:
    """The rows, case by case, in the columns that have something to say."""
    order = {case: place for place, case in enumerate(dict.fromkeys(case_of(row) for row in rows))}
    rows = sorted(rows, key=lambda row: order[case_of(row)])
    cells = {name: [COLUMNS[name](row) for row in rows] for name in columns}
    shown = [name for name in cells if any(cells[name])]
    return markdown(shown, map(list, zip(*(cells[name] for name in shown), strict=True)))


def caption(results: dict[str, Any]) -> str:
    """The machine and the libraries, in a line."""
    box, versions = results["machine"], results["versions"]
    names = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    return f"{box['processor']}, {box['cores']} cores, {box['caches']}, {box['system']}; {names}"
