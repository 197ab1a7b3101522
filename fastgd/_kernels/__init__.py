"""The kernels, built once for each instruction-set level, and the choice among them.

Every kernel module exists as ``<name>_baseline`` and, on x86-64, as ``<name>_x86_64_v3`` and ``<name>_x86_64_v4``
(the micro-architecture levels of the x86-64 psABI). The best level that this CPU supports is used; the environment
variable ``FASTGD_ISA`` caps it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os

from fastgd import _cpu, _rows

LEVELS = ("baseline", "x86-64-v3", "x86-64-v4")


def built() -> tuple[str, ...]:
    """The levels this installation was built for, lowest first."""
    return tuple(level for level in LEVELS if importlib.util.find_spec(_module("mse", level)))


def available() -> tuple[str, ...]:
    """The levels that were built and that this CPU can run, lowest first."""
    return tuple(level for level in built() if level in _cpu.levels())


def choose(cap: str | None) -> str:
    """The best available level that is not above `cap`.

    Raises
    ------
    ValueError
        If `cap` is not the name of a level.
    ImportError
        If no kernels were built.
    """
    if cap and cap not in LEVELS:
        raise ValueError(f"FASTGD_ISA must be one of {', '.join(LEVELS)}; got {cap!r}")
    if "baseline" not in available():
        raise ImportError("no kernels were built")
    if not cap:
        return available()[-1]
    return [level for level in available() if LEVELS.index(level) <= LEVELS.index(cap)][-1]


def use(level: str) -> None:
    """Run every kernel at this level from now on."""
    from fastgd import _exact, _moments, _mse, _plain_sgd, _saga, _sgd, _sparse, _tape, _updates

    mse = importlib.import_module(_module("mse", level)).table
    _mse.use(mse)
    _exact.use(mse)
    _moments.use(importlib.import_module(_module("moments", level)).table)
    _sparse.use(importlib.import_module(_module("sparse", level)).table)
    _sgd.use(importlib.import_module(_module("sgd", level)).table)
    _saga.use(importlib.import_module(_module("saga", level)).table)
    _updates.use(importlib.import_module(_module("updates", level)).table)
    _tape.use(importlib.import_module(_module("elementary", level)).table)
    _plain_sgd.use(importlib.import_module(_module("plain_sgd", level)).table)
    global current
    current = level


def _module(name: str, level: str) -> str:
    return f"fastgd._kernels.{name}_{level.replace('-', '_')}"


current = ""
_rows.use_streams(_cpu.streams)
use(choose(os.environ.get("FASTGD_ISA")))
