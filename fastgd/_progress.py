"""A bar that shows how far a fit is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["watched"]

Callback = Callable[[Any], Any]


@contextmanager
def watched(
    callback: Callback | None, progress: Any, max_iter: int, measure: str = "optimality"
) -> Iterator[Callback | None]:
    """The caller's callback, and within the block a bar with it if `progress` asks for one.

    What the callback is shown has an `iteration`, a `loss` and an `optimality`, which the bar calls by the name of the
    measure.

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
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    except ImportError:
        raise ImportError("progress=True needs rich: pip install 'fastgd[cli]'") from None
    columns = (
        TextColumn("iteration {task.completed:,}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.6g}, " + measure + " {task.fields[optimality]:.2g}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("fit", total=max_iter, loss=float("nan"), optimality=float("nan"))

        def show(iterate: Any) -> Any:
            bar.update(task, completed=iterate.iteration, loss=iterate.loss, optimality=iterate.optimality)
            return callback(iterate) if callback is not None else None

        yield show
