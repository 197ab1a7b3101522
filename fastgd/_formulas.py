"""Graphs in words: operations as a user would write them, and values in short."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

import numpy as np

from fastgd._graph import Node

__all__ = ["formula", "in_short", "number"]

#: A text, and how tightly the operation that it ends with binds, as in Python.
Text = tuple[str, int]
COMPARISON, SUM, PRODUCT, SIGN, POWER, ATOM = range(6)
INFIX = {
    "add": (" + ", SUM), "subtract": (" - ", SUM), "multiply": ("*", PRODUCT), "divide": ("/", PRODUCT),
    "matmul": (" @ ", PRODUCT), "remainder": (" % ", PRODUCT), "floor_divide": ("//", PRODUCT), "power": ("**", POWER),
    "less": (" < ", COMPARISON), "less_equal": (" <= ", COMPARISON), "greater": (" > ", COMPARISON),
    "greater_equal": (" >= ", COMPARISON), "equal": (" == ", COMPARISON), "not_equal": (" != ", COMPARISON),
}
SHORT = {"absolute": "abs"}
#: Entries of an array that are shown, and their digits.
ENTRIES, DIGITS = 3, 4


def formula(
    node: Node, names: Mapping[int, str], limit: int = 80, transparent: Container[int] = frozenset()
) -> str | None:
    """The operation of a node as Python has it.

    Parameters
    ----------
    node : Node
    names : mapping
        By id, what other nodes are called; what has no name is written out.
    limit : int, default 80
        Of characters.
    transparent : container, optional
        Ids of nodes that are written as their operand.

    Returns
    -------
    str or None
        None if the formula is longer than that.
    """
    known: dict[int, Text] = {}
    waiting = [node]
    while waiting:
        last = waiting[-1]
        named = id(last) in names and last is not node
        missing = [] if named else [source for source in last.inputs if id(source) not in known]
        if missing:
            waiting.extend(missing)
            continue
        waiting.pop()
        if named:
            known[id(last)] = names[id(last)], ATOM
        elif id(last) in transparent:
            known[id(last)] = known[id(last.inputs[0])]
        else:
            known[id(last)] = written(last, known)
        if len(known[id(last)][0]) > limit:
            return None
    return known[id(node)][0]


def written(node: Node, known: Mapping[int, Text]) -> Text:
    """A constant, or an operation on operands that are written already."""
    if node.value is not None:
        text = in_short(node.value) if node.value.shape else number(node.value.item(), 12)
        return text, SIGN if text.startswith("-") else ATOM
    name, operands = node.primitive.name, [known[id(source)] for source in node.inputs]
    if name in INFIX:
        return infix(name, *operands)
    if name == "square":
        return f"{enclosed(operands[0], ATOM)}**2", POWER
    if name == "negative":
        return f"-{enclosed(operands[0], SIGN)}", SIGN
    if name in PARTICULAR:
        return PARTICULAR[name](node, enclosed(operands[0], ATOM), [text for text, _ in operands]), ATOM
    return call(SHORT.get(name, name), [text for text, _ in operands], axes(node)), ATOM


def infix(name: str, left: Text, right: Text) -> Text:
    """Two operands and a sign between them; only of sums and products the brackets on the right can be left out."""
    symbol, binds = INFIX[name]
    first = enclosed(left, binds + (binds in (COMPARISON, POWER)))
    second = enclosed(right, ATOM if right[1] == SIGN else binds + (name not in ("add", "multiply", "power")))
    return f"{first}{symbol}{second}", binds


def enclosed(operand: Text, binds: int) -> str:
    """An operand, in brackets if it binds less tightly than that."""
    text, own = operand
    return text if own >= binds else f"({text})"


def call(name: str, operands: list[str], options: Mapping[str, Any]) -> str:
    """A function call."""
    return f"{name}({', '.join([*operands, *(f'{key}={value}' for key, value in options.items())])})"


def axes(node: Node) -> dict[str, Any]:
    """What a user would add to the operand of a reduction: axes, where they are not all of them."""
    options: dict[str, Any] = {}
    axis = node.attributes.get("axis")
    if isinstance(axis, int):
        options["axis"] = axis
    elif axis is not None and len(axis) < len(node.inputs[0].shape):
        options["axis"] = axis[0] if len(axis) == 1 else axis
    if node.attributes.get("keepdims"):
        options["keepdims"] = True
    return options


def indexed(node: Node, base: str, operands: list[str]) -> str:
    """``base[key]``; index arrays stand where the pattern has a place for them."""
    rest = iter(operands[1:])
    return f"{base}[{', '.join(subscript(item, rest) for item in node.attributes['pattern'])}]"


def subscript(item: Any, rest: Iterator[str]) -> str:
    """One of the things between the brackets of an index."""
    if isinstance(item, slice):
        ends = ":".join("" if end is None else str(end) for end in (item.start, item.stop))
        return ends if item.step in (None, 1) else f"{ends}:{item.step}"
    if item is Ellipsis:
        return "..."
    return str(item) if item is None or isinstance(item, (int, np.integer)) else next(rest)


#: Operations that are written in a way of their own: the node, its first operand in brackets if need be, all operands.
PARTICULAR: dict[str, Callable[[Node, str, list[str]], str]] = {
    "astype": lambda node, base, operands: f"{node.dtype}({operands[0]})",
    "broadcast_to": lambda node, base, operands: f"broadcast_to({operands[0]}, {node.shape})",
    "concatenate": lambda node, base, operands: (
        f"concatenate([{', '.join(operands)}], axis={node.attributes['axis']})"
    ),
    "index": indexed,
    "numpy": lambda node, base, operands: call(
        node.attributes["function"].__name__, operands, dict(node.attributes["arguments"])
    ),
    "reshape": lambda node, base, operands: f"{base}.reshape{node.shape}",
    "scatter": lambda node, base, operands: f"scatter({', '.join(operands)}, {node.shape})",
    "transpose": lambda node, base, operands: (
        f"{base}.T" if node.attributes["axes"] == tuple(range(len(node.shape)))[::-1]
        else f"{base}.transpose{node.attributes['axes']}"
    ),
}


def number(value: Any, digits: int = 6) -> str:
    """A number in so many digits, whole ones without a point."""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def in_short(value: Any) -> str:
    """A number, or the first entries of an array and its shape."""
    array = np.asarray(value)
    if array.shape == ():
        return number(array.item())
    first = [number(entry, DIGITS) for entry in array.ravel()[:ENTRIES].tolist()]
    return f"[{', '.join(first)}{', …' if array.size > ENTRIES else ''}] {array.shape}"
