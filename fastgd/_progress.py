"""Bars that show how far fits are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgd._bar import Lines

__all__ = ["Show", "bar"]

#: Seconds between two looks at the iterate: the bar is drawn ten times a second.
PAUSE = 0.05

#: Takes the iteration, its loss, and what tells how near the end is.
Show = Callable[[int, float, float], Any]


@contextmanager
def bar(progress: bool, max_iter: int, measure: str = "optimality") -> Iterator[Show | None]:
    """A bar within the block, if `progress` asks for one: what it is to be told of each iterate that is seen.

    It calls the third figure by the name of the measure. An iteration of 0 is the start, of the first or of another
    target. The time left is that of `max_iter` iterations: when a descent converges, nobody knows before. Fits at the
    same time, in threads or one within another, have a line each.

    Raises
    ------
    ImportError
        If there is to be a bar and rich is not installed.
    """
    if not progress:
        yield None
        return
    try:
        import rich  # noqa: F401
    except ImportError:
        raise ImportError("progress=True needs rich: pip install 'fastgd[cli]'") from None
    with line_for(max_iter, measure) as (lines, task):
        starts, shown_at = 0, 0.0

        def show(iteration: int, loss: float, value: float) -> None:
            nonlocal starts, shown_at
            now = time.monotonic()
            if iteration == 0:
                starts += 1
                if starts > 1:
                    lines.begin_again(task, f"target {starts}: ")
            if iteration == 0 or now >= shown_at + PAUSE:
                shown_at = now
                lines.show(task, iteration, loss, value)

        yield show


class Common:
    """The lines that all fits of this process share, and how many fits there are."""

    lock = threading.Lock()
    lines: Lines | None = None
    fits = 0


@contextmanager
def line_for(max_iter: int, measure: str) -> Iterator[tuple[Lines, Any]]:
    """The lines on the screen, which are there as long as a fit has one, and which of them is this fit's."""
    from fastgd._bar import Lines

    with Common.lock:
        if (lines := Common.lines) is None:
            lines = Lines()
            lines.start()
            Common.lines = lines
        Common.fits += 1
        task = lines.begin(max_iter, measure)
    try:
        yield lines, task
    finally:
        with Common.lock:
            Common.fits -= 1
            if Common.fits:
                lines.end(task)
            else:
                Common.lines = None
                lines.stop()
