"""The table of the README and of docs/performance.md: some rows of the saved results, between two marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from report import Row, caption, table

__all__ = ["PAGES", "write"]

PAGES = ("README.md", "docs/performance.md")

START, END = "<!-- bench/run.py --readme writes from here -->", "<!-- to here -->"

PEERS = [
    "NumPy", "NumPy in place", "SciPy", "scikit-learn", "scikit-learn Ridge", "glum", "PyTorch", "autograd", "Numba",
    "pure Python",
]
COLUMNS = ["case", "problem", "fastgd", *PEERS, "GB/s of X", "of plain read"]

#: Case, size, dtype, width, order, and whether on all cores.
CHOSEN = [
    ("fit", "small", "float64", 10, "C", False),
    ("fit", "regression", "float64", 20, "C", False),
    ("fit", "regression", "float32", 100, "C", False),
    ("fit", "regression", "float64", 1_000, "C", False),
    ("estimator: fit", "table", "float32", 100, "C", False),
    ("estimator: elastic net", "table", "float64", 20, "C", False),
    ("estimator: SGD", "table", "float32", 100, "C", False),
    ("estimator: SGD", "small", "float64", 10, "C", False),
    ("gradient", "tiny", "float64", 2, "C", False),
    ("gradient", "in L2", "float32", 100, "C", False),
    ("gradient", "in memory", "float64", 20, "C", False),
    ("gradient", "in memory", "float32", 100, "C", False),
    ("gradient", "in memory", "float32", 250, "C", False),
    ("gradient", "in memory", "float32", 1_000, "C", False),
    ("gradient", "in memory", "float32", 20_000, "C", False),
    ("gradient", "in memory", "float32", 100, "F", False),
    ("gradient", "in memory", "float32", 100, "C", True),
    ("moments", "in memory", "float64", 16, "C", False),
    ("SGD epoch", "in memory", "float32", 20, "C", False),
    ("SGD epoch", "in memory", "float64", 20, "C", False),
    ("SGD epoch in stretches", "in memory", "float64", 20, "C", False),
    ("sparse gradient", "sparse", "float32", 10_000, "C", False),
    ("gradient of a composition", "few", "float64", 1, "C", False),
    ("gradient of a composition", "million", "float64", 1, "C", False),
    ("textbook derivative", "textbook", "float64", 1, "C", False),
    ("network step", "network", "float32", 10, "C", False),
    ("network step", "network", "float64", 10, "C", False),
]


def is_chosen(row: Row) -> bool:
    problem, many = row["problem"], row["threads"] > 1
    size = problem["name"].rpartition(", ")[2]
    return (row["case"], size, problem["dtype"], problem["d"], problem["order"], many) in CHOSEN


def write(results: dict[str, Any], page: Path) -> None:
    """Put the table in its place in the page."""
    before, mark, rest = page.read_text().partition(START)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise SystemExit(f"{page} has no lines {START} and {END}")
    rows = [row for row in results["rows"] if is_chosen(row)]
    page.write_text(f"{before}{START}\n\n{table(rows, COLUMNS)}\n\nOn {caption(results)}.\n\n{END}{after}")
