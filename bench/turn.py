"""A process in which fastgd does one case on one problem, a turn at a time, for `compare.py`.

    python turn.py CASE PROBLEM

PROBLEM is the JSON of its fields. When it is ready, writes a line of JSON: whose fastgd this is, and why it cannot do
the case if it cannot. Then, for each line that it reads, writes the seconds that a call took in this turn.
"""

from __future__ import annotations

import json
import sys

import contest
from cases import CASES
from peers import Contestants
from problems import Data, Problem

import fastgd

TURN = 0.02  # seconds


def main() -> None:
    name, problem = sys.argv[1], Problem(**json.loads(sys.argv[2]))
    data, case = Data(problem), CASES[name]
    run = Contestants.load(1, []).runs(name, data).get("fastgd", NotImplementedError(f"no {name}"))
    result = contest.check(run, lambda answer, _: case.error(answer, case.truth(data)), case.tolerance[problem.dtype])
    print(json.dumps({"fastgd": fastgd.__file__, "failed": result.failed}), flush=True)
    if result.failed or isinstance(run, Exception):
        return
    repeat = contest.fill(run.call, TURN)
    for _ in sys.stdin:
        print(contest.seconds_for(run.call, repeat) / repeat, flush=True)


if __name__ == "__main__":
    main()
