"""What goes wrong in the command `fastgd`, said in one line.

The status is 2 for whatever the user can mend, 130 for Ctrl-C, as shells have it, and 1 where the reader of stdout has
gone away. Usage is parsed by typer, whose messages take three lines and differ between its versions; here they are one
line with the nearest name and where to read on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import typer
from typer.core import TyperGroup

from fastgd._words import nearest, printable

__all__ = ["Commands", "number", "whole_number"]

NAME = "fastgd"
#: What typer raises for wrong usage: its own class or, in older versions, one of click's.
UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])
#: Letters of a message, at most: more than a path and a few names have.
MOST_LETTERS = 1000


class Commands(TyperGroup):
    """Commands that end with one line on stderr if something goes wrong."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the command that the argument `args` names, by default those of the process, and end the process."""
        given = arguments[0] if arguments else options.get("args")
        args = list(sys.argv[1:] if given is None else given)
        with one_line():
            try:
                with self.make_context(NAME, args[:]) as context:
                    self.invoke(context)
                    flush()
            except UsageError as error:
                if not args:
                    typer.echo(self.make_context(NAME, args, resilient_parsing=True).get_help(), err=True)
                    raise typer.Exit(2) from None
                raise ValueError(self.explained(error, args)) from None
        sys.exit(0)

    def explained(self, error: Any, args: Sequence[str]) -> str:
        """What is wrong with the usage, in the words of what was typed."""
        command, param = self.commands.get(args[0]), getattr(error, "param", None)
        told = f"see {NAME if command is None else f'{NAME} {args[0]}'} --help"
        if hasattr(error, "possibilities"):     # an option that there is not
            options = [option for param in (command or self).params for option in param.opts]
            return f"there is no option {error.option_name}; {nearest(error.option_name, [*options, '--help'], told)}"
        if command is None and not args[0].startswith("-"):
            return f"there is no command {args[0]!r}; {nearest(args[0], list(self.commands), told)}"
        if param is not None and type(error) is typer.BadParameter:     # of `number` and `whole_number`
            return f"{param.opts[-1]} {error.message}; {told}"
        message = error.format_message().rstrip(".")
        return f"{message[0].lower()}{message[1:]}; {told}"


@contextmanager
def one_line() -> Iterator[None]:
    """What goes wrong, in one line on stderr; ends the process then.

    A TypeError is none of the user's here, and shows where it comes from.
    """
    try:
        yield
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
    except BrokenPipeError:     # whoever read stdout has seen enough
        close_stdout()
        sys.exit(1)
    except (ValueError, ArithmeticError, OSError, ImportError, MemoryError) as error:
        say(message_of(error))
        close_stdout()
        sys.exit(2)


def message_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return f"not enough memory: {str(error) or 'choose fewer columns'}"
    return str(error)


def say(message: str) -> None:
    """Print a line on stderr."""
    if sys.stderr is not None:
        typer.echo(f"{NAME}: {printable(' '.join(message.split()), MOST_LETTERS)}", err=True)


def flush() -> None:
    """Find out now whether stdout takes what was printed."""
    if sys.stdout is not None:
        sys.stdout.flush()


def close_stdout() -> None:
    """Let what is still to be printed go nowhere, so that Python does not fail once more when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (AttributeError, ValueError):    # stdout was closed before
        pass


def number(text: str | float) -> float:
    """A number that an option gives."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"must be a number, got {text!r}") from None


def whole_number(text: str | int) -> int:
    """A whole number that an option gives."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"must be a whole number, got {text!r}") from None
