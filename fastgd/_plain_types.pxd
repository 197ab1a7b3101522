"""Types of the descent under scikit-learn's rules (src/kernels/plain_sgd.pyx)."""

from fastgd._types cimport Rows, SGDState, SparseRows

cdef enum:
    SQUARED_ERROR               # the losses
    HUBER
    EPSILON_INSENSITIVE
    SQUARED_EPSILON_INSENSITIVE

cdef enum:
    CONSTANT                    # how the step is found
    OPTIMAL
    INVSCALING
    PA1
    PA2


ctypedef struct PlainRule:
    # What an update is; documented in src/kernels/plain_sgd.pyx.
    int loss
    int schedule
    double epsilon
    double eta              # the step, at the start of a schedule
    double power_t
    double alpha            # of the schedule "optimal"
    double offset           # what "optimal" adds to t - 1
    double penalty          # the objective is the loss + penalty (l1_ratio |w|_1 + (1 - l1_ratio) / 2 |w|^2)
    double l1_ratio
    double intercept_step
    double average          # the update from which parameters are averaged; 0: none
    double floor            # a scale below this is multiplied into w


ctypedef struct PlainRun:
    # A run of updates and how far it has come; it owns nothing.
    const Py_ssize_t *order     # rows of X, any of them, any number of times
    Py_ssize_t count            # rows in the order
    Py_ssize_t at               # the place in the order that comes next
    double t                    # the number of the next update
    double square               # |w|^2 and |w|_1, as scikit-learn's objective has them
    double absolute
    double loss                 # sums of the loss and of the objective, over the rows as they came
    double objective


cdef enum:
    TILE = 64               # rows that are copied together at most


ctypedef struct Tile:
    # Rows of the order, padded with zeros to a multiple of 8 doubles.
    const double *x[TILE]
    double target[TILE]
    double weight[TILE]
    double rate[TILE]
    double residual[TILE]   # as far as they are known,
    double square[TILE]     # and |w|^2 before the update by a row


ctypedef void (*plain_fn)(
    const Rows *rows, const PlainRule *rule, PlainRun *run, SGDState *state, Py_ssize_t visits, void *scratch
) noexcept nogil
ctypedef Py_ssize_t (*plain_scratch_fn)(Py_ssize_t d) noexcept nogil
ctypedef void (*plain_keys_fn)(const Rows *rows, Py_ssize_t start, Py_ssize_t stop, void *keys_out) noexcept nogil
ctypedef void (*plain_sparse_keys_fn)(
    const SparseRows *rows, Py_ssize_t start, Py_ssize_t stop, void *keys_out
) noexcept nogil


ctypedef struct PlainKernels:
    # Documented in src/kernels/plain_sgd.pyx.
    plain_fn dense_f32
    plain_fn dense_f64
    plain_scratch_fn scratch_doubles
    plain_keys_fn keys_f32
    plain_keys_fn keys_f64
    plain_sparse_keys_fn sparse_keys_f32
    plain_sparse_keys_fn sparse_keys_f64
