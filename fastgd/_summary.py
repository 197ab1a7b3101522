"""What objects say of themselves: a title and aligned rows, as text and as HTML for notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["Summarised", "figures"]

#: Arrays show as many entries at each end, if they have more than SHOWN.
EDGE, SHOWN = 3, 8

Rows = Sequence[tuple[str, str]]


def figures(value: Any) -> str:
    """Numbers to six digits: one, or those of an array, with its shape if not all are shown or it has several axes."""
    array = np.asarray(value)
    if array.ndim == 0:
        return f"{float(array):.6g}"
    cut = array.size > SHOWN
    text = np.array2string(
        array, threshold=SHOWN, edgeitems=EDGE, separator=", ", max_line_width=100,
        formatter={"float_kind": lambda number: f"{number:.6g}"},
    )  # fmt: skip
    return text + (f"  {' × '.join(map(str, array.shape))}" if cut or array.ndim > 1 else "")


def as_text(title: str, rows: Rows) -> str:
    """The title, and a row a line, whose values stand one below the other."""
    width = max(len(name) for name, _ in rows) + 2
    lines = [title]
    for name, value in rows:
        first, *others = value.split("\n")
        lines += [f"  {name:{width}}{first}", *(" " * (width + 2) + line for line in others)]
    return "\n".join(line.rstrip() for line in lines)


def as_html(title: str, rows: Rows) -> str:
    """The same as a table, with all text escaped."""
    body = "".join(
        f'<tr><th style="text-align: left">{html.escape(name)}</th>'
        f'<td style="text-align: left; white-space: pre-wrap">{html.escape(value)}</td></tr>'
        for name, value in rows
    )
    caption = f'<caption style="text-align: left; font-weight: bold">{html.escape(title)}</caption>'
    return f"<table>{caption}<tbody>{body}</tbody></table>"


class Summarised:
    """What tells a title and rows of itself shows them, in a terminal and in a notebook."""

    def _summary(self) -> tuple[str, Rows]:
        raise NotImplementedError

    def __repr__(self) -> str:
        return as_text(*self._summary())

    def _repr_html_(self) -> str:
        return as_html(*self._summary())
