"""A loss that users wrote, as a function of one vector: `minimize` calls it, and what it gives is looked at.

Parameters go in laid out as the start was, arrays and numbers in nested lists, tuples and dicts, as new float64 arrays
each time; what comes out is one float, and a gradient laid out likewise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fastgd import _validation as validate
from fastgd._trees import named_leaves, rebuild

__all__ = ["Function", "Parameters", "Point", "derived", "in_short", "length"]

#: What arithmetic outside NumPy raises where NumPy gives an infinity or NaN.
ARITHMETIC = (OverflowError, ZeroDivisionError, FloatingPointError)
FAILED = object()
#: Between these the squares of a vector's entries, and their sum, are in the range of float64.
SMALL, LARGE = 1e-140, 1e140
#: What the rounding of a loss may amount to, in units of its last place: that of sums of some thousand terms.
ROUNDINGS = 100.0


class Leaf(NamedTuple):
    """A place in the vector of parameters: its name, the shape and dtype users gave, and their type if a number."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    number: type | None


class Parameters:
    """The parameters as users see them, and as one vector of float64.

    A list or tuple that holds nothing but numbers, however nested, is an array, as for NumPy. Any other list or tuple,
    and a dict, is a structure whose leaves are arrays and numbers.

    Parameters
    ----------
    x0 : float, array_like, or nested list, tuple or dict of these

    Raises
    ------
    TypeError, ValueError
        If a leaf is no array of real numbers, is empty, or holds NaN or an infinity.
    """

    def __init__(self, x0: Any, name: str = "x0") -> None:
        named = [(name, x0)] if is_numbers(x0) else list(named_leaves(x0, name))
        if not named:
            raise ValueError(f"{name} must hold at least one number, got {x0!r}")
        self.tree = None if is_numbers(x0) else rebuild(x0, [None] * len(named))
        self.leaves: list[Leaf] = []
        pieces = []
        for path, leaf in named:
            array = validate.as_array(leaf, path)
            if not array.size:
                raise ValueError(f"{path} must hold at least one number, got shape {array.shape}")
            refuse_nonfinite(array, path)
            number = type(leaf) if np.isscalar(leaf) else None
            self.leaves.append(Leaf(path, array.shape, validate.kernel_dtype(array.dtype), number))
            pieces.append(array.astype(np.float64).ravel())
        self.start = np.concatenate(pieces)

    def shown(self, x: np.ndarray) -> Any:
        """The vector in the layout of the start, as new float64 arrays and floats."""
        if self.tree is None and self.leaves[0].number is None:
            return x.reshape(self.leaves[0].shape).copy()
        leaves, place = [], 0
        for leaf in self.leaves:
            size = math.prod(leaf.shape)
            piece = x[place : place + size]
            leaves.append(float(piece[0]) if leaf.number else piece.reshape(leaf.shape).copy())
            place += size
        return rebuild(self.tree, leaves)

    def returned(self, x: np.ndarray) -> Any:
        """The same in the dtypes of the start: float32 where that was, else float64."""
        leaves, place = [], 0
        for leaf in self.leaves:
            size = math.prod(leaf.shape)
            piece = x[place : place + size].astype(leaf.dtype).reshape(leaf.shape)
            scalar = leaf.number is not None and issubclass(leaf.number, np.generic)
            leaves.append(piece[()] if scalar else float(piece) if leaf.number else piece)
            place += size
        return rebuild(self.tree, leaves)

    def gathered(self, gradient: Any, name: str = "jac") -> np.ndarray:
        """A gradient in the layout of the start as one vector.

        Raises
        ------
        TypeError, ValueError
            If its layout, a shape or a dtype is another.
        """
        pieces = []
        given = leaves_like(self.tree, gradient, name)
        for leaf, (path, value) in zip(self.leaves, given, strict=True):
            array = validate.as_array(value, path)
            if array.shape != leaf.shape and not (leaf.number and array.size == 1):
                raise ValueError(
                    f"{path} must have shape {leaf.shape}, as {leaf.name} has, got {array.shape}: the gradient has an "
                    "entry for each parameter"
                )
            pieces.append(array.astype(np.float64, copy=False).ravel())
        return pieces[0].copy() if len(pieces) == 1 else np.concatenate(pieces)

    def where(self, place: int) -> str:
        """The name of an entry of the vector, as Python would write it after the name of the whole."""
        for leaf, (path, _) in zip(self.leaves, named_leaves(self.tree, ""), strict=True):
            size = math.prod(leaf.shape)
            if place < size:
                index = ", ".join(str(int(i)) for i in np.unravel_index(place, leaf.shape))
                return f"{path}[{index}]" if index else path
            place -= size
        raise IndexError(place)


def is_numbers(value: Any) -> bool:
    """Whether this is a list or tuple of nothing but numbers and such lists or tuples, with a number in it."""
    if not isinstance(value, (list, tuple)) or not value:
        return False
    return all(np.isscalar(entry) or is_numbers(entry) for entry in value)


def leaves_like(tree: Any, value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The named leaves of a value that must be laid out like a tree; a dict may have its keys in any order.

    Raises
    ------
    ValueError
        If it is not, with the place where they differ.
    """
    if not isinstance(tree, (dict, list, tuple)):
        yield name, value
        return
    is_dict = isinstance(tree, dict)
    if not isinstance(value, dict if is_dict else (list, tuple)):
        raise ValueError(f"{name} must be a {type(tree).__name__}, got {in_short(value)}")
    keys = list(tree) if is_dict else list(range(len(tree)))
    if set(value if is_dict else range(len(value))) != set(keys):
        wanted = f"have the keys {keys}" if is_dict else f"have length {len(keys)}"
        raise ValueError(f"{name} must {wanted}, got {list(value) if is_dict else len(value)}")
    for key in keys:
        yield from leaves_like(tree[key], value[key], f"{name}[{key!r}]")


def refuse_nonfinite(array: np.ndarray, name: str) -> None:
    """`validate.refuse_nonfinite`, also for a name that is no identifier, and a single number."""
    if array.ndim:
        validate.refuse_nonfinite(**{name: array})
    elif not np.isfinite(array):
        raise ValueError(f"{name} must be finite, got {array}")


def length(v: np.ndarray) -> float:
    """The Euclidean norm, also of a vector whose squares leave the range of float64."""
    largest = float(np.abs(v).max())
    if SMALL < largest < LARGE:
        return math.sqrt(v.dot(v))
    return largest * math.sqrt(np.square(v / largest).sum()) if 0 < largest < math.inf else largest


class Point:
    """A place, the loss there, and the gradient, which is asked for at its first use."""

    __slots__ = ("_finite", "_function", "_grad", "_norm", "loss", "x")

    def __init__(self, function: Function, x: np.ndarray, loss: float, grad: np.ndarray | None) -> None:
        self._function, self.x, self.loss, self._grad = function, x, loss, grad
        self._finite: bool | None = None
        self._norm: float | None = None

    @property
    def grad(self) -> np.ndarray:
        if self._grad is None:
            self._grad = self._function.gradient(self.x)
        return self._grad

    @property
    def norm(self) -> float:
        """The Euclidean length of the gradient."""
        if self._norm is None:
            self._norm = length(self.grad)
        return self._norm

    @property
    def is_finite(self) -> bool:
        """Whether the loss and all of the gradient are; the gradient where the loss is not is not asked for."""
        if self._finite is None:
            self._finite = math.isfinite(self.loss) and bool(np.isfinite(self.grad).all())
        return self._finite


class Function:
    """A loss and its gradient as functions of a vector, with a count of their calls.

    Parameters
    ----------
    f : callable or None
        ``f(x, *args)`` gives a number.
    jac : callable or None
        ``jac(x, *args)`` gives the gradient.
    both : callable or None
        ``both(x, *args)`` gives the two at once: may be None if `f` and `jac` are not, and makes them needless.
    args : tuple
    parameters : Parameters

    Attributes
    ----------
    nfev, njev : int
        Calls of the loss and of the gradient; one that gives both counts as both.
    eps : float
        The relative precision in which the loss comes: that of float32 if one such came, else of float64.
    failure : ArithmeticError or None
        The last that f raised, which counts as NaN.
    """

    def __init__(
        self,
        f: Callable[..., Any] | None,
        jac: Callable[..., Any] | None,
        both: Callable[..., Any] | None,
        args: tuple[Any, ...],
        parameters: Parameters,
    ) -> None:
        self.f, self.jac, self.both, self.args, self.parameters = f, jac, both, args, parameters
        self.nfev = self.njev = 0
        self.eps = float(np.finfo(np.float64).eps)
        self.failure: ArithmeticError | None = None

    def look(self, x: np.ndarray, *, with_grad: bool = False) -> Point:
        """The loss at x, and the gradient if it will be needed and comes cheaper with it."""
        self.nfev += 1
        if self.f is not None and not (with_grad and self.both is not None):
            value = self._call(self.f, x)
            return Point(self, x, math.nan if value is FAILED else self.number(value), None)
        assert self.both is not None
        self.njev += 1
        pair = self._call(self.both, x)
        if pair is FAILED:
            return Point(self, x, math.nan, np.full(len(x), math.nan))
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"with jac=True, f must return its value and its gradient, got {in_short(pair)}")
        return Point(self, x, self.number(pair[0]), self.parameters.gathered(pair[1], "f(x)[1]"))

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """The gradient where the loss alone is known."""
        assert self.jac is not None
        self.njev += 1
        gradient = self._call(self.jac, x)
        return np.full(len(x), math.nan) if gradient is FAILED else self.parameters.gathered(gradient, "jac(x)")

    def noise(self, loss: float) -> float:
        """What the rounding of a loss of this size may amount to."""
        return ROUNDINGS * self.eps * abs(loss)

    def _call(self, function: Callable[..., Any], x: np.ndarray) -> Any:
        """What the function returns, or FAILED: who asked sees what is not finite, and deals with it."""
        try:
            with np.errstate(all="ignore"):
                return function(self.parameters.shown(x), *self.args)
        except ARITHMETIC as error:
            self.failure = error
            return FAILED

    def number(self, value: Any) -> float:
        """What the loss returned, as a float."""
        if type(value) is float:
            return value
        array = None if value is None else np.asarray(value)
        if array is None or array.dtype.kind not in "buif":
            raise TypeError(f"f must return a real number, got {in_short(value)}")
        if array.size != 1:
            raise ValueError(f"f must return one number, got an array of shape {array.shape}")
        if array.dtype.kind == "f":
            self.eps = max(self.eps, float(np.finfo(array.dtype).eps))
        return float(array.reshape(()))


def derived(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function that gives f's value and gradient: from one trace of f for all calls, where f allows it.

    It does not where a branch depends on a value, or an argument cannot be hashed: then each call is traced anew.
    """
    from fastgd.autodiff import compile, value_and_grad  # noqa: A004  (in its module it is fastgd's)

    anew = value_and_grad(f)
    ways: list[Callable[..., Any]] = [compile(anew), anew]

    def both(*given: Any) -> Any:
        if len(ways) == 2:
            try:
                return ways[0](*given)
            except TypeError:       # of f itself it comes again
                del ways[0]
        return ways[0](*given)

    return both


def in_short(value: Any) -> str:
    """A value in a line of a message."""
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else f"{type(value).__name__} {text.split()[0][:50]} ..."
