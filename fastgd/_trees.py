"""Nested lists, tuples and dicts as arguments and results: their leaves, and the same structure with other leaves."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

__all__ = ["builder_of", "leaves_of", "named_leaves", "rebuild", "structure_of"]


def leaves_of(tree: Any) -> list[Any]:
    """The leaves from left to right; dicts in the order of their keys as they stand."""
    out: list[Any] = []
    _collect(tree, out)
    return out


def _collect(tree: Any, out: list[Any]) -> None:
    if isinstance(tree, dict):
        for value in tree.values():
            _collect(value, out)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            _collect(value, out)
    else:
        out.append(tree)


def named_leaves(tree: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The leaves with their names as Python writes them, such as ``params['w'][0]``."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from named_leaves(value, f"{name}[{key!r}]")
    elif isinstance(tree, (list, tuple)):
        for i, value in enumerate(tree):
            yield from named_leaves(value, f"{name}[{i}]")
    else:
        yield name, tree


def rebuild(tree: Any, leaves: Iterable[Any]) -> Any:
    """The structure of `tree` with these leaves."""
    return _build(tree, iter(leaves))


def _build(tree: Any, leaves: Iterator[Any]) -> Any:
    if isinstance(tree, dict):
        return type(tree)((key, _build(value, leaves)) for key, value in tree.items())
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(_build(value, leaves) for value in tree))
    if isinstance(tree, (list, tuple)):
        return type(tree)(_build(value, leaves) for value in tree)
    return next(leaves)


def builder_of(tree: Any) -> Callable[[Sequence[Any]], Any]:
    """A function that makes this structure of a sequence of leaves, faster than `rebuild` where it is of tuples."""
    n = len(leaves_of(tree))
    if not isinstance(tree, (dict, list, tuple)):
        return operator.itemgetter(0)
    if type(tree) is not tuple:
        return lambda leaves: rebuild(tree, leaves)
    parts, start = [], 0
    for value in tree:
        count = len(leaves_of(value))
        parts.append((builder_of(value), slice(start, start + count)))
        start += count
    if len(parts) == n and not any(isinstance(value, (dict, list, tuple)) for value in tree):
        return tuple
    return lambda leaves: tuple([build(leaves[part]) for build, part in parts])


def structure_of(tree: Any) -> Any:
    """The structure as a key of a table; None for a leaf."""
    if isinstance(tree, dict):
        return (type(tree), *((key, structure_of(value)) for key, value in tree.items()))
    if isinstance(tree, (list, tuple)):
        return (type(tree), *(structure_of(value) for value in tree))
    return None
