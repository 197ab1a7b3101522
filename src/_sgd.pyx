"""Stochastic gradient descent on NumPy arrays, over the kernels of src/kernels/sgd.pyx.

A solver makes a `State` and gives it to `run` again and again: an epoch, or any part of one, at a time.
"""

cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport uint32_t, uint64_t

from fastgd._rows cimport RowBlock
from fastgd._runs cimport ROWS, check_order, shape_of
from fastgd._sparse cimport SparseBlock
from fastgd._types cimport Rows, SGDKernels, SGDRun, SGDState, SparseRows, sgd_fn, sparse_sgd_fn

cnp.import_array()

cdef enum:
    BUCKETS = 256       # that places of a long order are dealt to; a byte of a draw names one
    FEW = 1 << 13       # rows whose order needs no buckets

cdef SGDKernels *kernels

cdef extern from *:
    """
    static inline void prefetch_to_write(const void *address) { __builtin_prefetch(address, 1); }
    """
    void prefetch_to_write(const void *address) noexcept nogil


def use(table):
    """Run on this table of kernels from now on (see `fastgd._kernels`)."""
    global kernels
    kernels = <SGDKernels *> PyCapsule_GetPointer(table, "fastgd.SGDKernels")


cdef class State:
    """Where a descent stands: the parameters, and what penalties and averaging keep about them.

    Parameters
    ----------
    coef : array_like of shape (n_features,)
        Where it starts; copied.
    intercept : float, default 0.0

    Attributes
    ----------
    n_features, n_updates, n_averaged : int
        How many updates were made, and how many of them are in the average.
    """

    cdef SGDState state
    cdef readonly Py_ssize_t n_features
    cdef readonly Py_ssize_t n_updates
    cdef cnp.ndarray w          # what the pointers of `state` point at; the latter two may be None
    cdef cnp.ndarray total
    cdef cnp.ndarray taken

    def __init__(self, coef, double intercept=0.0):
        self.load_state_dict({
            "w": coef, "total": None, "taken": None, "scale": 1.0, "total_scale": 0.0, "due": 0.0,
            "intercept": intercept, "intercept_total": 0.0, "n_averaged": 0, "n_updates": 0,
        })

    @property
    def n_averaged(self):
        return self.state.n_averaged

    @property
    def intercept(self):
        return self.state.intercept

    @property
    def coef(self):
        """The coefficients, a new array."""
        return self.state.scale * self.w

    @property
    def average(self):
        """The mean (coefficients, intercept) of the averaged updates."""
        if not self.state.n_averaged:
            raise ValueError("no update was averaged yet")
        total = self.total + self.state.total_scale * self.w
        return total / self.state.n_averaged, self.state.intercept_total / self.state.n_averaged

    def state_dict(self):
        """All of it, as arrays and numbers, for `load_state_dict` to go on from with the same bits."""
        return {
            "w": self.w.copy(), "total": copied(self.total), "taken": copied(self.taken), "scale": self.state.scale,
            "total_scale": self.state.total_scale, "due": self.state.due, "intercept": self.state.intercept,
            "intercept_total": self.state.intercept_total, "n_averaged": self.state.n_averaged,
            "n_updates": self.n_updates,
        }

    def load_state_dict(self, values):
        w, total, taken = [copied(values[name]) for name in ("w", "total", "taken")]
        for vector in (total, taken):
            if vector is not None and len(vector) != len(w):
                raise ValueError("the vectors of a state must have one length")
        self.w, self.total, self.taken = w, total, taken
        self.n_features = len(w)
        self.state.scale = values["scale"]
        self.state.total_scale = values["total_scale"]
        self.state.due = values["due"]
        self.state.intercept = values["intercept"]
        self.state.intercept_total = values["intercept_total"]
        self.state.n_averaged = values["n_averaged"]
        self.n_updates = values["n_updates"]
        self.point()

    cdef void point(self) noexcept:
        self.state.w = <double *> cnp.PyArray_DATA(self.w)
        self.state.total = NULL if self.total is None else <double *> cnp.PyArray_DATA(self.total)
        self.state.taken = NULL if self.taken is None else <double *> cnp.PyArray_DATA(self.taken)

    cdef void make_room(self, bint averages, bint truncates):
        """For an average, for the l1 penalty."""
        cdef cnp.npy_intp size = self.n_features
        if averages and self.total is None:
            self.total = cnp.PyArray_ZEROS(1, &size, cnp.NPY_DOUBLE, 0)
        if truncates and self.taken is None:
            self.taken = cnp.PyArray_ZEROS(1, &size, cnp.NPY_DOUBLE, 0)
        self.point()


cdef copied(values):
    """A vector of double of its own, or None."""
    if values is None:
        return None
    return cnp.PyArray_FROMANY(values, cnp.NPY_DOUBLE, 1, 1, cnp.NPY_ARRAY_CARRAY | cnp.NPY_ARRAY_ENSURECOPY)


cdef int check_rates(const Py_ssize_t[::1] order, Py_ssize_t batch_size, const double[::1] rates) except -1:
    cdef Py_ssize_t updates = (order.shape[0] + batch_size - 1) // batch_size
    if rates.shape[0] != 1 and rates.shape[0] != updates:
        raise ValueError(f"rates must be one or {updates}, one for each update; got {rates.shape[0]}")
    return 0


def run(
    block, State state not None, const Py_ssize_t[::1] order not None, const double[::1] rates not None,
    Py_ssize_t batch_size=1, double l1=0.0, double l2=0.0, double intercept_step=1.0, average_from=None,
    bint as_always=False,
):
    """Update the state by rows of the block, `batch_size` of them an update.

    With r_i = x_i.w + b - y_i before the update and B the next rows of the order, the update is

        w <- max(0, 1 - rate l2) w - (rate / |B|) sum_i s_i r_i x_i
        b <- b - intercept_step (rate / |B|) sum_i s_i r_i

    and w_j is then truncated by rate l1, later if B has no entry for it (src/kernels/sgd.pyx).

    Parameters
    ----------
    block : RowBlock or SparseBlock
    state : State
    order : ndarray of intp
        Rows of the block, in any order; they may repeat or be left out. The last update may have fewer than the others.
    rates : ndarray of float64
        One for each update, or a single one for all.
    batch_size : int, default 1
    l1, l2 : float, default 0.0
        Penalties. With rates of 2 lr these are l1 / 2 and l2 of F = L + l1 |w|_1 + l2 |w|^2; scikit-learn's rates are
        eta, its penalties alpha l1_ratio and alpha (1 - l1_ratio).
    intercept_step : float, default 1.0
        0 leaves the intercept alone; scikit-learn's is 0.01 for sparse rows.
    average_from : int, optional
        Average the parameters after each update from this one on, counted from 0 over all runs of the state. An
        average that was begun goes on.
    as_always : bool, default False
        Average truncated parameters as if what was taken from them had never been there, as scikit-learn does.

    Returns
    -------
    tuple of 3 floats
        sum s r^2, sum r^2 and sum s, over the rows as they came. NaN or infinity if the descent diverged.
    """
    cdef Py_ssize_t n, d, visits
    cdef Py_ssize_t length = order.shape[0], before = length
    cdef double sums[3]
    cdef SGDRun part
    n, d, visits = shape_of(block)
    check_order(state.n_features, n, d, order, batch_size)
    check_rates(order, batch_size, rates)
    if average_from is not None and not state.state.n_averaged:
        before = max(<Py_ssize_t> 0, <Py_ssize_t> average_from - state.n_updates) * batch_size
    elif state.state.n_averaged:
        before = 0
    sums[0] = sums[1] = sums[2] = 0
    part.batch = min(batch_size, length)
    part.rate_step = rates.shape[0] > 1
    part.l1 = l1
    part.l2 = l2
    part.intercept_step = intercept_step
    part.as_always = as_always
    if before > 0:
        part.order = &order[0]
        part.count = min(before, length)
        part.rates = &rates[0]
        part.averages = False
        run_part(block, state, &part, visits, sums)
    if before < length:
        part.order = &order[before]
        part.count = length - before
        part.rates = &rates[0] + before // batch_size * part.rate_step
        part.averages = True
        run_part(block, state, &part, visits, sums)
    return sums[0], sums[1], sums[2]


cdef int run_part(block, State state, SGDRun *part, Py_ssize_t visits, double *sums_out) except -1:
    cdef const Rows *rows = NULL
    cdef const SparseRows *sparse_rows = NULL
    cdef sgd_fn dense = NULL
    cdef sparse_sgd_fn sparse = NULL
    cdef void *scratch = PyMem_RawMalloc(kernels.scratch_doubles(part, state.n_features) * sizeof(double))
    if scratch == NULL:
        raise MemoryError()
    if isinstance(block, RowBlock):
        rows = &(<RowBlock> block).rows
        dense = kernels.dense_f32 if (<RowBlock> block).is_float else kernels.dense_f64
    else:
        sparse_rows = &(<SparseBlock> block).rows
        sparse = kernels.sparse_f32 if (<SparseBlock> block).is_float else kernels.sparse_f64
    state.make_room(part.averages, part.l1 > 0)
    part.at = part.stage = 0
    try:
        while part.at < part.count:
            with nogil:
                if dense != NULL:
                    dense(rows, part, &state.state, visits, sums_out, scratch)
                else:
                    sparse(sparse_rows, part, &state.state, visits, sums_out, scratch)
            PyErr_CheckSignals()
    finally:
        PyMem_RawFree(scratch)
        state.n_updates += part.at // part.batch + (part.at == part.count and part.at % part.batch > 0)
    return 0


# ---- orders of rows -------------------------------------------------------------------------------------------------
#
# To shuffle by swaps is a cache miss a row once the order outgrows the cache. A long order is dealt first: each row
# goes to one of the buckets at random, and each bucket is then shuffled by swaps, in the cache. All permutations stay
# equally likely (Rao, 1961; Sandelius, 1962).

cdef inline uint64_t draw(uint64_t *seed) noexcept nogil:
    """64 random bits: splitmix64 (Steele, Lea and Flood, 2014)."""
    cdef uint64_t z
    seed[0] += <uint64_t> 0x9E3779B97F4A7C15
    z = seed[0]
    z = (z ^ (z >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t> 0x94D049BB133111EB
    return z ^ (z >> 31)


cdef inline uint32_t below(uint32_t bound, uint32_t bits, uint64_t *seed) noexcept nogil:
    """Uniform on 0 to bound - 1, from these random bits, seldom from more; hardly ever by a division (Lemire, 2019)."""
    cdef uint64_t product = <uint64_t> bits * bound
    if <uint32_t> product < bound:
        while <uint32_t> product < (<uint32_t> 0 - bound) % bound:
            product = (draw(seed) >> 32) * bound
    return product >> 32


cdef void swap(Py_ssize_t *order, Py_ssize_t size, Py_ssize_t count, uint64_t *seed) noexcept nogil:
    """The first `count` swaps of Fisher and Yates, from the last row."""
    cdef Py_ssize_t k, last, other, row
    cdef uint64_t bits = 0
    for k in range(count):
        bits = bits >> 32 if k & 1 else draw(seed)
        last = size - 1 - k
        other = below(last + 1, <uint32_t> bits, seed)
        row = order[last]
        order[last] = order[other]
        order[other] = row


cdef void tally(uint64_t *seed, Py_ssize_t size, Py_ssize_t *counts) noexcept nogil:
    """Count what `deal` puts into each bucket."""
    cdef Py_ssize_t k
    cdef uint64_t bits = 0
    for k in range(size):
        bits = bits >> 8 if k & 7 else draw(seed)
        counts[bits & 255] += 1


cdef void deal(uint64_t *seed, Py_ssize_t start, Py_ssize_t size, Py_ssize_t *places, Py_ssize_t *order) noexcept nogil:
    """Put the rows from `start` to the places of their buckets."""
    cdef Py_ssize_t k, place
    cdef uint64_t bits = 0
    for k in range(size):
        bits = bits >> 8 if k & 7 else draw(seed)
        place = places[bits & 255]
        places[bits & 255] = place + 1
        prefetch_to_write(order + place + 8)     # the next line of the bucket
        order[place] = start + k


cdef void spell_out(Py_ssize_t *order, Py_ssize_t n, Py_ssize_t stretch, Py_ssize_t *k, Py_ssize_t *end) noexcept nogil:
    """Replace stretches by their rows, from the last, of which `end` is the end, as many as ROWS have."""
    cdef Py_ssize_t start, row, visits = 0
    while k[0] > 0 and visits < ROWS:
        k[0] -= 1
        start = order[k[0]] * stretch
        for row in range(min(start + stretch, n) - 1, start - 1, -1):
            end[0] -= 1
            order[end[0]] = row
        visits += stretch


cdef int swap_all(Py_ssize_t *order, Py_ssize_t size, uint64_t *seed) except -1:
    while size > 0:
        with nogil:
            swap(order, size, min(size, <Py_ssize_t> ROWS), seed)
        size -= ROWS
        PyErr_CheckSignals()
    return 0


cdef int shuffle_all(Py_ssize_t *order, Py_ssize_t n, uint64_t *seed) except -1:
    """Make a permutation of n rows."""
    cdef Py_ssize_t places[BUCKETS]
    cdef Py_ssize_t k, size, place = 0
    cdef uint64_t again = seed[0]
    if n <= FEW:
        for k in range(n):
            order[k] = k
        return swap_all(order, n, seed)
    for k in range(BUCKETS):
        places[k] = 0
    for k in range(0, n, ROWS):
        with nogil:
            tally(seed, min(n - k, <Py_ssize_t> ROWS), places)
        PyErr_CheckSignals()
    for k in range(BUCKETS):
        size = places[k]
        places[k] = place
        place += size
    for k in range(0, n, ROWS):
        with nogil:
            deal(&again, k, min(n - k, <Py_ssize_t> ROWS), places, order)
        PyErr_CheckSignals()
    place = 0
    for k in range(BUCKETS):
        swap_all(order + place, places[k] - place, seed)
        place = places[k]
    return 0


cdef int shuffle_windows(Py_ssize_t[::1] order, Py_ssize_t window, uint64_t *seed) except -1:
    cdef Py_ssize_t n = order.shape[0], k
    for k in range(0, n, window):
        swap_all(&order[k], min(window, n - k), seed)
    return 0


def shuffle(Py_ssize_t[::1] order not None, uint64_t seed, Py_ssize_t stretch=1, Py_ssize_t window=1):
    """Fill the order with a random permutation, the same for a seed on every machine.

    Parameters
    ----------
    order : ndarray of intp of shape (n,)
        Overwritten by 0 to n - 1, shuffled.
    seed : int
        From 0 to 2^64 - 1.
    stretch, window : int, default 1
        With a stretch of 1 all permutations are equally likely. Else rows that follow each other stay together: such
        stretches are shuffled, and then the rows within each window of so many places of the order. This is less
        random, but a descent hardly tells if windows have many stretches (CorgiPile; Xu et al., 2022), and rows
        beyond the caches are read up to twice as fast. 8 KB of rows and 128 KB do well.
    """
    cdef Py_ssize_t n = order.shape[0], end = n, k
    cdef uint64_t state = seed
    if n == 0 or stretch < 1 or window < 1:
        raise ValueError(f"order, stretch and window must have a row at least; got {n}, {stretch} and {window}")
    state = draw(&state)
    stretch = min(stretch, n)
    k = (n + stretch - 1) // stretch
    shuffle_all(&order[0], k, &state)
    while stretch > 1 and k > 0:
        with nogil:
            spell_out(&order[0], n, stretch, &k, &end)
        PyErr_CheckSignals()
    if window > 1:
        shuffle_windows(order, window, &state)


def shuffle_within(Py_ssize_t[::1] order not None, uint64_t seed, Py_ssize_t window):
    """Shuffle each window of so many places of an order by itself, in place; what `shuffle` does last."""
    cdef uint64_t state = seed
    if window < 1:
        raise ValueError(f"a window must have a row at least; got {window}")
    state = draw(&state)
    shuffle_windows(order, window, &state)
