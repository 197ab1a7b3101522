"""Stochastic updates in a metric on NumPy arrays, over the kernels of src/kernels/saga.pyx.

A solver makes a `State` and gives it to `run` again and again: an epoch, or any part of one, at a time.
"""

cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.pycapsule cimport PyCapsule_GetPointer

from fastgd._rows cimport RowBlock
from fastgd._runs cimport PIECE, check_order, shape_of
from fastgd._sparse cimport SparseBlock
from fastgd._types cimport Rows, SAGAKernels, SAGARun, SAGAState, SparseRows, saga_fn, sparse_saga_fn

cnp.import_array()

cdef SAGAKernels *kernels


def use(table):
    """Run on this table of kernels from now on (see `fastgd._kernels`)."""
    global kernels
    kernels = <SAGAKernels *> PyCapsule_GetPointer(table, "fastgd.SAGAKernels")


cdef cnp.ndarray padded(values, Py_ssize_t d, str name):
    """A vector of double of its own, with zeros up to a whole number of the widest vectors of any CPU."""
    cdef cnp.npy_intp size = (d + 7) // 8 * 8
    cdef cnp.ndarray vector = cnp.PyArray_ZEROS(1, &size, cnp.NPY_DOUBLE, 0)
    if values is not None:
        if len(values) != d:
            raise ValueError(f"{name} must have {d} entries, one for each column; got {len(values)}")
        vector[:d] = values
    return vector


cdef inline double *entries(cnp.ndarray vector) noexcept:
    return <double *> cnp.PyArray_DATA(vector)


cdef class State:
    """Where a descent stands: the parameters (v, c), the last step of a momentum, and an average.

    Parameters
    ----------
    coef : array_like of shape (n_features,)
        Where v starts; copied.
    intercept : float, default 0.0

    Attributes
    ----------
    n_features, n_averaged : int
    """

    cdef SAGAState state
    cdef readonly Py_ssize_t n_features
    cdef tuple vectors          # what the pointers of `state` point at: v, velocity, pull, total, seen

    def __init__(self, coef, double intercept=0.0):
        self.load_state_dict({
            "coef": coef, "velocity": None, "total": None, "intercept": intercept, "intercept_velocity": 0.0,
            "intercept_total": 0.0, "n_averaged": 0,
        })

    @property
    def n_averaged(self):
        return self.state.n_averaged

    @property
    def intercept(self):
        return self.state.intercept

    @property
    def coef(self):
        """v, a new array."""
        return self.vectors[0][:self.n_features].copy()

    @property
    def average(self):
        """The mean (v, c) of the averaged updates."""
        if not self.state.n_averaged:
            raise ValueError("no update was averaged yet")
        total = self.vectors[3][:self.n_features]
        return total / self.state.n_averaged, self.state.intercept_total / self.state.n_averaged

    def forget(self):
        """Begin a new average."""
        self.vectors[3][:] = 0
        self.state.intercept_total = 0
        self.state.n_averaged = 0

    def state_dict(self):
        """All of it between two runs, as arrays and numbers, for `load_state_dict` to go on from with the same bits."""
        velocity, total = [self.vectors[k][:self.n_features].copy() for k in (1, 3)]
        return {
            "coef": self.coef, "velocity": velocity, "total": total, "intercept": self.state.intercept,
            "intercept_velocity": self.state.intercept_velocity, "intercept_total": self.state.intercept_total,
            "n_averaged": self.state.n_averaged,
        }

    def load_state_dict(self, values):
        cdef cnp.npy_intp d = len(values["coef"])
        cdef SAGAState state
        v, velocity, total = [padded(values[name], d, name) for name in ("coef", "velocity", "total")]
        pull, seen = padded(None, d, "pull"), cnp.PyArray_ZEROS(1, &d, cnp.NPY_INTP, 0)
        state.v, state.velocity, state.total, state.pull = entries(v), entries(velocity), entries(total), entries(pull)
        state.seen = <Py_ssize_t *> cnp.PyArray_DATA(seen)
        state.intercept = values["intercept"]
        state.intercept_velocity = values["intercept_velocity"]
        state.intercept_total = values["intercept_total"]
        state.intercept_pull = 0
        state.n_averaged = values["n_averaged"]
        self.vectors = v, velocity, pull, total, seen
        self.state, self.n_features = state, d


def run(
    block, State state not None, const Py_ssize_t[::1] order not None, double rate, metric, means=None, drift=None,
    double intercept_drift=0.0, anchor=None, Py_ssize_t batch_size=1, double momentum=0.0, double l1=0.0,
    double l2=0.0, double intercept_step=1.0, bint clamps=False, Py_ssize_t average_from=-1,
):
    """Update the state by rows of the block, `batch_size` of them an update, as src/kernels/saga.pyx has it.

    Parameters
    ----------
    block : RowBlock or SparseBlock
    state : State
    order : ndarray of intp
        Rows of the block, in any order; they may repeat or be left out. The last update may have fewer than the others.
    rate : float
    metric : array_like of shape (n_features,)
    means : array_like of shape (n_features,), optional
        Of dense rows; by default zeros.
    drift : array_like of shape (n_features,), optional
    intercept_drift : float, default 0.0
    anchor : array_like of shape (n_features,), optional
        What v is counted from, for l1.
    batch_size : int, default 1
    momentum, l1, l2 : float, default 0.0
        l1 and l2 are each half the factor they have in F.
    intercept_step : float, default 1.0
        0 leaves the intercept alone.
    clamps : bool, default False
        Whether no row may carry v beyond where its residual vanishes.
    average_from : int, optional
        The place in the order from which on updates are added to the average; a multiple of batch_size. By default none
        are.
    """
    cdef Py_ssize_t n, d, visits, length = order.shape[0], before = average_from
    cdef SAGARun part
    n, d, visits = shape_of(block)
    check_order(state.n_features, n, d, order, batch_size)
    if means is not None and isinstance(block, SparseBlock):
        raise ValueError("sparse rows are not centred")
    if momentum > 0 or batch_size > 1:
        visits = min(visits, max(PIECE // (d * 8) * min(batch_size, <Py_ssize_t> 1 << 16), <Py_ssize_t> 1))
    pace = padded(metric, d, "metric") * rate
    vectors = [
        padded(metric, d, "metric"), padded(means, d, "means"), pace * l2, pace * padded(drift, d, "drift"), pace * l1,
        padded(anchor, d, "anchor"),
    ]
    part.metric, part.means, part.lost = entries(vectors[0]), entries(vectors[1]), entries(vectors[2])
    part.pushed, part.reach, part.anchor = entries(vectors[3]), entries(vectors[4]), entries(vectors[5])
    part.batch = min(batch_size, length)
    part.rate = rate
    part.momentum = momentum
    part.intercept_step = intercept_step
    part.intercept_pushed = rate * intercept_step * intercept_drift
    part.clamps = clamps
    part.plain = l2 == 0 and drift is None
    part.truncates = l1 > 0
    if before < 0 or before > length:
        before = length
    if before > 0:
        part.order = &order[0]
        part.count = before
        part.averages = False
        run_part(block, state, &part, visits)
    if before < length:
        part.order = &order[before]
        part.count = length - before
        part.averages = True
        run_part(block, state, &part, visits)


cdef int run_part(block, State state, SAGARun *part, Py_ssize_t visits) except -1:
    cdef const Rows *rows = NULL
    cdef const SparseRows *sparse_rows = NULL
    cdef saga_fn dense = NULL
    cdef sparse_saga_fn sparse = NULL
    cdef void *scratch = PyMem_RawMalloc(kernels.scratch_doubles(part, state.n_features) * sizeof(double))
    if scratch == NULL:
        raise MemoryError()
    if isinstance(block, RowBlock):
        rows = &(<RowBlock> block).rows
        dense = kernels.dense_f32 if (<RowBlock> block).is_float else kernels.dense_f64
    else:
        sparse_rows = &(<SparseBlock> block).rows
        sparse = kernels.sparse_f32 if (<SparseBlock> block).is_float else kernels.sparse_f64
    state.vectors[4][:] = 0
    part.at = 0
    try:
        while part.at < part.count:
            with nogil:
                if dense != NULL:
                    dense(rows, part, &state.state, visits, scratch)
                else:
                    sparse(sparse_rows, part, &state.state, visits, scratch)
            PyErr_CheckSignals()
    finally:
        PyMem_RawFree(scratch)
    return 0
