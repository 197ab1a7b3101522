"""Types shared by the kernels, the modules that call them, and packages that cimport fastgd."""

ctypedef fused real:
    float
    double


ctypedef struct Targets:
    # Targets y and weights s of a block of rows. Each may be float or double, whatever X is, because they enter the
    # arithmetic as double. Strides are in elements, of any sign.
    const void *y           # NULL: all zero
    const void *s           # NULL: all one
    Py_ssize_t y_step
    Py_ssize_t s_step
    bint y_is_float
    bint s_is_float


ctypedef struct Rows:
    # A block of dense rows as a kernel reads it; it owns nothing. X is float or double as the kernel called says.
    const void *X
    Py_ssize_t n            # rows
    Py_ssize_t d            # columns
    Py_ssize_t x_row        # strides in elements, of any sign
    Py_ssize_t x_col
    Py_ssize_t streams      # places of the block that are best read at the same time: 1 or 4
    Targets targets


ctypedef struct SparseRows:
    # A block of rows in compressed sparse row format; it owns nothing. Row i holds data[k] in column indices[k] for
    # indptr[i] <= k + indptr[0] < indptr[i + 1]; columns may come in any order and repeat, and then add up.
    const void *data        # float or double as the kernel called says
    const void *indices     # int64 if is_long, else int32
    const void *indptr      # of the same type
    Py_ssize_t n            # rows
    Py_ssize_t d            # columns
    bint is_long
    bint by_lanes           # the columns of every row ascend, and scattered stores are fast
    Targets targets


ctypedef struct SGDState:
    # What a stochastic descent carries from one update to the next; it owns nothing. The parameters are scale * w, and
    # the sum of those averaged is total + total_scale * w: a row of few entries changes few of w and total, although
    # shrinking and averaging concern all parameters.
    double *w
    double *total               # NULL: nothing was averaged
    double *taken               # by how much the l1 penalty has moved each parameter; NULL: not at all
    double scale                # above 0
    double total_scale
    double due                  # by how much the l1 penalty was to move each parameter towards zero
    double intercept
    double intercept_total
    Py_ssize_t n_averaged


ctypedef struct SGDRun:
    # A run of updates and how far it has come; it owns nothing. Documented in src/kernels/sgd.pyx.
    const Py_ssize_t *order     # rows of X, any of them, any number of times
    Py_ssize_t count            # rows in the order
    Py_ssize_t batch            # rows in an update; the last may have fewer
    const double *rates         # one for each update, rate_step apart: 0 makes it the same for all
    Py_ssize_t rate_step
    double l1                   # the penalties, each times the rate
    double l2
    double intercept_step       # of the intercept, as a multiple of the rate
    bint averages               # the parameters after each update
    bint as_always              # average truncated parameters as if they had always been truncated
    Py_ssize_t at               # the place in the order that comes next,
    Py_ssize_t stage            # and which pass over the batch it is in


ctypedef struct SAGAState:
    # What a descent in a metric carries from one update to the next; it owns nothing. Vectors are padded with zeros to
    # multiples of 8, which any CPU's vectors divide.
    double *v
    double *velocity            # what momentum keeps of the last update
    double *pull                # sum of what the rows of a batch pull at v
    double *total               # of the averaged v
    Py_ssize_t *seen            # sparse rows, one an update: how many updates each entry of v has gone through
    double intercept
    double intercept_velocity
    double intercept_pull
    double intercept_total
    Py_ssize_t n_averaged


ctypedef struct SAGARun:
    # A run of its updates and how far it has come; it owns nothing. Documented in src/kernels/saga.pyx. Vectors are
    # padded like those of the state.
    const Py_ssize_t *order     # rows of X, any of them, any number of times
    Py_ssize_t count            # rows in the order
    Py_ssize_t batch            # rows in an update; the last may have fewer
    Py_ssize_t at               # the place in the order that comes next
    const double *means         # taken from dense rows
    const double *metric
    const double *lost          # rate metric l2
    const double *pushed        # rate metric drift
    const double *reach         # rate metric l1
    const double *anchor        # what v is counted from, for l1
    double rate
    double momentum
    double intercept_step
    double intercept_pushed     # rate intercept_step times its drift
    bint clamps                 # the step of a row that would carry v beyond where its residual vanishes
    bint plain                  # lost and pushed are zero,
    bint truncates              # and reach is not
    bint averages


ctypedef struct Update:
    # One step of an update rule in the names of src/kernels/updates.pyx; what a rule has no use for is left alone.
    double rate
    double sign                 # -1 to go uphill
    double weight_decay
    double shrink
    double keep
    double take
    double keep_square
    double take_square
    double scale
    double eps
    bint passes                 # whatever the gradient is
    bint rolls                  # there is a momentum
    bint nesterov
    bint takes_maximum
    bint centred


ctypedef struct Stretch:
    # Elements of a parameter, its gradient and its state, one after the other; it owns nothing.
    const void *g
    void *p
    void *state[3]              # NULL where the rule has none
    Py_ssize_t n


ctypedef void (*mse_fn)(const Rows *rows, const double *w, double b, double *sums_out, void *scratch) noexcept nogil
ctypedef void (*update_f32_fn)(float *w, const double *g, Py_ssize_t w_step, Py_ssize_t d, double lr) noexcept nogil
ctypedef void (*update_f64_fn)(double *w, const double *g, Py_ssize_t w_step, Py_ssize_t d, double lr) noexcept nogil
ctypedef void (*widen_fn)(const float *values, Py_ssize_t step, Py_ssize_t size, double *out) noexcept nogil
ctypedef void (*narrow_fn)(const double *values, Py_ssize_t step, Py_ssize_t size, float *out) noexcept nogil
ctypedef bint (*scale_fn)(double *values, Py_ssize_t size, double factor, double limit) noexcept nogil
ctypedef bint (*goes_in_place_fn)(const Rows *rows, Py_ssize_t itemsize) noexcept nogil
ctypedef bint (*gradient_f32_fn)(
    const Rows *rows, const float *w, double b, double factor, double *sums_out, float *g_out
) noexcept nogil
ctypedef bint (*gradient_f64_fn)(
    const Rows *rows, const double *w, double b, double factor, double *sums_out, double *g_out
) noexcept nogil
ctypedef void (*moments_fn)(const Rows *rows, const double *shift, double *sums_out, void *scratch) noexcept nogil
ctypedef void (*panel_fn)(
    const Rows *rows, Py_ssize_t start, Py_ssize_t count, const double *shift, void *panel_out
) noexcept nogil
ctypedef Py_ssize_t (*scratch_fn)(const Rows *rows) noexcept nogil
ctypedef void (*sgd_fn)(
    const Rows *rows, SGDRun *run, SGDState *state, Py_ssize_t visits, double *sums_out, void *scratch
) noexcept nogil
ctypedef void (*sparse_sgd_fn)(
    const SparseRows *rows, SGDRun *run, SGDState *state, Py_ssize_t visits, double *sums_out, void *scratch
) noexcept nogil
ctypedef Py_ssize_t (*sgd_scratch_fn)(const SGDRun *run, Py_ssize_t d) noexcept nogil
ctypedef Py_ssize_t (*saga_scratch_fn)(const SAGARun *run, Py_ssize_t d) noexcept nogil
ctypedef void (*saga_fn)(
    const Rows *rows, SAGARun *run, SAGAState *state, Py_ssize_t visits, void *scratch
) noexcept nogil
ctypedef void (*sparse_saga_fn)(
    const SparseRows *rows, SAGARun *run, SAGAState *state, Py_ssize_t visits, void *scratch
) noexcept nogil
ctypedef void (*sparse_fn)(const SparseRows *rows, const double *w, double b, double *sums_out) noexcept nogil
ctypedef void (*sparse_sums_fn)(
    const SparseRows *rows, const double *w, double b, double *sums_out, void *scratch
) noexcept nogil
ctypedef void (*sparse_columns_fn)(
    const SparseRows *rows, const double *shift, double *sums_out, void *scratch
) noexcept nogil
ctypedef void (*sparse_panel_fn)(
    const SparseRows *rows, Py_ssize_t start, Py_ssize_t count, const double *shift, double *panel_out
) noexcept nogil
ctypedef Py_ssize_t (*sparse_scratch_fn)(const SparseRows *rows) noexcept nogil
ctypedef int (*examine_fn)(const SparseRows *rows) noexcept nogil
ctypedef bint (*update_rule_fn)(const Update *rule, const Stretch *at) noexcept nogil
ctypedef Py_ssize_t (*finite_fn)(const void *g, Py_ssize_t n) noexcept nogil

cdef enum:
    OUTSIDE     # what column indices are like: not all from 0 to d - 1,
    INSIDE      # or that,
    ASCENDING   # or that and in every row each above the one before


# The inner loop of a ufunc: pointers to operands, how many elements, their strides, and data of its own.
ctypedef void (*strided_fn)(char **, const Py_ssize_t *, const Py_ssize_t *, void *) noexcept nogil


# The loop that converts between two of NumPy's type characters, and one for elements of so many bytes; or NULL.
ctypedef strided_fn (*cast_fn)(char, char) noexcept nogil
ctypedef strided_fn (*of_size_fn)(Py_ssize_t) noexcept nogil


ctypedef struct MSEKernels:
    # Documented in src/kernels/mse.pyx.
    mse_fn value_f32
    mse_fn value_f64
    mse_fn sums_f32
    mse_fn sums_f64
    scratch_fn scratch_reals
    update_f32_fn update_f32
    update_f64_fn update_f64
    widen_fn widen
    narrow_fn narrow
    scale_fn scale
    goes_in_place_fn goes_in_place
    gradient_f32_fn gradient_f32
    gradient_f64_fn gradient_f64


ctypedef struct MomentsKernels:
    # Documented in src/kernels/moments.pyx.
    moments_fn gram_f32
    moments_fn gram_f32_in_double
    moments_fn gram_f64
    moments_fn columns_f32
    moments_fn columns_f64
    panel_fn panel_f32
    panel_fn panel_f32_in_double
    panel_fn panel_f64
    scratch_fn scratch_bytes


ctypedef struct SGDKernels:
    # Documented in src/kernels/sgd.pyx.
    sgd_fn dense_f32
    sgd_fn dense_f64
    sparse_sgd_fn sparse_f32
    sparse_sgd_fn sparse_f64
    sgd_scratch_fn scratch_doubles


ctypedef struct SAGAKernels:
    # Documented in src/kernels/saga.pyx.
    saga_fn dense_f32
    saga_fn dense_f64
    sparse_saga_fn sparse_f32
    sparse_saga_fn sparse_f64
    saga_scratch_fn scratch_doubles


ctypedef struct SparseKernels:
    # Documented in src/kernels/sparse.pyx.
    sparse_fn value_f32
    sparse_fn value_f64
    sparse_sums_fn sums_f32
    sparse_sums_fn sums_f64
    sparse_fn predict_f32
    sparse_fn predict_f64
    sparse_columns_fn columns_f32
    sparse_columns_fn columns_f64
    sparse_panel_fn panel_f32
    sparse_panel_fn panel_f64
    sparse_scratch_fn scratch_bytes
    sparse_scratch_fn sums_f32_bytes
    examine_fn examine


ctypedef struct UpdateKernels:
    # Documented in src/kernels/updates.pyx.
    update_rule_fn sgd_f32
    update_rule_fn sgd_f64
    update_rule_fn adam_f32
    update_rule_fn adam_f64
    update_rule_fn adagrad_f32
    update_rule_fn adagrad_f64
    update_rule_fn rmsprop_f32
    update_rule_fn rmsprop_f64
    finite_fn finite_f32
    finite_fn finite_f64


ctypedef struct ElementaryKernels:
    # Documented in src/kernels/elementary.pyx and src/kernels/strided.h. Sine and cosine are NULL where NumPy's loops
    # are better.
    strided_fn sin_f64
    strided_fn cos_f64
    cast_fn cast
    of_size_fn copy
    of_size_fn where
