"""What objects say of themselves: a title and aligned rows, as text and as HTML for notebooks."""

from __future__ import annotations

import html
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["Summarised", "figures", "named_figures"]

#: Arrays show as many entries at each end, if they have more than SHOWN.
EDGE, SHOWN = 3, 8
#: Letters of a line of numbers, of any line, and of a name.
LINE, LONGEST, NAME = 100, 110, 40

Rows = Sequence[tuple[str, str]]


def figures(value: Any) -> str:
    """Numbers to six digits: one, or those of an array, with its shape if not all are shown or it has several axes.

    Those of several rows stand one below the other.
    """
    array = np.asarray(value)
    if array.ndim == 0:
        return f"{float(array):.6g}"
    cut = array.size > SHOWN
    seen = array[np.ix_(*(at_the_ends(length) for length in array.shape))] if cut else array
    width = max((len(f"{number:.6g}") for number in seen.flat), default=0) if array.ndim > 1 else 0
    text = np.array2string(
        array, threshold=SHOWN, edgeitems=EDGE, separator=", ", max_line_width=LINE,
        formatter={"float_kind": lambda number: f"{number:{width}.6g}"},
    )  # fmt: skip
    return text + (f"  {' × '.join(map(str, array.shape))}" if cut or array.ndim > 1 else "")


def at_the_ends(length: int) -> list[int]:
    """The places of an axis that a long array shows."""
    return list(range(length)) if length <= 2 * EDGE else [*range(EDGE), *range(length - EDGE, length)]


def named_figures(names: Sequence[str], values: np.ndarray) -> str:
    """Numbers, or rows of them, each behind its name on a line of its own; of many the first and the last."""
    rows = range(len(names)) if len(names) <= SHOWN else at_the_ends(len(names))
    table = values.reshape(len(names), -1)
    columns = at_the_ends(table.shape[1])
    labels = [in_short(names[row], NAME if values.ndim == 1 else NAME // 2) for row in rows]
    cells = [[f"{number:.6g}" for number in table[row, columns]] for row in rows]
    width = max(len(cell) for line in cells for cell in line)
    if len(columns) < table.shape[1]:
        cells = [[*line[:EDGE], "…", *line[EDGE:]] for line in cells]
    lines = [
        f"{label:{max(map(len, labels))}}  " + "  ".join(f"{cell:>{width if cell != '…' else 1}}" for cell in line)
        for label, line in zip(labels, cells, strict=True)
    ]
    if len(lines) < len(names) or len(columns) < table.shape[1]:
        lines.insert(EDGE, f"… of {' × '.join(map(str, values.shape))}")
    return "\n".join(lines)


def in_short(name: str, length: int) -> str:
    """A name on one line, with an ellipsis for what is too long."""
    line = " ".join(name.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def as_text(title: str, rows: Rows) -> str:
    """The title, and a row a line, whose values stand one below the other."""
    width = max(len(name) for name, _ in rows) + 2
    lines = [title]
    for name, value in rows:
        first, *others = lines_of(value)
        lines += [f"  {name:{width}}{first}", *(" " * (width + 2) + line for line in others)]
    return "\n".join(line.rstrip() for line in lines)


def lines_of(value: str) -> list[str]:
    """The lines of a value, those that are too long broken between words."""
    lines = value.split("\n")
    return [part for line in lines for part in (textwrap.wrap(line, LONGEST) if len(line) > LONGEST else [line])]


def as_html(title: str, rows: Rows) -> str:
    """The same as a table, with all text escaped, that looks the same in notebooks that centre tables."""
    left, fixed = "text-align: left; vertical-align: top", "font-family: monospace; white-space: pre"
    body = "".join(
        f'<tr><th style="{left}">{html.escape(name)}</th><td style="{left}; {fixed}">{html.escape(value)}</td></tr>'
        for name, value in ((name, "\n".join(lines_of(value))) for name, value in rows)
    )
    caption = f'<caption style="text-align: left; font-weight: bold">{html.escape(title)}</caption>'
    return f'<table style="margin-left: 0">{caption}<tbody>{body}</tbody></table>'


class Summarised(ABC):
    """What tells a title and rows of itself shows them, in a terminal and in a notebook."""

    @abstractmethod
    def _summary(self) -> tuple[str, Rows]: ...

    def __repr__(self) -> str:
        return as_text(*self._summary())

    def _repr_html_(self) -> str:
        return as_html(*self._summary())
