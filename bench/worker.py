"""A process that measures with one number of threads, of which its environment has told the libraries (see `machine`).

    python worker.py ORDER

ORDER is the JSON that `run.measure` makes. Appends to its file `out` a line of JSON about the contestants, then one for
each case on each problem.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ceiling
import contest
import plan
from cases import CASES
from peers import PEERS, Contestants
from problems import Data, Problem
from report import time_of


def measure(case: str, data: Data, contestants: Contestants, effort: contest.Effort) -> dict[str, contest.Result]:
    """All contestants' results in this case, and the read ceilings'."""
    kind, truths = CASES[case], {}

    def error(answer: Any, rows: int | None) -> float:
        if rows not in truths:
            truths[rows] = kind.truth(data if rows is None else data.head(rows))
        return kind.error(answer, truths[rows])

    runs = contestants.runs(case, data) | (ceiling.runs(data) if kind.reads else {})
    return contest.hold(runs, error, kind.tolerance[data.problem.dtype], data, effort)


def record(case: str, data: Data, results: dict[str, contest.Result]) -> dict[str, Any]:
    """A row of the table, as JSON keeps it."""
    return {
        "case": case,
        "problem": data.problem.as_dict(),
        "threads": data.threads,
        "bytes": data.nbytes,
        "results": {name: result.as_dict() for name, result in results.items()},
    }


def rows_of(
    problem: Problem, cases: list[str], contestants: Contestants, threads: int, effort: contest.Effort
) -> Iterator[dict[str, Any]]:
    """Rows of cases on the same data, which is gone when they end."""
    data = Data(problem, threads)
    for case in cases:
        yield record(case, data, measure(case, data, contestants, effort))


def announce(row: dict[str, Any]) -> None:
    """A line on what was measured, and one on each contestant that was not."""
    threads = f", {row['threads']} threads" if row["threads"] > 1 else ""
    place = f"{row['case']}{threads}: {row['problem']['label']}"
    print(f"  {place}: {time_of(row, 'fastgd')}", flush=True)
    for name, result in row["results"].items():
        if "failed" in result:
            print(f"  {place}: {name} FAILED: {result['failed']}", flush=True)


def main() -> None:
    options = json.loads(sys.argv[1])
    entries, effort = plan.PLANS[options["plan"]]
    out, threads = Path(options["out"]), options["threads"]
    contestants = Contestants.load(threads, list(PEERS))
    for line in contestants.absent.values() if options["first"] else ():
        print(line, flush=True)
    with out.open("a") as lines:
        print(json.dumps({"versions": contestants.versions(), "absent": contestants.absent}), file=lines, flush=True)
        contest.warm_up(1.0 if options["plan"] == "FULL" else 0.0)
        for entry in entries:
            cases = [case for case in entry.cases if case in options["cases"] and contestants.can(case)]
            mine = entry.all_cores == (threads > 1) and options["problem"] in str(entry.problem)
            if not (mine and cases):
                continue
            for row in rows_of(entry.problem, cases, contestants, threads, effort):
                announce(row)
                print(json.dumps(row), file=lines, flush=True)


if __name__ == "__main__":
    main()
