"""The command `fastgd`: fit, predict, inspect, demo, info.

What goes wrong is one line on stderr, and the exit status is 2. With ``--json`` stdout holds one JSON value and nothing
else.
"""

from __future__ import annotations

import csv
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

import fastgd
from fastgd._command import Commands, number, whole_number
from fastgd._config import configuration
from fastgd._demo import FEATURES, TARGET, TRUTH, houses, print_demo, write_houses
from fastgd._design import Design, Rows, find_categories
from fastgd._files import require_safetensors
from fastgd._output import (
    as_tree,
    bar,
    print_about,
    print_coefficients,
    print_fit,
    print_json,
    replaced,
    scores,
    write_csv,
)
from fastgd._table import Table
from fastgd._table_fit import FROM_MOMENTS, TableFit, fit_gathered, gather, require_options
from fastgd._tables import open_table
from fastgd.fit import STEP_RULES
from fastgd.result import FitResult, counted
from fastgd.solvers import SOLVERS

__all__ = ["app"]

#: Packages of the extras, whose versions `info` tells.
EXTRAS = ("typer", "rich", "pyarrow", "safetensors", "matplotlib", "scikit-learn", "onnx")
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}

app = typer.Typer(
    cls=Commands,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[Path, typer.Argument(metavar="DATA", help="CSV, TSV (also .gz), Parquet, Arrow, Feather, NPY or NPZ.")]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="What `fit --out` or `FitResult.save` has written.")]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]


# ---- commands --------------------------------------------------------------------------------------------------------


def print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"fastgd {fastgd.__version__}")
        raise typer.Exit


@app.callback()
def of_all_commands(
    _: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Least squares at the speed of memory, with a certificate for every fit."""


@app.command("fit", short_help="Fit a linear model to a table.")
def fit_command(
    data: Data,
    target: Annotated[str, typer.Option(metavar="NAME", help="The column to predict.")],
    features: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help="The columns to predict it from: a,b,c. By default all others."),
    ] = None,
    categorical: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help="Features that are categories, as text columns must be: a,b."),
    ] = None,
    solver: Annotated[str, typer.Option(metavar="NAME", help=f"auto, {', '.join(SOLVERS)}.")] = "auto",
    l1: Annotated[float, typer.Option(metavar="NUMBER", parser=number, help="Factor of |w|_1.")] = 0.0,
    l2: Annotated[float, typer.Option(metavar="NUMBER", parser=number, help="Factor of |w|^2.")] = 0.0,
    lr: Annotated[
        str, typer.Option(metavar="STEP", help=f"Step of gd, sgd, saga: a number, or {', '.join(STEP_RULES)}.")
    ] = "auto",
    max_iter: Annotated[
        int, typer.Option(metavar="NUMBER", parser=whole_number, help="Iterations that a solver may make.")
    ] = 1000,
    test_fraction: Annotated[
        float,
        typer.Option(
            metavar="NUMBER", parser=number, help="Of the rows, what is held out to test with, by their numbers."
        ),
    ] = 0.0,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="What the rows may take, such as 500M; beyond, the fit streams. By default a quarter of what is free.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the model: NAME.safetensors.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the loss curve: NAME.png.")] = None,
    as_json: AsJSON = False,
) -> None:
    """Fit a linear model to a table by least squares; of files larger than memory, from one pass in bounded memory."""
    require_places({"--out": out, "--plot": plot}, [data])
    require_model_and_picture(out, plot)
    if not 0 <= test_fraction < 1:
        raise ValueError(f"--test-fraction must be at least 0 and below 1, got {test_fraction:g}")
    options = options_of(solver, l1, l2, lr, max_iter)
    budget = None if memory is None else bytes_of(memory)
    rows = rows_of(open_table(data), target, listed(features), listed(categorical))
    if plot is not None and len(rows.design.columns) == 1:
        options["keep_path"] = True     # then there is a picture of the way too
    fitted, said = fit_of(rows, options, test_fraction, budget)
    result = named(fitted.result, rows.design, target)
    if out is not None:
        result.save(out)
    if plot is not None:
        result.plot(feature_names=result.feature_names).figure_.savefig(plot)
    for warning in said:
        typer.echo(f"fastgd: warning: {warning}", err=True)
    if as_json:
        print_json({"data": data, **as_tree(result), **scores(fitted), "out": out, "plot": plot, "warnings": said})
    else:
        print_fit(data, result, fitted, out, plot)


@app.command("predict", short_help="Predict the target of each row of a table.")
def predict_command(
    model: Model,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A table with the columns that the model knows.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the predictions to this CSV file, not to stdout.")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Predict the target of each row of a table: a column `prediction`, as CSV."""
    require_places({"--out": out}, [model, data])
    result = loaded(model)
    table = open_table(data)
    design = Design.of_model(result) or unnamed_design(result, model, table)
    table.require(design.features, "the model's feature")
    targets = result.coef.shape[1] if result.coef.ndim == 2 else 1
    header = ["prediction"] if targets == 1 else [f"prediction_{place}" for place in range(targets)]
    scrolls_by = out is None and not as_json and Console().is_terminal
    predictions = predicted(result, Rows(table, design), hidden=scrolls_by)
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


@app.command("inspect", short_help="Show a model and its certificate.")
def inspect_command(model: Model, as_json: AsJSON = False) -> None:
    """Show what a model was fitted on, its coefficients and its certificate."""
    result = loaded(model)
    if as_json:
        print_json({"model": model, **as_tree(result)})
        return
    print_about(result)
    print_coefficients(result, len(result.coef))
    typer.echo(f"\n{result.explain()}")


@app.command("demo", short_help="Find the prices of made-up houses.")
def demo_command(
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the houses to this file: NAME.csv.")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Find the prices of made-up houses by gradient descent and by the exact solution, beside the truth."""
    require_places({"--data": data}, [])
    numbers, cities, prices = houses()
    design = Design.of(FEATURES, {"city": tuple(sorted(set(cities)))})
    known = np.array(design.categories["city"])
    X = design.matrix(numbers, {"city": np.searchsorted(known, cities)}, len(prices))
    descent = named(fastgd.fit(X, prices, solver="gd", max_iter=10_000), design, TARGET)
    exact = named(fastgd.fit(X, prices), design, TARGET)
    if data is not None:
        with replaced(data) as file:
            write_houses(file)
    if as_json:
        truth = dict(zip((*design.columns, "intercept"), TRUTH, strict=True))
        print_json({"truth": truth, "gd": as_tree(descent), "auto": as_tree(exact), "data": data})
        return
    print_demo(descent, exact)
    if data is not None:
        typer.echo(f"\nThe houses are in {data}; now try: fastgd fit {data} --target price --categorical city")


@app.command("info", short_help="Print versions, instruction sets and threads.")
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


def options_of(solver: str, l1: float, l2: float, lr: str, max_iter: int) -> dict[str, Any]:
    """Options of `fastgd.fit`, which are looked at before a file is read.

    Raises
    ------
    ValueError
        If one is out of range, or the solver has no use for it; with the names that it has here.
    """
    options: dict[str, Any] = {"solver": solver, "l1": l1, "l2": l2, "lr": step_of(lr), "max_iter": max_iter}
    try:
        require_options(**options)
    except ValueError as error:
        message = re.sub(r"^solver='(\w+)'", r"--solver \1", str(error))
        as_option = re.compile(r"^\w+(?= must be )|(?<= use for )\w+")
        raise ValueError(as_option.sub(lambda found: "--" + found[0].replace("_", "-"), message)) from None
    return options


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


def rows_of(table: Table, target: str, features: list[str] | None, categorical: list[str] | None) -> Rows:
    """The rows of a table as X and y, once it is known what the values of its categories are."""
    chosen, declared = choose_features(table, target, features, categorical)
    categories = {}
    if declared:
        with bar(f"categories of {table.path.name}") as seen:
            categories = find_categories(table, declared, seen)
    return Rows(table, Design.of(chosen, categories), target)


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
        if not features:
            raise ValueError("--features names no column")
    if target in features or target in declared:
        raise ValueError(f"--target {target!r} cannot be a feature as well")
    if not features:
        raise ValueError(f"{table.path} has no column but the target {target!r}")
    return features, [name for name in features if name in declared]


def require_places(outputs: Mapping[str, Path | None], inputs: Sequence[Path]) -> None:
    """Refuse before any work what could not be written after it, or would overwrite what is read.

    Raises
    ------
    ValueError
        With the option.
    """
    taken = {os.path.realpath(path): f"{path} is what is read" for path in inputs}
    for option, path in outputs.items():
        if path is None:
            continue
        folder = path.absolute().parent
        if not folder.is_dir():
            raise ValueError(f"{path} cannot be written: there is no folder {path.parent}")
        if path.is_dir():
            raise ValueError(f"{path} cannot be written: it is a folder")
        if not os.access(folder if path.is_file() or not path.exists() else path, os.W_OK):
            raise ValueError(f"{path} cannot be written: no permission to write in the folder {path.parent}")
        place = os.path.realpath(path)
        if place in taken:
            raise ValueError(f"{option} must be another file: {taken[place]}")
        taken[place] = f"{path} is what {option} writes"


def require_model_and_picture(out: Path | None, plot: Path | None) -> None:
    """Refuse what could not be saved or drawn.

    Raises
    ------
    ImportError
        If that needs an extra which is not there.
    ValueError
        If the picture's name tells no kind that is known, or the model's place is a device.
    """
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
        if out.exists() and not out.is_file():
            raise ValueError(f"{out} cannot be written: it is no regular file, which a model replaces as a whole")


def loaded(model: Path) -> FitResult:
    """The model in a file, which no pipe can be: it is mapped into memory."""
    if model.exists() and not model.is_file() and not model.is_dir():
        raise ValueError(f"{model} is no regular file, and so no model")
    return fastgd.load(model)


def unnamed_design(result: FitResult, model: Path, table: Table) -> Design:
    """All columns of the table, in their order, for a model that was fitted on an array."""
    if len(table.names) != len(result.coef):
        raise ValueError(
            f"{model} knows no names of columns, only that there are {len(result.coef)}; "
            f"{table.path} has {len(table.names)}"
        )
    return Design.of(table.names, {})


# ---- work ------------------------------------------------------------------------------------------------------------


def fit_of(rows: Rows, options: dict[str, Any], fraction: float, memory: int | None) -> tuple[TableFit, list[str]]:
    """The fit, with a bar while the rows are read and one while a solver works, and what was warned of."""
    with bar(rows.table.path.name) as seen:
        gathered = gather(rows, options, fraction=fraction, memory=memory, seen_so_far=seen)
    with told_warnings() as said:
        fitted = fit_gathered(gathered, rows.design, {**options, "progress": options["solver"] not in FROM_MOMENTS})
    said += [f"no training row has {name}, so its coefficient is 0" for name in fitted.unseen]
    return fitted, said


@contextmanager
def told_warnings() -> Iterator[list[str]]:
    """What is warned of within the block, once it has ended."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", fastgd.ConvergenceWarning)
        yield said
    said += [str(warning.message) for warning in caught]


def named(result: FitResult, design: Design, target: str) -> FitResult:
    """The result with what the file's columns were."""
    return replace(
        result,
        feature_names=design.columns,
        categories=design.categories or None,
        options={**result.options, "target": target},
    )


def predicted(result: FitResult, rows: Rows, hidden: bool) -> Iterator[np.ndarray]:
    """The predictions, batch after batch, with a bar, which is hidden where they scroll by themselves."""
    n_rows = 0
    with bar(rows.table.path.name, hidden=hidden) as seen:
        for X, _, done in rows:
            n_rows += len(X)
            yield result.predict(X)
            seen(done, n_rows)
