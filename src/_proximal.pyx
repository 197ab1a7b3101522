"""Accelerated proximal steps on a quadratic whose matrix is at hand (see fastgd/solvers/_lasso.py)."""

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport fmax, fmin, sqrt
from libc.string cimport memcpy, memset

cdef enum:
    PRODUCTS = 1 << 24          # multiplications between two looks at Ctrl-C

# How much the curvature of a step may exceed the one it was made for: rounding.
cdef double ROUNDING = 1 + 1e-9


cdef struct Quadratic:
    Py_ssize_t k
    const double *matrix
    const double *right_side
    const double *penalty
    double limit                # no less than the largest curvature


cdef struct Momentum:
    double *ahead               # the point that steps start from, and M times it
    double *ahead_image
    double *new
    double *new_image
    double t
    double lipschitz


def descend(const double[:, ::1] matrix, const double[::1] right_side, const double[::1] penalty, double[::1] u_out,
            double[::1] image_out, double[:, ::1] work, double lipschitz, Py_ssize_t steps):
    """Move u by so many accelerated proximal steps on u'Mu - 2 c'u + sum_j p_j |u_j|; returns the curvature in use.

    Parameters
    ----------
    matrix : memoryview of shape (k, k)
        M, symmetric.
    right_side, penalty : memoryview of shape (k,)
        c and p.
    u_out, image_out : memoryview of shape (k,)
        u and Mu, overwritten.
    work : memoryview of shape (4, k)
    lipschitz : float
        The curvature, 2 x'Mx / x'x, that the first step assumes; one that meets a larger one is taken back.
    steps : int
        Those that are taken back count.
    """
    cdef Quadratic quadratic
    cdef Momentum momentum
    cdef Py_ssize_t k = u_out.shape[0], j, _, done = 0, piece
    cdef bint moving = True
    if (k == 0 or matrix.shape[0] != k or matrix.shape[1] != k or right_side.shape[0] != k or penalty.shape[0] != k
            or image_out.shape[0] != k or work.shape[0] != 4 or work.shape[1] != k):
        raise ValueError("descend takes a square matrix, vectors of its size and four such of work")
    quadratic = Quadratic(k, &matrix[0, 0], &right_side[0], &penalty[0], 0.0)
    for j in range(k):
        quadratic.limit += 2 * matrix[j, j]
    momentum = Momentum(&work[0, 0], &work[1, 0], &work[2, 0], &work[3, 0], 1.0, lipschitz)
    restart(&momentum, &u_out[0], &image_out[0], k)
    while moving and done < steps:
        piece = min(steps - done, max(1, PRODUCTS // (k * k)))
        with nogil:
            for _ in range(piece):
                moving = moving and step(&quadratic, &momentum, &u_out[0], &image_out[0])
        done += piece
        PyErr_CheckSignals()
    return momentum.lipschitz


cdef inline void restart(Momentum *momentum, const double *u, const double *image, Py_ssize_t k) noexcept nogil:
    """Start from u again, without momentum."""
    momentum.t = 1.0
    memcpy(momentum.ahead, u, k * sizeof(double))
    memcpy(momentum.ahead_image, image, k * sizeof(double))


cdef inline double shrunk(double u, double by) noexcept nogil:
    """The proximal operator of by |u|."""
    return fmax(u - by, 0.0) - fmax(-u - by, 0.0)


cdef inline void multiply(const Quadratic *quadratic, const double *u, double *image_out) noexcept nogil:
    """Mu, of the rows of M, which are its columns, those whose u_j is not zero."""
    cdef Py_ssize_t k = quadratic.k, i, j
    cdef const double *row
    cdef double factor
    memset(image_out, 0, k * sizeof(double))
    for j in range(k):
        factor = u[j]
        if factor != 0.0:
            row = quadratic.matrix + j * k
            for i in range(k):
                image_out[i] += factor * row[i]


cdef bint step(const Quadratic *quadratic, Momentum *momentum, double *u, double *image) noexcept nogil:
    """A step from the point ahead, or the discovery that it was too long; 0 if nothing moves any more."""
    cdef Py_ssize_t k = quadratic.k, j
    cdef double lr = 1 / momentum.lipschitz, square = 0, curvature = 0, downhill = 0, before, share, moved
    for j in range(k):
        moved = momentum.ahead[j] - 2 * lr * (momentum.ahead_image[j] - quadratic.right_side[j])
        momentum.new[j] = shrunk(moved, lr * quadratic.penalty[j])
    multiply(quadratic, momentum.new, momentum.new_image)
    for j in range(k):
        moved = momentum.new[j] - momentum.ahead[j]
        square += moved * moved
        curvature += 2 * moved * (momentum.new_image[j] - momentum.ahead_image[j])
        downhill += moved * (momentum.new[j] - u[j])
    if curvature > momentum.lipschitz * ROUNDING * square and momentum.lipschitz < quadratic.limit:
        momentum.lipschitz = fmin(fmax(1.5 * momentum.lipschitz, curvature / square), quadratic.limit)
        restart(momentum, u, image, k)
        return True
    before = momentum.t
    momentum.t = (1 + sqrt(1 + 4 * before * before)) / 2
    if downhill < 0:
        before = momentum.t = 1.0
    share = (before - 1) / momentum.t
    for j in range(k):
        momentum.ahead[j] = momentum.new[j] + share * (momentum.new[j] - u[j])
        momentum.ahead_image[j] = momentum.new_image[j] + share * (momentum.new_image[j] - image[j])
    memcpy(u, momentum.new, k * sizeof(double))
    memcpy(image, momentum.new_image, k * sizeof(double))
    return square > 0
