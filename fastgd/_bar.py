"""How a bar looks, on terminals of any width and in notebooks. Needs rich, the extra ``cli``."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.progress import Progress, Task, TaskID
from rich.text import Text

__all__ = ["Lines"]

#: Columns that stay free at the right: a terminal writes ^C there, which must not begin a line that nobody wipes.
MARGIN = 4
#: Columns below which there is no bar but only words.
LEAST_BAR = 4
#: The width of a notebook's line, and the seconds between two of them.
NOTEBOOK_WIDTH, NOTEBOOK_PAUSE = 80, 0.1


class Lines(Progress):
    """A line for each fit that is running, on stderr; none where that is no terminal.

    A notebook shows them as text, for which it needs no widgets.
    """

    def __init__(self) -> None:
        self.notebook = Notebook.here()
        console = Console(stderr=True, force_jupyter=False)
        super().__init__(
            console=console,
            disable=not console.is_terminal,    # else a line end is written
            transient=True,
            redirect_stdout=is_terminal(sys.stdout),    # what is printed meanwhile goes where it would have gone
        )

    def start(self) -> None:
        if self.notebook is None:
            super().start()

    def stop(self) -> None:
        if self.notebook is None:
            super().stop()
        else:
            self.notebook.close()

    def begin(self, max_iter: int, measure: str) -> TaskID:
        """A line for a fit."""
        return self.add_task("", total=max_iter, loss=math.nan, measure=measure, value=math.nan)

    def begin_again(self, task: TaskID, description: str) -> None:
        """The line of a fit that comes to another target."""
        self.reset(task, description=description)

    def show(self, task: TaskID, iteration: int, loss: float, value: float) -> None:
        """Take in an iterate."""
        self.update(task, completed=iteration, loss=loss, value=value)
        if self.notebook is not None:
            self.notebook.show(self.tasks)

    def end(self, task: TaskID) -> None:
        """Take a line away, where others stay."""
        self.remove_task(task)

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            yield Line(task)


class Line:
    """What is told of a fit: as much as there is room for, and a bar in between.

    Parameters
    ----------
    task : Task
    """

    def __init__(self, task: Task) -> None:
        self.task = task

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        before, after, room = self.fitting(options.max_width - MARGIN)
        full = round(room * self.task.percentage / 100)
        bar = ("━" * full, "bar.complete"), ("─" * (room - full), "bar.back")
        line = Text.assemble(before, *bar, after, no_wrap=True, overflow="crop")
        line.truncate(options.max_width - MARGIN)
        yield line

    def fitting(self, width: int) -> tuple[str, str, int]:
        """The words before and after the bar that leave room for it in so many columns, and its length.

        Or else those that are shortest, and no bar.
        """
        before, after = "", ""
        for least, before, after in self.words():
            room = width - cell_len(before) - cell_len(after) - 2
            if room >= least:
                return before + " ", " " + after, room
        return before + " ", after, 0

    def words(self) -> list[tuple[int, str, str]]:
        """The least length of a bar, and what may stand before and after it; the longest first."""
        task, target = self.task, self.task.description
        done, total = f"{int(task.completed):,}", f"{int(task.total or 0):,}"
        if math.isnan(task.fields["loss"]):
            return [(LEAST_BAR, f"{target}iteration {done} / {total}", "")]     # nothing is known yet
        loss, value, measure = f"{task.fields['loss']:.5g}", f"{task.fields['value']:.1e}", task.fields["measure"]
        left = "" if task.finished else f", ≤ {clock(task.time_remaining)}"
        whole = f"loss {loss}, {measure} {value}{left}" + (" left" if left else "")
        return [
            (LEAST_BAR, f"{target}iteration {done} / {total}", whole),
            (LEAST_BAR, f"{target}{done} / {total}", f"loss {loss}, {measure} {value}{left}"),
            (LEAST_BAR, f"{target}{done} / {total}", f"loss {loss}, {value}{left}"),
            (0, f"{done}/{total}", f"{loss}, {value}{left}"),
            (0, f"{task.percentage:.0f} %", f"{loss}{left}"),
        ]


def clock(seconds: float | None) -> str:
    """Seconds as minutes and seconds, with hours if there are any."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def is_terminal(stream: Any) -> bool:
    return stream is not None and hasattr(stream, "isatty") and stream.isatty()


class Notebook:
    """A place in the output of a notebook's cell whose text changes.

    Parameters
    ----------
    display : callable
        IPython's.
    """

    def __init__(self, display: Any) -> None:
        self.handle = display({"text/plain": ""}, raw=True, display_id=True)
        self.shown_at = -math.inf

    @classmethod
    def here(cls) -> Notebook | None:
        """One, if this is a notebook."""
        if not Console(stderr=True).is_jupyter:
            return None
        from IPython.display import display  # type: ignore[import-not-found]

        return cls(display)

    def show(self, tasks: list[Task]) -> None:
        """The lines as they are now, if the last time is some time ago."""
        now = time.monotonic()
        if now < self.shown_at + NOTEBOOK_PAUSE:
            return
        self.shown_at = now
        console = Console(width=NOTEBOOK_WIDTH, force_terminal=False, force_jupyter=False, color_system=None)
        with console.capture() as written:
            for task in tasks:
                console.print(Line(task))
        self.handle.update({"text/plain": written.get().rstrip("\n")}, raw=True)

    def close(self) -> None:
        """Leave nothing."""
        self.handle.update({"text/plain": ""}, raw=True)
