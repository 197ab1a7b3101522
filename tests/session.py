"""Terminal sessions in Markdown: what stands after a `$` is run, and what follows must be what it prints.

Each block of ```console is run in one folder by bash, in which `fastgd` is the command of the Python that runs this.
Where bash has nothing to do but to start that, it is run in this process, which is quicker. A ``...`` in the output
stands for anything, as in doctest. To record a page anew, which loses these:

    python tests/session.py docs/cli.md
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from typer.testing import CliRunner

from fastgd.cli import app

BLOCK = re.compile(r"(?<=^```console\n)(.*?)(?=^```$)", re.DOTALL | re.MULTILINE)
SAME = doctest.ELLIPSIS
#: The command, with words that mean themselves.
PLAIN = re.compile(r"fastgd [\w\s./,=-]+")


def steps(block: str) -> Iterator[tuple[str, str]]:
    """Commands and what is said to follow each."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


class Shell:
    """Runs commands in a folder; knows the exit status of the last one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.status = folder, 0

    def run(self, command: str) -> str:
        """What it prints on stdout and stderr."""
        return self.run_here(command) if PLAIN.fullmatch(command) else self.run_by_bash(command)

    def run_here(self, command: str) -> str:
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            done = CliRunner().invoke(app, shlex.split(command)[1:])
        finally:
            os.chdir(before)
        self.status = done.exit_code
        return done.output

    def run_by_bash(self, command: str) -> str:
        prelude = f'fastgd() {{ "{sys.executable}" -m fastgd "$@"; }}\n(exit {self.status})\n'
        done = subprocess.run(
            ["bash", "-c", prelude + command],
            cwd=self.folder,
            env=os.environ | {"PYTHONIOENCODING": "utf-8", "COLUMNS": "100"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=120,
        )
        self.status = done.returncode
        return done.stdout


def differences(page: str, folder: Path) -> list[str]:
    """What the page says and what came instead, of each command where that is not the same."""
    shell, found = Shell(folder), []
    for block in BLOCK.findall(page):
        for command, expected in steps(block):
            came = shell.run(command)
            if not doctest.OutputChecker().check_output(expected, came, SAME):
                found.append(f"$ {command}\n{expected}---- but it printed\n{came}")
    return found


def recorded(page: str, folder: Path) -> str:
    """The page with what the commands print now."""
    shell = Shell(folder)

    def anew(block: re.Match[str]) -> str:
        return "".join(f"$ {command}\n{shell.run(command)}" for command, _ in steps(block[0]))

    return BLOCK.sub(anew, page)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        file = Path(sys.argv[1])
        file.write_text(recorded(file.read_text(encoding="utf-8"), Path(place)), encoding="utf-8")
