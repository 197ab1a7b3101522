"""Functions with a fixed trace: a graph for each structure, shapes and dtypes of arguments, made at the first call."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastgd._traced import Trace, Traced, active_trace
from fastgd._transform import make_runner, simplified
from fastgd._trees import builder_of, leaves_of, rebuild, structure_of

__all__ = ["Compiled", "as_result", "compute", "is_weak"]


def is_weak(value: Any) -> bool:
    """Whether a value takes on the dtype of what it meets, as Python's floats do."""
    return type(value) in (int, float)


def as_result(array: Any) -> Any:
    """What is returned of a computed array: a number, if it has no dimensions."""
    return array if array.shape else array[()] if array.dtype.char == "f" else array.item()


def compute(trace: Trace, inputs: Sequence[Traced], arrays: Sequence[Any], leaves: Sequence[Any]) -> list[Any]:
    """The values of the leaves that are traced; others stay as they are."""
    outputs = [leaf for leaf in leaves if isinstance(leaf, Traced)]
    trace.check_held()
    values = iter(make_runner(inputs, simplified(trace, outputs), once=True)(*arrays))
    return [as_result(next(values)) if isinstance(leaf, Traced) else leaf for leaf in leaves]


class Plan:
    """The graph for one kind of arguments, ready to run.

    Parameters
    ----------
    function : callable
    args, kwargs
        Arguments of this kind.
    """

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tree = (args, kwargs)
        leaves = leaves_of(tree)
        with Trace(fixed=True) as trace:
            nodes = [trace.input(np.asarray(leaf), is_weak(leaf)) if is_dynamic(leaf) else leaf for leaf in leaves]
            traced_args, traced_kwargs = rebuild(tree, nodes)
            self.results = function(*traced_args, **traced_kwargs)
            found = leaves_of(self.results)
            self.is_traced = [isinstance(leaf, Traced) for leaf in found]
            self.fixed = [None if traced else leaf for leaf, traced in zip(found, self.is_traced, strict=True)]
            inputs = [node for node in nodes if isinstance(node, Traced)]
            outputs = simplified(trace, [leaf for leaf in found if isinstance(leaf, Traced)])
            trace.check_held()
            self.run: Any = make_runner(inputs, outputs)
        self.results = rebuild(self.results, self.fixed)
        self.numbers = [i for i, node in enumerate(outputs) if not node.shape]
        self.build = builder_of(self.results)
        self.of_numbers = all(self.is_traced) and all(
            node.dtype.char == "d" and not node.shape for node in (*inputs, *outputs)
        )

    def __call__(self, leaves: list[Any]) -> Any:
        return self.results_of(self.run(*(np.asarray(leaf) for leaf in leaves if is_dynamic(leaf))))

    def results_of(self, computed: Sequence[Any]) -> Any:
        """What the function returns, of the values of its traced leaves."""
        values = list(computed)
        for i in self.numbers:
            values[i] = as_result(values[i])
        if len(values) < len(self.fixed):
            rest, results = iter(values), zip(self.fixed, self.is_traced, strict=True)
            values = [next(rest) if traced else own(leaf) for leaf, traced in results]
        return self.build(values)


def own(leaf: Any) -> Any:
    """A result that no argument went into, as the caller's own."""
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def is_dynamic(leaf: Any) -> bool:
    """Whether a leaf of an argument is data of the graph; ints, bools, strings and the like are part of the plan."""
    if isinstance(leaf, np.ma.MaskedArray):
        raise TypeError("a compiled function takes no masked arrays; fill or drop the masked entries first")
    if isinstance(leaf, (float, np.ndarray, np.generic)):
        if isinstance(leaf, (np.ndarray, np.generic)) and (leaf.dtype.kind not in "buif" or not leaf.dtype.isnative):
            raise TypeError(f"a compiled function takes native bool, integer and float arrays, got dtype {leaf.dtype}")
        return True
    return False


def kind_of(leaf: Any) -> Any:
    """What of a leaf decides about the graph: a key of the table of plans."""
    if type(leaf) is float:
        return float
    if isinstance(leaf, (np.ndarray, np.generic)):
        return (leaf.shape, leaf.dtype, type(leaf) is np.ndarray)
    if isinstance(leaf, float):
        return float
    return (type(leaf), leaf)


class Compiled:
    """A function whose graph is made once for each kind of arguments, and then only run.

    Attributes
    ----------
    n_traces : int
        How many graphs were made so far.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._plans: dict[Any, Plan] = {}
        # The last plan for floats alone or for arrays alone, by the number of arguments, as two functions: one returns
        # what is computed of arguments that fit, else None, and the other makes of that what is returned.
        self._last: dict[int, tuple[Callable[..., Any], Callable[..., Any]]] = {}
        self._lock = threading.Lock()

    @property
    def n_traces(self) -> int:
        return len(self._plans)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not kwargs:
            known = self._last.get(len(args))
            if known is not None and (values := known[0](args)) is not None:
                return known[1](values)
        if active_trace() is not None:
            return self._function(*args, **kwargs)
        tree = (args, kwargs)
        leaves = leaves_of(tree)
        key = (structure_of(tree), *map(kind_of, leaves))
        try:
            plan = self._plans.get(key)
        except TypeError:
            odd = next(leaf for leaf in leaves if not hashable(leaf))
            raise TypeError("a compiled function takes numbers, arrays, nested lists, tuples and dicts of these, and "
                            f"what can be hashed; got {type(odd).__name__}") from None
        if plan is None:
            plan = self._plan(key, args, kwargs)
        return plan(leaves)

    def _plan(self, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
        with self._lock:
            plan = self._plans.get(key)
            if plan is None:
                plan = self._plans[key] = Plan(self._function, args, kwargs)
        if not kwargs and plan.of_numbers and all(type(arg) is float for arg in args):
            self._last[len(args)] = plan.run.match_floats, plan.build
        elif not kwargs and args and all(type(arg) is np.ndarray for arg in args):
            self._last[len(args)] = plan.run.match, plan.results_of
        return plan

    def __repr__(self) -> str:
        return f"<compiled {self._function!r}>"

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """As a method: of this instance, which must be hashable, and whose attributes must not change."""
        return self if instance is None else functools.partial(self, instance)


def hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
