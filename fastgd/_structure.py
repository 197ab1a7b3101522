"""Nested lists, tuples and dicts of values, taken apart and put together again."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["LEAF", "Layout", "flatten", "flatten_like"]


@dataclass(frozen=True)
class Layout:
    """How values lie in one another: what holds them, under which keys, and the layouts of what it holds.

    A list or tuple is its positions, a dict its keys in their order, a named tuple its fields. Anything else is a leaf,
    of which nothing is known.

    Parameters
    ----------
    kind : type or None
        list, dict, tuple or a named tuple; None of a leaf.
    keys : tuple
    parts : tuple of Layout
    """

    kind: type | None = None
    keys: tuple[Hashable, ...] = ()
    parts: tuple[Layout, ...] = ()

    def paths(self, name: str = "") -> Iterator[str]:
        """Where each leaf is, as Python would write it: ``name['w'][0]``."""
        if self.kind is None:
            yield name
        for key, part in zip(self.keys, self.parts, strict=True):
            yield from part.paths(f"{name}[{key!r}]")

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """These leaves, in the order of `paths`, in new lists, tuples and dicts."""
        return self._build(iter(leaves))

    def _build(self, leaves: Iterator[Any]) -> Any:
        if self.kind is None:
            return next(leaves)
        values = [part._build(leaves) for part in self.parts]
        if self.kind is dict:
            return dict(zip(self.keys, values, strict=True))
        return self.kind(*values) if hasattr(self.kind, "_fields") else self.kind(values)


#: Where there is one value and nothing around it.
LEAF = Layout()


def flatten(value: Any) -> tuple[list[Any], Layout]:
    """The leaves of a structure, and how they lie in it.

    Subclasses of list, dict and tuple that are no named tuples count as these.
    """
    kind = kind_of(value)
    if kind is None:
        return [value], LEAF
    keys = tuple(value) if kind is dict else tuple(range(len(value)))
    leaves: list[Any] = []
    parts = []
    for key in keys:
        inner, part = flatten(value[key])
        leaves += inner
        parts.append(part)
    return leaves, Layout(kind, keys, tuple(parts))


def flatten_like(layout: Layout, value: Any, name: str) -> list[Any]:
    """The leaves of a structure that must be laid out like another; a dict may have its keys in any order.

    Raises
    ------
    ValueError
        If it is not, with the place where they differ.
    """
    if layout.kind is None:
        return [value]
    kind = kind_of(value)
    if kind is None or (kind is dict) != (layout.kind is dict):
        raise ValueError(f"{name} must be a {layout.kind.__name__}, got {type(value).__name__}")
    if set(value if kind is dict else range(len(value))) != set(layout.keys):
        wanted = f"have the keys {list(layout.keys)}" if kind is dict else f"have length {len(layout.keys)}"
        raise ValueError(f"{name} must {wanted}, got {list(value) if kind is dict else len(value)}")
    leaves: list[Any] = []
    for key, part in zip(layout.keys, layout.parts, strict=True):
        leaves += flatten_like(part, value[key], f"{name}[{key!r}]")
    return leaves


def kind_of(value: Any) -> type | None:
    """What holds other values: list, dict, tuple or a named tuple; None for anything else."""
    if isinstance(value, tuple):
        return type(value) if hasattr(value, "_fields") else tuple
    return list if isinstance(value, list) else dict if isinstance(value, dict) else None
