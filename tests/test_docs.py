"""The documentation does what it shows: every block of Python runs, and what it prints stands below it."""

from __future__ import annotations

import contextlib
import io
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

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Of more than twenty open pictures matplotlib warns."""
    yield
    plt.close("all")


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


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files(name: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (DOCS / name).read_text()):
        assert (DOCS / name).parent.joinpath(target).exists(), target


def test_the_list_of_functions_is_that_of_the_code() -> None:
    """`python tools/supported.py > docs/supported-functions.md` writes it anew."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        runpy.run_path(str(DOCS.parent / "tools" / "supported.py"), run_name="__main__")
    assert (DOCS / "supported-functions.md").read_text() == out.getvalue()


def test_the_api_has_every_public_name() -> None:
    """A name is documented by a directive, `::: fastgd.module.name`, under its own heading."""
    text = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    found = set(re.findall(r"^::: [\w.]+\.(\w+)$", text, re.MULTILINE))
    optional = {"GDRegressor", "SGDRegressor"}
    names = {*fastgd.__all__, *fastgd.optim.__all__, *fastgd.errors.__all__, *optional} - {"__version__"}
    assert found >= names


def test_the_table_of_figures_is_the_readme_s() -> None:
    """`make bench ARGS=--readme` writes both from the saved results."""
    pages = [DOCS / "performance.md", DOCS.parent / "README.md"]
    of_docs, of_readme = (re.findall(r"^\| .*|^On .*", marked(page.read_text()), re.MULTILINE) for page in pages)
    assert of_docs == of_readme
    assert len(of_docs) > 10


def marked(text: str) -> str:
    """What stands between the marks of bench/readme.py."""
    return text.partition(readme.START)[2].partition(readme.END)[0]
