"""Stochastic updates in a diagonal metric, with centred rows and variance reduction: runs of them, dense or sparse.

Built once for each instruction-set level; `fastgd._kernels` picks one at import. For the rows B of a batch, at the
parameters (v, c) before the update,

    z_i = x_i - means                                       (sparse rows are not centred)
    f_i = s_i (z_i.v + c - y_i)
    f_i <- f_i min(1, |B| / (rate s_i q_i)),  q_i = sum_j metric_j z_ij^2 + intercept_step        where a run clamps
    p_j = (1 / |B|) sum_i f_i z_ij + drift_j + l2 v_j       p_c = (1 / |B|) sum_i f_i + drift_c
    step_j <- momentum step_j - rate metric_j p_j           step_c <- momentum step_c - rate intercept_step p_c
    v_j <- v_j + step_j                                     c <- c + step_c

and then, for l1, anchor_j + v_j moves towards zero by rate metric_j l1, but not beyond (the proximal step). Everything
is double, whatever X is. With |B| = 1 a clamped row carries (v, c) no further than onto the plane on which its residual
vanishes, a projection in the metric, so that no step size makes an update expand (normalised LMS; Nagumo and Noda,
1967).

With a drift of zero this is stochastic gradient descent. With targets of zero, v the distance from a snapshot, and the
drift half the gradient there, it is variance-reduced: the pull f_i z_i is that of row i now less that at the snapshot
(SVRG; Johnson and Zhang, 2013), which for a linear model needs neither a second product nor a table.

==============================  =====================================================================================
a row an update, dense          `one_by_one`: a pass over the row for its residual, one to move v
a row an update, sparse         `lazily`: an entry of v goes through what updates do to all of v when it is needed next
more rows, or with momentum     `by_batches`: the pulls of the rows are added up, and v is moved once a batch
==============================  =====================================================================================
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.math cimport expm1, fabs, log1p
from libc.stdint cimport int32_t, int64_t

from fastgd._access cimport row_at, sparse_start
from fastgd._targets cimport target_at, weight_at
from fastgd._types cimport Rows, SAGAKernels, SAGARun, SAGAState, SparseRows, Targets, real

cdef enum:
    LINES = 16              # of cache, that are asked for of a row at most
    AHEAD = 8192            # bytes of rows between those in use and those asked for,
    AHEAD_LEAST = 8         # and rows,
    AHEAD_MOST = 24         # at least and at most

cdef double SHORT = 1e-5    # lags that shrink an entry by less are summed by a series: its error is 1e-11, relatively

cdef extern from *:
    """
    static inline void prefetch_line(const void *address) { __builtin_prefetch(address); }
    """
    void prefetch_line(const void *address) noexcept nogil

cdef extern from "lanes.h":
    enum:
        LANES "FASTGD_LANES"
    ctypedef double lanes
    lanes all_lanes(double value) noexcept nogil
    lanes widened(const float *x) noexcept nogil
    lanes sums_of_lanes(lanes a, lanes b, lanes c, lanes d) noexcept nogil      # sum a, sum b, sum c, sum d, ...


ctypedef fused any_rows:
    Rows
    SparseRows

ctypedef fused index:
    int32_t
    int64_t


# ---- rows ----------------------------------------------------------------------------------------------------------

cdef inline lanes load(const real *x) noexcept nogil:
    if real is float:
        return widened(x)
    else:
        return (<const lanes *> x)[0]


cdef inline void prefetch_bytes(const void *start, Py_ssize_t size) noexcept nogil:
    """Ask for the cache lines of so many bytes, of many for the first; a prefetch never faults."""
    cdef Py_ssize_t line
    for line in range(min(size // 64 + 1, <Py_ssize_t> LINES)):
        prefetch_line(<const char *> start + 64 * line)


cdef inline void prefetch_target(const Targets *targets, Py_ssize_t i) noexcept nogil:
    if targets.y != NULL:
        prefetch_line(<const char *> targets.y + i * targets.y_step * (4 if targets.y_is_float else 8))
    if targets.s != NULL:
        prefetch_line(<const char *> targets.s + i * targets.s_step * (4 if targets.s_is_float else 8))


cdef inline void ask_for(const any_rows *rows, const SAGARun *run, Py_ssize_t at, real *unused) noexcept nogil:
    """Prefetch the row at this place of the order, if there is one."""
    cdef Py_ssize_t i, start, size
    if at >= run.count:
        return
    i = run.order[at]
    prefetch_target(&rows.targets, i)
    if any_rows is Rows:
        if rows.x_col == 1:
            prefetch_bytes(<const real *> rows.X + i * rows.x_row, rows.d * sizeof(real))
    else:
        start = sparse_start(rows, i)
        size = sparse_start(rows, i + 1) - start
        prefetch_bytes(<const real *> rows.data + start, size * sizeof(real))
        if rows.is_long:
            prefetch_bytes(<const int64_t *> rows.indices + start, size * sizeof(int64_t))
        else:
            prefetch_bytes(<const int32_t *> rows.indices + start, size * sizeof(int32_t))


cdef inline Py_ssize_t rows_ahead(const any_rows *rows, real *unused) noexcept nogil:
    """How many rows before its use a row is asked for."""
    cdef Py_ssize_t size
    if any_rows is Rows:
        size = rows.d * sizeof(real)
    else:
        size = sparse_start(rows, rows.n) // rows.n * (sizeof(real) + 4)
    return min(max(AHEAD // (size + 1), <Py_ssize_t> AHEAD_LEAST), <Py_ssize_t> AHEAD_MOST)


cdef inline double factor_of(
    const Targets *targets, Py_ssize_t i, double product, double square, const SAGARun *run, double c
) noexcept nogil:
    """f_i, given z_i.v and q_i."""
    cdef double s = weight_at(targets, i), reach = run.rate / run.batch * s * square
    cdef double f = s * (product + (c - target_at(targets, i)))
    return f / reach if run.clamps and reach > 1 else f


cdef inline double truncated(double v, double anchor, double reach) noexcept nogil:
    """v with anchor + v moved towards zero by the reach, but not beyond; NaN stays NaN."""
    cdef double w = anchor + v
    if fabs(w) <= reach:
        return -anchor
    return v - reach if w > 0 else v + reach


# ---- a row an update, dense ----------------------------------------------------------------------------------------

cdef inline void products(
    const real *x, const double *last, const SAGARun *run, const double *v, Py_ssize_t d, double *sums_out
) noexcept nogil:
    """z.v and sum_j metric_j z_j^2; `last` holds the columns of x beyond the last whole vector, padded."""
    cdef const double *m = run.means
    cdef const double *metric = run.metric
    cdef lanes p0 = all_lanes(0.0), p1 = p0, q0 = p0, q1 = p0, z
    cdef double sums[LANES]
    cdef Py_ssize_t j = 0
    while j + 2 * LANES <= d:
        z = load(x + j) - load(m + j)
        p0 += z * load(v + j)
        q0 += z * z * load(metric + j)
        z = load(x + j + LANES) - load(m + j + LANES)
        p1 += z * load(v + j + LANES)
        q1 += z * z * load(metric + j + LANES)
        j += 2 * LANES
    if j + LANES <= d:
        z = load(x + j) - load(m + j)
        p0 += z * load(v + j)
        q0 += z * z * load(metric + j)
        j += LANES
    if j < d:
        z = load(last) - load(m + j)
        p1 += z * load(v + j)
        q1 += z * z * load(metric + j)
    (<lanes *> sums)[0] = sums_of_lanes(p0, p1, q0, q1)
    sums_out[0] = sums[0] + sums[1]
    sums_out[1] = sums[2] + sums[3]


cdef inline void move(
    lanes x, Py_ssize_t j, double f, const SAGARun *run, const SAGAState *state, const bint plain, const bint averages
) noexcept nogil:
    """A vector of v from entry j on."""
    cdef lanes v = load(state.v + j), z = x - load(run.means + j)
    if plain:
        v = v - all_lanes(f) * load(run.metric + j) * z
    else:
        v = v - (load(run.lost + j) * v + load(run.pushed + j)) - all_lanes(f) * load(run.metric + j) * z
    (<lanes *> (state.v + j))[0] = v
    if averages:
        (<lanes *> (state.total + j))[0] = load(state.total + j) + v


cdef inline void truncate(const SAGARun *run, SAGAState *state, Py_ssize_t d) noexcept nogil:
    """The proximal step, and what it changes in the average."""
    cdef Py_ssize_t j
    cdef double v
    for j in range(d):
        v = truncated(state.v[j], run.anchor[j], run.reach[j])
        if run.averages:
            state.total[j] += v - state.v[j]
        state.v[j] = v


cdef inline void one_by_one(
    const Rows *rows, SAGARun *its_run, SAGAState *its_state, Py_ssize_t stop, real *buffer, const bint plain,
    const bint averages
) noexcept nogil:
    """`plain` and `averages` are literals."""
    cdef Py_ssize_t ahead = rows_ahead(rows, buffer), d = rows.d, whole = d - d % LANES, i, j
    cdef SAGARun run = its_run[0]           # copies, which stores to v cannot reach, so that they stay in registers
    cdef SAGAState state = its_state[0]
    cdef const real *x
    cdef double sums[2]
    cdef double last[LANES]
    cdef double f
    for j in range(LANES):
        last[j] = 0
    while run.at < stop:
        ask_for(rows, &run, run.at + ahead, buffer)
        i = run.order[run.at]
        x = row_at(rows, i, buffer)
        for j in range(whole, d):
            last[j - whole] = x[j]
        products(x, last, &run, state.v, d, sums)
        f = run.rate * factor_of(&rows.targets, i, sums[0], sums[1] + run.intercept_step, &run, state.intercept)
        j = 0
        while j < whole:
            move(load(x + j), j, f, &run, &state, plain, averages)
            j += LANES
        if whole < d:
            move(load(<const double *> last), whole, f, &run, &state, plain, averages)
        state.intercept -= run.intercept_step * f + run.intercept_pushed
        if run.truncates:
            truncate(&run, &state, d)
        if averages:
            state.intercept_total += state.intercept
            state.n_averaged += 1
        run.at += 1
    its_run.at = run.at
    its_state[0] = state


# ---- a row an update, sparse ---------------------------------------------------------------------------------------

cdef inline double sum_of_shrunk(double lost, Py_ssize_t k) noexcept nogil:
    """sum_{i < k} (1 - lost)^i."""
    return -expm1(k * log1p(-lost)) / lost if lost > 0 else k


cdef inline double sum_of_sums(double lost, double kept_sum, Py_ssize_t k) noexcept nogil:
    """sum_{i <= k} of the former, that of k + 1 terms being 1 + kept_sum."""
    cdef double n = k
    if lost * n < SHORT:
        return n * (n + 1) / 2 - lost * (n + 1) * n * (n - 1) / 6
    return (n - kept_sum) / lost


cdef inline void catch_up(const SAGARun *run, SAGAState *state, Py_ssize_t j) noexcept nogil:
    """Let entry j go through the updates that had no entry for it, up to the one that comes next."""
    cdef Py_ssize_t k = run.at - state.seen[j]
    cdef double lost = run.lost[j], pushed = run.pushed[j], v = state.v[j], before, terms
    state.seen[j] = run.at
    if k == 0 or (run.plain and not run.averages and not run.truncates):
        return
    if run.truncates:
        while k > 0:
            before = v
            v = truncated(v - (lost * v + pushed), run.anchor[j], run.reach[j])
            k -= 1
            if run.averages:
                state.total[j] += v
            if v == before:
                break       # for good
        if run.averages:
            state.total[j] += k * v
    else:
        terms = sum_of_shrunk(lost, k)
        if run.averages:
            state.total[j] += v * (1 - lost) * terms - pushed * sum_of_sums(lost, (1 - lost) * terms, k)
        v = v - (lost * v + pushed) * terms
    state.v[j] = v


cdef inline void multiply_sparse(
    const real *x, const index *columns, Py_ssize_t size, const SAGARun *run, SAGAState *state, double *sums_out
) noexcept nogil:
    cdef Py_ssize_t k, j
    cdef double p = 0, q = 0
    for k in range(size):
        j = columns[k]
        catch_up(run, state, j)
        p += x[k] * state.v[j]
        q += <double> x[k] * x[k] * run.metric[j]
    sums_out[0] = p
    sums_out[1] = q + run.intercept_step


cdef inline void move_sparse(
    const real *x, const index *columns, Py_ssize_t size, double f, const SAGARun *run, SAGAState *state
) noexcept nogil:
    """What the update does to the entries of a row; a negative count marks those begun, for columns may repeat."""
    cdef Py_ssize_t k, j
    for k in range(size):
        j = columns[k]
        if state.seen[j] >= 0:
            state.v[j] -= run.lost[j] * state.v[j] + run.pushed[j]
            state.seen[j] = -1 - state.seen[j]
        state.v[j] -= f * run.metric[j] * x[k]
    for k in range(size):
        j = columns[k]
        if state.seen[j] < 0:
            if run.truncates:
                state.v[j] = truncated(state.v[j], run.anchor[j], run.reach[j])
            if run.averages:
                state.total[j] += state.v[j]
            state.seen[j] = -state.seen[j]      # one more than before


cdef inline void update_sparse(
    const SparseRows *rows, const real *x, const index *columns, Py_ssize_t i, SAGARun *run, SAGAState *state
) noexcept nogil:
    cdef Py_ssize_t size = sparse_start(rows, i + 1) - sparse_start(rows, i)
    cdef double sums[2]
    cdef double f
    multiply_sparse(x, columns, size, run, state, sums)
    f = factor_of(&rows.targets, i, sums[0], sums[1], run, state.intercept) * run.rate
    move_sparse(x, columns, size, f, run, state)
    state.intercept -= run.intercept_step * f + run.intercept_pushed


cdef inline void lazily(
    const SparseRows *rows, SAGARun *run, SAGAState *state, Py_ssize_t stop, real *buffer
) noexcept nogil:
    cdef Py_ssize_t ahead = rows_ahead(rows, buffer), i, j, start
    cdef const real *x
    while run.at < stop:
        ask_for(rows, run, run.at + ahead, buffer)
        i = run.order[run.at]
        start = sparse_start(rows, i)
        x = <const real *> rows.data + start
        if rows.is_long:
            update_sparse(rows, x, <const int64_t *> rows.indices + start, i, run, state)
        else:
            update_sparse(rows, x, <const int32_t *> rows.indices + start, i, run, state)
        if run.averages:
            state.intercept_total += state.intercept
            state.n_averaged += 1
        run.at += 1
    if run.at == run.count:
        for j in range(rows.d):
            catch_up(run, state, j)


# ---- batches, and momentum -----------------------------------------------------------------------------------------

cdef inline void pull_sparse(
    const SparseRows *rows, const real *x, const index *columns, Py_ssize_t i, const SAGARun *run, SAGAState *state
) noexcept nogil:
    cdef Py_ssize_t size = sparse_start(rows, i + 1) - sparse_start(rows, i), k
    cdef double p = 0, q = run.intercept_step, f
    for k in range(size):
        p += x[k] * state.v[columns[k]]
        q += <double> x[k] * x[k] * run.metric[columns[k]]
    f = factor_of(&rows.targets, i, p, q, run, state.intercept)
    for k in range(size):
        state.pull[columns[k]] += f * x[k]
    state.intercept_pull += f


cdef inline void pull(
    const any_rows *rows, Py_ssize_t i, const SAGARun *run, SAGAState *state, real *buffer
) noexcept nogil:
    """Add what row i pulls."""
    cdef const real *x
    cdef double p = 0, q = run.intercept_step, f, z
    cdef Py_ssize_t start, j
    if any_rows is Rows:
        x = row_at(rows, i, buffer)
        for j in range(rows.d):
            z = x[j] - run.means[j]
            p += z * state.v[j]
            q += z * z * run.metric[j]
        f = factor_of(&rows.targets, i, p, q, run, state.intercept)
        for j in range(rows.d):
            state.pull[j] += f * (x[j] - run.means[j])
        state.intercept_pull += f
    else:
        start = sparse_start(rows, i)
        x = <const real *> rows.data + start
        if rows.is_long:
            pull_sparse(rows, x, <const int64_t *> rows.indices + start, i, run, state)
        else:
            pull_sparse(rows, x, <const int32_t *> rows.indices + start, i, run, state)


cdef void step(const SAGARun *run, SAGAState *state, Py_ssize_t d, Py_ssize_t size) noexcept nogil:
    """Move v by what the rows of a batch have pulled."""
    cdef double share = run.rate / size, velocity
    cdef Py_ssize_t j
    for j in range(d):
        velocity = run.momentum * state.velocity[j]
        velocity -= share * run.metric[j] * state.pull[j] + run.pushed[j] + run.lost[j] * state.v[j]
        state.velocity[j] = velocity
        state.v[j] += velocity
        state.pull[j] = 0
        if run.averages:
            state.total[j] += state.v[j]
    velocity = run.momentum * state.intercept_velocity
    velocity -= run.intercept_step * share * state.intercept_pull + run.intercept_pushed
    state.intercept_velocity = velocity
    state.intercept += velocity
    state.intercept_pull = 0
    if run.truncates:
        truncate(run, state, d)
    if run.averages:
        state.intercept_total += state.intercept
        state.n_averaged += 1


cdef inline void by_batches(
    const any_rows *rows, SAGARun *run, SAGAState *state, Py_ssize_t stop, real *buffer
) noexcept nogil:
    cdef Py_ssize_t ahead = rows_ahead(rows, buffer)
    while run.at < stop:
        ask_for(rows, run, run.at + ahead, buffer)
        pull(rows, run.order[run.at], run, state, buffer)
        run.at += 1
        if run.at == run.count or run.at % run.batch == 0:
            step(run, state, rows.d, (run.at - 1) % run.batch + 1)


# ---- the kernels of the table --------------------------------------------------------------------------------------

cdef inline void descend(
    const any_rows *rows, SAGARun *run, SAGAState *state, Py_ssize_t visits, real *buffer
) noexcept nogil:
    cdef Py_ssize_t stop = min(run.at + visits, run.count)
    if run.batch > 1 or run.momentum > 0:
        by_batches(rows, run, state, stop, buffer)
    elif any_rows is SparseRows:
        lazily(rows, run, state, stop, buffer)
    elif run.averages:
        if run.plain:
            one_by_one(rows, run, state, stop, buffer, True, True)
        else:
            one_by_one(rows, run, state, stop, buffer, False, True)
    elif run.plain:
        one_by_one(rows, run, state, stop, buffer, True, False)
    else:
        one_by_one(rows, run, state, stop, buffer, False, False)


cdef void dense_f32(
    const Rows *rows, SAGARun *run, SAGAState *state, Py_ssize_t visits, void *scratch
) noexcept nogil:
    descend(rows, run, state, visits, <float *> scratch)


cdef void dense_f64(
    const Rows *rows, SAGARun *run, SAGAState *state, Py_ssize_t visits, void *scratch
) noexcept nogil:
    descend(rows, run, state, visits, <double *> scratch)


cdef void sparse_f32(
    const SparseRows *rows, SAGARun *run, SAGAState *state, Py_ssize_t visits, void *scratch
) noexcept nogil:
    descend(rows, run, state, visits, <float *> scratch)


cdef void sparse_f64(
    const SparseRows *rows, SAGARun *run, SAGAState *state, Py_ssize_t visits, void *scratch
) noexcept nogil:
    descend(rows, run, state, visits, <double *> scratch)


cdef SAGAKernels kernels = SAGAKernels(
    dense_f32=dense_f32, dense_f64=dense_f64, sparse_f32=sparse_f32, sparse_f64=sparse_f64,
)

table = PyCapsule_New(&kernels, "fastgd.SAGAKernels", NULL)
