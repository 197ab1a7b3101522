"""The command `fastgd`, also as ``python -m fastgd``."""

from __future__ import annotations

import sys

__all__ = ["main"]

EXTRA = ("typer", "click", "rich")


def main() -> None:
    """Run the command with the arguments of this process; ends it with the command's exit status."""
    try:
        from fastgd.cli import app
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        print("fastgd: the command needs typer and rich: pip install 'fastgd[cli]'", file=sys.stderr)
        sys.exit(2)
    app(prog_name="fastgd")


if __name__ == "__main__":
    main()
