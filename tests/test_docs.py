"""The documentation does what it shows: every block of Python runs, and what it prints stands below it.

So do the examples of docstrings. The terminal sessions of docs/cli.md are replayed by tests/test_cli.py, the program in
the README by tests/test_examples.py.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import inspect
import io
import logging
import re
import runpy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import readme
from matplotlib import pyplot as plt

import fastgd
from fastgd import reference

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PACKAGE = Path(fastgd.__file__).parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
TEXTS = sorted({*ROOT.glob("*.md"), *ROOT.glob("bench/**/*.md"), *ROOT.glob("examples/**/*.md"), *DOCS.rglob("*.md")})
#: Modules with examples in their docstrings; those of compiled modules have none.
EXAMPLES = sorted(
    path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.fixture(autouse=True)
def left_as_found() -> Iterator[None]:
    """Of more than twenty open pictures matplotlib warns; and a page shows how the logger is made to speak."""
    logger = logging.getLogger("fastgd")
    level = logger.level
    yield
    plt.close("all")
    logger.setLevel(level)


@pytest.mark.parametrize("name", PAGES)
def test_blocks_run_and_print_what_they_show(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page are one program; a block of text shows what the block of Python before it prints.

    The pictures of a page are those that its program draws.
    """
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("Agg")
    names: dict[str, Any] = {"__name__": "page"}
    printed = ""
    for language, block in BLOCK.findall((DOCS / name).read_text()):
        if language == "python":
            assert printed == "", f"of {name} what is printed is not shown:\n{printed}"
            out = io.StringIO()
            with contextlib.redirect_stdout(out), warnings.catch_warnings():
                warnings.simplefilter("error")
                exec(compile(block, name, "exec"), names)
            printed = out.getvalue()
        elif language == "text":
            assert printed == block
            printed = ""
    assert printed == ""
    shown = set(re.findall(r"\((?:\.\./)?images/(.*?)\)", (DOCS / name).read_text()))
    assert {path.name for path in tmp_path.glob("*.png")} == shown
    assert all((DOCS / "images" / picture).stat().st_size < 150_000 for picture in shown)


def test_cython_is_from_the_example() -> None:
    """Which tests/test_examples.py builds and runs."""
    example = (ROOT / "examples" / "cimport" / "momentum_descent.pyx").read_text()
    found = [block for name in PAGES for block in BLOCK.findall((DOCS / name).read_text())]
    blocks = [block for language, block in found if language == "cython"]
    assert blocks
    for block in blocks:
        assert block in example


def test_every_block_is_of_a_kind_that_is_looked_at() -> None:
    """Besides Python, what it prints, Cython and terminal sessions: a few commands, whose names are looked up below."""
    for path in TEXTS:
        kinds = {language for language, _ in BLOCK.findall(path.read_text())}
        assert kinds <= {"python", "text", "cython", "console", "sh"}, path
        assert "console" not in kinds or path == DOCS / "cli.md"
        assert "python" not in kinds or DOCS in path.parents or path == ROOT / "README.md"


def test_blocks_are_found() -> None:
    """A page without any, and a fence that is not closed or that stands in a list, would pass the test above."""
    counts = {}
    for name in PAGES:
        page = (DOCS / name).read_text()
        counts[name] = len(BLOCK.findall(page))
        assert page.count("```") == 2 * counts[name], name
    assert counts["autodiff.md"] > 20
    assert counts["tutorial.md"] > 10
    assert min(counts[name] for name in PAGES if name.startswith("guides/")) > 5


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_in_docstrings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each prints what stands below it."""
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("Agg")
    module = importlib.import_module("fastgd" if name == "__init__" else f"fastgd.{name}")
    found = [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]
    assert sum(len(test.examples) for test in found) == inspect.getsource(module).count(">>> ")
    told = io.StringIO()
    runner = doctest.DocTestRunner(verbose=False)
    for test in found:
        runner.run(test, out=told.write)
    assert runner.summarize(verbose=False).failed == 0, told.getvalue()


def test_examples_are_found() -> None:
    assert {"__init__", "autodiff", "estimators", "fit", "io", "optim", "reference"} <= set(EXAMPLES)
    assert "plotting._loss_curve" in EXAMPLES


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_files(path: Path) -> None:
    """And pictures say what they show to who does not see them."""
    for words, target in re.findall(r"\[([^\]\n]*)\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text()):
        assert path.parent.joinpath(target).exists(), target
        assert words, target


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_are_there(path: Path) -> None:
    """What is written to be typed: targets of make, extras, scripts of the checkout."""
    text = path.read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE)) <= targets
    extras = set(re.findall(r"^([a-z]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    for names in re.findall(r"(?:fastgd|\.)\[([a-z,]+)\]'", text):
        assert set(names.split(",")) <= extras
    for script in re.findall(r"\b((?:bench|tools|tests|examples)/[a-z0-9_/]+\.py)\b", text):
        assert (ROOT / script).is_file(), script


def test_the_list_of_functions_is_that_of_the_code() -> None:
    """`python tools/supported.py > docs/supported-functions.md` writes it anew."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        runpy.run_path(str(DOCS.parent / "tools" / "supported.py"), run_name="__main__")
    assert (DOCS / "supported-functions.md").read_text() == out.getvalue()


def test_the_api_has_every_public_name() -> None:
    """A name has a directive, `::: fastgd.module.name`, under its own heading, and stands in the overview."""
    text = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    found = set(re.findall(r"^::: [\w.]+\.(\w+)$", text, re.MULTILINE))
    optional = {"GDRegressor", "SGDRegressor"}
    names = {*fastgd.__all__, *fastgd.errors.__all__, *optional} - {"__version__"}
    assert found >= names | set(fastgd.optim.__all__)
    assert set(re.findall(r"\w+", (DOCS / "api" / "index.md").read_text())) >= names


def test_the_api_has_the_whole_textbook() -> None:
    """Each function and class of fastgd.reference, once."""
    found = re.findall(r"^::: fastgd\.reference\.(\w+)$", (DOCS / "api" / "reference.md").read_text(), re.MULTILINE)
    defined = [
        name
        for name, value in vars(reference).items()
        if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__ == reference.__name__
    ]
    assert sorted(found) == sorted(name for name in defined if not name.startswith("_"))


def test_the_table_of_figures_is_the_readme_s() -> None:
    """`make bench ARGS=--readme` writes both from the saved results."""
    pages = [DOCS / "performance.md", DOCS.parent / "README.md"]
    of_docs, of_readme = (re.findall(r"^\| .*|^On .*", marked(page.read_text()), re.MULTILINE) for page in pages)
    assert of_docs == of_readme
    assert len(of_docs) > 10


def marked(text: str) -> str:
    """What stands between the marks of bench/readme.py."""
    return text.partition(readme.START)[2].partition(readme.END)[0]
