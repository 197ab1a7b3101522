"""Mean squared error on NumPy arrays and C pointers, over the kernels of src/kernels/mse.pyx.

Three callers, three doors: packages that cimport `fastgd._mse` (functions on pointers), `fastgd._engine`
(`add_value`, `add_sums`: one piece of a block, sums added to `out`), and small problems called from Python
(`DenseMSE`), where tens of nanoseconds matter and one compiled method does everything.
"""

cimport numpy as cnp
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.float cimport DBL_MAX, FLT_MAX
from libc.math cimport INFINITY, fabs, isfinite
from libc.string cimport memcpy, memset

from fastgd._rows cimport RowBlock, streams
from fastgd._types cimport MSEKernels, Rows, mse_fn, real

cnp.import_array()

cdef enum:
    SHORT_PASS = 1 << 16    # bytes of X below which releasing the GIL costs more than it frees
    ONE_BLOCK = 1 << 21     # bytes of X that are never cut into blocks: fastgd._blocks.BLOCK_BYTES

cdef MSEKernels *kernels


def use(table):
    """Run on this table of kernels from now on (see `fastgd._kernels`)."""
    global kernels
    kernels = <MSEKernels *> PyCapsule_GetPointer(table, "fastgd.MSEKernels")


cdef inline mse_fn choose_kernel(bint is_float, bint with_gradient) noexcept nogil:
    if is_float:
        return kernels.sums_f32 if with_gradient else kernels.value_f32
    return kernels.sums_f64 if with_gradient else kernels.value_f64


# ---- on C pointers: fastgd/_mse.pxd ----------------------------------------------------------------------------------

cdef inline Rows c_rows(const real *X, const real *y, const real *s, Py_ssize_t n, Py_ssize_t d) noexcept nogil:
    cdef Rows rows
    rows.X = X
    rows.targets.y = y
    rows.targets.s = s
    rows.n = n
    rows.d = d
    rows.x_row = d
    rows.x_col = rows.targets.y_step = rows.targets.s_step = 1
    rows.streams = streams
    rows.targets.y_is_float = rows.targets.s_is_float = real is float
    return rows


cdef inline double total_weight(const real *s, Py_ssize_t n) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t i
    if s == NULL:
        return n
    for i in range(n):
        total += s[i]
    return total


cdef Py_ssize_t mse_work_size(Py_ssize_t n, Py_ssize_t d) noexcept nogil:
    cdef Rows rows = c_rows[double](NULL, NULL, NULL, n, d)
    return 2 * d + 2 + kernels.scratch_reals(&rows)


cdef inline double pass_over(
    const Rows *rows, const real *w, double *work, double weight, bint with_gradient
) noexcept nogil:
    """L(w); with the gradient, that too, as double, from work[2] on. work: d + 2 sums, d parameters, scratch."""
    cdef double *w_double = work + rows.d + 2
    if real is float:
        kernels.widen(w, 1, rows.d, w_double)
    else:
        memcpy(w_double, w, rows.d * sizeof(double))
    memset(work, 0, (rows.d + 2) * sizeof(double))
    choose_kernel(real is float, with_gradient)(rows, w_double, 0.0, work, w_double + rows.d)
    if with_gradient:
        kernels.scale(work + 2, rows.d, 2.0 / weight, INFINITY)
    return work[0] / weight


cdef inline double value_and_grad(
    const real *X, const real *y, const real *s, const real *w, real *g_out, double *work, Py_ssize_t n, Py_ssize_t d
) noexcept nogil:
    cdef Rows rows = c_rows(X, y, s, n, d)
    cdef double loss = pass_over(&rows, w, work, total_weight(s, n), True)
    if real is float:
        kernels.narrow(work + 2, 1, d, g_out)
    else:
        memcpy(g_out, work + 2, d * sizeof(double))
    return loss


cdef double mse_f32(
    const float *X, const float *y, const float *s, const float *w, double *work, Py_ssize_t n, Py_ssize_t d
) noexcept nogil:
    cdef Rows rows = c_rows(X, y, s, n, d)
    return pass_over(&rows, w, work, total_weight(s, n), False)


cdef double mse_f64(
    const double *X, const double *y, const double *s, const double *w, double *work, Py_ssize_t n, Py_ssize_t d
) noexcept nogil:
    cdef Rows rows = c_rows(X, y, s, n, d)
    return pass_over(&rows, w, work, total_weight(s, n), False)


cdef double mse_value_and_grad_f32(
    const float *X, const float *y, const float *s, const float *w, float *g_out, double *work,
    Py_ssize_t n, Py_ssize_t d
) noexcept nogil:
    return value_and_grad(X, y, s, w, g_out, work, n, d)


cdef double mse_value_and_grad_f64(
    const double *X, const double *y, const double *s, const double *w, double *g_out, double *work,
    Py_ssize_t n, Py_ssize_t d
) noexcept nogil:
    return value_and_grad(X, y, s, w, g_out, work, n, d)


cdef double mse_step_f32(
    const float *X, const float *y, const float *s, float *w, double *work, Py_ssize_t n, Py_ssize_t d, double lr
) noexcept nogil:
    cdef Rows rows = c_rows(X, y, s, n, d)
    cdef double loss = pass_over(&rows, <const float *> w, work, total_weight(s, n), True)
    kernels.update_f32(w, work + 2, 1, d, lr)
    return loss


cdef double mse_step_f64(
    const double *X, const double *y, const double *s, double *w, double *work, Py_ssize_t n, Py_ssize_t d, double lr
) noexcept nogil:
    cdef Rows rows = c_rows(X, y, s, n, d)
    cdef double loss = pass_over(&rows, <const double *> w, work, total_weight(s, n), True)
    kernels.update_f64(w, work + 2, 1, d, lr)
    return loss


# ---- on blocks -------------------------------------------------------------------------------------------------------

cdef inline Py_ssize_t pass_bytes(RowBlock block) noexcept:
    return block.rows.n * block.rows.d * (4 if block.is_float else 8)


cdef int run(RowBlock block, bint with_gradient, const double *w, double b, double *out, void *scratch) except -1:
    """Add one pass over the block to out[0] (loss), out[1] (residual) and, with the gradient, out[2:]."""
    cdef mse_fn kernel = choose_kernel(block.is_float, with_gradient)
    if pass_bytes(block) < SHORT_PASS:
        kernel(&block.rows, w, b, out, scratch)
    else:
        with nogil:
            kernel(&block.rows, w, b, out, scratch)
    return 0


cdef int run_with_scratch(RowBlock block, bint with_gradient, const double *w, double b, double *out) except -1:
    cdef void *scratch = PyMem_RawMalloc(kernels.scratch_reals(&block.rows) * sizeof(double))
    if scratch == NULL:
        raise MemoryError()
    try:
        run(block, with_gradient, w, b, out, scratch)
    finally:
        PyMem_RawFree(scratch)
    return 0


def add_value(RowBlock block not None, const double[::1] w, double b, double[::1] out):
    """out[0] += sum_i s_i r_i^2 and out[1] += sum_i s_i r_i over the block, with r_i = x_i.w + b - y_i."""
    check_lengths(block, w, out)
    run_with_scratch(block, False, &w[0], b, &out[0])


def add_sums(RowBlock block not None, const double[::1] w, double b, double[::1] out):
    """`add_value`, and out[2:] += sum_i s_i r_i x_i."""
    check_lengths(block, w, out)
    run_with_scratch(block, True, &w[0], b, &out[0])


def add_curvature(RowBlock block not None, const double[::1] v, double b, double[::1] out):
    """`add_sums` with targets of zero: out[2:] += X'(s o (Xv + b))."""
    check_lengths(block, v, out)
    run_with_scratch(block.without_targets(), True, &v[0], b, &out[0])


cdef int check_lengths(RowBlock block, const double[::1] w, double[::1] out) except -1:
    if w.shape[0] != block.rows.d or out.shape[0] != block.rows.d + 2:
        raise ValueError(f"a block of {block.rows.d} columns takes as many parameters and two sums more")
    return 0


def update(w, double[::1] g, double lr):
    """w -= lr * g in place, for a float32 or float64 vector w of any stride."""
    if not is_float_vector(w, g.shape[0]) or not cnp.PyArray_ISWRITEABLE(w):
        raise ValueError("update takes a writable float vector and a gradient of its length")
    update_in_place(w, &g[0], lr)


# ---- small problems, called from Python ------------------------------------------------------------------------------

cdef struct Span:
    # The memory an array touches, first byte to one past the last.
    const char *start
    const char *stop


cdef inline Span span_of(cnp.ndarray array) noexcept:
    cdef Span span
    cdef Py_ssize_t reach, axis
    span.start = span.stop = <const char *> cnp.PyArray_DATA(array)
    for axis in range(cnp.PyArray_NDIM(array)):
        reach = (cnp.PyArray_DIM(array, axis) - 1) * cnp.PyArray_STRIDE(array, axis)
        if reach < 0:
            span.start += reach
        else:
            span.stop += reach
    span.stop += cnp.PyArray_ITEMSIZE(array)
    return span


cdef inline bint meet(Span a, Span b) noexcept:
    return a.start < b.stop and b.start < a.stop


cdef inline bint is_float_vector(object array, Py_ssize_t size) noexcept:
    """An aligned native float32 or float64 vector of this size, whole elements apart."""
    cdef int kind
    if type(array) is not cnp.ndarray:
        return False
    kind = cnp.PyArray_TYPE(array)
    return (
        (kind == cnp.NPY_DOUBLE or kind == cnp.NPY_FLOAT) and cnp.PyArray_NDIM(array) == 1
        and cnp.PyArray_DIM(array, 0) == size and cnp.PyArray_ISALIGNED(array) and cnp.PyArray_ISNOTSWAPPED(array)
        and cnp.PyArray_STRIDE(array, 0) % cnp.PyArray_ITEMSIZE(array) == 0
    )


cdef inline void read_vector(cnp.ndarray vector, double *out) noexcept:
    cdef Py_ssize_t step = cnp.PyArray_STRIDE(vector, 0) // cnp.PyArray_ITEMSIZE(vector)
    cdef Py_ssize_t size = cnp.PyArray_DIM(vector, 0), j
    cdef const double *values = <const double *> cnp.PyArray_DATA(vector)
    if cnp.PyArray_TYPE(vector) == cnp.NPY_FLOAT:
        kernels.widen(<const float *> values, step, size, out)
    elif step == 1:
        memcpy(out, values, size * sizeof(double))
    else:
        for j in range(size):
            out[j] = values[j * step]


cdef inline void write_vector(const double *values, cnp.ndarray vector) noexcept:
    cdef Py_ssize_t step = cnp.PyArray_STRIDE(vector, 0) // cnp.PyArray_ITEMSIZE(vector)
    cdef Py_ssize_t size = cnp.PyArray_DIM(vector, 0), j
    cdef double *out = <double *> cnp.PyArray_DATA(vector)
    if cnp.PyArray_TYPE(vector) == cnp.NPY_FLOAT:
        kernels.narrow(values, step, size, <float *> out)
    elif step == 1:
        memcpy(out, values, size * sizeof(double))
    else:
        for j in range(size):
            out[j * step] = values[j]


cdef inline cnp.ndarray new_vector(Py_ssize_t size, bint is_float):
    cdef cnp.npy_intp shape = size
    return cnp.PyArray_EMPTY(1, &shape, cnp.NPY_FLOAT if is_float else cnp.NPY_DOUBLE, 0)


cdef inline cnp.ndarray array_at(double *values, Py_ssize_t size):
    """The memory there as an array, which must not outlive it."""
    cdef cnp.npy_intp shape = size
    return cnp.PyArray_SimpleNewFromData(1, &shape, cnp.NPY_DOUBLE, values)


cdef inline bint lies_as(cnp.ndarray vector, bint is_float) noexcept:
    """Whether a float vector is contiguous and of this precision."""
    return (
        cnp.PyArray_TYPE(vector) == (cnp.NPY_FLOAT if is_float else cnp.NPY_DOUBLE)
        and cnp.PyArray_STRIDE(vector, 0) == cnp.PyArray_ITEMSIZE(vector)
    )


cdef inline double element(cnp.ndarray vector, Py_ssize_t j) noexcept:
    if cnp.PyArray_TYPE(vector) == cnp.NPY_FLOAT:
        return (<const float *> cnp.PyArray_DATA(vector))[j]
    return (<const double *> cnp.PyArray_DATA(vector))[j]


cdef inline bint gradient_in_place(
    const Rows *rows, cnp.ndarray w, double b, double factor, double *sums_out, cnp.ndarray g
) noexcept:
    """The gradient of few wide rows, without the intercept's entry; w and g are vectors of X's precision."""
    cdef void *w_data = cnp.PyArray_DATA(w)
    cdef void *g_data = cnp.PyArray_DATA(g)
    cdef bint is_float = cnp.PyArray_TYPE(w) == cnp.NPY_FLOAT, fine
    sums_out[0] = sums_out[1] = 0
    with nogil:
        if is_float:
            fine = kernels.gradient_f32(rows, <const float *> w_data, b, factor, sums_out, <float *> g_data)
        else:
            fine = kernels.gradient_f64(rows, <const double *> w_data, b, factor, sums_out, <double *> g_data)
    return fine


cdef class DenseMSE:
    """MSE over a single block of rows, with nothing between the caller and the kernel.

    `fastgd.objective.MSE` extends it to every other source and input: it overrides the methods named `_on_...`, which
    this class calls whenever the arguments are not those of the short way.
    """

    cdef RowBlock block             # None: the data is in many blocks, and `_on_blocks` sums over them
    cdef readonly Py_ssize_t n_features
    cdef readonly bint fit_intercept
    cdef readonly double l2
    cdef readonly double total_weight
    cdef readonly Py_ssize_t n_passes      # over X, since this object was made
    cdef bint is_float
    cdef bint in_place              # the gradient may be written where it is wanted
    cdef Span data[5]               # where X, of one array or three, y and s lie, for `out` to keep clear of
    cdef double *memory             # parameters (d + 1), sums (d + 2), scratch
    cdef bint busy

    def __cinit__(self):
        self.memory = NULL

    def __dealloc__(self):
        PyMem_RawFree(self.memory)

    def __init__(
        self, arrays, RowBlock block, Py_ssize_t n_features, double total_weight, bint fit_intercept, double l2,
        bint is_float
    ):
        cdef Py_ssize_t i
        self.block = block
        self.n_features = n_features
        self.fit_intercept = fit_intercept
        self.l2 = l2
        self.total_weight = total_weight
        self.is_float = is_float
        self.in_place = block is not None and l2 == 0 and kernels.goes_in_place(&block.rows, 4 if is_float else 8)
        for i in range(5):
            self.data[i].start = self.data[i].stop = NULL
            if i < len(arrays) and arrays[i] is not None:
                self.data[i] = span_of(arrays[i])
        PyMem_RawFree(self.memory)
        self.memory = self.new_memory()

    cdef double *new_memory(self) except NULL:
        cdef Py_ssize_t size = 2 * self.n_features + 4
        if self.block is not None:
            size += kernels.scratch_reals(&self.block.rows)
        cdef double *memory = <double *> PyMem_RawMalloc(size * sizeof(double))
        if memory == NULL:
            raise MemoryError()
        return memory

    cdef double *borrow(self) except NULL:
        """This object's memory, or fresh memory where another thread is using it."""
        if self.busy:
            return self.new_memory()
        self.busy = True
        return self.memory

    cdef void give_back(self, double *memory) noexcept:
        if memory == self.memory:
            self.busy = False
        else:
            PyMem_RawFree(memory)

    cdef inline Py_ssize_t n_parameters(self) noexcept:
        return self.n_features + self.fit_intercept

    cdef int sum_over_data(self, const double *w, double *memory, bint with_gradient, bint curvature) except -1:
        """Fill the sums in memory at the parameters w."""
        cdef Py_ssize_t d = self.n_features
        cdef double *sums = memory + d + 1
        cdef double b = w[d] if self.fit_intercept else 0.0
        cdef RowBlock block = self.block
        self.n_passes += 1
        memset(sums, 0, (d + 2) * sizeof(double))
        if block is None:
            self._on_blocks(array_at(<double *> w, d), b, array_at(sums, d + 2), with_gradient, curvature)
            return 0
        if curvature:
            block = block.without_targets()
        return run(block, with_gradient, w, b, sums, sums + d + 2)

    cdef const double *parameters(self, w, double *memory, str name) except NULL:
        """The parameters as contiguous doubles: where they are, or copied to memory."""
        if is_float_vector(w, self.n_parameters()):
            if cnp.PyArray_TYPE(w) == cnp.NPY_DOUBLE and cnp.PyArray_STRIDE(w, 0) == sizeof(double):
                return <const double *> cnp.PyArray_DATA(w)
            read_vector(w, memory)
        else:
            read_vector(self._on_parameters(w, name), memory)
        return memory

    cdef double value_of(self, const double *w, const double *sums) noexcept:
        cdef double loss = sums[0] / self.total_weight
        cdef Py_ssize_t j
        if self.l2:
            for j in range(self.n_features):
                loss += self.l2 * w[j] * w[j]
        return loss

    cdef int scale_gradient(self, const double *w, double *sums) except -1:
        """Turn sums into the gradient, or Hessian product, from sums[2] on: of w, then of the intercept."""
        cdef Py_ssize_t d = self.n_features, j
        cdef double factor = 2.0 / self.total_weight, limit = FLT_MAX if self.is_float else DBL_MAX
        cdef double *gradient = sums + 2
        gradient[d] = factor * sums[1]      # the scratch after the sums is free by now
        if self.l2:
            for j in range(d):
                gradient[j] = factor * gradient[j] + 2.0 * self.l2 * w[j]
            factor = 1.0
        if not kernels.scale(gradient, d, factor, limit) or (self.fit_intercept and not fabs(gradient[d]) <= limit):
            self.refuse_gradient()
        return 0

    cdef int refuse_gradient(self) except -1:
        precision = "float32" if self.is_float else "float64"
        raise OverflowError(f"the gradient overflows {precision}; scale the data down")

    cdef double evaluate_in_place(self, cnp.ndarray w, cnp.ndarray gradient) except? -1.0:
        """F at w, and its gradient, straight from one to the other."""
        cdef Py_ssize_t d = self.n_features
        cdef double factor = 2.0 / self.total_weight, b = element(w, d) if self.fit_intercept else 0.0, loss
        cdef double sums[2]
        cdef bint fine = gradient_in_place(&self.block.rows, w, b, factor, sums, gradient)
        self.n_passes += 1
        loss = sums[0] / self.total_weight
        if not isfinite(loss):
            self._on_overflow(w)
            loss = INFINITY
        if self.fit_intercept:
            sums[1] *= factor
            fine &= fabs(sums[1]) <= (FLT_MAX if self.is_float else DBL_MAX)
            if self.is_float:
                (<float *> cnp.PyArray_DATA(gradient))[d] = <float> sums[1]
            else:
                (<double *> cnp.PyArray_DATA(gradient))[d] = sums[1]
        if not fine:
            self.refuse_gradient()
        return loss

    cdef double evaluate(self, w, const double *values, double *memory, bint with_gradient) except? -1.0:
        """F at the parameters `values`, given as w; with the gradient, that too, from sums[2] on."""
        cdef double *sums = memory + self.n_features + 1
        cdef double loss
        self.sum_over_data(values, memory, with_gradient, False)
        loss = self.value_of(values, sums)
        if not isfinite(loss):
            self._on_overflow(w)
            loss = INFINITY
        if with_gradient:
            self.scale_gradient(values, sums)
        return loss

    cdef cnp.ndarray checked_out(self, out, w, str name):
        cdef Span span
        cdef Py_ssize_t i
        if out is None:
            return new_vector(self.n_parameters(), self.is_float)
        if not is_float_vector(out, self.n_parameters()) or not cnp.PyArray_ISWRITEABLE(out):
            self._on_out(out)
        span = span_of(out)
        for i in range(5):
            if meet(span, self.data[i]):
                self._on_overlap(out, w, name)
                break
        else:
            if w is not None and (type(w) is not cnp.ndarray or meet(span, span_of(w))):
                self._on_overlap(out, w, name)
        return out

    def value(self, w):
        """F(w), in one pass.

        Parameters
        ----------
        w : array_like of shape (n_features,), or (n_features + 1,) with the intercept last

        Returns
        -------
        float
            In units of y squared; infinity if it overflows.
        """
        cdef double *memory = self.borrow()
        try:
            return self.evaluate(w, self.parameters(w, memory, "w"), memory, False)
        finally:
            self.give_back(memory)

    def grad(self, w, out=None):
        """The gradient of F at w, in one pass.

        Parameters
        ----------
        w : array_like of shape (n_features,), or (n_features + 1,) with the intercept last
        out : ndarray of w's shape, optional
            float32 or float64, sharing no memory with w or the data; written to and returned.

        Returns
        -------
        ndarray of w's shape
            In units of F per unit of w; float32 if X is, else float64.
        """
        return self.value_and_grad(w, out)[1]

    def value_and_grad(self, w, out=None):
        """F(w) and its gradient, both in one pass.

        Parameters
        ----------
        w : array_like of shape (n_features,), or (n_features + 1,) with the intercept last
            As for `value`.
        out : ndarray of w's shape, optional
            As for `grad`.

        Returns
        -------
        loss : float
            As of `value`.
        gradient : ndarray of w's shape
            As of `grad`; `out`, if it was given.
        """
        cdef cnp.ndarray gradient = self.checked_out(out, w, "w")
        cdef double *memory
        cdef double loss
        if (
            self.in_place and lies_as(gradient, self.is_float) and is_float_vector(w, self.n_parameters())
            and lies_as(w, self.is_float)
        ):
            return self.evaluate_in_place(w, gradient), gradient
        memory = self.borrow()
        try:
            loss = self.evaluate(w, self.parameters(w, memory, "w"), memory, True)
            write_vector(memory + self.n_features + 3, gradient)
            return loss, gradient
        finally:
            self.give_back(memory)

    def hessp(self, v, out=None):
        """The Hessian of F times v, H v = (2/S) X'(s o Xv) + 2 l2 v, in one pass; F is quadratic, so H is constant.

        Parameters
        ----------
        v : array_like of shape (n_features,), or (n_features + 1,) with the intercept's entry last
        out : ndarray of v's shape, optional
            As for `grad`.

        Returns
        -------
        ndarray of v's shape
        """
        cdef double *memory = self.borrow()
        cdef double *sums = memory + self.n_features + 1
        cdef const double *values
        cdef cnp.ndarray product
        try:
            product = self.checked_out(out, v, "v")
            values = self.parameters(v, memory, "v")
            self.sum_over_data(values, memory, True, True)
            if not isfinite(self.value_of(values, sums)):
                self._on_overflow(v, "v")
            self.scale_gradient(values, sums)
            write_vector(sums + 2, product)
            return product
        finally:
            self.give_back(memory)

    def step_(self, w, lr):
        """One step of gradient descent in place, w -= lr * grad F(w), in one pass.

        Parameters
        ----------
        w : ndarray of shape (n_features,), or (n_features + 1,) with the intercept last
            float32 or float64, writable, sharing no memory with the data.
        lr : float
            Step size, at least 0.

        Returns
        -------
        float
            F at the old w.

        Raises
        ------
        DivergenceError
            If the loss or the step overflows; w is left as it was.
        """
        cdef double *memory = self.borrow()
        cdef double *gradient
        cdef double loss, rate
        try:
            if not is_float_vector(w, self.n_parameters()) or not cnp.PyArray_ISWRITEABLE(w):
                self._on_out(w, "w")
            self.checked_out(w, None, "w")
            rate = lr if type(lr) is float and isfinite(lr) and lr >= 0 else self._on_lr(lr)
            gradient = memory + self.n_features + 3
            try:
                loss = self.evaluate(w, self.parameters(w, memory, "w"), memory, True)
            except OverflowError:
                loss = INFINITY
            if not isfinite(loss) or not lands_within(w, gradient, rate):
                self._on_divergence(w, loss, rate)
            update_in_place(w, gradient, rate)
            return loss
        finally:
            self.give_back(memory)


cdef bint lands_within(cnp.ndarray w, const double *g, double lr) noexcept:
    """Whether w - lr * g can be held in w's dtype."""
    cdef Py_ssize_t step = cnp.PyArray_STRIDE(w, 0), beyond = 0, j
    cdef const char *data = <const char *> cnp.PyArray_DATA(w)
    if cnp.PyArray_TYPE(w) == cnp.NPY_FLOAT:
        for j in range(cnp.PyArray_DIM(w, 0)):
            beyond += not fabs((<const float *> (data + j * step))[0] - lr * g[j]) <= FLT_MAX
    else:
        for j in range(cnp.PyArray_DIM(w, 0)):
            beyond += not fabs((<const double *> (data + j * step))[0] - lr * g[j]) <= DBL_MAX
    return beyond == 0


cdef inline void update_in_place(cnp.ndarray w, const double *g, double lr) noexcept:
    cdef Py_ssize_t step = cnp.PyArray_STRIDE(w, 0) // cnp.PyArray_ITEMSIZE(w), d = cnp.PyArray_DIM(w, 0)
    if cnp.PyArray_TYPE(w) == cnp.NPY_FLOAT:
        kernels.update_f32(<float *> cnp.PyArray_DATA(w), g, step, d, lr)
    else:
        kernels.update_f64(<double *> cnp.PyArray_DATA(w), g, step, d, lr)


cdef bint short_rows(object X, object y, Rows *rows) noexcept:
    """Fill rows if X and y are native float arrays of a single block."""
    cdef Py_ssize_t size
    cdef int kind
    if type(X) is not cnp.ndarray or cnp.PyArray_NDIM(X) != 2:
        return False
    kind = cnp.PyArray_TYPE(X)
    rows.n = cnp.PyArray_DIM(X, 0)
    rows.d = cnp.PyArray_DIM(X, 1)
    size = cnp.PyArray_ITEMSIZE(X)
    if (
        (kind != cnp.NPY_DOUBLE and kind != cnp.NPY_FLOAT) or rows.n * rows.d * size > ONE_BLOCK or not rows.n * rows.d
        or not cnp.PyArray_ISALIGNED(X) or not cnp.PyArray_ISNOTSWAPPED(X) or cnp.PyArray_STRIDE(X, 0) % size
        or cnp.PyArray_STRIDE(X, 1) % size or not is_float_vector(y, rows.n)
    ):
        return False
    rows.X = cnp.PyArray_DATA(X)
    rows.targets.y = cnp.PyArray_DATA(y)
    rows.targets.s = NULL
    rows.x_row = cnp.PyArray_STRIDE(X, 0) // size
    rows.x_col = cnp.PyArray_STRIDE(X, 1) // size
    rows.streams = streams
    rows.targets.y_step = cnp.PyArray_STRIDE(y, 0) // cnp.PyArray_ITEMSIZE(y)
    rows.targets.y_is_float = cnp.PyArray_TYPE(y) == cnp.NPY_FLOAT
    rows.targets.s_step = rows.targets.s_is_float = 0
    return True


def short_pass(X, y, w, out, bint with_gradient):
    """(L(w), gradient or None) by one short pass over native arrays; None where that is not what was given."""
    cdef Rows rows
    cdef double sums[2]
    cdef cnp.ndarray gradient = None
    cdef bint is_float, fine
    if not short_rows(X, y, &rows) or not is_float_vector(w, rows.d):
        return None
    is_float = cnp.PyArray_TYPE(X) == cnp.NPY_FLOAT
    if out is not None:
        if (
            not is_float_vector(out, rows.d) or not cnp.PyArray_ISWRITEABLE(out) or meet(span_of(out), span_of(X))
            or meet(span_of(out), span_of(y)) or meet(span_of(out), span_of(w))
        ):
            return None
        gradient = out
    elif with_gradient:
        gradient = new_vector(rows.d, is_float)
    if (
        with_gradient and lies_as(w, is_float) and lies_as(gradient, is_float)
        and kernels.goes_in_place(&rows, 4 if is_float else 8)
    ):
        fine = gradient_in_place(&rows, w, 0.0, 2.0 / rows.n, sums, gradient)
    else:
        fine = sum_short(&rows, w, sums, gradient, is_float)
    return (sums[0] / rows.n, gradient) if fine and isfinite(sums[0]) else None


cdef bint sum_short(const Rows *rows, cnp.ndarray w, double *sums_out, cnp.ndarray gradient, bint is_float) except -1:
    """One pass over rows by way of double, on the stack if there is room; the gradient may be None."""
    cdef double stack[512]
    cdef double *memory = stack
    cdef double *sums
    cdef Py_ssize_t size = 2 * rows.d + 2 + kernels.scratch_reals(rows)
    cdef mse_fn kernel = choose_kernel(is_float, gradient is not None)
    cdef bint fine = True
    if size > 512:
        memory = <double *> PyMem_RawMalloc(size * sizeof(double))
        if memory == NULL:
            raise MemoryError()
    sums = memory + rows.d
    memset(sums, 0, (rows.d + 2) * sizeof(double))
    read_vector(w, memory)
    if rows.n * rows.d < SHORT_PASS // 8:
        kernel(rows, memory, 0.0, sums, sums + rows.d + 2)
    else:
        with nogil:
            kernel(rows, memory, 0.0, sums, sums + rows.d + 2)
    sums_out[0] = sums[0]
    if gradient is not None:
        fine = kernels.scale(sums + 2, rows.d, 2.0 / rows.n, FLT_MAX if is_float else DBL_MAX)
        if fine:
            write_vector(sums + 2, gradient)
    if memory != stack:
        PyMem_RawFree(memory)
    return fine
