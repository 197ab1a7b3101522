"""The graph that tracing writes and the compiled tape runs: primitives, nodes, and a plain evaluation of them.

A graph is a set of nodes that know their inputs; there is no container. A node never changes once it is made, and the
order of making is an order of evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

INPUT, CONSTANT, ELEMENTWISE, SUM, MATMUL, CALL = "input", "constant", "elementwise", "sum", "matmul", "call"


@dataclass(frozen=True, slots=True, eq=False)
class Primitive:
    """An operation of the graph.

    Parameters
    ----------
    name : str
        As NumPy calls it.
    kind : {"input", "constant", "elementwise", "sum", "matmul", "call"}
        How it is evaluated.
    apply : callable, optional
        ``apply(*arrays, **attributes)`` gives the value; None for inputs and constants.
    ufunc : numpy.ufunc, optional
        Of an elementwise primitive, where a ufunc is all of it.
    """

    name: str
    kind: str
    apply: Callable[..., Any] | None = None
    ufunc: np.ufunc | None = None


class Node:
    """A value of the graph: what makes it and of what; its shape and dtype are known before it is evaluated."""

    __slots__ = ("attributes", "dtype", "inputs", "primitive", "shape", "value")

    def __init__(
        self, primitive: Primitive, inputs: tuple[Node, ...], shape: tuple[int, ...], dtype: np.dtype[Any],
        attributes: dict[str, Any] | None = None, value: np.ndarray | None = None,
    ) -> None:
        self.primitive, self.inputs, self.shape, self.dtype = primitive, inputs, shape, dtype
        self.attributes, self.value = attributes or {}, value


def in_order(outputs: Iterable[Node], known: Iterable[Node] = ()) -> list[Node]:
    """All nodes that the outputs need, each after its inputs, but for those known and what only they need."""
    order: list[Node] = []
    done = {id(node) for node in known}
    stack = list(outputs)[::-1]
    while stack:
        node = stack[-1]
        size = len(stack)
        if id(node) not in done:
            for source in node.inputs[::-1]:
                if id(source) not in done:
                    stack.append(source)
            if len(stack) > size:
                continue
            done.add(id(node))
            order.append(node)
        stack.pop()
    return order


def run_plain(
    inputs: Sequence[Node], outputs: Sequence[Node], arrays: Sequence[Any], order: Sequence[Node] | None = None,
) -> tuple[np.ndarray, ...]:
    """Evaluate node by node in NumPy, in the order of ``in_order(outputs, inputs)``: the twin of the compiled tape."""
    values: dict[int, Any] = {id(node): np.asarray(array) for node, array in zip(inputs, arrays, strict=True)}
    for node in in_order(outputs, inputs) if order is None else order:
        key, primitive = id(node), node.primitive
        if primitive.apply is None:
            values[key] = node.value
        elif node.attributes:
            values[key] = primitive.apply(*[values[id(source)] for source in node.inputs], **node.attributes)
        else:
            values[key] = primitive.apply(*[values[id(source)] for source in node.inputs])
    return tuple([np.array(values[id(node)]) for node in outputs])
