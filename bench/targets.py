"""What fastgd aims at, and how near the measured rows come. Nothing fails here: the gate is `compare.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from report import Row, best_peer, markdown, median, of_read, ratio

__all__ = ["summary"]


class Target(NamedTuple):
    """A figure of some rows, and the least it should be."""

    text: str
    rows: Callable[[Row], bool]
    figure: Callable[[Row], float | None]
    least: float


def gradient(
    least: int, most: int, dtype: str = "float", order: str = "C", many: bool = False
) -> Callable[[Row], bool]:
    """Rows of the dense gradient out of the caches, of these widths."""
    return lambda row: (
        out_of_cache("gradient", least, most)(row)
        and row["problem"]["dtype"].startswith(dtype)
        and row["problem"]["order"] == order
        and (row["threads"] > 1) == many
    )


def out_of_cache(case: str, least: int, most: int) -> Callable[[Row], bool]:
    return lambda row: (
        row["case"] == case and "in memory" in row["problem"]["name"] and least <= row["problem"]["d"] <= most
    )


def case(name: str) -> Callable[[Row], bool]:
    return lambda row: row["case"] == name


def updates(parameters: int) -> Callable[[Row], bool]:
    """Rows of update rules on so many float32."""
    return lambda row: (
        row["case"].startswith("update") and row["problem"]["d"] == parameters and row["problem"]["dtype"] == "float32"
    )


def times(peer: str) -> Callable[[Row], float | None]:
    return lambda row: ratio(row, peer)


def fits(*widths: int) -> Callable[[Row], bool]:
    return lambda row: row["case"] == "fit" and row["problem"]["d"] in widths


def times_of_best(row: Row) -> float | None:
    name = best_peer(row)
    return ratio(row, name) if name else None


def compositions(n: int) -> Callable[[Row], bool]:
    return lambda row: row["case"] == "gradient of a composition" and row["problem"]["n"] == n


def calls_in(time: float) -> Callable[[Row], float | None]:
    """How often fastgd does it in so many seconds."""

    def figure(row: Row) -> float | None:
        seconds = median(row, "fastgd")
        return seconds and time / seconds

    return figure


TARGETS = [
    Target("gradient, C order, d = 16 … 128: part of a plain read", gradient(16, 128), of_read, 0.9),
    Target("gradient, C order, d = 250 … 1,000: part of a plain read", gradient(250, 1_000), of_read, 0.8),
    Target("gradient, C order, d = 2,500 … 20,000: part of a plain read", gradient(2_500, 20_000), of_read, 0.7),
    Target("gradient, Fortran order: part of a plain read", gradient(1, 50_000, order="F"), of_read, 0.7),
    Target("gradient, all cores, d ≤ 1,000: part of a plain read", gradient(1, 1_000, many=True), of_read, 0.85),
    Target("gradient, float32, d = 100: NumPy's time", gradient(100, 100, "float32"), times("NumPy"), 3.0),
    Target("gradient, float32, d = 250: NumPy's time", gradient(250, 250, "float32"), times("NumPy"), 3.5),
    Target("gradient, float32, d = 1,000: NumPy's time", gradient(1_000, 1_000, "float32"), times("NumPy"), 2.2),
    Target("gradient, every size: PyTorch's time", case("gradient"), times("PyTorch"), 1.0),
    Target("gradient, every size: Numba's time", case("gradient"), times("Numba"), 1.0),
    Target("SGD epoch: scikit-learn's time", case("SGD epoch"), times("scikit-learn"), 10.0),
    Target("SGD epoch in stretches: scikit-learn's time", case("SGD epoch in stretches"), times("scikit-learn"), 10.0),
    Target(
        "sparse gradient, 100,000×10,000: SciPy's time",
        lambda row: case("sparse gradient")(row) and row["problem"]["n"] == 100_000,
        times("SciPy"),
        2.5,
    ),
    Target("moments, d ≤ 16: part of a plain read", out_of_cache("moments", 1, 16), of_read, 0.6),
    Target(
        "moments, every d: time of NumPy's X.T @ X alone",
        lambda row: case("moments")(row) and row["problem"]["n"] > 1_000,
        times("NumPy"),
        1.0,
    ),
    Target("fit: time of scikit-learn's LinearRegression", case("fit"), times("scikit-learn"), 8.0),
    Target("fit, 442×10: time of scikit-learn's Ridge", fits(10), times("scikit-learn Ridge"), 8.0),
    Target("fit, 1,000,000×20 and 100,000×100: the fastest other's time", fits(20, 100), times_of_best, 2.0),
    Target("fit, 20,000×1,000: the fastest other's time", fits(1_000), times_of_best, 1.2),
    Target("estimator, fit: LinearRegression's time", case("estimator: fit"), times("scikit-learn"), 1.2),
    Target("estimator, elastic net: scikit-learn's time", case("estimator: elastic net"), times("scikit-learn"), 1.0),
    Target("estimator, SGD: scikit-learn's time", case("estimator: SGD"), times("scikit-learn"), 1.0),
    Target("estimator, SGD in order: scikit-learn's time", case("estimator: SGD in order"), times("scikit-learn"), 1.0),
    Target("update rules, 100 parameters: PyTorch's time", updates(100), times("PyTorch"), 20.0),
    Target("update rules, 10^6 parameters: PyTorch fused's time", updates(1_000_000), times("PyTorch fused"), 1.0),
    Target("update rules, 10^6 parameters: PyTorch's time", updates(1_000_000), times("PyTorch"), 5.0),
    Target("composition, 1,000,000: autograd's time", compositions(1_000_000), times("autograd"), 4.0),
    Target("composition, 1,000,000: PyTorch's time", compositions(1_000_000), times("PyTorch"), 1.5),
    Target("composition, 10: PyTorch's time", compositions(10), times("PyTorch"), 20.0),
    Target("textbook derivative: calls in 1 µs", case("textbook derivative"), calls_in(1e-6), 1.0),
    Target("network step: PyTorch's time", case("network step"), times("PyTorch"), 1.0),
    Target("engine overhead: passes over all blocks in 30 µs", case("engine overhead"), calls_in(30e-6), 1.0),
]


def summary(rows: list[Row]) -> str:
    """A table of the targets: in how many of their rows they are met, and the row that is farthest off."""
    lines = []
    for target in TARGETS:
        figures = [
            (figure, row["problem"]["label"])
            for row in rows
            if target.rows(row) and (figure := target.figure(row)) is not None
        ]
        if figures:
            worst, where = min(figures)
            met = sum(figure >= target.least for figure, _ in figures)
            lines.append([target.text, f"{target.least:g}", f"{met} of {len(figures)}", f"{worst:.2f}", where])
    return markdown(["fastgd's time goes into", "at least", "rows that do", "least", "at"], lines)
