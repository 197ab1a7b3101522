"""What the command `fastgd` shows and writes: a bar, results as text and as JSON, predictions as CSV."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

from fastgd._design import Design
from fastgd._table_fit import TableFit
from fastgd._words import printable, quoted
from fastgd.result import FitResult, counted

__all__ = [
    "as_tree",
    "bar",
    "column_names",
    "print_about",
    "print_coefficients",
    "print_fit",
    "print_json",
    "replaced",
    "scores",
    "write_csv",
]

#: Coefficients that `print_fit` shows, at most, and names of features.
SHOWN_COEFFICIENTS = SHOWN_NAMES = 20
#: Letters of a file's name beside the bar.
BAR_LETTERS = 30


# ---- a bar -----------------------------------------------------------------------------------------------------------


@contextmanager
def bar(title: str, *, hidden: bool = False) -> Iterator[Callable[[float, int], None]]:
    """A bar on stderr, if that is a terminal, moved by the share that is done and the number of rows."""
    console = Console(stderr=True)
    if hidden or not console.is_terminal:
        yield lambda done, n_rows: None
        return
    name = Column(max_width=BAR_LETTERS, overflow="ellipsis", no_wrap=True)
    columns = (
        TextColumn("{task.description}", markup=False, table_column=name),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),    # what the window leaves
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows,", table_column=Column(no_wrap=True)),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console, transient=True, expand=True) as progress:
        task = progress.add_task(title, total=1.0, rows=0)
        yield lambda done, n_rows: progress.update(task, completed=done, rows=n_rows)


# ---- files -----------------------------------------------------------------------------------------------------------


def write_csv(file: TextIO, header: Sequence[str], parts: Iterable[np.ndarray]) -> int:
    """Write rows in the digits that give the same float64 again, once there are some; returns how many."""
    n_rows = 0
    for part in parts:
        if not n_rows:
            file.write(",".join(header) + "\n")
        n_rows += len(part)
        file.writelines(",".join(map(repr, row)) + "\n" for row in part.reshape(len(part), -1).tolist())
    return n_rows


@contextmanager
def replaced(path: Path | None) -> Iterator[TextIO]:
    """A file beside that takes the name when all has been written; a device or a pipe itself; or stdout.

    Raises
    ------
    OSError
        If it cannot be written, with its name.
    """
    if path is None:
        if sys.stdout is None:
            raise ValueError("stdout is closed: name a file with --out")
        yield sys.stdout
        return
    is_device = path.exists() and not path.is_file()
    target = Path(os.path.realpath(path))   # what a link points to, not the link
    written = path if is_device else target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(written, "w" if is_device else "x", encoding="utf-8", newline="") as file:
            yield file
        if not is_device:
            written.replace(target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        if not is_device:
            written.unlink(missing_ok=True)


# ---- JSON ------------------------------------------------------------------------------------------------------------


def print_json(value: Any) -> None:
    """JSON as RFC 8259 has it: numbers that are not finite are null."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    typer.echo(json.dumps(jsonable(value), ensure_ascii=encoding.lower() not in ("utf-8", "utf8"), indent=2))


def jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def as_tree(result: FitResult) -> dict[str, Any]:
    """What a result says, for machines."""
    names = column_names(result)
    design = Design.of_model(result)
    return {
        "features": names if design is None else design.features,
        "target": result.options.get("target"),
        "coef": dict(zip(names, result.coef, strict=True)),
        "intercept": result.intercept,
        "categories": result.categories or {},
        "loss": result.loss,
        "solver": result.solver,
        "choice": result.choice,
        "options": result.options,
        "converged": result.converged,
        "stop_reason": result.stop_reason,
        "n_iter": result.n_iter,
        "lr": result.lr,
        "optimality": result.optimality,
        "gap_bound": result.gap_bound,
    }


def scores(fitted: TableFit) -> dict[str, Any]:
    test = None if fitted.test is None else asdict(fitted.test)
    return {"train": asdict(fitted.train), "test": test, "in_memory": fitted.in_memory}


# ---- text ------------------------------------------------------------------------------------------------------------


def column_names(result: FitResult) -> Sequence[str]:
    return result.feature_names or [f"x{place}" for place in range(len(result.coef))]


def print_fit(data: Path, result: FitResult, fitted: TableFit, out: Path | None, plot: Path | None) -> None:
    n_rows = fitted.train.n_rows + (fitted.test.n_rows if fitted.test else 0)
    held = "in memory" if fitted.in_memory else "streamed into second moments"
    print_row("data", f"{data}: {counted(n_rows, 'row')}, {held}")
    print_about(result)
    print_coefficients(result, SHOWN_COEFFICIENTS)
    typer.echo("")
    for name, score in (("train", fitted.train), ("test", fitted.test)):
        if score is not None:
            error = f"mean squared error {score.mse:.6g}, R² {score.r2:.6g}"
            print_row(name, f"{counted(score.n_rows, 'row')}: {error}")
    iterations = "" if result.solver == "moments" else f", {counted(result.n_iter, 'iteration')}"
    print_row("solver", f"{result.solver}{iterations}: {result.stop_reason}")
    gap = f", at most {result.gap_bound:.2g} above the optimum" if math.isfinite(result.gap_bound) else ""
    state = "converged" if result.converged else "not converged"
    print_row("certificate", f"{state}: loss {result.loss:.6g}{gap}, optimality {result.optimality:.2g}")
    for name, path in (("model", out), ("plot", plot)):
        if path is not None:
            print_row(name, str(path))


def print_row(name: str, value: str) -> None:
    typer.echo(f"{name:<13}{value}")


def print_about(result: FitResult) -> None:
    """The target, and the features with their categories."""
    if result.options.get("target") is not None:
        print_row("target", printable(str(result.options["target"])))
    design = Design.of_model(result)
    if design is None:
        print_row("features", f"{len(result.coef)}, without names")
        return
    more = "" if len(design.features) <= SHOWN_NAMES else f" and {len(design.features) - SHOWN_NAMES:,} more"
    print_row("features", ", ".join(map(printable, design.features[:SHOWN_NAMES])) + more)
    for name, values in design.categories.items():
        if f"{name}={values[0]}" not in design.columns:
            counts = counted(len(values), "value")
            print_row("", f"{printable(name)} has {counts}; coefficients are differences from {quoted(values[0])}")


def print_coefficients(result: FitResult, most: int) -> None:
    """A line for each coefficient, with a column for each target, and the intercept."""
    rows = [*zip(map(printable, column_names(result)), result.coef, strict=True)][:most]
    width = max(len("intercept"), *(len(name) for name, _ in rows)) + 2

    def line(name: str, value: Any) -> str:
        return f"{name:<{width}}" + "".join(f"{number:>14.6g}" for number in np.atleast_1d(value))

    typer.echo("\n" + f"{'column':<{width}}{'coefficient':>14}")
    for name, value in rows:
        typer.echo(line(name, value))
    if most < len(result.coef):
        typer.echo(f"and {len(result.coef) - most:,} more, which --json shows")
    typer.echo(line("intercept", result.intercept))
