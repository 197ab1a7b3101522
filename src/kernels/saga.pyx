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
a row an update, dense, without  panels of rows, each of them read once for as short a chain of operations from one
l2, drift and l1                 panel's v to the next as can be (`in_panels`)
a row an update, dense          `one_by_one`: a pass over the row for its residual, one to move v
a row an update, sparse         `lazily`: an entry of v goes through what updates do to all of v when it is needed next
more rows, or with momentum     `by_batches`: the pulls of the rows are added up, and v is moved once a batch
==============================  =====================================================================================
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.math cimport expm1, fabs, log1p
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from fastgd._access cimport row_at, sparse_start
from fastgd._panels cimport (
    all_lanes, any_rows, ask_for_panel, collect, find_rows, index, LANES, lanes, lay_out, Layout, load, PANEL,
    prefetch_row, prefetch_target, rows_ahead, spread, sums_of_lanes,
)
from fastgd._targets cimport target_at, weight_at
from fastgd._types cimport Rows, SAGAKernels, SAGARun, SAGAState, SparseRows, Targets, real

cdef enum:
    GROUPS = 3              # of lanes that a row has at most for v to stay in registers

cdef double SHORT = 1e-5    # lags that shrink an entry by less are summed by a series: its error is 1e-11, relatively


# ---- rows ----------------------------------------------------------------------------------------------------------

cdef inline void ask_for(const any_rows *rows, const SAGARun *run, Py_ssize_t at, real *unused) noexcept nogil:
    """Prefetch the row at this place of the order, if there is one."""
    if at < run.count:
        prefetch_target(&rows.targets, run.order[at])
        prefetch_row(rows, run.order[at], unused)


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


# ---- panels, a row an update, dense --------------------------------------------------------------------------------
#
# As in src/kernels/sgd.pyx: the products of PANEL rows with the present v and, in the metric, with themselves and one
# another wait for nothing, and from them the residuals follow without v. With the steps c_i = rate f_i and the
# intercept's step κ,
#
#     r_q = z_q.v + c - y_q - sum_{i<q} c_i (sum_j metric_j z_qj z_ij + κ)
#
# and one update by all rows ends the panel. The sum of its parameters is PANEL times the last ones, plus i times what
# row i has moved them by.

ctypedef struct Spread:
    # What belongs to the columns, in lanes as a row is read. The metric is zero where the last group repeats a column.
    lanes *v
    lanes *total
    lanes *means
    lanes *metric


cdef inline void multiply_group(
    const real **x, Py_ssize_t j, lanes v, lanes means, lanes metric, lanes *sums
) noexcept nogil:
    """Add the products of a group of columns, of which j is the first, to the sums."""
    cdef lanes z0 = load(x[0] + j) - means, z1 = load(x[1] + j) - means
    cdef lanes z2 = load(x[2] + j) - means, z3 = load(x[3] + j) - means
    cdef lanes m0 = metric * z0, m1 = metric * z1, m2 = metric * z2, m3 = metric * z3
    sums[0] += v * z0
    sums[1] += v * z1
    sums[2] += v * z2
    sums[3] += v * z3
    sums[4] += m0 * z0
    sums[5] += m1 * z1
    sums[6] += m2 * z2
    sums[7] += m3 * z3
    sums[8] += m0 * z1
    sums[9] += m0 * z2
    sums[10] += m1 * z2
    sums[11] += m0 * z3
    sums[12] += m1 * z3
    sums[13] += m2 * z3


cdef inline void multiply(
    const real **x, const lanes *v, const Spread *columns, const Layout *layout, double *products_out, const int groups
) noexcept nogil:
    """z_q.v for each q; then in the metric z_q.z_q for each; then, row by row, z_q.z_i for i < q."""
    cdef Py_ssize_t last = (groups if groups else layout.groups) - 1, k
    cdef lanes sums[14]
    for k in range(14):
        sums[k] = all_lanes(0.0)
    for k in range(last):
        multiply_group(x, LANES * k, v[k], columns.means[k], columns.metric[k], sums)
    multiply_group(x, layout.tail, v[last], columns.means[last], columns.metric[last], sums)
    (<lanes *> products_out)[0] = sums_of_lanes(sums[0], sums[1], sums[2], sums[3])
    (<lanes *> (products_out + 4))[0] = sums_of_lanes(sums[4], sums[5], sums[6], sums[7])
    (<lanes *> (products_out + 8))[0] = sums_of_lanes(sums[8], sums[9], sums[10], sums[11])
    (<lanes *> (products_out + 12))[0] = sums_of_lanes(sums[12], sums[13], sums[12], sums[13])


cdef inline void move_group(
    const real **x, Py_ssize_t j, const double *c, lanes means, lanes metric, lanes *v, lanes *total,
    const bint averages
) noexcept nogil:
    """A group of v and, if wanted, of the total."""
    cdef lanes z1 = all_lanes(c[1]) * (load(x[1] + j) - means), z2 = all_lanes(c[2]) * (load(x[2] + j) - means)
    cdef lanes z3 = all_lanes(c[3]) * (load(x[3] + j) - means), z = all_lanes(c[0]) * (load(x[0] + j) - means)
    v[0] -= metric * ((z + z1) + (z2 + z3))
    if averages:
        total[0] += all_lanes(PANEL) * v[0] + metric * (z1 + (z2 + z2) + all_lanes(3.0) * z3)


cdef inline void move_panel(
    const real **x, const double *c, const Spread *columns, const Layout *layout, lanes *v, const int groups,
    const bint averages
) noexcept nogil:
    """v -= sum_q c[q] metric z_q, and add what it was after each row to the total."""
    cdef Py_ssize_t last = (groups if groups else layout.groups) - 1, k
    for k in range(last):
        move_group(x, LANES * k, c, columns.means[k], columns.metric[k], v + k, columns.total + k, averages)
    move_group(x, layout.tail, c, columns.means[last], columns.metric[last], v + last, columns.total + last, averages)


cdef inline void solve(
    const Targets *targets, const Py_ssize_t *order, const double *products, const SAGARun *run, SAGAState *state,
    double *c_out
) noexcept nogil:
    """Find the steps of a panel's rows, one after the other."""
    cdef double c = state.intercept, total = state.intercept_total, r, reach, step
    cdef Py_ssize_t q, i
    for q in range(PANEL):
        r = products[q] + (c - target_at(targets, order[q]))
        for i in range(q):
            r -= c_out[i] * products[2 * PANEL + q * (q - 1) // 2 + i]
        step = run.rate * weight_at(targets, order[q])
        reach = step * (products[PANEL + q] + run.intercept_step)
        step = step * r
        if run.clamps and reach > 1:
            step = step / reach
        c_out[q] = step
        c -= run.intercept_step * step + run.intercept_pushed
        total += c
    state.intercept = c
    if run.averages:
        state.intercept_total = total
        state.n_averaged += PANEL


cdef inline void in_panels(
    const Rows *rows, SAGARun *its_run, SAGAState *its_state, Py_ssize_t stop, real *scratch, const int groups,
    const bint averages
) noexcept nogil:
    """Panels until fewer rows than one are left.

    `groups` and `averages` are literals: how many groups of LANES a row has, so that v stays in registers, or 0 for any
    row.
    """
    cdef Layout layout = lay_out(rows)
    cdef Py_ssize_t width = LANES * layout.groups, ahead = rows_ahead(rows, scratch), q
    cdef SAGARun run = its_run[0]           # copies, as below
    cdef SAGAState state = its_state[0]
    cdef double *room = <double *> scratch
    cdef real *buffer = <real *> (room + 4 * width)
    cdef Spread columns = Spread(
        v=<lanes *> room, total=<lanes *> (room + width), means=<lanes *> (room + 2 * width),
        metric=<lanes *> (room + 3 * width),
    )
    cdef lanes registers[GROUPS]
    cdef lanes *v = columns.v
    cdef const real *x[PANEL]
    cdef const Py_ssize_t *next
    cdef double products[12 + LANES]
    cdef double c[PANEL]
    if not layout.in_place:
        memset(buffer, 0, PANEL * width * sizeof(real))
    spread(state.v, &layout, room)
    spread(state.total, &layout, room + width)
    spread(run.means, &layout, room + 2 * width)
    spread(run.metric, &layout, room + 3 * width)
    if groups:
        v = registers
        for q in range(groups):
            registers[q] = columns.v[q]
    while run.at + PANEL <= stop:
        find_rows(rows, run.order + run.at, &layout, buffer, x)
        multiply(x, v, &columns, &layout, products, groups)
        next = run.order + min(run.at + ahead, run.count - PANEL)
        ask_for_panel(rows, next, buffer)
        for q in range(PANEL):
            prefetch_target(&rows.targets, next[q])
        solve(&rows.targets, run.order + run.at, products, &run, &state, c)
        move_panel(x, c, &columns, &layout, v, groups, averages)
        run.at += PANEL
    if groups:
        for q in range(groups):
            columns.v[q] = registers[q]
    collect(room, &layout, state.v)
    collect(room + width, &layout, state.total)
    its_run.at = run.at
    its_state[0] = state


cdef inline void in_panels_fitting(
    const Rows *rows, SAGARun *run, SAGAState *state, Py_ssize_t stop, real *scratch, const bint averages
) noexcept nogil:
    cdef Py_ssize_t groups = (rows.d - 1) // LANES + 1
    if groups == 2:
        in_panels(rows, run, state, stop, scratch, 2, averages)
    elif groups == GROUPS:
        in_panels(rows, run, state, stop, scratch, GROUPS, averages)
    else:
        in_panels(rows, run, state, stop, scratch, 0, averages)


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
        if run.plain and not run.truncates:
            in_panels_fitting(rows, run, state, stop, buffer, True)
        if run.plain:
            one_by_one(rows, run, state, stop, buffer, True, True)
        else:
            one_by_one(rows, run, state, stop, buffer, False, True)
    elif run.plain:
        if not run.truncates:
            in_panels_fitting(rows, run, state, stop, buffer, False)
        one_by_one(rows, run, state, stop, buffer, True, False)
    else:
        one_by_one(rows, run, state, stop, buffer, False, False)


cdef Py_ssize_t scratch_doubles(const SAGARun *run, Py_ssize_t d) noexcept nogil:
    """What a run needs for rows of d columns, dense or sparse."""
    return (PANEL + 4) * (d + LANES)


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
    scratch_doubles=scratch_doubles,
)

table = PyCapsule_New(&kernels, "fastgd.SAGAKernels", NULL)
