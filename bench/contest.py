"""How contestants are timed: in turns, in one process, each first held to the right answer."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

__all__ = ["FULL", "QUICK", "Effort", "Result", "Run", "hold", "warm_up"]


@dataclass(frozen=True)
class Run:
    """One contestant's way to do a case on given data.

    `call` is what is timed, `answer` makes an array of what it returned, or is None where there is nothing to check.
    Who is too slow for all rows works on the first `rows` and has its time scaled up.
    """

    call: Callable[[], Any]
    answer: Callable[[Any], np.ndarray] | None = np.asarray
    rows: int | None = None


@dataclass(frozen=True)
class Effort:
    """How long to measure: a turn lasts at least `turn` seconds, a contest `seconds` and `rounds` rounds."""

    turn: float
    rounds: int
    most_rounds: int
    seconds: float


FULL = Effort(turn=0.01, rounds=7, most_rounds=31, seconds=2.0)
QUICK = Effort(turn=0.0005, rounds=2, most_rounds=2, seconds=0.0)


@dataclass
class Result:
    """Seconds a call took: median and quartiles over the rounds; or, in `failed`, why there are none.

    `error` is how far the answer was off, relative to its length.
    """

    median: float | None = None
    low: float | None = None
    high: float | None = None
    rounds: int = 0
    calls: int = 0
    error: float | None = None
    failed: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def hold(
    runs: dict[str, Run | Exception],
    error: Callable[[np.ndarray, int | None], float],
    tolerance: float,
    rows: int,
    effort: Effort,
) -> dict[str, Result]:
    """Check and time contestants; who crashes or is wrong is not timed, and its result says so.

    Parameters
    ----------
    runs : dict
        Name -> what to time, or why there is nothing to time.
    error : callable
        How far an answer on the first so many rows, or on all (None), is off.
    tolerance : float
        The largest error of a right answer.
    rows : int
        Of the whole problem.
    effort : Effort
    """
    results = {name: check(run, error, tolerance) for name, run in runs.items()}
    sound = {name: run for name, run in runs.items() if isinstance(run, Run) and not results[name].failed}
    times = take_turns([run.call for run in sound.values()], effort)
    for (name, run), (calls, seconds) in zip(sound.items(), times, strict=True):
        scale = rows / run.rows if run.rows else 1.0
        low, median, high = (scale * float(q) for q in np.quantile(seconds, [0.25, 0.5, 0.75]))
        results[name] = Result(median, low, high, len(seconds), calls, results[name].error)
    return results


def check(run: Run | Exception, error: Callable[[np.ndarray, int | None], float], tolerance: float) -> Result:
    """Call once, also to compile and to warm up, and compare the answer."""
    if isinstance(run, Exception):
        return Result(failed=explained(run))
    try:
        returned = run.call()
        off = error(run.answer(returned), run.rows) if run.answer else 0.0
    except Exception as problem:
        return Result(failed=explained(problem))
    if not off <= tolerance:  # nor NaN
        return Result(error=off, failed=f"WRONG ANSWER, off by {off:.1e}")
    return Result(error=off)


def explained(problem: Exception) -> str:
    """One line."""
    return f"{type(problem).__name__}: {problem}".partition("\n")[0][:200]


def take_turns(calls: list[Callable[[], Any]], effort: Effort) -> list[tuple[int, list[float]]]:
    """Of each how often it is called in a turn, and the seconds a call took in each round.

    Rounds go forth and back in turn, so that nobody always follows the same one.
    """
    repeats = [fill(call, effort.turn) for call in calls]
    times: list[list[float]] = [[] for _ in calls]
    start = time.perf_counter()
    for k in range(effort.most_rounds):
        if k >= effort.rounds and time.perf_counter() - start >= effort.seconds:
            break
        places = range(len(calls))
        for place in places if k % 2 else reversed(places):
            times[place].append(seconds_for(calls[place], repeats[place]) / repeats[place])
    return list(zip(repeats, times, strict=True))


def fill(call: Callable[[], Any], least: float) -> int:
    """How many calls take `least` seconds."""
    repeat = 1
    while (elapsed := seconds_for(call, repeat)) < least:
        repeat = max(repeat + 1, min(10 * repeat, int(1.1 * repeat * least / elapsed)))
    return repeat


def seconds_for(call: Callable[[], Any], repeat: int) -> float:
    """The time of so many calls, without a garbage collection among them."""
    turns: Iterable[None] = itertools.repeat(None, repeat)
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        for _ in turns:
            call()
        return time.perf_counter() - start
    finally:
        if collecting:
            gc.enable()


def warm_up(seconds: float) -> None:
    """Keep the processor busy until its clock has settled."""
    work = np.random.default_rng(0).random((200, 200))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        work @ work
