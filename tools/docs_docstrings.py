"""griffe's extension: the docstrings of compiled modules from their .pyx, so that nothing need be built, and doctests.

A stub declares, without docstrings, what the .pyx of its name defines. Doctests in the running text of a module's
docstring become blocks of code, which Markdown would take for quotations, and tables Markdown's. What griffe makes of
numpydoc's sections is put right where it would say something else.
"""

from __future__ import annotations

import ast
import re
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import griffe

SOURCES = Path(__file__).resolve().parents[1] / "src"
CLASS = re.compile(r"^(?:cdef )?class (\w+)", re.MULTILINE)
FUNCTION = r'def (\w+)\((?:[^()]|\([^()]*\))*\)[^\n:]*:\n\s+("""(?:.*?)""")'
SEE_ALSO = re.compile(r"^(\S+) : ", re.MULTILINE)
#: A table of reStructuredText, between its rules.
TABLE = re.compile(r"^(=+(?: +=+)+)\n((?:.+\n)+)\1$", re.MULTILINE)
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


class Sections(griffe.Docstring):
    """A docstring whose sections say what stands in it."""

    @cached_property
    def parsed(self) -> list[griffe.DocstringSection]:
        """The sections, when a page asks for them."""
        self.value = TABLE.sub(table, self.value)
        sections = self.parse()
        signature = getattr(self.parent, "parameters", None) or []
        for section in sections:
            if isinstance(section, griffe.DocstringSectionParameters):
                for parameter in section.value:
                    own(parameter, signature)
            elif isinstance(section, griffe.DocstringSectionAdmonition) and section.title == "See Also":
                section.value.contents = SEE_ALSO.sub(r"- `\1`: ", section.value.contents)
            for element in section.value if isinstance(section.value, list) else []:
                if isinstance(element, griffe.DocstringElement):
                    element.annotation = plain(element.annotation)
        return sections


def table(found: re.Match[str]) -> str:
    """The same in Markdown; its cells begin where the rule above does."""
    starts = [rule.start() for rule in re.finditer("=+", found[1])]
    head, _, body = found[2].rpartition(f"{found[1]}\n")
    spans = list(zip(starts, [*starts[1:], None], strict=True))
    lines = [head.rstrip(), *body.splitlines()]
    rows = [[line[start:end].strip().replace("|", "\\|") for start, end in spans] for line in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], ["---"] * len(starts), *rows[1:]])


def own(parameter: griffe.DocstringParameter, signature: Any) -> None:
    """Its own default and type: of several in a line griffe takes the first one's, of a choice the first entry."""
    if parameter.name in signature:
        default = signature[parameter.name].default
        if parameter.name.startswith("*"):
            parameter.value = None
        elif not isinstance(default, griffe.ExprName):      # of a constant's name the docstring tells the value
            parameter.value = default
        if any(parameter.annotation is other.annotation for other in signature):
            parameter.annotation = signature[parameter.name].annotation


def plain(annotation: str | griffe.Expr | None) -> str | griffe.Expr | None:
    """A type in words, some of which could be Python's: choices and errors would be tuples, path-like a difference."""
    if isinstance(annotation, griffe.ExprTuple):
        annotation.implicit = True
    elif " - like" in str(annotation):
        return str(annotation).replace(" - like", "-like")
    return annotation.replace("`", "") if isinstance(annotation, str) else annotation


class Docstrings(griffe.Extension):
    """Looks at each object once, when its members are known."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Give what a stub declares its docstring, a module's doctests their fences, and all their sections."""
        if obj.is_module:
            if obj.docstring is not None:
                obj.docstring.value = DOCTEST.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
        elif obj.docstring is None and isinstance(obj.filepath, Path) and obj.filepath.suffix == ".pyi":
            name = obj.path.removeprefix(f"{obj.module.path}.")
            text = docstrings(obj.module.name).get(name)
            if text is not None:
                obj.docstring = griffe.Docstring(text, parent=obj, parser="numpy")
        if obj.docstring is not None:
            found = obj.docstring
            obj.docstring = Sections(
                found.value, lineno=found.lineno, endlineno=found.endlineno, parent=obj, parser=found.parser,
                parser_options=found.parser_options,
            )
