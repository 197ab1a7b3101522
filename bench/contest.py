"""How contestants are timed: in turns, in one process, each first held to the right answer."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from problems import Data

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


#: Seconds after which the processor time that the system counts is good for a judgement.
LONG_ENOUGH = 0.1

#: Seconds of rest after which a process counts as idle, and seconds to wait for that.
IDLE, PATIENCE = 0.001, 0.3

FULL = Effort(turn=0.01, rounds=5, most_rounds=31, seconds=3.0)
QUICK = Effort(turn=0.0005, rounds=2, most_rounds=2, seconds=0.0)


@dataclass
class Result:
    """Seconds a call took: median and quartiles over the rounds; or, in `failed`, why there are none.

    `error` is how far the answer was off, relative to its length, `cores` how many were busy on average.
    """

    median: float | None = None
    low: float | None = None
    high: float | None = None
    rounds: int = 0
    calls: int = 0
    error: float | None = None
    cores: float | None = None
    failed: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def hold(
    runs: dict[str, Run | Exception],
    error: Callable[[np.ndarray, int | None], float],
    tolerance: float,
    data: Data,
    effort: Effort,
) -> dict[str, Result]:
    """Check and time contestants; who crashes, is wrong, or takes more threads than all others has a result saying so.

    Parameters
    ----------
    runs : dict
        Name -> what to time, or why there is nothing to time.
    error : callable
        How far an answer on the first so many rows, or on all (None), is off.
    tolerance : float
        The largest error of a right answer.
    data : Data
        The whole problem.
    effort : Effort
    """
    results = {name: check(run, error, tolerance) for name, run in runs.items()}
    sound = {name: run for name, run in runs.items() if isinstance(run, Run) and not results[name].failed}
    for (name, run), turns in zip(sound.items(), take_turns([r.call for r in sound.values()], effort), strict=True):
        scale = data.n / run.rows if run.rows else 1.0
        low, median, high = (scale * float(q) for q in np.quantile(turns.seconds, [0.25, 0.5, 0.75]))
        elapsed = turns.calls * sum(turns.seconds)
        cores = turns.busy / elapsed
        if cores > data.threads + 0.5 and elapsed >= LONG_ENOUGH:
            results[name].failed = f"TOO MANY THREADS: {cores:.1f} cores were busy, not {data.threads}"
        else:
            results[name] = Result(median, low, high, len(turns.seconds), turns.calls, results[name].error, cores)
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


@dataclass
class Turns:
    """How often one is called in a turn, the seconds a call took in each, and the processor time of all of them."""

    calls: int
    seconds: list[float] = field(default_factory=list)
    busy: float = 0.0


def take_turns(calls: list[Callable[[], Any]], effort: Effort) -> list[Turns]:
    """Rounds go forth and back in turn, so that nobody always follows the same one, and each begins on idle cores."""
    turns = [Turns(fill(call, effort.turn)) for call in calls]
    start = time.perf_counter()
    for k in range(effort.most_rounds):
        if k >= effort.rounds and time.perf_counter() - start >= effort.seconds:
            break
        for call, turn in list(zip(calls, turns, strict=True))[:: 1 if k % 2 else -1]:
            settle()
            busy = time.process_time()
            turn.seconds.append(seconds_for(call, turn.calls) / turn.calls)
            turn.busy += time.process_time() - busy
    return turns


def settle() -> None:
    """Wait until the process is idle, but no longer than PATIENCE: some libraries' threads spin on after their work."""
    end = time.perf_counter() + PATIENCE
    idle = False
    while not idle and time.perf_counter() < end:
        start, busy = time.perf_counter(), time.process_time()
        time.sleep(IDLE)
        idle = time.process_time() - busy < 0.5 * (time.perf_counter() - start)


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
