"""The methods, one file each, behind one interface: objective, options and monitor in, an `Outcome` out."""

from fastgd.solvers._chooser import SOLVERS, Choice, choose

__all__ = ["SOLVERS", "Choice", "choose"]
