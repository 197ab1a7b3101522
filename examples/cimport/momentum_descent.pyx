"""Gradient descent with momentum on mean squared error, over fastgd's C functions.

heavy ball    v <- momentum v - lr grad L(w),    w <- w + v
Nesterov      w' <- z - lr grad L(z),            z <- w' + momentum (w' - w),    w <- w'

What comes in is checked once, buffers are allocated once, and then all steps run as C, without the GIL.
"""

import numpy as np

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport isfinite, sqrt

from fastgd._mse cimport mse_step_f64, mse_value_and_grad_f64, mse_work_size


cdef struct Problem:
    const double *X
    const double *y
    Py_ssize_t n
    Py_ssize_t d
    double *work        # mse_work_size(n, d) doubles


cdef enum:
    LOOK_EVERY = 1 << 24    # elements of X read between two looks at Ctrl-C


cdef inline double heavy_ball(
    const Problem *p, double *w, double *v, double *g, double lr, double momentum
) noexcept nogil:
    """One step; returns L at the old w."""
    cdef double loss = mse_value_and_grad_f64(p.X, p.y, NULL, w, g, p.work, p.n, p.d)
    cdef Py_ssize_t j
    for j in range(p.d):
        v[j] = momentum * v[j] - lr * g[j]
        w[j] += v[j]
    return loss


cdef inline double nesterov(const Problem *p, double *w, double *z, double lr, double momentum) noexcept nogil:
    """One step; returns L at the old z, where Nesterov's method takes its gradient."""
    cdef double loss = mse_step_f64(p.X, p.y, NULL, z, p.work, p.n, p.d, lr)
    cdef double stepped
    cdef Py_ssize_t j
    for j in range(p.d):
        stepped = z[j]
        z[j] += momentum * (stepped - w[j])
        w[j] = stepped
    return loss


cdef Py_ssize_t run(
    const Problem *p, double *w, double *v_or_z, double *g, double *losses_out, Py_ssize_t n_steps, bint look_ahead,
    double lr, double momentum
) except -1 nogil:
    """Take n_steps, or as many as have a finite loss; returns how many."""
    cdef Py_ssize_t k, read = 0
    for k in range(n_steps):
        if look_ahead:
            losses_out[k] = nesterov(p, w, v_or_z, lr, momentum)
        else:
            losses_out[k] = heavy_ball(p, w, v_or_z, g, lr, momentum)
        if not isfinite(losses_out[k]):
            return k
        read += p.n * p.d
        if read >= LOOK_EVERY:
            read = 0
            with gil:
                PyErr_CheckSignals()
    return n_steps


def descend(
    const double[:, ::1] X, const double[::1] y, *, double lr, double momentum=0.9, Py_ssize_t n_steps=1000,
    bint look_ahead=False
):
    """Minimise the mean squared error of Xw, from w = 0.

    Parameters
    ----------
    X : ndarray of float64 in C order, shape (n_samples, n_features)
    y : contiguous ndarray of float64, shape (n_samples,)
    lr : float
        At most 1/λmax to be safe, with λmax as `fastgd.MSE(X, y).lipschitz()` gives it.
    momentum : float, default 0.9
    n_steps : int, default 1000
    look_ahead : bool, default False
        Nesterov's method instead of the heavy ball.

    Returns
    -------
    w : ndarray of shape (n_features,)
    losses : ndarray of shape (n_steps + 1,)
        The loss where each step took its gradient, and at w.
    grad_norm : float
        Length of the gradient at w.
    """
    cdef Problem p
    cdef Py_ssize_t done, j
    cdef double square = 0.0
    p.n, p.d = X.shape[0], X.shape[1]
    # fastgd's C functions check nothing: what they rely on is made sure of here.
    if p.n < 1 or p.d < 1 or y.shape[0] != p.n:
        raise ValueError(f"X must have rows and columns and y an entry for each row, got {p.n} x {p.d} and {len(y)}")
    if not (lr > 0.0 and isfinite(lr) and 0.0 <= momentum < 1.0 and n_steps >= 1):
        raise ValueError(f"lr must be above 0, momentum in [0, 1), n_steps at least 1; got {lr}, {momentum}, {n_steps}")
    cdef double[::1] w = np.zeros(p.d), v_or_z = np.zeros(p.d), g = np.empty(p.d), losses = np.empty(n_steps + 1)
    cdef double[::1] work = np.empty(mse_work_size(p.n, p.d))
    p.X, p.y, p.work = &X[0, 0], &y[0], &work[0]
    with nogil:
        done = run(&p, &w[0], &v_or_z[0], &g[0], &losses[0], n_steps, look_ahead, lr, momentum)
        losses[done] = mse_value_and_grad_f64(p.X, p.y, NULL, &w[0], &g[0], p.work, p.n, p.d)
    if done < n_steps or not isfinite(losses[done]):
        raise ArithmeticError(f"the loss is not finite after {done} steps: bad data, or lr={lr:g} is too large")
    for j in range(p.d):
        square += g[j] * g[j]
    return np.asarray(w), np.asarray(losses), sqrt(square)
