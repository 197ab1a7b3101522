"""Made-up houses, to show what a fit does where the truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

import numpy as np
import typer

from fastgd._output import column_names
from fastgd.result import FitResult

__all__ = ["FEATURES", "TARGET", "TRUTH", "houses", "print_demo", "write_houses"]

FEATURES = ("size", "age", "city")
TARGET = "price"
CITIES = ("Bergen", "Oslo", "Tromsø")
#: What a square metre and a year add to the price, and a house in Oslo and Tromsø beside Bergen; then the intercept.
TRUTH = (2.5, -0.8, 90.0, -40.0, 50.0)
#: The standard deviation of what the columns do not tell.
NOISE = 10.0
N_HOUSES = 500


def houses() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The columns of numbers by name, the cities, and the prices, as `write_houses` writes them."""
    rng = np.random.default_rng(0)
    size, age = rng.uniform(40, 200, N_HOUSES).round(1), rng.integers(0, 80, N_HOUSES).astype(np.float64)
    city = rng.integers(0, len(CITIES), N_HOUSES)
    of_city = np.array([0.0, *TRUTH[2:4]])[city]
    price = TRUTH[0] * size + TRUTH[1] * age + of_city + TRUTH[4] + NOISE * rng.standard_normal(N_HOUSES)
    return {"size": size, "age": age}, np.array(CITIES)[city], price.round(1)


def write_houses(file: TextIO) -> None:
    """Write them as CSV."""
    numbers, cities, prices = houses()
    file.write(",".join((*FEATURES, TARGET)) + "\n")
    for size, age, city, price in zip(numbers["size"], numbers["age"], cities, prices, strict=True):
        file.write(f"{size},{age:.0f},{city},{price}\n")


def print_demo(descent: FitResult, exact: FitResult) -> None:
    """The way of the descent, and where it and the exact solution end, beside the truth."""
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
