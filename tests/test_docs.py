"""The documentation does what it shows: every block of Python runs, and what it prints stands below it."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import warnings
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = sorted(page.name for page in DOCS.glob("*.md"))


@pytest.mark.parametrize("name", PAGES)
def test_blocks_run_and_print_what_they_show(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page are one program; a block of text shows what the block of Python before it prints.

    The pictures of a page are those that its program draws.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
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
    shown = set(re.findall(r"\(images/(.*?)\)", (DOCS / name).read_text()))
    assert {path.name for path in tmp_path.glob("*.png")} == shown
    assert all((DOCS / "images" / picture).stat().st_size < 150_000 for picture in shown)


def test_blocks_are_found() -> None:
    """A page without any, and a fence that is not closed, would pass the test above."""
    page = (DOCS / "autodiff.md").read_text()
    assert page.count("```") == 2 * len(BLOCK.findall(page)) > 40


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files(name: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (DOCS / name).read_text()):
        assert (DOCS / target).exists(), target


def test_the_list_of_functions_is_that_of_the_code() -> None:
    """`python tools/supported.py > docs/supported-functions.md` writes it anew."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        runpy.run_path(str(DOCS.parent / "tools" / "supported.py"), run_name="__main__")
    assert (DOCS / "supported-functions.md").read_text() == out.getvalue()
