"""The command `fastgd`: fit, predict, inspect, demo, info.

What goes wrong is one line on stderr, and the exit status is 2. With ``--json`` stdout holds one JSON value and nothing
else.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, TextIO

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

import fastgd
from fastgd._config import configuration
from fastgd._demo import FEATURES, NOISE, TARGET, TRUTH, houses, write_houses
from fastgd._design import Design, Rows, find_categories
from fastgd._files import require_safetensors
from fastgd._table_fit import FROM_MOMENTS, TableFit, fit_rows
from fastgd._tables import Table, open_table
from fastgd.fit import STEP_RULES
from fastgd.result import FitResult, counted
from fastgd.solvers import SOLVERS

__all__ = ["app"]

#: Coefficients that `fit` prints, at most.
SHOWN_COEFFICIENTS = 20
#: Packages of the extras, whose versions `info` tells.
EXTRAS = ("typer", "rich", "pyarrow", "safetensors", "matplotlib", "scikit-learn", "onnx")
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}

app = typer.Typer(
    help="Least squares at the speed of memory, with a certificate for every fit.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]


# ---- commands --------------------------------------------------------------------------------------------------------


@app.command("fit")
def fit_command(
    data: Annotated[Path, typer.Argument(help="CSV or TSV (also .gz), Parquet, Arrow, Feather, NPY or NPZ.")],
    target: Annotated[str, typer.Option(help="The column to predict.")],
    features: Annotated[
        list[str] | None, typer.Option(help="The columns to predict it from: a,b,c. By default all others.")
    ] = None,
    categorical: Annotated[
        list[str] | None, typer.Option(help="Features that are categories, as text columns must be: a,b.")
    ] = None,
    solver: Annotated[str, typer.Option(help=f"auto, {', '.join(SOLVERS)}.")] = "auto",
    l1: Annotated[float, typer.Option(help="Factor of |w|_1; needs the rows in memory.")] = 0.0,
    l2: Annotated[float, typer.Option(help="Factor of |w|^2.")] = 0.0,
    lr: Annotated[str, typer.Option(help=f"Step of gd, sgd, saga: a number, or {', '.join(STEP_RULES)}.")] = "auto",
    max_iter: Annotated[int, typer.Option(help="Iterations that a solver may make.")] = 1000,
    test_fraction: Annotated[
        float, typer.Option(help="Of the rows, what is held out to test with, chosen by their numbers.")
    ] = 0.0,
    memory: Annotated[
        str | None,
        typer.Option(help="What the rows may take, such as 500M; beyond, the fit streams. By default a quarter of "
                     "what is free."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Save the model: NAME.safetensors.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the loss curve: NAME.png.")] = None,
    as_json: AsJSON = False,
) -> None:
    """Fit a linear model to a table by least squares; of files larger than memory, from one pass in bounded memory."""
    with one_line():
        require_places(out, plot)
        if not 0 <= test_fraction < 1:
            raise ValueError(f"--test-fraction must be at least 0 and below 1, got {test_fraction:g}")
        options = {"solver": solver, "l1": l1, "l2": l2, "lr": step_of(lr), "max_iter": max_iter}
        table = open_table(data)
        chosen, declared = choose_features(table, target, listed(features), listed(categorical))
        with bar(f"{data.name}, categories") as seen:
            categories = find_categories(table, declared, lambda done: seen(done, 0)) if declared else {}
        rows = Rows(table, Design.of(chosen, categories), target)
        if plot is not None and len(rows.design.columns) == 1:
            options["keep_path"] = True     # then there is a picture of the way too
        if solver not in FROM_MOMENTS and not as_json and Console().is_terminal:
            options["progress"] = True
        with bar(data.name) as seen, told_warnings() as said:
            budget = None if memory is None else bytes_of(memory)
            fitted = fit_rows(rows, options, fraction=test_fraction, memory=budget, seen_so_far=seen)
        said += [f"no training row has {name}, so its coefficient is 0" for name in fitted.unseen]
        result = named(fitted.result, rows.design, target)
        if out is not None:
            result.save(out)
        if plot is not None:
            draw(result, plot)
        for warning in said:
            typer.echo(f"fastgd: warning: {warning}", err=True)
        if as_json:
            print_json({"data": data, **as_tree(result), **scores(fitted), "out": out, "plot": plot, "warnings": said})
        else:
            print_fit(data, result, fitted, out, plot)


@app.command("predict")
def predict_command(
    model: Annotated[Path, typer.Argument(help="A model that `fastgd fit --out` or `FitResult.save` has written.")],
    data: Annotated[Path, typer.Argument(help="A table with the columns that the model was fitted on.")],
    out: Annotated[Path | None, typer.Option(help="Write the predictions to this CSV file.")] = None,
    as_json: AsJSON = False,
) -> None:
    """Predict the target of each row of a table: a column `prediction`, as CSV."""
    with one_line():
        require_places(out)
        result = fastgd.load(model)
        table = open_table(data)
        design = Design.of_model(result) or unnamed_design(result, model, table)
        table.require(design.features, "the model's feature")
        targets = result.coef.shape[1] if result.coef.ndim == 2 else 1
        header = ["prediction"] if targets == 1 else [f"prediction_{place}" for place in range(targets)]
        predictions = predicted(result, Rows(table, design), data.name)
        if as_json and out is None:
            found = [row for part in predictions for row in part.tolist()]
            print_json({"model": model, "data": data, "predictions": found})
            return
        with replaced(out) as file:
            n_rows = write_csv(file, header, predictions)
        if as_json:
            print_json({"model": model, "data": data, "n_rows": n_rows, "out": out})
        elif out is not None:
            typer.echo(f"{counted(n_rows, 'prediction')} written to {out}")


@app.command("inspect")
def inspect_command(
    model: Annotated[Path, typer.Argument(help="A model that `fastgd fit --out` or `FitResult.save` has written.")],
    as_json: AsJSON = False,
) -> None:
    """Show what a model was fitted on, its coefficients and its certificate."""
    with one_line():
        result = fastgd.load(model)
        if as_json:
            print_json({"model": model, **as_tree(result)})
            return
        print_about(result)
        print_coefficients(result, len(result.coef))
        typer.echo(f"\n{result.explain()}")


@app.command("demo")
def demo_command(
    data: Annotated[Path | None, typer.Option(help="Also write the houses to this CSV file.")] = None,
    as_json: AsJSON = False,
) -> None:
    """Find the prices of made-up houses by gradient descent and by the exact solution, beside the truth."""
    with one_line():
        numbers, cities, prices = houses()
        design = Design.of(FEATURES, {"city": tuple(sorted(set(cities)))})
        known = np.array(design.categories["city"])
        X = design.matrix(numbers, {"city": np.searchsorted(known, cities)}, len(prices))
        descent = named(fastgd.fit(X, prices, solver="gd", max_iter=10_000), design, TARGET)
        exact = named(fastgd.fit(X, prices), design, TARGET)
        if data is not None:
            require_places(data)
            with replaced(data) as file:
                write_houses(file)
        if as_json:
            truth = dict(zip((*design.columns, "intercept"), TRUTH, strict=True))
            print_json({"truth": truth, "gd": as_tree(descent), "auto": as_tree(exact), "data": data})
            return
        print_demo(descent, exact)
        if data is not None:
            typer.echo(f"\nThe houses are in {data}; now try: fastgd fit {data} --target price --categorical city")


@app.command("info")
def info_command(as_json: AsJSON = False) -> None:
    """Print the versions, instruction sets and threads: what to say in a report of a defect."""
    found = configuration() | {"Python": sys.version.split()[0]}
    found |= {name: installed(name) for name in EXTRAS}
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        typer.echo(f"{name + ':':<17}{value}")


def installed(package: str) -> str:
    """Its version."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


# ---- what the user gives ---------------------------------------------------------------------------------------------


def listed(values: Iterable[str] | None) -> list[str] | None:
    """The names in ``a,b`` and in options given twice; quotes may hold a comma: ``'"a,b",c'``."""
    return None if values is None else list(dict.fromkeys(name.strip() for row in csv.reader(values) for name in row))


def step_of(text: str) -> float | str:
    """A step size, or the name of a rule for it."""
    if text in STEP_RULES:
        return text
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--lr must be a number or one of {', '.join(STEP_RULES)}, got {text!r}") from None


def bytes_of(text: str) -> int:
    """The bytes that ``500M`` or ``2 GB`` says: units are powers of 1000."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if found is None:
        raise ValueError(f"--memory must be a size such as 500M or 2G, got {text!r}")
    return int(float(found[1]) * UNITS[found[2]])


def choose_features(
    table: Table, target: str, features: list[str] | None, categorical: list[str] | None
) -> tuple[list[str], list[str]]:
    """The features in their order, and which of them are categories.

    Raises
    ------
    ValueError
        If one of the names is no column's, or the target is among the features.
    """
    declared = categorical or []
    table.require([target], "--target")
    table.require(declared, "--categorical")
    if features is None:
        features = [name for name in table.names if name != target]
        if not all(features):
            place = table.names.index("") + 1
            raise ValueError(f"column {place} of {table.path} has no name: choose the columns with --features")
        table.require(features, "the feature")
    else:
        table.require(features, "--features")
        features = list(dict.fromkeys([*features, *declared]))
    if target in features or target in declared:
        raise ValueError(f"--target {target!r} cannot be a feature as well")
    if not features:
        raise ValueError(f"{table.path} has no column but the target {target!r}")
    return features, [name for name in features if name in declared]


def require_places(out: Path | None, plot: Path | None = None) -> None:
    """Refuse before any work what could not be written after it."""
    for path in (out, plot):
        if path is not None and not path.absolute().parent.is_dir():
            raise ValueError(f"{path} cannot be written: there is no folder {path.parent}")
        if path is not None and path.is_dir():
            raise ValueError(f"{path} cannot be written: it is a folder")
    if plot is not None:
        os.environ.setdefault("MPLBACKEND", "Agg")
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise ImportError("--plot needs matplotlib: pip install 'fastgd[plot]'") from None
        if plot.suffix.lower().lstrip(".") not in Figure().canvas.get_supported_filetypes():
            raise ValueError(f"--plot must end in .png, .pdf or .svg, got {plot}")
    if out is not None:
        require_safetensors("--out")


def unnamed_design(result: FitResult, model: Path, table: Table) -> Design:
    """All columns of the table, in their order, for a model that was fitted on an array."""
    if len(table.names) != len(result.coef):
        raise ValueError(
            f"{model} knows no names of columns, only that there are {len(result.coef)}; "
            f"{table.path} has {len(table.names)}"
        )
    return Design.of(table.names, {})


# ---- work ------------------------------------------------------------------------------------------------------------


def named(result: FitResult, design: Design, target: str) -> FitResult:
    """The result with what the file's columns were."""
    return replace(
        result,
        feature_names=design.columns,
        categories=design.categories or None,
        options={**result.options, "target": target},
    )


def predicted(result: FitResult, rows: Rows, name: str) -> Iterator[np.ndarray]:
    """The predictions, batch after batch, with a bar."""
    n_rows = 0
    with bar(name) as seen:
        for X, _, done in rows:
            n_rows += len(X)
            yield result.predict(X)
            seen(done, n_rows)


def draw(result: FitResult, path: Path) -> None:
    result.plot(feature_names=result.feature_names).figure_.savefig(path)


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
    """A file beside that takes the name when all has been written, or stdout."""
    if path is None:
        yield sys.stdout
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "x", encoding="utf-8", newline="") as file:
            yield file
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


# ---- what the user sees ----------------------------------------------------------------------------------------------


@contextmanager
def one_line() -> Iterator[None]:
    """What goes wrong, in one line on stderr, and exit status 2.

    A TypeError is none of the user's here, and shows where it comes from.
    """
    try:
        yield
    except BrokenPipeError:     # whoever read stdout has seen enough
        raise
    except (ValueError, ArithmeticError, OSError, ImportError, MemoryError) as error:
        message = str(error)
        if isinstance(error, OSError) and error.filename and error.strerror:
            message = f"{error.filename}: {error.strerror}"
        if isinstance(error, MemoryError):
            message = f"not enough memory: {message or 'choose fewer columns'}"
        typer.echo(f"fastgd: {' '.join(message.split())}", err=True)
        raise typer.Exit(2) from None


@contextmanager
def told_warnings() -> Iterator[list[str]]:
    """What is warned of within the block, once it has ended."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", fastgd.ConvergenceWarning)
        yield said
    said += [str(warning.message) for warning in caught]


@contextmanager
def bar(title: str) -> Iterator[Callable[[float, int], None]]:
    """A bar on stderr, if that is a terminal, moved by the share that is done and the number of rows."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, n_rows: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=1.0, rows=0)
        yield lambda done, n_rows: progress.update(task, completed=done, rows=n_rows)


def print_json(value: Any) -> None:
    """JSON as RFC 8259 has it: numbers that are not finite are null."""
    typer.echo(json.dumps(jsonable(value), ensure_ascii=False, indent=2))


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
        print_row("target", str(result.options["target"]))
    design = Design.of_model(result)
    if design is None:
        print_row("features", f"{len(result.coef)}, without names")
        return
    print_row("features", ", ".join(design.features))
    for name, values in design.categories.items():
        if f"{name}={values[0]}" not in design.columns:
            counts = counted(len(values), "value")
            print_row("", f"{name} has {counts}; coefficients are differences from {values[0]!r}")


def print_coefficients(result: FitResult, most: int) -> None:
    """A line for each coefficient, with a column for each target, and the intercept."""
    rows = [*zip(column_names(result), result.coef, strict=True)][:most]
    width = max(len("intercept"), *(len(name) for name, _ in rows)) + 2

    def line(name: str, value: Any) -> str:
        return f"{name:<{width}}" + "".join(f"{number:>14.6g}" for number in np.atleast_1d(value))

    typer.echo("\n" + f"{'column':<{width}}{'coefficient':>14}")
    for name, value in rows:
        typer.echo(line(name, value))
    if most < len(result.coef):
        typer.echo(f"and {len(result.coef) - most:,} more, which --json shows")
    typer.echo(line("intercept", result.intercept))


def print_demo(descent: FitResult, exact: FitResult) -> None:
    names = [*column_names(exact), "intercept"]
    typer.echo(f"{len(houses()[2])} made-up houses: price = {formula(names)} + noise of {NOISE:g}\n")
    typer.echo("Gradient descent on standardised columns, w <- w - lr * gradient:")
    typer.echo(f"{'iteration':>10}{'loss':>14}{'|gradient|':>14}")
    history = descent.history
    for place in dict.fromkeys([0, 1, 2, 5, 10, 20, 50, 100, descent.n_iter]):
        if place <= descent.n_iter:
            loss, gradient = history["loss"][place], history["grad_norm"][place]
            typer.echo(f"{history['iteration'][place]:>10}{loss:>14.6g}{gradient:>14.3g}")
    typer.echo(f"\nThe optimum, {exact.stop_reason}, loss {exact.loss:.6g}:")
    typer.echo(f"{'column':<14}{'truth':>10}{'descent':>12}{'optimum':>12}")
    found = ([*result.coef, result.intercept] for result in (descent, exact))
    for name, truth, by_descent, at_optimum in zip(names, TRUTH, *found, strict=True):
        typer.echo(f"{name:<14}{truth:>10.6g}{by_descent:>12.6g}{at_optimum:>12.6g}")


def formula(names: Sequence[str]) -> str:
    terms = [f"{factor:g}" if name == "intercept" else f"{factor:g}·[{name}]" if "=" in name else f"{factor:g}·{name}"
             for name, factor in zip(names, TRUTH, strict=True)]
    return " + ".join(terms).replace("+ -", "- ")
