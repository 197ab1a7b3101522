"""Made-up houses, to show what a fit does where the truth is known."""

from __future__ import annotations

from typing import TextIO

import numpy as np

__all__ = ["FEATURES", "NOISE", "TARGET", "TRUTH", "houses", "write_houses"]

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
