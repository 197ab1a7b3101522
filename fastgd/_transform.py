"""From graphs to graphs of derivatives: pushing tangents forward, pulling gradients back; and running what comes out.

Both ways walk the graph once. With y = f(x): the tangent of y is (dy/dx) t, for one direction t of x (forward mode);
the gradient with respect to x is (dy/dx)ᵀ g, for one weighting g of y (reverse mode). See Griewank and Walther,
"Evaluating Derivatives", 2nd ed., chapter 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastgd import _primitives as p
from fastgd._graph import ELEMENTWISE, INPUT, Node, in_order, run_plain
from fastgd._rules import gradient_of_input, tangent_of_output
from fastgd._simplify import finished
from fastgd._tape import Tape
from fastgd._traced import Trace, Traced, refuse_leaked

__all__ = ["depends_on_inputs", "elementwise_in", "make_runner", "pull_back", "push_forward", "simplified"]

Runner = Callable[..., Sequence[np.ndarray]]


#: Elements above which a graph that runs once is worth the plan of a tape, which takes some 20 µs a node.
MANY = 1 << 13


def make_runner(inputs: Sequence[Node], outputs: Sequence[Node], once: bool = False) -> Runner:
    """What computes these outputs from arrays for the inputs: the one place where that is chosen."""
    order = in_order(outputs, inputs)
    if any(node.primitive.kind == INPUT for node in order):
        refuse_leaked()
    if once and all(math.prod(node.shape) < MANY for node in order):
        return lambda *arrays: run_plain(inputs, outputs, arrays, order)
    return Tape(inputs, outputs)


def simplified(trace: Trace, outputs: Sequence[Any]) -> list[Any]:
    """The outputs as they are computed, once all derivatives are taken."""
    return finished(outputs, p.again) if trace.aliases or trace.powers else list(outputs)


def dependent(order: Sequence[Node], variables: Sequence[Node]) -> set[int]:
    """The ids of the nodes that vary with the variables and have derivatives: floats."""
    found = {id(node) for node in variables}
    for node in order:
        for source in node.inputs:
            if id(source) in found:
                if node.dtype.kind == "f":
                    found.add(id(node))
                break
    return found


def pull_back(outputs: Sequence[Traced], weights: Sequence[Any], variables: Sequence[Traced]) -> list[Any]:
    """The gradients of Σ weights · outputs with respect to the variables; None for zero."""
    order = in_order(outputs)
    active = dependent(order, variables)
    gradients: dict[int, Any] = {}
    for output, weight in zip(outputs, weights, strict=True):
        accumulate(gradients, output, weight)
    ends = {id(node) for node in variables}
    for node in reversed(order):
        if id(node) not in active or id(node) in ends:
            continue
        g = gradients.pop(id(node), None)
        if g is None:
            continue
        for i, source in enumerate(node.inputs):
            if id(source) in active:
                accumulate(gradients, source, gradient_of_input(node, g, i))    # type: ignore[arg-type]
    return [gradients.get(id(node)) for node in variables]


def accumulate(gradients: dict[int, Any], node: Node, term: Any) -> None:
    if term is not None:
        before = gradients.get(id(node))
        gradients[id(node)] = term if before is None else before + term


def push_forward(outputs: Sequence[Traced], variables: Sequence[Traced], tangents: Sequence[Any]) -> list[Any]:
    """The tangents of the outputs, from those of the variables; None for zero."""
    order = in_order(outputs)
    active = dependent(order, variables)
    found: dict[int, Any] = {id(node): tangent for node, tangent in zip(variables, tangents, strict=True)}
    for node in order:
        if id(node) in active and id(node) not in found:
            of_inputs = [found.get(id(source)) for source in node.inputs]
            if any(tangent is not None for tangent in of_inputs):
                found[id(node)] = tangent_of_output(node, of_inputs)    # type: ignore[arg-type]
    return [found.get(id(node)) for node in outputs]


def elementwise_in(output: Traced, variable: Traced) -> bool:
    """Whether each element of the output depends on the same element of the variable alone."""
    order = in_order((output,))
    active = dependent(order, (variable,))
    return all(
        id(node) not in active or node is variable
        or ((node.primitive.kind == ELEMENTWISE or node.primitive is p.ALIAS) and node.shape == variable.shape)
        for node in order
    )


def depends_on_inputs(node: Traced) -> bool:
    """Whether the value of a node is not known while the function is traced."""
    return any(source.primitive.kind == INPUT for source in in_order((node,)))


