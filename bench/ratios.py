"""The README's table: fastgd against NumPy and against one read of X, in turns in one process, on one thread.

    OMP_NUM_THREADS=1 python bench/ratios.py [--rounds 15] [--case gradient]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS

from problems import CASES, PROBLEMS, Data, read_once

SHORTEST = 0.01  # seconds that a round of one contestant lasts at least


def seconds(run: Callable[[Data], object], data: Data) -> float:
    """Time of one call, over as many as fill SHORTEST."""
    calls = 0
    start = time.perf_counter()
    while True:
        run(data)
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= SHORTEST:
            return elapsed / calls


def compare(runs: list[Callable[[Data], object]], data: Data, rounds: int) -> list[float]:
    """The median time of each contestant; they take turns, after one round that does not count."""
    times: list[list[float]] = [[] for _ in runs]
    for k in range(rounds + 1):
        for run, results in zip(runs, times, strict=True):
            elapsed = seconds(run, data)
            if k:
                results.append(elapsed)
    return [statistics.median(results) for results in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--case", choices=CASES, default="gradient")
    options = parser.parse_args()
    ours, numpys = CASES[options.case]
    print(f"| {options.case} | fastgd | NumPy | ratio | GB/s of X | of one read |")
    print("|---|---|---|---|---|---|")
    for problem in PROBLEMS:
        data = Data(problem)
        fast, slow, read = compare([ours, numpys, read_once], data, options.rounds)
        print(
            f"| {problem} | {fast * 1e6:,.1f} µs | {slow * 1e6:,.1f} µs | {slow / fast:.1f}× "
            f"| {data.X.nbytes / fast / 1e9:.1f} | {read / fast:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
