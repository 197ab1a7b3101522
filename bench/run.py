"""Measure fastgd beside its peers and the read ceiling; print and save one table, and draw a plot of it.

    python bench/run.py                       # everything, on one thread and on all cores: ten minutes or so
    python bench/run.py --quick               # tiny sizes, some seconds: to see that all works
    python bench/run.py --case 'SGD epoch'    # one case
    python bench/run.py --readme              # no measurement: the table in README and docs from saved results
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import machine
import readme
from cases import CASES
from plot import roofline
from report import caption, table
from targets import summary

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PARTS = HERE.parent / "build" / "bench"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=CASES, help="only this case; may be given again")
    parser.add_argument("--problem", default="", help="only problems with this in their name, such as 'memory float32'")
    parser.add_argument("--quick", action="store_true", help="tiny sizes and few rounds")
    parser.add_argument("--threads", type=int, default=machine.cores(), help="how many threads all cores are")
    parser.add_argument("--out", type=Path, help="for the results; bench/results, or build/bench for a part")
    parser.add_argument("--readme", action="store_true", help="write the table in README and docs from saved results")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.readme:
        for path in readme.PAGES:
            readme.write(json.loads((RESULTS / "results.json").read_text()), HERE.parent / path)
        return
    out = options.out or (PARTS if options.quick or options.case or options.problem else RESULTS)
    out.mkdir(parents=True, exist_ok=True)
    results = measure(options)
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "table.md").write_text(page(results))
    print(page(results))
    try:
        roofline(results["rows"], caption(results), out / "roofline.png")
    except ImportError as error:
        print(f"no plot: {error}; to get it: pip install matplotlib")
    print(f"saved in {out}")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run one process on one thread and one on all cores, and gather what they wrote."""
    results: dict[str, Any] = {"machine": machine.describe(), "versions": {}, "absent": {}, "failures": [], "rows": []}
    wanted = {
        "plan": "QUICK" if options.quick else "FULL",
        "cases": options.case or list(CASES),
        "problem": options.problem,
    }
    for threads in dict.fromkeys([1, options.threads]):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "rows"
            order = wanted | {"threads": threads, "first": threads == 1, "out": str(out)}
            command = [sys.executable, HERE / "worker.py", json.dumps(order)]
            status = subprocess.run(command, env=machine.environment(threads)).returncode
            if status:
                results["failures"].append(f"the process with {threads} threads ended with status {status}")
            lines = out.read_text().splitlines() if out.exists() else []
            head, *rows = map(json.loads, lines or ["{}"])
        results |= head
        results["rows"] += rows
    return results


# ---- what is saved ---------------------------------------------------------------------------------------------------


def page(results: dict[str, Any]) -> str:
    """What it was measured on, the table, and how near the targets are."""
    return "\n".join(
        [
            "# Benchmarks",
            "",
            f"Measured on {caption(results)}; load at the start {results['machine']['load']}.",
            "What the columns mean stands in [bench/README.md](../README.md).",
            *(f"\nNot installed: {name}." for name in results["absent"]),
            *(f"\nFailed: {line}." for line in results["failures"]),
            "",
            table(results["rows"]),
            "",
            "## Targets",
            "",
            summary(results["rows"]),
            "",
        ]
    )


if __name__ == "__main__":
    main()
