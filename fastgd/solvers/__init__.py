"""The methods, one file each, behind one interface: an objective and options in, an `Outcome` out."""

from fastgd.solvers._chooser import SOLVERS, choose

__all__ = ["SOLVERS", "choose"]
