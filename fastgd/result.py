"""What a fit returns."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from fastgd import _sparse
from fastgd import _validation as validate
from fastgd._blocks import sparse_blocks
from fastgd._csr import CSR
from fastgd._files import AnyPath
from fastgd._path import DescentPath
from fastgd._summary import Summarised, figures, named_figures

if TYPE_CHECKING:
    from fastgd.plotting import FitDisplay

__all__ = ["FitResult"]

PREDICT_BYTES = 1 << 22


def same(a: Any, b: Any) -> bool:
    """Equality of field values, arrays entry by entry."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (np.ndarray, float)):
        return np.array_equal(a, b, equal_nan=True)
    if isinstance(a, DescentPath):
        return isinstance(b, DescentPath) and same(vars(a), vars(b))
    return bool(a == b)


@dataclass(frozen=True, eq=False, repr=False)
class FitResult(Summarised):
    """A fitted linear model, how it was found, and how near the optimum it is.

    Attributes
    ----------
    coef : ndarray of shape (n_features,) or (n_features, n_targets)
        In units of y per unit of the column; float32 if X was, else float64.
    intercept : float or ndarray of shape (n_targets,)
        In units of y; 0.0 if none was fitted.
    loss : float
        F = sum_i s_i r_i^2 / sum_i s_i + l1 |coef|_1 + l2 |coef|^2, in units of y squared. Of several targets, the sum.
    n_iter : int
        Iterations; `fit` says at `max_iter` what one is.
    n_passes : int
        Times X was read.
    converged : bool
        Whether the optimality met `tol`, or the gradient the level of its rounding.
    stop_reason : str
        Why it ended, in words.
    solver : str
        The one that was taken.
    choice : str
        Why this solver: the figures that "auto" went by. `explain` puts all of it in words.
    lr : float or None
        The step size used, see `fit`; None for solvers that have none, and where several targets had different ones.
    optimality : float
        Scale-free gradient of F: the root mean square cosine between residual and (centred) columns, or the relative
        residual if that is smaller; at the optimum 0. See `fastgd.solvers._certificate`.
    gap_bound : float
        Upper bound of F(w) - F*, in units of y squared; NaN where neither a strong-convexity constant nor a dual point
        is at hand.
    history : dict of ndarray
        ``iteration``, ``loss`` (F), ``grad_norm`` (Euclidean, in the user's units) and ``seconds``; entry k after k
        iterations, so entry 0 is the start. With a validation set also ``val_loss``. Of several targets, ``loss`` and
        ``val_loss`` are sums in which a target that has ended keeps its last value.
    feature_names : tuple of str or None
        The names of the columns, if X was a frame or a table whose names are all strings; `predict` then takes frames
        with these columns alone, in this order.
    categories : dict of tuple of str, or None
        Where columns of X stand for the values of a text column: its name, and its values in the order of the columns.
    options : dict
        What `fit` was asked for: every argument that is a number, a flag or a word.
    path : DescentPath or None
        With `keep_path=True`, the parameters of each iterate and what is needed to draw the loss about them.

    Notes
    -----
    Of several targets, `n_iter` and `optimality` are the largest, `n_passes` and `gap_bound` sums, and `converged` says
    whether all have.
    """

    coef: np.ndarray
    intercept: float | np.ndarray
    loss: float
    n_iter: int
    n_passes: int
    converged: bool
    stop_reason: str
    solver: str
    choice: str
    lr: float | None
    optimality: float
    gap_bound: float
    history: dict[str, np.ndarray]
    feature_names: tuple[str, ...] | None = field(default=None, kw_only=True)
    categories: dict[str, tuple[str, ...]] | None = field(default=None, kw_only=True)
    options: dict[str, Any] = field(default_factory=dict, kw_only=True)
    path: DescentPath | None = field(default=None, kw_only=True)

    def __eq__(self, other: object) -> bool:
        """Whether every field is the same; NaN is the same as NaN."""
        if not isinstance(other, FitResult):
            return NotImplemented
        return all(same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    __hash__ = None  # type: ignore[assignment]

    def _summary(self) -> tuple[str, list[tuple[str, str]]]:
        """A title, and names and values to be shown."""
        names = self.feature_names
        rows = [
            ("coef", figures(self.coef) if names is None else named_figures(names, self.coef)),
            ("intercept", figures(self.intercept)),
            ("loss", figures(self.loss) + gap_in_words(self.gap_bound)),
            ("optimality", f"{self.optimality:.2g}"),
            ("iterations", f"{self.n_iter:,}" + ("" if self.lr is None else f" of lr={self.lr:.6g}")),
            ("passes over X", f"{self.n_passes:,}"),
            ("ended", self.stop_reason),
        ]
        return f"FitResult: {self.solver}, {'converged' if self.converged else 'not converged'}", rows

    def plot(
        self,
        ax: Any = None,
        *,
        parameters: tuple[int | str, int | str] | None = None,
        feature_names: Any = None,
        y_unit: str | None = None,
    ) -> FitDisplay:
        """Draw the loss curve, and of a fit with `keep_path=True` the path over the loss of two parameters beside it.

        Parameters
        ----------
        ax : matplotlib Axes or two of them, optional
            One for each picture; by default a new figure.
        parameters : pair of {int, str}, optional
            Columns by number or name, or "intercept", to draw the path of; by default the two that there are. Without
            a name for two of more, only the loss is drawn.
        feature_names : sequence of str, optional
            The names of the columns, by default those that the fit knows.
        y_unit : str, optional
            The unit of y, such as "min": losses are in its square.

        Returns
        -------
        FitDisplay
            With `figure_`, `axes_`, and the displays `loss_curve` and `path`.

        Raises
        ------
        ImportError
            If matplotlib is not installed, the extra ``plot``.
        TypeError, ValueError
            If there are no such parameters, the fit has kept no path, or the axes are fewer or more than the pictures.
        """
        from fastgd.plotting import FitDisplay

        return FitDisplay.from_result(
            self, parameters=parameters, feature_names=feature_names, y_unit=y_unit, ax=ax
        )

    def explain(self) -> str:
        """Why this solver was taken, how the fit ended, and how near the optimum it is.

        Returns
        -------
        str
            Three lines.
        """
        gap = "no bound on the gap is known"
        if np.isfinite(self.gap_bound):
            gap = f"at most {self.gap_bound:.3g} above the optimum"
        lr = "" if self.lr is None else f" of lr={self.lr:.6g}"
        passes, seconds = counted(self.n_passes, "pass"), self.history["seconds"][-1]
        state = "converged" if self.converged else "not converged"
        return "\n".join(
            [
                f"{self.solver}: {self.choice}",
                f"{counted(self.n_iter, 'iteration')}{lr}, {passes} over X, {seconds:.3g} s: {self.stop_reason}",
                f"{state}: loss {self.loss:.6g}, {gap}, optimality {self.optimality:.3g}",
            ]
        )

    def predict(self, X: Any) -> np.ndarray:
        """Predictions X coef + intercept.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            Dense or sparse, or a frame with the columns of the fit.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_targets)
            In units of y; in the dtype of `coef`, or float64 if X is.

        Raises
        ------
        TypeError, ValueError
            If X has the wrong dtype or number of columns, columns of other names, or holds NaN or an infinity.
        """
        validate.refuse_other_names(X, self.feature_names)
        X = validate.as_matrix(X, n_features=len(self.coef))
        dtype = np.result_type(validate.kernel_dtype(X.dtype), self.coef.dtype)
        predict = predict_sparse if isinstance(X, CSR) else predict_dense
        with np.errstate(over="ignore", invalid="ignore"):  # looked at below
            out = predict(X, self.coef, self.intercept, dtype)
        if not np.isfinite(out).all():
            validate.refuse_nonfinite(X=X)
        return out

    def save(self, path: AnyPath) -> None:
        """Write it to a file, for `fastgd.load`: safetensors, with all that this result holds, to the bit.

        The file is written beside, synced to the disk and renamed: a process that is killed at any moment, and a reader
        at any moment, finds the old file or the new one. A link is followed.

        Parameters
        ----------
        path : str or path-like
            By convention ``NAME.safetensors``.

        Raises
        ------
        ImportError
            If safetensors is not installed, the extra ``io``.
        OSError
            If it cannot be written; what was there is there still.
        """
        from fastgd import io  # which knows of results

        io.save(self, path)

    def to_onnx(self, path: AnyPath) -> None:
        """Write the predictions as an ONNX graph, for other programs and languages: y = X coef + intercept.

        The graph has an input ``X`` of shape (n_samples, n_features) and an output ``y`` as of `predict`, both in the
        dtype of `coef`; names of columns, if known, stand in its metadata as JSON under ``feature_names``. It is
        checked by ``onnx.checker`` and written as `save` does.

        Parameters
        ----------
        path : str or path-like
            By convention ``NAME.onnx``.

        Raises
        ------
        ImportError
            If onnx is not installed, the extra of the same name.
        OSError
            If it cannot be written; what was there is there still.
        """
        from fastgd import io

        io.save_onnx(self, path)


def gap_in_words(gap_bound: float) -> str:
    """What is known of how far the loss is above the optimum, to be said after it."""
    return f", at most {gap_bound:.2g} above the optimum" if np.isfinite(gap_bound) else ""


def counted(number: int, noun: str) -> str:
    """So many of them."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def predict_dense(X: np.ndarray, coef: np.ndarray, intercept: float | np.ndarray, dtype: np.dtype) -> np.ndarray:
    """X coef + intercept in this dtype, which X is converted to piece by piece."""
    out = np.empty((len(X), *coef.shape[1:]), dtype)
    rows = max(1, PREDICT_BYTES // (X.shape[1] * dtype.itemsize))
    coef = coef.astype(dtype, copy=False)
    for start in range(0, len(X), rows):
        part = slice(start, start + rows)
        np.matmul(X[part].astype(dtype, copy=False), coef, out=out[part])
    out += np.asarray(intercept, dtype)
    return out


def predict_sparse(X: CSR, coef: np.ndarray, intercept: float | np.ndarray, dtype: np.dtype) -> np.ndarray:
    """X coef + intercept, summed in double, in this dtype."""
    if coef.ndim == 2:
        columns = zip(coef.T, np.broadcast_to(intercept, coef.shape[1:]), strict=True)
        return np.column_stack([predict_sparse(X, column, float(b), dtype) for column, b in columns])
    out = np.empty(len(X), dtype)
    w = coef.astype(np.float64)
    start = 0
    for block in sparse_blocks(X, None, None):
        for rows in block.pieces():
            part = np.empty(len(rows))
            _sparse.predict(rows, w, float(intercept), part)
            out[start : start + len(rows)] = part
            start += len(rows)
    return out


def side_by_side(results: list[FitResult]) -> FitResult:
    """The fits of several targets as one."""
    longest = max((r.history for r in results), key=lambda history: len(history["loss"]))
    history = dict(longest)
    for name in {"loss", "val_loss"} & history.keys():
        history[name] = np.sum([kept_on(r.history[name], len(longest[name])) for r in results], axis=0)
    norms = [kept_on(r.history["grad_norm"], len(longest["loss"])) for r in results]
    history["grad_norm"] = np.sqrt(np.sum(np.square(norms), axis=0))
    return FitResult(
        coef=np.column_stack([r.coef for r in results]),
        intercept=np.array([r.intercept for r in results]),
        loss=sum(r.loss for r in results),
        n_iter=max(r.n_iter for r in results),
        n_passes=sum(r.n_passes for r in results),
        converged=all(r.converged for r in results),
        stop_reason="; ".join(dict.fromkeys(r.stop_reason for r in results)),
        solver=results[0].solver,
        choice=results[0].choice,
        lr=results[0].lr if len({r.lr for r in results}) == 1 else None,
        optimality=max(r.optimality for r in results),
        gap_bound=sum(r.gap_bound for r in results),
        history=history,
        feature_names=results[0].feature_names,
        categories=results[0].categories,
        options=results[0].options,
    )


def kept_on(values: np.ndarray, length: int) -> np.ndarray:
    """As many values as that, the last one again and again."""
    return np.append(values, np.full(length - len(values), values[-1]))
