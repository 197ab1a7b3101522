"""MkDocs' hook: the site holds what the pages of docs/ link to outside of it, such as examples and bench results.

In the pages stand links from file to file of the checkout, which lead somewhere wherever they are read. Here the files
they lead to become pages of the site, sources as their text, and the links lead there. Formulas become MathML, which
browsers show without a script, so that a page fetches nothing.
"""

from __future__ import annotations

import html
import logging
import posixpath
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()[^)#:\s]+")
#: What arithmatex leaves of a formula between two dollar signs, or four.
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
#: A dash that mkdocstrings puts before a description, also before none.
NO_DESCRIPTION = re.compile(r'\s*–\s*(?=<div class="doc-md-description">\s*</div>)')
#: The space between a figure and its unit at the end of a cell.
UNIT = re.compile(r"(?<=\d) (?=(?:ns|µs|ms|s)</td>)")
#: Pages of tables with many columns: these, and sources, take the place of the table of contents, too.
WIDE = {"performance.md", "bench/results/table.md"}
#: What a source is called in a fence.
LANGUAGES = {".py": "python", ".pyx": "cython", ".toml": "toml"}

#: For each page of the site its file, from the checkout's root.
sources: dict[str, str] = {}
#: Under this name a warning ends a strict build.
log = logging.getLogger("mkdocs.hooks.docs_site")


def linked(source: str, link: str) -> str:
    """The file that a link in a file leads to; of a folder its README.md."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    return f"{target}/README.md" if (ROOT / target).is_dir() else target


def place(source: str) -> str:
    """Where a file is in the site."""
    if Path(source).suffix in LANGUAGES:
        source += ".md"
    return source.removeprefix("docs/")


def page_of(source: str) -> str:
    """A file outside docs/ as a page."""
    text = (ROOT / source).read_text()
    language = LANGUAGES.get(Path(source).suffix)
    return text if language is None else f"# {source}\n\n```{language}\n{text}```\n"


def outside(sources: Iterable[str]) -> set[str]:
    """The files that these pages link to outside docs/, and those that they link to in turn."""
    found: set[str] = set()
    waiting = list(sources)
    while waiting:
        source = waiting.pop()
        for target in (linked(source, link) for link in LINK.findall((ROOT / source).read_text())):
            if target not in found and not target.startswith("docs/") and (ROOT / target).is_file():
                found.add(target)
                waiting += [target] * target.endswith(".md")
    return found


def on_files(files: Any, config: Any) -> Any:
    """Bring in the files outside."""
    sources.clear()
    sources.update({file.src_uri: f"docs/{file.src_uri}" for file in files.documentation_pages()})
    for source in outside(list(sources.values())):
        uri = place(source)
        sources[uri] = source
        if uri.endswith(".md"):
            files.append(File.generated(config, uri, content=page_of(source)))
        else:
            files.append(File.generated(config, uri, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead the links to where the files are in the site."""
    source = sources[page.file.src_uri]
    if page.file.src_uri in WIDE or Path(source).suffix in LANGUAGES:
        page.meta["hide"] = ["toc"]

    def moved(link: re.Match[str]) -> str:
        target = linked(source, link[0])
        if not (ROOT / target).is_file():
            return link[0]      # no file: left to MkDocs, which says so
        return posixpath.relpath(place(target), posixpath.dirname(page.file.src_uri) or ".")

    return markdown if Path(source).suffix in LANGUAGES else LINK.sub(moved, markdown)


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Set the formulas, and what else Markdown leaves as it is typed."""
    content = UNIT.sub("\N{NO-BREAK SPACE}", NO_DESCRIPTION.sub("", content))
    return FORMULA.sub(lambda formula: mathml(formula, page), content)


def mathml(formula: re.Match[str], page: Any) -> str:
    """A formula, in a line of its own or amid the text. Commands that are not known would be left in it as they are."""
    display = "block" if formula[1] == "div" else "inline"
    text = convert(html.unescape(formula[2].strip()), display=display)
    if "\\" in text:
        log.warning("%s: a command of this formula is not known to latex2mathml: %s", page.file.src_uri, formula[2])
    return f'<{formula[1]} class="formula">{text}</{formula[1]}>'
