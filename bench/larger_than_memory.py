"""A file that is larger than memory, fitted by the command `fastgd fit` under a limit, beside the fit in memory.

    python bench/larger_than_memory.py                              # 3 GB of CSV under a limit of 1 GB
    python bench/larger_than_memory.py --size 0.6 --kind csv.gz     # rows that take 0.6 GB as text, compressed
    python bench/larger_than_memory.py --size 0.6 --kind parquet

The limit is on the address space of the fitting process (`ulimit -v`), libraries and all, and is read back from
/proc/PID/limits. Its stderr is a terminal, so that the progress bar is there to be seen. Then the same rows are fitted
in memory: under the limit, which must fail, and without it, for which half of the text's size must be free. Prints the
times, the peaks of memory, what the bar said, and how far coefficients and scores are from those of the fit in memory.
Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

COLUMNS = 8
CITIES = np.array(["Bergen", "Oslo", "Stavanger", "Tromsø"])
ROWS_AT_ONCE = 100_000
#: What each row takes as text, about.
BYTES_PER_ROW = 176
#: OpenBLAS takes tens of megabytes of addresses for each thread it might start.
ENVIRONMENT = os.environ | {"OPENBLAS_NUM_THREADS": "1", "COLUMNS": "100", "TERM": "xterm"}
#: What the bar shows: the share of the file, rows, and the time left.
BAR = re.compile(r"(\d+)% ([\d,]+) rows, (-:--:--|\d+:\d\d:\d\d) left")


# ---- the table -------------------------------------------------------------------------------------------------------


def batches(n_rows: int) -> Iterator[pa.Table]:
    rng = np.random.default_rng(0)
    w = rng.standard_normal(COLUMNS)
    for _ in range(0, n_rows, ROWS_AT_ONCE):
        X = rng.standard_normal((ROWS_AT_ONCE, COLUMNS)) + np.arange(COLUMNS)
        city = rng.integers(0, len(CITIES), ROWS_AT_ONCE)
        y = X @ w + 2.0 * city + 5.0 + rng.standard_normal(ROWS_AT_ONCE)
        columns: dict[str, Any] = {f"x{place}": X[:, place] for place in range(COLUMNS)}
        yield pa.table(columns | {"city": CITIES[city], "y": y})


def write_table(path: Path, size: int) -> int:
    """Write rows that take so many bytes as text, in the format that the name tells; returns the number of rows."""
    tables = batches(size // BYTES_PER_ROW)
    first = next(tables)
    n_rows = len(first)
    make = parquet.ParquetWriter if path.suffix == ".parquet" else csv.CSVWriter
    stream = pa.OSFile(str(path), "wb")
    out = pa.CompressedOutputStream(stream, "gzip") if path.suffix == ".gz" else stream
    with out, make(out, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)
            n_rows += len(table)
    return n_rows


# ---- fits ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """What `fastgd fit --json` said; the terminal's text; its seconds, peak of memory in GB, and limit in bytes."""

    status: int
    found: dict[str, Any]
    shown: str
    seconds: float
    peak: float
    limit: str


def fit(path: Path, *options: str, limit: int | None = None) -> Run:
    """Run the command with a terminal as its stderr."""
    command = [sys.executable, "-m", "fastgd", "fit", str(path), "--target", "y", "--categorical", "city"]
    command += ["--test-fraction", "0.1", "--json", *options]
    if limit is not None:
        command = ["sh", "-c", f'ulimit -v {limit // 1024} && exec "$@"', "sh", *command]
    terminal, stderr = pty.openpty()
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=ENVIRONMENT)
    os.close(stderr)
    shown: list[bytes] = []
    watcher = threading.Thread(target=watch, args=(terminal, shown))
    watcher.start()
    assert child.stdout is not None
    time.sleep(0.5)     # the shell has become Python by now
    limits = Path(f"/proc/{child.pid}/limits").read_text()
    printed = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    watcher.join()
    child.returncode = os.waitstatus_to_exitcode(status)
    found = json.loads(printed) if child.returncode == 0 else {}
    address_space = re.findall(r"Max address space +(\S+)", limits)[0]
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(shown).decode())
    return Run(child.returncode, found, text, seconds, used.ru_maxrss * 1024 / 1e9, address_space)


def watch(terminal: int, shown: list[bytes]) -> None:
    """Keep what is written to a terminal, until nobody has it open any more."""
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:     # as Linux tells it
            part = b""
        if not part:
            os.close(terminal)
            return
        shown.append(part)


def lines(text: str) -> list[str]:
    return [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]


def succeeded(run: Run) -> Run:
    if run.status:
        sys.exit(f"fastgd fit ended with status {run.status}: {lines(run.shown)[-1:]}")
    return run


# ---- figures ---------------------------------------------------------------------------------------------------------


def print_bar(run: Run) -> None:
    """What the bar said, of the last pass over the file; ends the process if there was none."""
    states = [BAR.search(line) for line in lines(run.shown)]
    shares = [int(state[1]) for state in states if state]
    left = [state[3] for state in states if state and ":-" not in state[3]]
    if len(set(shares)) < 3 or not left:
        sys.exit(f"no progress bar was shown, but: {run.shown[-1000:]!r}")
    half = min((state for state in states if state), key=lambda state: abs(int(state[1]) - 50))
    print(f"progress bar: drawn {len(shares)} times, {min(shares)}% to {max(shares)}%; at half of it: {half.string!r}")


def difference(run: Run, other: Run) -> float:
    """How far coefficients, intercepts and scores are apart at most, relative to themselves."""
    a, b = run.found, other.found
    pairs = [(a["coef"][name], b["coef"][name]) for name in b["coef"]] + [(a["intercept"], b["intercept"])]
    pairs += [(a[rows][name], b[rows][name]) for rows in ("train", "test") for name in ("mse", "r2")]
    return max(abs(x - y) / abs(y) for x, y in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=float, default=3.0, help="GB that the rows take as text")
    parser.add_argument("--limit", type=float, default=1.0, help="GB of address space")
    parser.add_argument("--kind", choices=("csv", "csv.gz", "parquet"), default="csv")
    parser.add_argument("--folder", type=Path, help="where to write the file, which is removed")
    arguments = parser.parse_args()
    limit = int(arguments.limit * 1e9)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / f"table.{arguments.kind}"
        n_rows = write_table(path, int(arguments.size * 1e9))
        print(f"{path.name}: {path.stat().st_size / 1e9:.3g} GB, {n_rows:,} rows", flush=True)
        limited = succeeded(fit(path, limit=limit))
        held = "in memory" if limited.found["in_memory"] else "streamed"
        print(f"under a limit of {int(limited.limit):,} bytes of addresses: {held}, {limited.seconds:.1f} s, "
              f"peak {limited.peak:.3f} GB resident", flush=True)  # fmt: skip
        print_bar(limited)
        refused = fit(path, "--memory", "1T", limit=limit)
        print(f"in memory, under that limit: status {refused.status}, {lines(refused.shown)[-1]!r}", flush=True)
        whole = succeeded(fit(path, "--memory", "1T"))
        print(f"in memory, without a limit: {whole.seconds:.1f} s, peak {whole.peak:.3f} GB resident", flush=True)
    assert whole.found["in_memory"] and not limited.found["in_memory"] and refused.status == 2
    print(f"coefficients and scores differ by {difference(limited, whole):.1e} of themselves at most")


if __name__ == "__main__":
    main()
