"""griffe's extension: the docstrings of compiled modules from their .pyx, so that nothing need be built, and doctests.

A stub declares, without docstrings, what the .pyx of its name defines. And doctests in the running text of a module's
docstring become blocks of code, which Markdown would take for quotations.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import griffe

SOURCES = Path(__file__).resolve().parents[1] / "src"
CLASS = re.compile(r"^(?:cdef )?class (\w+)", re.MULTILINE)
FUNCTION = r'def (\w+)\((?:[^()]|\([^()]*\))*\)[^\n:]*:\n\s+("""(?:.*?)""")'
DOCTEST = re.compile(r"^>>> .*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)


@cache
def docstrings(module: str) -> dict[str, str]:
    """Those of a module's classes and functions and of its classes' methods, by name: "DenseMSE.value"."""
    source = SOURCES / f"{module}.pyx"
    text = source.read_text() if source.exists() else ""
    found = dict(re.findall(f"^{FUNCTION}", text, re.MULTILINE | re.DOTALL))
    for head in CLASS.finditer(text):
        body = re.split(r"\n(?=\S)", text[head.end():], maxsplit=1)[0]
        own = re.match(r'[^\n]*:\n\s+("""(?:.*?)""")', body, re.DOTALL)
        if own:
            found[head[1]] = own[1]
        methods = re.findall(f"^    {FUNCTION}", body, re.MULTILINE | re.DOTALL)
        found.update({f"{head[1]}.{name}": docstring for name, docstring in methods})
    return {name: ast.literal_eval(docstring) for name, docstring in found.items()}


class Docstrings(griffe.Extension):
    """Looks at each object once, when its members are known."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Give what a stub declares its docstring, and a module's doctests their fences."""
        if obj.is_module:
            if obj.docstring is not None:
                obj.docstring.value = DOCTEST.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
        elif obj.docstring is None and isinstance(obj.filepath, Path) and obj.filepath.suffix == ".pyi":
            name = obj.path.removeprefix(f"{obj.module.path}.")
            text = docstrings(obj.module.name).get(name)
            if text is not None:
                obj.docstring = griffe.Docstring(text, parent=obj, parser="numpy")
