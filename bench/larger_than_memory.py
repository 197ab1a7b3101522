"""A CSV that is larger than memory, fitted by the command `fastgd fit` under a limit, beside the fit in memory.

    python bench/larger_than_memory.py                              # 3 GB of text under a limit of 1 GB
    python bench/larger_than_memory.py --size 0.3 --limit 0.6       # GB

The limit is on the address space of the process (`ulimit -v`), libraries and all. Prints the time, the peak of memory
that was resident, and how far the coefficients are from those of the fit in memory, for which 0.4 of the file's size
must be free. Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

COLUMNS = 8
CITIES = np.array(["Bergen", "Oslo", "Stavanger", "Tromsø"])
ROWS_AT_ONCE = 100_000
#: OpenBLAS takes tens of megabytes of addresses for each thread it might start.
ENVIRONMENT = os.environ | {"OPENBLAS_NUM_THREADS": "1"}


def write_table(path: Path, size: int) -> int:
    """Write rows until the file has so many bytes; returns the number of rows."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal(COLUMNS)
    n_rows = 0
    with open(path, "wb") as file:
        while file.tell() < size:
            X = rng.standard_normal((ROWS_AT_ONCE, COLUMNS)) + np.arange(COLUMNS)
            city = rng.integers(0, len(CITIES), ROWS_AT_ONCE)
            y = X @ w + 2.0 * city + 5.0 + rng.standard_normal(ROWS_AT_ONCE)
            columns: dict[str, Any] = {f"x{place}": X[:, place] for place in range(COLUMNS)}
            table = pa.table(columns | {"city": CITIES[city], "y": y})
            csv.write_csv(table, file, csv.WriteOptions(include_header=n_rows == 0))
            n_rows += ROWS_AT_ONCE
    return n_rows


def fit(path: Path, *options: str, limit: int | None = None) -> tuple[dict[str, Any], float, float]:
    """What `fastgd fit --json` says, its seconds, and the GB that were resident at most."""
    command = [sys.executable, "-m", "fastgd", "fit", str(path), "--target", "y", "--categorical", "city"]
    start = time.perf_counter()
    if limit is not None:
        command = ["sh", "-c", f'ulimit -v {limit // 1024} && exec "$@"', "sh", *command]
    child = subprocess.Popen(
        [*command, "--test-fraction", "0.1", "--json", *options], stdout=subprocess.PIPE, env=ENVIRONMENT
    )
    assert child.stdout is not None
    printed = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"fastgd fit ended with status {child.returncode}")
    return json.loads(printed), time.perf_counter() - start, used.ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=float, default=3.0, help="GB of text")
    parser.add_argument("--limit", type=float, default=1.0, help="GB of address space")
    parser.add_argument("--folder", type=Path, help="where to write the file, which is removed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "table.csv"
        n_rows = write_table(path, int(arguments.size * 1e9))
        print(f"{path.stat().st_size / 1e9:.3g} GB of CSV, {n_rows:,} rows", flush=True)
        limited, seconds, peak = fit(path, limit=int(arguments.limit * 1e9))
        held = "in memory" if limited["in_memory"] else "streamed"
        print(f"under a limit of {arguments.limit:g} GB: {held}, {seconds:.1f} s, peak {peak:.3f} GB", flush=True)
        whole, seconds, peak = fit(path, "--memory", "1T")
        print(f"without one: {seconds:.1f} s, peak {peak:.3f} GB", flush=True)
    assert whole["in_memory"]
    pairs = [(limited["coef"][name], whole["coef"][name]) for name in whole["coef"]]
    pairs += [(limited[place][name], whole[place][name]) for place in ("train", "test") for name in ("mse", "r2")]
    off = max(abs(a - b) / abs(b) for a, b in [*pairs, (limited["intercept"], whole["intercept"])])
    print(f"coefficients and scores differ by {off:.1e} of themselves at most")


if __name__ == "__main__":
    main()
