"""From a graph to steps that the compiled tape runs one after the other: which operations go over memory together.

A step is a *group* of elementwise operations and sums over one shape, which run block by block, a matrix product, or a
call of Python. Between the operations of a group values live in blocks that stay in the cache; only what leaves a group
is stored. A value that a later group needs again is computed there once more where that costs less than storing and
loading it, so that a function and its gradient need no memory of the size of their argument beyond the gradient itself.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

from fastgd._graph import CALL, CONSTANT, ELEMENTWISE, INPUT, MATMUL, SUM, Node, Primitive, in_order

__all__ = ["Schedule", "Step"]

#: Primitives that may return a view: what they return is tried out when their argument's strides are known.
VIEWS = frozenset({"broadcast_to", "index", "reshape", "transpose"})
COPY = Primitive("copy", ELEMENTWISE)
#: Primitives whose value is that of their argument, if the dtype is.
COPIES = frozenset({"copy", "astype", "alias", "stop_gradient"})

#: dtypes between which the tape converts, and sizes of elements that it copies and chooses between.
CONVERTED = frozenset("?ilqfd")
SIZES = frozenset({1, 2, 4, 8, 16})

# What an operation costs an element, in units of an addition of operands in the cache. Only ratios matter.
CHEAP = frozenset({
    "absolute", "add", "copysign", "equal", "fabs", "greater", "greater_equal", "isfinite", "isnan", "less",
    "less_equal", "logical_and", "logical_not", "logical_or", "maximum", "minimum", "fmax", "fmin", "multiply",
    "negative", "not_equal", "positive", "sign", "signbit", "square", "subtract", "where", *COPIES,
})
COSTS = {"divide": 3, "sqrt": 4, "reciprocal": 3, "power": 20, "float_power": 20}
TRANSCENDENTAL = 8
#: (bytes, cost of storing and loading an element of a value of at most so many bytes).
STORING = ((1 << 15, 0), (1 << 19, 3), (1 << 62, 24))


class Step:
    """Part of a schedule: nodes, by number, that are evaluated together. All are over `shape`, if it is a group."""

    __slots__ = ("kind", "nodes", "shape")

    def __init__(self, kind: str, nodes: list[int], shape: tuple[int, ...] | None = None) -> None:
        self.kind, self.nodes, self.shape = kind, nodes, shape


def loop_of(node: Node) -> tuple[Any, ...] | None:
    """What finds the inner loop of an elementwise node, or None if there is none for its dtypes."""
    name, ufunc = node.primitive.name, node.primitive.ufunc
    chars = [source.dtype.char for source in node.inputs]
    if name in COPIES and chars[0] == node.dtype.char and node.dtype.itemsize in SIZES:
        return ("copy", node.dtype.itemsize)
    if node.primitive.kind != ELEMENTWISE or not node.dtype.isnative:
        return None
    if ufunc is not None:
        signature = "".join(chars) + "->" + node.dtype.char
        if ufunc.nout != 1 or ufunc.nin > 3 or node.attributes or node.dtype.kind not in "buif":
            return None
        return (ufunc, ufunc.types.index(signature)) if signature in ufunc.types else None
    if name == "where" and chars[0] == "?" and chars[1] == chars[2] and node.dtype.itemsize in SIZES:
        return ("where", node.dtype.itemsize)
    if name == "astype" and chars[0] in CONVERTED and node.dtype.char in CONVERTED:
        return ("cast", chars[0], node.dtype.char)
    return None


def kind_of(node: Node, loop: tuple[Any, ...] | None) -> str:
    """How the tape evaluates a node: elementwise, sum, matmul, call or view, or not at all."""
    kind, name = node.primitive.kind, node.primitive.name
    if kind in (INPUT, CONSTANT):
        return kind
    if loop is not None:
        return ELEMENTWISE
    if kind == SUM and node.dtype.char in "fd" and node.dtype == node.inputs[0].dtype:
        return SUM
    if kind == MATMUL and node.dtype.char in "fd" and all(source.dtype == node.dtype for source in node.inputs):
        return MATMUL
    return "view" if name in VIEWS and len(node.inputs) == 1 else CALL


def cost_of(node: Node) -> int:
    name = node.primitive.name
    return 1 if name in CHEAP else COSTS.get(name, TRANSCENDENTAL)


class Schedule:
    """The steps of a graph, whatever the strides of its inputs are.

    Parameters
    ----------
    inputs, outputs : sequence of Node

    Attributes
    ----------
    nodes : list of Node
        In an order of evaluation, the inputs first. Nodes are known by their place here.
    sources : list of list of int
        What each node is computed from.
    kinds : list of str
        See `kind_of`.
    loops : list
        See `loop_of`.
    steps : list of Step
    views : dict of int to list of int
        Views, by the step after which their argument is there.
    stored : set of int
        Elementwise nodes whose value is kept beyond their group.
    outputs : list of int
        All different, and none an input, a constant, a view or what a call returned: those are copied.
    """

    def __init__(self, inputs: Sequence[Node], outputs: Sequence[Node]) -> None:
        fresh = self._with_copies(inputs, outputs)
        known = {id(node) for node in inputs}
        if len(known) != len(inputs):
            raise ValueError("a tape's inputs must be different nodes")
        self.nodes = [*inputs, *(node for node in in_order(fresh, inputs) if id(node) not in known)]
        self.n_inputs = len(inputs)
        number = {id(node): i for i, node in enumerate(self.nodes)}
        self.outputs = [number[id(node)] for node in fresh]
        self.sources = [
            [] if i < len(inputs) else [number[id(source)] for source in node.inputs]
            for i, node in enumerate(self.nodes)
        ]
        self.loops = [None if i < len(inputs) else loop_of(node) for i, node in enumerate(self.nodes)]
        self.kinds = [
            INPUT if i < len(inputs) else kind_of(node, loop)
            for i, (node, loop) in enumerate(zip(self.nodes, self.loops, strict=True))
        ]
        for node, kind in zip(self.nodes[len(inputs) :], self.kinds[len(inputs) :], strict=True):
            if kind == INPUT:
                raise ValueError(f"the outputs depend on an input of shape {node.shape} that the tape is not given")
        self.steps: list[Step] = []
        self.views: dict[int, list[int]] = {}
        self._at = [-1] * len(self.nodes)
        self._assign()
        self.stored = self._must_be_stored()
        for at in range(len(self.steps) - 1, -1, -1):
            if self.steps[at].kind == ELEMENTWISE:
                self._store_for(at)
                self._settle(at)

    @staticmethod
    def _with_copies(inputs: Sequence[Node], outputs: Sequence[Node]) -> list[Node]:
        """The outputs, with a copy in place of each that would share memory with something else."""
        seen, fresh = {id(node) for node in inputs}, []
        for node in outputs:
            kind = kind_of(node, loop_of(node))
            if id(node) in seen or kind not in (ELEMENTWISE, SUM, MATMUL):
                node = Node(COPY, (node,), node.shape, node.dtype)
            seen.add(id(node))
            fresh.append(node)
        return fresh

    def _runs_in(self, i: int, shape: tuple[int, ...]) -> bool:
        """Whether a group over this shape can hold node i, or hand it on without storing it."""
        return self.kinds[i] == ELEMENTWISE and self.nodes[i].shape == shape

    def _assign(self) -> None:
        """Put each node into the first group of its shape that comes after all it needs."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, kind in enumerate(self.kinds):
            if kind in (INPUT, CONSTANT):
                continue
            before = self._at[self.sources[i][0]] if self.sources[i] else -1
            if kind == "view":
                self._at[i] = before
                self.views.setdefault(before, []).append(i)
                continue
            if kind in (MATMUL, CALL):
                self._at[i] = len(self.steps)
                self.steps.append(Step(kind, [i]))
                continue
            shape = self.nodes[i].shape if kind == ELEMENTWISE else self.nodes[self.sources[i][0]].shape
            ready = max((self._at[s] + (not self._runs_in(s, shape)) for s in self.sources[i]), default=0)
            known = groups.setdefault(shape, [])
            place = bisect_left(known, ready)
            if place == len(known):
                known.append(len(self.steps))
                self.steps.append(Step(ELEMENTWISE, [], shape))
            self._at[i] = known[place]
            self.steps[known[place]].nodes.append(i)

    def _must_be_stored(self) -> set[int]:
        """Elementwise nodes that are outputs, or needed by something that is no group of their shape."""
        stored = {i for i in self.outputs if self.kinds[i] == ELEMENTWISE}
        for i, kind in enumerate(self.kinds):
            shape = None
            if kind in (ELEMENTWISE, SUM):
                shape = self.nodes[i].shape if kind == ELEMENTWISE else self.nodes[self.sources[i][0]].shape
            for s in self.sources[i]:
                if self.kinds[s] == ELEMENTWISE and (shape is None or self.nodes[s].shape != shape):
                    stored.add(s)
        return stored

    def _store_for(self, at: int) -> None:
        """Have stored what a group needs of earlier ones, unless it costs less to compute it once more."""
        step = self.steps[at]
        assert step.shape is not None
        inside = set(step.nodes)
        wanted = {
            s for i in step.nodes for s in self.sources[i]
            if self._runs_in(s, step.shape) and s not in inside and s not in self.stored
        }
        if not wanted:
            return
        again = self._needed(wanted, step.shape, self.stored | inside)
        size = prod(step.shape) * max(self.nodes[s].dtype.itemsize for s in wanted)
        storing = next(cost for most, cost in STORING if size <= most)
        if sum(cost_of(self.nodes[i]) for i in again) > storing * len(wanted):
            self.stored |= wanted

    def _needed(self, wanted: Iterable[int], shape: tuple[int, ...], known: set[int]) -> set[int]:
        """The nodes of this shape that must be computed for those wanted, where some are known."""
        needed: set[int] = set()
        waiting = list(wanted)
        while waiting:
            i = waiting.pop()
            if i not in needed:
                needed.add(i)
                waiting += (s for s in self.sources[i] if self._runs_in(s, shape) and s not in known)
        return needed

    def _settle(self, at: int) -> None:
        """A group computes what its results need and earlier groups do not store, and no more."""
        step = self.steps[at]
        assert step.shape is not None
        ends = [
            i for i in step.nodes if self._at[i] == at and (self.kinds[i] == SUM or i in self.stored)
        ]
        # Stored by an earlier group: read from there.
        known = {i for i in self.stored if self._at[i] != at}
        step.nodes = sorted(self._needed(ends, step.shape, known))

    def home(self, i: int) -> int:
        """The step that stores node i."""
        return self._at[i]
