"""The state of a solver's loop: what a checkpoint keeps of it, and how an interrupted fit goes on from there.

A fit is a deterministic function of its data and options. So a solver that is to go on makes its preparations as it did
before, and where its loop begins, what the loop changes is put back as it was kept: every bit of it, the generators of
random numbers and the monitor's history among it. A loop says so by two calls,

    loop = monitor.loop()
    point, rule = loop.resumed(point, rule)
    while ...:
        ...
        loop.keep(point, rule)

where the parts are all that an iteration takes from the one before, and `keep` stands where an iteration could begin.
Where a method has several loops, those before the one that was interrupted are run again, whose monitor then replaces
what they have shown.

Of objects everything is state but what their class names in `FIXED`, which their making gives them and nothing changes;
compiled ones say it by `state_dict` and take it by `load_state_dict`. What is neither is an error that names it, so
that no state is forgotten.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from fastgd.solvers._monitor import Monitor

__all__ = ["Keeper", "Loop", "restored", "state_of"]


class Keeper(Protocol):
    """What keeps states for one fit of one target.

    Attributes
    ----------
    loops : int
        How many loops have begun.
    pending : dict or None
        The state that the fit goes on from, until the loop that it is of has begun.
    """

    loops: int
    pending: dict[str, Any] | None

    @property
    def due(self) -> bool: ...
    def write(self, state: dict[str, Any]) -> None: ...


class Loop:
    """One loop of a solver.

    Parameters
    ----------
    monitor : Monitor
    """

    def __init__(self, monitor: Monitor) -> None:
        self.monitor, self.keeper, self.number = monitor, monitor.keeper, 0
        if self.keeper is not None:
            self.keeper.loops += 1
            self.number = self.keeper.loops

    def resumed(self, *parts: Any) -> tuple[Any, ...]:
        """The parts as they were kept, if this loop was interrupted; else as they are. Objects are changed in place.

        Raises
        ------
        ValueError
            If the state is that of other parts.
        """
        keeper = self.keeper
        if keeper is None or keeper.pending is None or keeper.pending["loop"] != self.number:
            return parts
        state, keeper.pending = keeper.pending, None
        try:
            keeper.loops = state["loops"]
            put_back_monitor(self.monitor, state["monitor"])
            return tuple(restored(part, kept) for part, kept in zip(parts, state["parts"], strict=True))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the checkpoint is of another build of this version: {error!r}") from None

    def keep(self, *parts: Any) -> None:
        """Keep the parts, if it is time to: all that the next iteration takes from the ones before."""
        keeper = self.keeper
        if keeper is not None and keeper.pending is None and keeper.due:
            keeper.write(
                {
                    "loop": self.number,
                    "loops": keeper.loops,
                    "monitor": state_of_monitor(self.monitor),
                    "parts": [state_of(part) for part in parts],
                }
            )


def state_of(value: Any) -> Any:
    """A tree of plain values and arrays that says all that can change of this one.

    Raises
    ------
    TypeError
        If it is of a class that says not what of it is `FIXED`.
    """
    if value is None or isinstance(value, (bool, int, str, np.ndarray)) or type(value) is float:
        return value
    if isinstance(value, np.generic):   # which divides by zero in its own way
        return np.asarray(value)
    if isinstance(value, (list, tuple, deque)):
        return [state_of(item) for item in value]
    if isinstance(value, dict):
        return {key: state_of(item) for key, item in value.items()}
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if hasattr(value, "state_dict"):
        return state_of(value.state_dict())
    fixed = getattr(value, "FIXED", () if dataclasses.is_dataclass(value) else None)
    if fixed is None:
        raise TypeError(f"{type(value).__name__} has no FIXED, which says what of it is not state")
    return {name: state_of(item) for name, item in vars(value).items() if name not in fixed}


def restored(now: Any, kept: Any) -> Any:
    """The value with this state, given one of its kind; objects that are not frozen are changed in place."""
    if isinstance(now, np.random.Generator):
        now.bit_generator.state = kept
        return now
    if hasattr(now, "load_state_dict"):
        now.load_state_dict(plain(kept))
        return now
    if isinstance(now, deque):
        return deque((plain(item) for item in kept), now.maxlen)
    if isinstance(now, tuple) and hasattr(now, "_fields"):
        return type(now)(*(restored(item, value) for item, value in zip(now, kept, strict=True)))
    if dataclasses.is_dataclass(now) and not isinstance(now, type):
        return dataclasses.replace(now, **{name: restored(getattr(now, name), item) for name, item in kept.items()})
    if hasattr(now, "FIXED"):
        for name, item in kept.items():
            setattr(now, name, restored(getattr(now, name), item))
        return now
    return tuple(plain(kept)) if isinstance(now, tuple) else plain(kept)


def plain(kept: Any) -> Any:
    """Plain values as they were: a scalar of NumPy is kept as an array without axes."""
    if isinstance(kept, np.ndarray):
        return kept[()] if kept.ndim == 0 else kept
    if isinstance(kept, list):
        return [plain(item) for item in kept]
    return {key: plain(item) for key, item in kept.items()} if isinstance(kept, dict) else kept


def state_of_monitor(monitor: Monitor) -> dict[str, Any]:
    """What it has seen."""
    history = monitor.history
    return {
        "seen": state_of(monitor),
        "history": {name: getattr(history, name).array() for name in ("loss", "grad_norm", "seconds")},
        "val_loss": np.array(history.val_loss),
        "recorder": state_of(monitor.callback) if hasattr(monitor.callback, "FIXED") else None,
        "n_passes": monitor.n_passes,
        "knows_geometry": monitor.knows_geometry,
    }


def put_back_monitor(monitor: Monitor, state: dict[str, Any]) -> None:
    """Let it have seen that; passes that were made again are not counted again."""
    if state["knows_geometry"]:
        _ = monitor.geometry
    restored(monitor, state["seen"])
    if state["recorder"] is not None:
        restored(monitor.callback, state["recorder"])
    monitor.extra_passes = state["n_passes"] - monitor.objective.n_passes
    monitor.history.put_back(state["history"], state["val_loss"].tolist())
