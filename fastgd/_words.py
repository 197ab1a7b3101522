"""Words in messages: names that are shortened, made harmless for a terminal, and compared with those that are known."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

__all__ = ["nearest", "printable", "quoted"]

#: Letters of a name or a value that a message shows.
SHOWN_LETTERS = 40


def printable(text: str, most: int = SHOWN_LETTERS) -> str:
    """The text or its beginning, with escapes for what would act on a terminal instead of being seen."""
    shown = text if len(text) <= most else text[: most - 3] + "..."
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in shown)


def quoted(text: str) -> str:
    """The text in quotes, or its beginning."""
    return f"'{printable(text)}'"


def nearest(name: str, known: Iterable[str], otherwise: str, written: Callable[[str], str] = str) -> str:
    """A question for the nearest of the names that are known (Ratcliff and Obershelp's measure, as in `difflib`).

    Small and capital letters are the same, and the beginning of a name is near to it.
    """
    by_small_letters = {other.lower(): other for other in reversed([*known])}
    near = [other for other in by_small_letters if len(name) > 2 and other.startswith(name.lower())]
    near = near or difflib.get_close_matches(name.lower(), by_small_letters, n=1)
    return f"did you mean {written(by_small_letters[near[0]])}?" if near else otherwise
