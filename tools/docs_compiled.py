"""griffe's extension: what a stub declares gets the docstring that stands in the .pyx, so that nothing need be built."""

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


@cache
def docstrings(module: str) -> dict[str, str]:
    """Those of a module's classes and functions and of its classes' methods, by name: "DenseMSE.value"."""
    text = (SOURCES / f"{module}.pyx").read_text()
    found = dict(re.findall(f"^{FUNCTION}", text, re.MULTILINE | re.DOTALL))
    for head in CLASS.finditer(text):
        body = re.split(r"\n(?=\S)", text[head.end():], maxsplit=1)[0]
        own = re.match(r'[^\n]*:\n\s+("""(?:.*?)""")', body, re.DOTALL)
        if own:
            found[head[1]] = own[1]
        methods = re.findall(f"^    {FUNCTION}", body, re.MULTILINE | re.DOTALL)
        found.update({f"{head[1]}.{name}": docstring for name, docstring in methods})
    return {name: ast.literal_eval(docstring) for name, docstring in found.items()}


class Compiled(griffe.Extension):
    """Looks up each class, function and property of a stub."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Give it its docstring."""
        if obj.is_module or obj.docstring is not None or not isinstance(obj.filepath, Path):
            return
        if obj.filepath.suffix == ".pyi" and (SOURCES / f"{obj.module.name}.pyx").exists():
            text = docstrings(obj.module.name).get(obj.path.removeprefix(f"{obj.module.path}."))
            if text is not None:
                obj.docstring = griffe.Docstring(text, parent=obj, parser="numpy")
