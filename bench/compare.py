"""The gate: build two revisions of fastgd and report what became slower by 10 % and by more than the noise.

    python bench/compare.py A B [--case CASE] [--rounds 7]

A and B are git revisions, A the older one; "." is the checkout as it stands. Both run the cases of this checkout's
bench/, on one thread. In each round both start anew and take turns, so that what the machine does meanwhile befalls
both; a round's figure is B's time over A's. Exit status: 1 if a case became slower, or fails in B only; else 0.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import machine
import plan
from cases import CASES
from problems import Problem
from report import line, markdown

HERE = Path(__file__).resolve().parent

SLOWER = 1.10
TURNS = 9


class Verdict(NamedTuple):
    """B's time over A's, how far that ratio is uncertain, and whether B is slower."""

    ratio: float
    noise: float
    slower: bool


def judge(ratios: Sequence[float]) -> Verdict:
    """The median of the rounds' ratios; noise is three standard errors of it, from the median absolute deviation.

    1.4826 MAD estimates the standard deviation of normal noise, and 1.2533 of that over the root of the number of
    rounds is the standard error of a median. A case is slower if the ratio is at least 1.10 and the noise explains
    no more than what it is above 1.
    """
    middle = statistics.median(ratios)
    deviation = 1.4826 * statistics.median(abs(ratio - middle) for ratio in ratios)
    noise = 3 * 1.2533 * deviation / len(ratios) ** 0.5
    return Verdict(middle, noise, middle >= SLOWER and middle - 1 > noise)


def settle(measure: Callable[[], float], rounds: int) -> Verdict:
    """Judge so many rounds; after twice as many where the ratio is high, whether by noise or not."""
    ratios = [measure() for _ in range(rounds)]
    if judge(ratios).ratio >= SLOWER:
        ratios += [measure() for _ in range(rounds)]
    return judge(ratios)


# ---- two builds ------------------------------------------------------------------------------------------------------


def build(revision: str, folder: Path) -> Path:
    """Install a revision into a folder of its own; the folder goes before all others on a process's path."""
    source, target = folder / "source", folder / "site"
    print(f"building {revision}", flush=True)
    if revision == ".":
        source = HERE.parent
    else:
        source.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", revision], cwd=HERE.parent, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
    options = ["--quiet", "--no-deps", "--disable-pip-version-check", "--target", target]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, source], check=True)
    return target


class CannotRun(Exception):
    """A or B cannot do a case: which, and why."""


class Side:
    """A process that runs one revision's fastgd (see `turn.py`)."""

    def __init__(self, name: str, site: Path, case: str, problem: Problem) -> None:
        self.name, self.site = name, site
        self.process = subprocess.Popen(
            [sys.executable, HERE / "turn.py", case, json.dumps(asdict(problem))],
            env=machine.environment(1) | {"PYTHONPATH": str(site)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self) -> None:
        line = self.process.stdout.readline()
        if not line:
            raise CannotRun(self.name, f"its process ended with status {self.process.wait()}")
        answer = json.loads(line)
        if answer["failed"]:
            raise CannotRun(self.name, answer["failed"])
        if not Path(answer["fastgd"]).is_relative_to(self.site):
            raise SystemExit(f"{answer['fastgd']} was imported, not the build in {self.site}")

    def turn(self) -> float:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait()


def one_round(sites: Sequence[Path], case: str, problem: Problem) -> float:
    """B's time over A's, both started anew."""
    with Side("A", sites[0], case, problem) as a, Side("B", sites[1], case, problem) as b:
        for side in (a, b):
            side.wait_until_ready()
        return statistics.median(b.turn() / a.turn() for _ in range(TURNS))


def compare(sites: Sequence[Path], case: str, problem: Problem, rounds: int) -> tuple[list[str], bool]:
    """What the table says of a case, and whether it is bad news. What A could not do either is none."""
    place = f"{case}: {problem}"
    try:
        ratio, noise, slower = settle(lambda: one_round(sites, case, problem), rounds)
    except CannotRun as error:
        name, reason = error.args
        return [place, "", "", f"{name} CANNOT: {reason}"], name == "B"
    return [place, f"{ratio:.2f}", f"{noise:.2f}", "SLOWER" if slower else ""], slower


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", metavar="A")
    parser.add_argument("b", metavar="B")
    parser.add_argument("--case", action="append", choices=CASES, help="only this case; may be given again")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sites = [build(revision, Path(folder) / name) for name, revision in (("a", options.a), ("b", options.b))]
        print(markdown(["case", "B/A", "noise", "verdict"], []), flush=True)
        bad = 0
        for case, problem in plan.compared(options.case or list(CASES)):
            cells, is_bad = compare(sites, case, problem, options.rounds)
            print(line(cells), flush=True)
            bad += is_bad
    print(f"\nslower cases: {bad}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
