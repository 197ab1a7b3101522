"""A bar that shows how far a fit is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["watched"]

#: Seconds between two looks at the iterate: the bar is drawn ten times a second.
PAUSE = 0.05

Callback = Callable[[Any], Any]


@contextmanager
def watched(
    callback: Callback | None, progress: Any, max_iter: int, measure: str = "optimality"
) -> Iterator[Callback | None]:
    """The caller's callback, and within the block a bar with it if `progress` asks for one.

    What the callback is shown has an `iteration`, a `loss` and an `optimality`, which the bar calls by the name of the
    measure. An iteration of 0 is the start, of the first or of another target. The time left is that of `max_iter`
    iterations: when a descent converges, nobody knows before.

    Raises
    ------
    TypeError
        If the callback cannot be called.
    ImportError
        If there is to be a bar and rich is not installed.
    """
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function of an Iterate, or None, got {callback!r}")
    if not progress:
        yield callback
        return
    try:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column
    except ImportError:
        raise ImportError("progress=True needs rich: pip install 'fastgd[cli]'") from None
    columns = (
        TextColumn("{task.description}iteration {task.completed:,} / {task.total:,}"),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),    # what 80 columns leave
        TextColumn("loss {task.fields[loss]:.5g},"),
        TextColumn(measure + " {task.fields[optimality]:.1e}"),
        TextColumn("≤"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, transient=True, expand=True) as bar:
        task = bar.add_task("", total=max_iter, loss=float("nan"), optimality=float("nan"))
        starts, shown_at = 0, 0.0

        def show(iterate: Any) -> Any:
            nonlocal starts, shown_at
            now = time.monotonic()
            if iterate.iteration == 0:
                starts += 1
                if starts > 1:
                    bar.reset(task, description=f"target {starts}: ")
            if iterate.iteration == 0 or now >= shown_at + PAUSE:
                shown_at = now
                bar.update(task, completed=iterate.iteration, loss=iterate.loss, optimality=iterate.optimality)
            return callback(iterate) if callback is not None else None

        yield show
