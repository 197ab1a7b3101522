"""The exact fit of a short block of few columns in one call: what `fastgd.solvers.moments` does, where all is regular.

Python's own time is most of what a fit of a thousand rows takes. The formulas are those of `NormalEquations` and
`Geometry`, which are the reference and take over wherever R is nearly singular, a column is constant, or a number is
not finite.
"""

cimport numpy as cnp
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.float cimport DBL_EPSILON, FLT_EPSILON, FLT_MAX
from libc.math cimport INFINITY, fabs, hypot, isfinite, sqrt
from libc.string cimport memcpy, memset

from fastgd._rows cimport RowBlock
from fastgd._types cimport MSEKernels, Rows, mse_fn

cnp.import_array()

cdef enum:
    ITERATES = 8        # at most, the start included
    FIGURES = 5         # of each that are returned

cdef MSEKernels *kernels


def use(table):
    """Run on this table of kernels from now on (see `fastgd._kernels`)."""
    global kernels
    kernels = <MSEKernels *> PyCapsule_GetPointer(table, "fastgd.MSEKernels")


cdef struct Limits:
    # The constants of `fastgd.solvers.moments` and `_certificate` of these names.
    double constant
    double far
    double settled
    double moved        # relative length of a step that changes predictions
    double least        # pivot of which the inverse is to be trusted
    double excess
    double hidden       # by rounding, of the residual; above, passes are made in double, elsewhere
    int refinements


cdef struct Problem:
    # Moments about the shift and what follows from them, with the names of `Geometry` and `NormalEquations`.
    Py_ssize_t d
    Py_ssize_t n
    bint is_float
    bint fit_intercept
    double l2
    double weight
    const double *shift
    const double *gram
    double *means
    double *lengths
    double *scale
    double *raw_lengths
    double *counted
    double *lower       # the factor, (d, d)
    double *scratch     # 2 d + 4
    double y_mean
    double raw_y_length
    double y_counted


cdef struct Point:
    # Parameters, F and its gradient there, and what `Geometry.measure` and `NormalEquations.correction` make of them.
    double *w
    double *grad
    double *step        # to a better one, of the coefficients
    double offset       # of the intercept
    double loss
    double optimality
    double noise
    double cosine
    double gain


cdef double dot(const double *a, const double *b, Py_ssize_t size) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t j
    for j in range(size):
        total += a[j] * b[j]
    return total


cdef double weighted_length(const double *a, const double *b, Py_ssize_t size) noexcept nogil:
    """|a o b|."""
    cdef double total = 0, term
    cdef Py_ssize_t j
    for j in range(size):
        term = a[j] * b[j]
        total += term * term
    return sqrt(total)


cdef bint measure_columns(Problem *p, const Limits *limits) noexcept nogil:
    """Fill in means and lengths; False where a column of X has no length."""
    cdef Py_ssize_t d = p.d, order = d + 2, j
    cdef const double *sums = p.gram + (d + 1) * order
    cdef double offset, mean, centred, raw, deviation, reach
    p.weight = sums[d + 1]
    for j in range(d + 1):
        offset = sums[j] / p.weight
        mean = p.shift[j] + offset
        centred = max(p.gram[j * order + j] - sums[j] * offset, 0.0)
        raw = mean * mean * p.weight + centred
        if centred <= limits.constant * raw:
            centred = 0
        deviation, reach = sqrt(centred), sqrt(raw)
        p.raw_lengths[j] = reach
        p.lengths[j] = deviation if p.fit_intercept else reach
        p.counted[j] = deviation if p.fit_intercept else min(reach, limits.far * deviation)
        p.means[j] = mean if p.fit_intercept else 0.0
        if j < d:
            if not p.lengths[j] > 0:
                return False
            p.scale[j] = 1 / p.lengths[j]
    p.y_mean, p.raw_y_length, p.y_counted = p.means[d], p.raw_lengths[d], p.counted[d]
    return True


cdef double centred_product(const Problem *p, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    """Of two columns, about their means if there is an intercept, else about zero."""
    cdef Py_ssize_t order = p.d + 2
    cdef const double *sums = p.gram + (p.d + 1) * order
    if p.fit_intercept:
        return p.gram[i * order + j] - sums[i] * (sums[j] / p.weight)
    return (
        p.gram[i * order + j] + p.shift[i] * sums[j] + sums[i] * p.shift[j] + p.weight * (p.shift[i] * p.shift[j])
    )


cdef bint factor(Problem *p, double least) noexcept nogil:
    """R = L L' of the scaled columns, row by row; False at a pivot that is not above `least`.

    Golub and Van Loan, Matrix Computations, 4th ed., section 4.2.9, in the order of Cholesky and Banachiewicz.
    """
    cdef Py_ssize_t d = p.d, i, j
    cdef double *row
    cdef double entry
    for i in range(d):
        row = p.lower + i * d
        for j in range(i + 1):
            entry = p.scale[i] * p.scale[j] * centred_product(p, i, j)
            if i == j:
                entry += p.weight * p.l2 * p.scale[i] * p.scale[i]
            entry -= dot(row, p.lower + j * d, j)
            if i > j:
                row[j] = entry / p.lower[j * d + j]
            elif entry > least:
                row[i] = sqrt(entry)
            else:
                return False
    return True


cdef void solve_factored(const Problem *p, double *x) noexcept nogil:
    """Overwrite x with R^-1 x, as `_moments.solve_cholesky` does."""
    cdef Py_ssize_t d = p.d, i, j
    cdef const double *row
    for i in range(d):
        row = p.lower + i * d
        x[i] = (x[i] - dot(row, x, i)) / row[i]
    for i in range(d - 1, -1, -1):
        row = p.lower + i * d
        x[i] /= row[i]
        for j in range(i):
            x[j] -= x[i] * row[j]


cdef void solve_centred(const Problem *p, double *coef_out) noexcept nogil:
    """The solution of the normal equations, in the units of X and y."""
    cdef Py_ssize_t d = p.d, j
    for j in range(d):
        coef_out[j] = p.scale[j] * centred_product(p, d, j)
    solve_factored(p, coef_out)
    for j in range(d):
        coef_out[j] *= p.scale[j]


cdef void set_parameters(const Problem *p, double offset, double *w) noexcept nogil:
    """Round the coefficients to what X's type holds, and take the best intercept for them, but for an offset."""
    cdef Py_ssize_t d = p.d, j
    if p.is_float:
        for j in range(d):
            w[j] = <double> <float> w[j]
    if p.fit_intercept:
        w[d] = p.y_mean - dot(p.means, w, d) + offset


cdef void by_moments(const Problem *p, Point *at) noexcept nogil:
    """F and its gradient without a pass: `loss_and_grad` of `fastgd.solvers.moments`."""
    cdef Py_ssize_t d = p.d, order = d + 2, j
    cdef double *v = p.scratch
    cdef double *image = p.scratch + order
    for j in range(d):
        v[j] = at.w[j]
    v[d] = -1
    v[d + 1] = dot(p.shift, at.w, d) - p.shift[d] + (at.w[d] if p.fit_intercept else 0.0)
    for j in range(order):
        image[j] = dot(p.gram + j * order, v, order)
    for j in range(d):
        at.grad[j] = 2 / p.weight * (image[j] + p.shift[j] * image[d + 1]) + 2 * p.l2 * at.w[j]
    if p.fit_intercept:
        at.grad[d] = 2 / p.weight * image[d + 1]
    at.loss = dot(v, image, order) / p.weight + p.l2 * dot(at.w, at.w, d)


cdef bint by_pass(const Problem *p, const Rows *rows, Point *at, double *sums) noexcept nogil:
    """F and its gradient by a pass, with room for its scratch behind the d + 2 sums; False where they overflow."""
    cdef Py_ssize_t d = p.d, j
    cdef mse_fn kernel = kernels.sums_f32 if p.is_float else kernels.sums_f64
    cdef double limit = FLT_MAX if p.is_float else INFINITY
    cdef bint fine
    memset(sums, 0, (d + 2) * sizeof(double))
    kernel(rows, at.w, at.w[d] if p.fit_intercept else 0.0, sums, sums + d + 2)
    at.loss = sums[0] / p.weight + p.l2 * dot(at.w, at.w, d)
    fine = isfinite(at.loss)
    for j in range(d):
        at.grad[j] = 2 / p.weight * sums[j + 2] + 2 * p.l2 * at.w[j]
        fine &= fabs(at.grad[j]) < limit
    if p.fit_intercept:
        at.grad[d] = 2 / p.weight * sums[1]
        fine &= fabs(at.grad[d]) < limit
    return fine


cdef double correct(const Problem *p, Point *at) noexcept nogil:
    """`NormalEquations.correction`; returns the length of the gradient in scaled columns, times S / 2."""
    cdef Py_ssize_t d = p.d, j
    cdef double intercept = at.grad[d] if p.fit_intercept else 0.0
    cdef double *scaled = p.scratch
    for j in range(d):
        scaled[j] = at.step[j] = (at.grad[j] - p.means[j] * intercept) * p.scale[j] * (p.weight / 2)
    solve_factored(p, at.step)
    at.gain = dot(scaled, at.step, d) / p.weight + intercept * intercept / 4
    at.offset = -intercept / 2
    for j in range(d):
        at.step[j] *= -p.scale[j]
    return sqrt(dot(scaled, scaled, d))


cdef bint is_rough(const Problem *p, const Point *at, double hidden) noexcept nogil:
    """`Geometry.is_rough`."""
    cdef double reach = weighted_length(p.raw_lengths, at.w, p.d) + p.raw_y_length
    return p.is_float and FLT_EPSILON * reach > hidden * sqrt(p.n * max(at.loss, 0.0) * p.weight)


cdef void measure(const Problem *p, Point *at, double length, double excess) noexcept nogil:
    """`Geometry.measure` and `Geometry.cosine`, given the length that `correct` returns and `excess`."""
    cdef Py_ssize_t d = p.d
    cdef double eps = FLT_EPSILON if p.is_float else DBL_EPSILON
    cdef double residual = sqrt(max(at.loss - p.l2 * dot(at.w, at.w, d), 0.0) * p.weight)
    cdef double reach = weighted_length(p.raw_lengths, at.w, d) + p.raw_y_length, total, spread
    at.cosine = length / sqrt(d) / residual if residual > 0 else 0.0
    if p.l2 == 0 and residual <= 4 * eps * reach:
        at.optimality = at.noise = 0
        return
    total = hypot(length, at.offset * sqrt(p.weight))
    at.noise = min(eps * reach, excess * sqrt(at.loss * p.weight)) / residual if residual > 0 else INFINITY
    if residual > 0:
        at.optimality = total / sqrt(d + p.fit_intercept) / residual
    else:
        at.optimality = INFINITY if total > 0 else 0.0
    if p.l2 == 0:
        spread = sqrt(d) * weighted_length(p.counted, at.w, d) + p.y_counted
        if spread > 0:
            at.optimality = min(at.optimality, residual / spread)


cdef bint ended(const Problem *p, const Point *at, const Limits *limits) noexcept nogil:
    """Whether a correction has nothing to gain, or changes no prediction: `is_settled` and `moved_by`."""
    if not (at.noise > 0 and at.gain > limits.settled * at.loss) and at.cosine <= 8 * at.noise / sqrt(p.n):
        return True
    return not weighted_length(p.lengths, at.step, p.d) > limits.moved * weighted_length(p.lengths, at.w, p.d)


cdef void record(const Problem *p, Point *at, double *w_out, double *figures_out) noexcept nogil:
    """The parameters, and what `solve` returns of them."""
    cdef Py_ssize_t size = p.d + p.fit_intercept
    memcpy(w_out, at.w, size * sizeof(double))
    figures_out[0] = at.loss
    figures_out[1] = sqrt(dot(at.grad, at.grad, size))
    figures_out[2] = at.optimality
    figures_out[3] = at.noise
    figures_out[4] = at.gain + 4 * DBL_EPSILON * at.loss


cdef int descend(
    Problem *p, const Rows *rows, const Limits *limits, Point *at, double *sums, double *w_out, double *figures_out
) noexcept nogil:
    """Start at w, solve and refine; record the iterates and return how many; 0 where all is not regular."""
    cdef Py_ssize_t d = p.d, size = d + p.fit_intercept, j
    cdef double offset = 0, loss
    cdef int count = 1
    if not measure_columns(p, limits) or not factor(p, limits.least):
        return 0
    by_moments(p, at)
    measure(p, at, correct(p, at), limits.excess)
    record(p, at, w_out, figures_out)
    solve_centred(p, at.w)
    while True:
        set_parameters(p, offset, at.w)
        if not by_pass(p, rows, at, sums) or is_rough(p, at, limits.hidden):
            return 0
        measure(p, at, correct(p, at), limits.excess)
        record(p, at, w_out + count * size, figures_out + count * FIGURES)
        count += 1
        if count > limits.refinements + 1 or ended(p, at, limits):
            break
        for j in range(d):
            at.w[j] += at.step[j]
        offset += at.offset
    if p.is_float:  # the moments know the gradient to more digits than a pass
        loss = at.loss
        by_moments(p, at)
        correct(p, at)
        figures_out[count * FIGURES - 1] = at.gain + 4 * DBL_EPSILON * loss
    return count


cdef inline Py_ssize_t doubles_needed(const Rows *rows) noexcept:
    return (rows.d + 12 + ITERATES) * (rows.d + 2) + kernels.scratch_reals(rows)


cdef double *hand_out(Problem *p, Point *at, double *memory) noexcept:
    """Room for vectors and the factor, of `doubles_needed`; returns where the rest begins."""
    cdef Py_ssize_t most = p.d + 2
    p.lower = memory
    p.means = p.lower + p.d * most
    p.lengths = p.means + most
    p.scale = p.lengths + most
    p.raw_lengths = p.scale + most
    p.counted = p.raw_lengths + most
    p.scratch = p.counted + most
    at.w = p.scratch + 2 * most
    at.grad = at.w + most
    at.step = at.grad + most
    return at.step + most


cdef cnp.ndarray copied(const double *values, Py_ssize_t rows, Py_ssize_t columns):
    cdef cnp.npy_intp[2] shape
    shape[0], shape[1] = rows, columns
    cdef cnp.ndarray array = cnp.PyArray_EMPTY(2, shape, cnp.NPY_DOUBLE, 0)
    memcpy(cnp.PyArray_DATA(array), values, rows * columns * sizeof(double))
    return array


def solve(
    RowBlock block not None, const double[::1] shift, const double[:, ::1] gram, const double[::1] w0,
    bint fit_intercept, double l2, limits
):
    """(parameters, figures) of the start and the iterates of an exact fit, a row each; None where all is not regular.

    The figures are F, the length of its gradient, the optimality, its noise, and a bound on F less its minimum.

    Parameters
    ----------
    block : RowBlock
        All rows, weighted or not.
    shift, gram : ndarray
        Of their moments, exact to double's rounding.
    w0 : ndarray
        The start.
    fit_intercept : bool
    l2 : float
    limits : tuple
        Of eight numbers: see `Limits`.
    """
    cdef Py_ssize_t d = block.rows.d, size = d + fit_intercept
    cdef Problem p
    cdef Limits given
    cdef Point at
    cdef double figures[ITERATES * FIGURES]
    cdef double *memory
    cdef double *iterates
    cdef int count
    if shift.shape[0] != d + 1 or gram.shape[0] != d + 2 or gram.shape[1] != d + 2 or w0.shape[0] != size:
        raise ValueError(f"a block of {d} columns takes a shift of one entry more, moments of two, {size} parameters")
    given.constant, given.far, given.settled, given.moved = limits[:4]
    given.least, given.excess, given.hidden, given.refinements = limits[4:]
    if not 0 <= given.refinements <= ITERATES - 2:
        raise ValueError(f"refinements are at most {ITERATES - 2}, got {given.refinements}")
    p.d, p.n, p.is_float, p.fit_intercept, p.l2 = d, block.rows.n, block.is_float, fit_intercept, l2
    p.shift, p.gram = &shift[0], &gram[0, 0]
    memory = <double *> PyMem_RawMalloc(doubles_needed(&block.rows) * sizeof(double))
    if memory == NULL:
        raise MemoryError()
    try:
        iterates = hand_out(&p, &at, memory)
        memcpy(at.w, &w0[0], size * sizeof(double))
        with nogil:
            count = descend(&p, &block.rows, &given, &at, iterates + ITERATES * (d + 2), iterates, figures)
        return (copied(iterates, count, size), copied(figures, count, FIGURES)) if count else None
    finally:
        PyMem_RawFree(memory)
