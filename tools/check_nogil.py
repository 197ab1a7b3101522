"""Fail when a loop that runs without the GIL touches Python: an exception raised, a reference counted, the GIL taken.

    python tools/check_nogil.py [FILE.pyx ...]          # by default every src/**/*.pyx

Each file is compiled to C in a temporary directory, with the directives of setup.py and Cython's own annotation, in
which each source line carries the calls into Python's C API that were generated for it. Cython's parse tree says which
lines belong to a loop in a `nogil` function or a `with nogil:` block, and to `nogil` functions of the same file that
such a loop calls, directly or not. A line of theirs with such a call is printed as `file:line: text [calls]`.

The exit status is 1 if there is one, or if no loop was found at all; 2 if a file does not compile.
"""

from __future__ import annotations

import argparse
import ast
import html
import re
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from Cython.Compiler import Nodes
from Cython.Compiler.Main import CompilationOptions, compile_single
from Cython.Compiler.TreeFragment import parse_from_strings

ROOT = Path(__file__).resolve().parents[1]

#: In the annotation: a source line and the C code that belongs to it.
LINE = re.compile(
    r'<pre class="cython line score-(?P<score>\d+)"[^>]*>[^<]*<span class="">(?P<number>\d+)</span>:[^\n]*</pre>\n'
    r"(?:<pre class='cython code [^']*'>(?P<code>.*?)</pre>)?",
    re.DOTALL,
)
#: What gives the line its score.
API = re.compile(r"<span class='(?:py|pyx)_(?:c|macro)_api'>(?P<name>\w+)</span>")
#: What costs as much but has no score: counting references to a memoryview or an object, or taking the GIL by name.
UNSCORED = re.compile(
    r"\b(?P<name>__PYX_(?:INC|X?DEC|X?CLEAR)_MEMVIEW|Py_(?:X?INCREF|X?DECREF|CLEAR|XSETREF)|PyGILState_\w+"
    r"|PyEval_\w+)(?=\s*\()"
)


class Loops(NamedTuple):
    """The loops without the GIL of a file, and the lines they run: line -> why it is looked at."""

    count: int
    lines: dict[int, str]


class Finding(NamedTuple):
    line: int
    why: str
    calls: list[str]


def directives(setup: Path) -> dict[str, object]:
    """DIRECTIVES of a setup.py as a release is built with them, without running it."""
    for statement in ast.parse(setup.read_text()).body:
        if isinstance(statement, ast.Assign) and [ast.unparse(name) for name in statement.targets] == ["DIRECTIVES"]:
            return eval(compile(ast.Expression(statement.value), str(setup), "eval"), {"DEBUG": False})
    raise SystemExit(f"{setup} sets no DIRECTIVES")


# ---- where the loops are -----------------------------------------------------------------------------------------


def children(node: Nodes.Node) -> Iterator[Nodes.Node]:
    for attribute in node.child_attrs or ():
        value = getattr(node, attribute)
        yield from (child for child in (value if isinstance(value, list) else [value]) if isinstance(child, Nodes.Node))


def descendants(node: Nodes.Node) -> Iterator[Nodes.Node]:
    yield node
    for child in children(node):
        yield from descendants(child)


def lines_of(node: Nodes.Node) -> range:
    """From the node's first line to the last on which anything in it starts."""
    return range(node.pos[1], max(inner.pos[1] for inner in descendants(node)) + 1)


def function_declarator(node: Nodes.CFuncDefNode) -> Nodes.CFuncDeclaratorNode:
    """The part of a cdef function that bears its name and `nogil`, below any pointers of its result."""
    declarator = node.declarator
    while not isinstance(declarator, Nodes.CFuncDeclaratorNode):
        declarator = declarator.base
    return declarator


def called_name(node: Nodes.Node) -> str | None:
    """The plain name that a call calls."""
    return getattr(getattr(node, "function", None), "name", None)


def nogil_loops(node: Nodes.Node, nogil: bool = False) -> Iterator[Nodes.Node]:
    """The outermost loops that run without the GIL."""
    if isinstance(node, Nodes.CFuncDefNode):
        nogil = function_declarator(node).nogil
    elif isinstance(node, Nodes.GILStatNode):
        nogil = node.state == "nogil"
    elif isinstance(node, Nodes.LoopNode) and nogil:
        yield node
        return
    for child in children(node):
        yield from nogil_loops(child, nogil)


def find_loops(source: Path) -> Loops:
    """The loops of a file, from its parse tree."""
    tree = parse_from_strings(source.stem, source.read_text())
    functions = {
        function_declarator(node).base.name: node for node in descendants(tree) if isinstance(node, Nodes.CFuncDefNode)
    }
    count, lines, waiting = 0, {}, []
    for loop in nogil_loops(tree):
        waiting.append(loop)
        count += sum(isinstance(node, Nodes.LoopNode) for node in descendants(loop))
        lines |= dict.fromkeys(lines_of(loop), "in a loop")
    seen = set()
    while waiting:
        for name in map(called_name, descendants(waiting.pop())):
            function = functions.get(name)
            if name in seen or function is None or not function_declarator(function).nogil:
                continue
            seen.add(name)
            waiting.append(function.body)
            lines = dict.fromkeys(lines_of(function.body), f"in {name}, which a loop calls") | lines
    return Loops(count, lines)


# ---- what the lines do -------------------------------------------------------------------------------------------


def annotate(source: Path, settings: dict[str, object], include: Path) -> str:
    """Cython's annotation of the file, as HTML."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "annotated.c"
        options = CompilationOptions(
            annotate=True, compiler_directives=settings, include_path=[str(include)], output_file=str(target)
        )
        result = compile_single(str(source), options, full_module_name=f"fastgd.{source.stem}")
        if result.num_errors:
            raise SystemExit(2)
        return target.with_suffix(".html").read_text(encoding="utf-8")


def python_calls(annotation: str) -> dict[int, list[str]]:
    """Source line -> the calls into Python's C API that it makes, of each name one.

    Raises
    ------
    ValueError
        If the annotation does not read as this function knows it: a line has a score and no call to account for it.
    """
    found = {}
    for match in LINE.finditer(annotation):
        code = match["code"] or ""
        names = [m["name"] for m in API.finditer(code)]
        if int(match["score"]) and not names:
            raise ValueError(
                f"line {match['number']} of the annotation has a score but no call; has its format changed?"
            )
        names += [m["name"] for m in UNSCORED.finditer(html.unescape(re.sub(r"</?span[^>]*>", "", code)))]
        found[int(match["number"])] = list(dict.fromkeys(names))
    return found


def check(source: Path, settings: dict[str, object], include: Path = ROOT) -> tuple[int, list[Finding]]:
    """The number of loops in the file that run without the GIL, and the lines of theirs that touch Python."""
    count, lines = find_loops(source)
    calls = python_calls(annotate(source, settings, include))
    if len(calls) != len(source.read_text().splitlines()):
        raise ValueError(f"{source}: the annotation has {len(calls)} lines; has its format changed?")
    return count, [Finding(line, why, calls[line]) for line, why in sorted(lines.items()) if calls[line]]


def check_all(sources: list[Path], settings: dict[str, object]) -> list[tuple[int, list[Finding]]]:
    """`check` of each file, several at a time on as many cores."""
    if len(sources) == 1:
        return [check(sources[0], settings)]
    with ProcessPoolExecutor() as pool:
        return list(pool.map(partial(check, settings=settings), sources))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help="by default every src/**/*.pyx")
    parser.add_argument("--setup", type=Path, default=ROOT / "setup.py", help="where DIRECTIVES stand")
    options = parser.parse_args(arguments)
    files = options.files or sorted((ROOT / "src").rglob("*.pyx"))
    settings = directives(options.setup)
    loops = bad = 0
    for source, (count, findings) in zip(files, check_all(files, settings), strict=True):
        loops += count
        bad += len(findings)
        text = source.read_text().splitlines()
        name = source.resolve()
        name = name.relative_to(ROOT) if name.is_relative_to(ROOT) else source
        for line, why, calls in findings:
            print(f"{name}:{line}: {text[line - 1].strip()} [{why}: {', '.join(calls)}]")
    print(f"{loops} loops without the GIL in {len(files)} files, {bad} lines of them touch Python")
    if not loops:
        print("nothing was checked: no file has a loop in a nogil function or block")
    return 1 if bad or not loops else 0


if __name__ == "__main__":
    sys.exit(main())
