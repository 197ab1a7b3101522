"""Processes that save and fit until they are killed, for test_io.py and test_checkpoint.py; run as a script it is one.

    python tests/kills.py saves PATH            saves one of two models after the other, for ever
    python tests/kills.py fit NAME CHECKPOINT   fits, or goes on, and saves the result as NAME.model beside

Either says "ready" when all that takes long is imported.
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

import fastgd as fg


def slowly(_: object) -> None:
    """A callback, so that iterates are made one by one, and not too many of them between two moments."""
    time.sleep(0.002)


#: One for every loop that keeps a state, and for several targets.
FITS = {
    "cg": {"solver": "cg", "tol": 0, "max_iter": 40},
    "cg watched": {"solver": "cg", "tol": 0, "max_iter": 40, "callback": slowly},
    "gd": {"solver": "gd", "tol": 0, "max_iter": 40},
    "gd by number": {"solver": "gd", "lr": 1e-4, "tol": 0, "max_iter": 40, "callback": slowly},
    "Polyak": {"solver": "gd", "momentum": 0.5, "tol": 0, "max_iter": 40, "callback": slowly},
    "Nesterov": {"solver": "gd", "nesterov": True, "tol": 0, "max_iter": 40, "callback": slowly},
    "backtracking": {"solver": "gd", "lr": "backtracking", "tol": 0, "max_iter": 40},
    "bb": {"solver": "gd", "lr": "bb", "tol": 0, "max_iter": 40},
    "fista": {"solver": "fista", "l1": 0.1, "tol": 0, "max_iter": 40},
    "fista watched": {"solver": "fista", "l1": 0.1, "l2": 0.1, "tol": 0, "max_iter": 40, "callback": slowly},
    "sgd": {"solver": "sgd", "tol": 0, "max_iter": 40},
    "sgd with momentum": {"solver": "sgd", "momentum": 0.9, "batch_size": 8, "tol": 0, "max_iter": 40},
    "saga": {"solver": "saga", "tol": 0, "max_iter": 40},
    "saga with l1": {"solver": "saga", "l1": 0.1, "tol": 0, "max_iter": 40},
    "targets": {"solver": "sgd", "momentum": 0.5, "tol": 0, "max_iter": 15},
}


def problem(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Correlated columns, so that no method ends at once."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1000, 40)) @ rng.standard_normal((40, 40))
    y = X @ rng.standard_normal((40, 3)) + rng.standard_normal((1000, 3))
    return X, y if name == "targets" else y[:, 0]


def model(k: int) -> fg.FitResult:
    """A large one, whose coefficients are all k."""
    return replace(fg.fit([[0.0], [1.0]], [1.0, 2.0]), coef=np.full(1_000_000, float(k)), n_iter=k)


def beside(path: Path) -> list[Path]:
    """What is being written to replace the file, or was."""
    return list(path.parent.glob(f".{path.name}.*.tmp"))


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """This script in a process of its own, once it is ready."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, __file__, *arguments], **pipes) as process:
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(process.stderr.read())
        yield process


def end(process: subprocess.Popen[str], how: signal.Signals, seconds: float, writing: Path | None) -> str:
    """Send the signal after so many seconds, and then when this file is next being written, if one is given.

    Returns what the process has written to stderr.
    """
    time.sleep(seconds)
    before = set(beside(writing)) if writing else set()
    while writing and process.poll() is None and not set(beside(writing)) - before:
        pass
    process.send_signal(how)
    return process.communicate()[1]


def when(path: Path, left: list[Path]) -> str:
    """When the process was ended, as the files tell, given what others had left beside."""
    if set(beside(path)) - set(left):
        return "within a write"
    return "between two writes" if path.exists() else "before the first write"


def in_words(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)    # whoever started it may ignore Ctrl-C
    warnings.simplefilter("ignore")
    what, *names = sys.argv[1:]
    if what == "saves":
        models = [model(k) for k in range(2)]
        print("ready", flush=True)
        for one in itertools.cycle(models):
            one.save(names[0])
    else:
        X, y = problem(names[0])
        print("ready", flush=True)
        result = fg.fit(X, y, **FITS[names[0]], checkpoint=names[1], every=0, resume=True)
        result.save(Path(names[1]).with_name(f"{names[0]}.model"))
