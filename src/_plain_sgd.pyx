"""Stochastic gradient descent under scikit-learn's rules, over the kernels of src/kernels/plain_sgd.pyx.

And in scikit-learn's own arithmetic, bit for bit: this module is compiled so that sums are added up one by one and no
product is fused with a sum. Where steps are so long that a descent goes uphill for a while, as those of the schedule
"optimal" begin, each rounding grows with it, and two ways to sum come to different ends.
"""

cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport fabs, isfinite, sqrt
from libc.stdint cimport uint64_t

from fastgd._plain_rows cimport descend_sparse, next_tile, rate_at, take_row, truncates
from fastgd._plain_types cimport (
    CONSTANT, EPSILON_INSENSITIVE, HUBER, INVSCALING, OPTIMAL, PA1, PA2, SQUARED_EPSILON_INSENSITIVE, SQUARED_ERROR,
    PlainKernels, PlainRule, PlainRun, Tile,
)
from fastgd._rows cimport RowBlock
from fastgd._sparse cimport SparseBlock
from fastgd._types cimport Rows, SGDState, real

cnp.import_array()

cdef enum:
    PIECE = 1 << 22     # bytes of rows between two looks at Ctrl-C, and
    ROWS = 1 << 16      # rows

cdef PlainKernels *kernels

cdef double FLOOR = 1e-3        # a scale below this is multiplied into w, before the average loses more digits to it
cdef double ITS_FLOOR = 1e-9    # the same of scikit-learn, whose averages of truncated parameters depend on it

LOSSES = {
    "squared_error": SQUARED_ERROR,
    "huber": HUBER,
    "epsilon_insensitive": EPSILON_INSENSITIVE,
    "squared_epsilon_insensitive": SQUARED_EPSILON_INSENSITIVE,
}
SCHEDULES = {
    "constant": CONSTANT,
    "optimal": OPTIMAL,
    "invscaling": INVSCALING,
    "adaptive": CONSTANT,       # between two changes of `eta`
    "pa1": PA1,
    "pa2": PA2,
}


def use(table):
    """Run on this table of kernels from now on (see `fastgd._kernels`)."""
    global kernels
    kernels = <PlainKernels *> PyCapsule_GetPointer(table, "fastgd.PlainKernels")


cdef class Descent:
    """A descent, and where it stands.

    Parameters
    ----------
    coef : array_like of shape (n_features,)
        Where it starts; copied.
    intercept : float, default 0.0
    loss, schedule : str
        Of LOSSES and SCHEDULES, and the parameters that go with them:
    epsilon, eta, power_t, alpha, l1_ratio : float
        Those of scikit-learn; an alpha of 0.0 is no penalty, l1_ratio its share of |w|_1.
    step_alpha : float
        The alpha of the schedule "optimal".
    intercept_step : float, default 1.0
        By which the steps of the intercept are multiplied; 0 leaves it alone.
    average : int, default 0
        The update, counted from 1, from which parameters are averaged; 0: none.
    t : float, default 1.0
        The number of the first update.
    mean : tuple of ndarray of shape (n_features,) and float, optional
        The average over the updates before t.
    strict : bool, default False
        Make all operations in the order in which scikit-learn makes them.

    Attributes
    ----------
    eta : float
        The step, at the start of a schedule; may be set.
    t : float
    """

    cdef PlainRule rule
    cdef PlainRun run
    cdef SGDState state
    cdef readonly Py_ssize_t n_features
    cdef readonly bint strict
    cdef cnp.ndarray w          # what the pointers of `state` point at, padded with zeros; the latter two may be None
    cdef cnp.ndarray total
    cdef cnp.ndarray taken

    def __init__(
        self, coef, double intercept=0.0, *, str loss="squared_error", str schedule="constant", double epsilon=0.1,
        double eta=0.01, double power_t=0.25, double alpha=0.0, double l1_ratio=0.0, double step_alpha=1.0,
        double intercept_step=1.0, double average=0, double t=1.0, mean=None,
        bint strict=False,
    ):
        self.rule.loss = LOSSES[loss]
        self.rule.schedule = SCHEDULES[schedule]
        self.rule.epsilon = epsilon
        self.rule.eta = eta
        self.rule.power_t = power_t
        self.rule.alpha = step_alpha
        # The step of "optimal" begins at 1 / alpha^(1/4), a size of coefficients that is typical (Bottou, 2012).
        self.rule.offset = 1.0 / (sqrt(1.0 / sqrt(step_alpha)) * step_alpha) if step_alpha > 0 else 0.0
        self.rule.penalty = alpha
        self.rule.l1_ratio = l1_ratio
        self.strict = strict
        self.rule.floor = ITS_FLOOR if strict or truncates(&self.rule) else FLOOR
        self.rule.intercept_step = intercept_step
        self.rule.average = average
        self.run.t = t
        self.n_features = len(coef)
        self.w = self.vector(coef)
        self.state.w = <double *> cnp.PyArray_DATA(self.w)
        self.state.scale = 1
        self.state.intercept = intercept
        if truncates(&self.rule):
            self.taken = self.vector(None)
            self.state.taken = <double *> cnp.PyArray_DATA(self.taken)
        if average > 0:
            self.begin_average(mean)
        self.measure()

    cdef cnp.ndarray vector(self, values):
        """Doubles of its own, zeros where none are given."""
        cdef cnp.npy_intp size = (self.n_features + 7) & ~<Py_ssize_t> 7
        cdef cnp.ndarray vector = cnp.PyArray_ZEROS(1, &size, cnp.NPY_DOUBLE, 0)
        if values is not None:
            vector[:self.n_features] = values
        return vector

    cdef int begin_average(self, mean) except -1:
        cdef double before = max(0.0, self.run.t - self.rule.average)
        self.total = self.vector(None)
        self.state.total = <double *> cnp.PyArray_DATA(self.total)
        if mean is not None and before > 0:
            self.total[:self.n_features] = mean[0] * before
            self.state.intercept_total = mean[1] * before
            self.state.n_averaged = <Py_ssize_t> before
        return 0

    cdef void measure(self) noexcept:
        """The norms that the objective starts with."""
        cdef Py_ssize_t j
        self.run.square = self.run.absolute = 0
        for j in range(self.n_features):
            self.run.square += self.state.w[j] * self.state.w[j]
            self.run.absolute += fabs(self.state.w[j])

    @property
    def eta(self):
        return self.rule.eta

    @eta.setter
    def eta(self, double value):
        self.rule.eta = value

    @property
    def t(self):
        return self.run.t

    @property
    def coef(self):
        """The coefficients, a new array."""
        return self.state.scale * self.w[:self.n_features]

    @property
    def intercept(self):
        return self.state.intercept

    @property
    def n_averaged(self):
        return self.state.n_averaged

    @property
    def average(self):
        """The mean (coefficients, intercept) of the averaged updates."""
        if not self.state.n_averaged:
            raise ValueError("no update was averaged yet")
        total = (self.total + self.state.total_scale * self.w)[:self.n_features]
        return total / self.state.n_averaged, self.state.intercept_total / self.state.n_averaged

    @property
    def is_finite(self):
        """Whether all parameters are; one that is not stays so."""
        cdef Py_ssize_t j
        cdef bint finite = isfinite(self.state.intercept)
        for j in range(self.n_features):
            finite = finite and isfinite(self.state.w[j])
        return finite

    def go(self, block, const Py_ssize_t[::1] order not None):
        """Make an update by each of these rows of a RowBlock or SparseBlock.

        Returns
        -------
        tuple of 2 floats
            The sums of the loss, and of the objective as scikit-learn counts it, over the rows as they came.
        """
        cdef Py_ssize_t n, d, visits
        n, d, visits = shape_of(block)
        check(self, n, d, order)
        self.run.at = self.run.loss = self.run.objective = 0
        self.run.count = order.shape[0]
        if self.run.count:
            self.run.order = &order[0]
            run(block, self, min(visits, <Py_ssize_t> ROWS))
        return self.run.loss, self.run.objective


cdef int check(Descent descent, Py_ssize_t n, Py_ssize_t d, const Py_ssize_t[::1] order) except -1:
    cdef size_t highest = 0         # what is negative is higher than any
    cdef Py_ssize_t k
    if descent.n_features != d:
        raise ValueError(f"the rows have {d} columns, the descent {descent.n_features}")
    for k in range(order.shape[0]):
        highest = max(highest, <size_t> order[k])
    if highest >= <size_t> n:
        raise IndexError(f"the order must hold rows from 0 to {n - 1}, got {<Py_ssize_t> highest}")
    return 0


cdef tuple shape_of(block):
    """(rows, columns) of a block, and how many rows of it may pass between two looks at Ctrl-C."""
    cdef RowBlock dense
    cdef SparseBlock sparse
    cdef Py_ssize_t size
    if isinstance(block, RowBlock):
        dense = block
        return dense.rows.n, dense.rows.d, max(PIECE // (dense.rows.d * 8), 1)
    sparse = <SparseBlock?> block
    size = len(sparse.X.data) // max(sparse.rows.n, 1) * 16 + 1
    return sparse.rows.n, sparse.rows.d, max(PIECE // size, 1)


cdef void descend_strictly(
    const Rows *rows, const PlainRule *rule, PlainRun *run, SGDState *state, Py_ssize_t visits, void *scratch,
    real *unused
) noexcept nogil:
    """Dense rows, one by one."""
    cdef Py_ssize_t stop = min(run.at + visits, run.count), size, q
    cdef Tile tile
    while run.at < stop:
        size = next_tile(rows, rule, run, stop, &tile, unused, <double *> scratch, False)
        for q in range(size):
            tile.rate[q] = rate_at(rule, run.t)
            take_row(rule, run, state, &tile, q, rows.d, False)
        run.at += size


cdef int run(block, Descent descent, Py_ssize_t visits) except -1:
    cdef PlainRun *part = &descent.run
    cdef RowBlock dense = block if isinstance(block, RowBlock) else None
    cdef SparseBlock sparse = None if dense is not None else block
    cdef void *scratch = PyMem_RawMalloc(kernels.scratch_doubles(descent.n_features) * sizeof(double))
    if scratch == NULL:
        raise MemoryError()
    try:
        while part.at < part.count:
            with nogil:
                if dense is None and sparse.is_float:
                    descend_sparse(&sparse.rows, &descent.rule, part, &descent.state, visits, <float *> NULL)
                elif dense is None:
                    descend_sparse(&sparse.rows, &descent.rule, part, &descent.state, visits, <double *> NULL)
                elif descent.strict and dense.is_float:
                    descend_strictly(&dense.rows, &descent.rule, part, &descent.state, visits, scratch, <float *> NULL)
                elif descent.strict:
                    descend_strictly(&dense.rows, &descent.rule, part, &descent.state, visits, scratch, <double *> NULL)
                elif dense.is_float:
                    kernels.dense_f32(&dense.rows, &descent.rule, part, &descent.state, visits, scratch)
                else:
                    kernels.dense_f64(&dense.rows, &descent.rule, part, &descent.state, visits, scratch)
            PyErr_CheckSignals()
    finally:
        PyMem_RawFree(scratch)
    return 0


def keys(block):
    """A number for each row that depends on its entries and its target alone, as uint64.

    Of equal rows it is the same, dense or sparse, and of others hardly ever.
    """
    cdef Py_ssize_t n, visits, start
    cdef RowBlock dense = block if isinstance(block, RowBlock) else None
    cdef SparseBlock sparse = None if dense is not None else <SparseBlock?> block
    cdef cnp.npy_intp size
    cdef cnp.ndarray out
    cdef uint64_t *found
    n, _, visits = shape_of(block)
    size = n
    out = cnp.PyArray_ZEROS(1, &size, cnp.NPY_UINT64, 0)
    found = <uint64_t *> cnp.PyArray_DATA(out)
    for start in range(0, n, visits):
        with nogil:
            if dense is None and sparse.is_float:
                kernels.sparse_keys_f32(&sparse.rows, start, min(start + visits, n), found)
            elif dense is None:
                kernels.sparse_keys_f64(&sparse.rows, start, min(start + visits, n), found)
            elif dense.is_float:
                kernels.keys_f32(&dense.rows, start, min(start + visits, n), found)
            else:
                kernels.keys_f64(&dense.rows, start, min(start + visits, n), found)
        PyErr_CheckSignals()
    return out
