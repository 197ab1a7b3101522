"""The compiled tape: runs graphs of `fastgd._graph` as `fastgd._lowering` puts them into numbers.

Elementwise mathematics is NumPy's own: the inner loops of its ufuncs, SIMD code for the CPU at hand, are called on
blocks that stay in the cache. (Sine and cosine of doubles are no SIMD code there, and are kernels of ours.) A loop
takes pointers, a length and strides; all but the pointers to arguments and results are fixed when a graph is lowered,
so that a step on a few elements takes about ten nanoseconds.
"""

cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawMalloc
from cpython.object cimport PyTypeObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.string cimport memcpy, memset

from fastgd._types cimport ElementaryKernels, strided_fn

import numpy as np

from fastgd._lowering import Call, Group, contiguous, lower
from fastgd._schedule import Schedule

cnp.import_array()
cnp.import_umath()

cdef extern from "<fenv.h>" nogil:
    int FE_DIVBYZERO, FE_OVERFLOW, FE_UNDERFLOW, FE_INVALID
    int fetestexcept(int)
    int feclearexcept(int)

cdef extern from "numpy/arrayobject.h":
    object array_at "PyArray_New"(
        PyTypeObject *, int ndim, cnp.npy_intp *, int number, cnp.npy_intp *strides, void *, int, int flags, void *
    )

cdef extern from *:
    """
    /* In NumPy since 2.0, but its header shows it only to those who ask for no older one. */
    #define FASTGD_GIVE_ERRORS ((int (*)(const char *, int)) PyUFunc_API[46])
    """
    int FASTGD_GIVE_ERRORS(const char *, int) except -1

cdef enum:
    MOST_OPERANDS = 4           # of a loop
    MOST_DIMENSIONS = 64        # NumPy's
    LINE = 64                   # bytes of a cache line
    PIECE = 1 << 19             # elements times operations between two looks at Ctrl-C
    PIECE_PRODUCTS = 1 << 29    # multiplications of a matrix product between two looks
    LEAST_ROWS = 64             # of a matrix product in one call
    SHORT = 1 << 13             # elements times operations for which the GIL is kept
    LONG_RUN = 32               # of sums that are added to side by side
    KEPT_BYTES = 1 << 25        # of an arena that is kept from one call to the next
    KEPT_ARENAS = 4
    NUMBER = 8                  # bytes of a number without dimensions
    KEPT_PROGRAMS = 16          # for different strides of the inputs

cdef enum StepKind:
    GROUP, PRODUCT, CALL

cdef enum OperandKind:
    FLAT, RUNS, GATHERED, PERIODIC

cdef enum Outcome:
    DONE, PAUSED, AT_CALL

cdef ElementaryKernels *kernels

# NumPy's addition of doubles, for the CPU at hand, and strides of arrays of them.
cdef strided_fn add_doubles
cdef Py_ssize_t[3] DOUBLES = [sizeof(double), sizeof(double), sizeof(double)]

KINDS = {"flat": FLAT, "runs": RUNS, "gathered": GATHERED, "periodic": PERIODIC}


def use(table):
    """Run on this table of kernels from now on (see `fastgd._kernels`); tapes that have run keep theirs."""
    global kernels
    kernels = <ElementaryKernels *> PyCapsule_GetPointer(table, "fastgd.ElementaryKernels")


cdef struct OperandC:           # see fastgd._lowering.Operand
    OperandKind kind
    Py_ssize_t slot, offset, stride, step, buffer, itemsize, ndim
    Py_ssize_t *sizes
    Py_ssize_t *strides
    strided_fn copy


cdef struct OperationC:
    strided_fn loop                   # NULL of a sum
    void *data
    int n_operands, total
    int operands[MOST_OPERANDS]
    Py_ssize_t strides[MOST_OPERANDS]


cdef struct TotalC:
    bint is_float
    Py_ssize_t count, slot, offset, accumulators, ndim
    Py_ssize_t *sizes
    Py_ssize_t *steps


cdef struct GroupC:
    Py_ssize_t rows, length, block
    int n_fixed, n_operands, n_operations, n_totals
    OperandC *operands
    OperationC *operations
    TotalC *totals


cdef struct ProductC:
    strided_fn loop
    void *data
    Py_ssize_t slots[3]
    Py_ssize_t offsets[3]
    Py_ssize_t core[3]        # n, k, m
    Py_ssize_t steps[9]       # those of the outer dimension, of which a call has one place; those of the core
    Py_ssize_t places, ndim
    Py_ssize_t *sizes
    Py_ssize_t *strides[3]


cdef struct StepC:
    StepKind kind
    GroupC group
    ProductC product


cdef struct State:
    char **slots                # where values start
    char **pointers             # of the operands of the group that runs
    Py_ssize_t step, row, start     # where to go on


cdef struct Cursor:             # runs through all dimensions but the last
    Py_ssize_t index[MOST_DIMENSIONS]
    Py_ssize_t offset, inner


# ---- one block -------------------------------------------------------------------------------------------------------

cdef inline void seek(
    Cursor *cursor, Py_ssize_t ndim, const Py_ssize_t *sizes, const Py_ssize_t *strides, Py_ssize_t element
) noexcept nogil:
    """Go to this element: the offset of its run, and how far inside the run it is."""
    cdef Py_ssize_t axis
    cursor.inner = element % sizes[ndim - 1]
    element //= sizes[ndim - 1]
    cursor.offset = 0
    for axis in range(ndim - 2, -1, -1):
        cursor.index[axis] = element % sizes[axis]
        element //= sizes[axis]
        cursor.offset += cursor.index[axis] * strides[axis]


cdef inline void go_to_next_run(
    Cursor *cursor, Py_ssize_t ndim, const Py_ssize_t *sizes, const Py_ssize_t *strides
) noexcept nogil:
    cdef Py_ssize_t axis = ndim - 2
    cursor.inner = 0
    while axis >= 0:
        cursor.index[axis] += 1
        cursor.offset += strides[axis]
        if cursor.index[axis] < sizes[axis]:
            return
        cursor.offset -= sizes[axis] * strides[axis]
        cursor.index[axis] = 0
        axis -= 1


cdef void gather(const OperandC *x, const char *base, Py_ssize_t start, Py_ssize_t n, char *out) noexcept nogil:
    """Copy elements `start`, ..., `start + n - 1` into a buffer."""
    cdef Cursor cursor
    cdef Py_ssize_t last = x.ndim - 1, run
    cdef Py_ssize_t steps[2]
    cdef char *args[2]
    steps[0] = x.strides[last]
    steps[1] = x.itemsize
    seek(&cursor, x.ndim, x.sizes, x.strides, start)
    while n > 0:
        run = min(n, x.sizes[last] - cursor.inner)
        args[0] = <char *> base + cursor.offset + cursor.inner * x.strides[last]
        args[1] = out
        x.copy(args, &run, steps, NULL)
        out += run * x.itemsize
        n -= run
        go_to_next_run(&cursor, x.ndim, x.sizes, x.strides)


cdef void gather_period(const OperandC *x, const char *base, Py_ssize_t n, char *out) noexcept nogil:
    """Fill a buffer with what comes again and again: once from memory, then twice as much each time."""
    cdef Py_ssize_t period = 1, axis, more
    for axis in range(1, x.ndim):
        period *= x.sizes[axis]
    period = min(period, n)
    gather(x, base, 0, period, out)
    while period < n:
        more = min(period, n - period)
        memcpy(out + period * x.itemsize, out, more * x.itemsize)
        period += more


cdef inline char *place(
    const OperandC *x, const State *state, Py_ssize_t start, Py_ssize_t n
) noexcept nogil:
    """Where a block's elements of an operand are, after they have been gathered if they must be."""
    cdef Cursor cursor
    cdef char *base = state.slots[x.slot] + x.offset
    cdef char *buffer
    if x.kind == FLAT:
        return base + start * x.step
    if x.kind == RUNS:
        seek(&cursor, x.ndim, x.sizes, x.strides, start)
        return base + cursor.offset + cursor.inner * x.stride
    buffer = state.slots[0] + x.buffer
    if x.kind == GATHERED:
        gather(x, base, start, n, buffer)
    elif start == 0:
        gather_period(x, base, n, buffer)
    return buffer


# ---- sums ------------------------------------------------------------------------------------------------------------

ctypedef fused real:
    float
    double


cdef double pairwise(const real *x, Py_ssize_t n, Py_ssize_t step) noexcept nogil:
    """The sum of n elements, in double, by halves, as NumPy forms it (Higham, section 4.2)."""
    cdef double lanes[8]
    cdef double total
    cdef Py_ssize_t i, j, half
    if n < 8:
        total = 0
        for i in range(n):
            total += x[i * step]
        return total
    if n > 128:
        half = n // 2 - n // 2 % 8
        return pairwise(x, half, step) + pairwise(x + half * step, n - half, step)
    for j in range(8):
        lanes[j] = x[j * step]
    if step == 1:
        for i in range(8, n - n % 8, 8):
            for j in range(8):
                lanes[j] += x[i + j]
    else:
        for i in range(8, n - n % 8, 8):
            for j in range(8):
                lanes[j] += x[(i + j) * step]
    total = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]))
    for i in range(n - n % 8, n):
        total += x[i * step]
    return total


cdef void add_runs(
    const TotalC *total, const real *x, Py_ssize_t step, Py_ssize_t start, Py_ssize_t n, double *sums
) noexcept nogil:
    """Add a block to its sums: each run to one of them, or element by element to as many."""
    cdef Cursor cursor
    cdef Py_ssize_t last = total.ndim - 1, run, i, apart = total.steps[last]
    cdef double *to
    cdef char *args[3]
    seek(&cursor, total.ndim, total.sizes, total.steps, start)
    while n > 0:
        run = min(n, total.sizes[last] - cursor.inner)
        to = sums + cursor.offset + cursor.inner * apart
        if apart == 0:
            to[0] += pairwise(x, run, step)
        elif real is double and apart == 1 and step == 1 and run >= LONG_RUN:
            args[0], args[1], args[2] = <char *> to, <char *> x, <char *> to
            add_doubles(args, &run, DOUBLES, NULL)
        elif apart == 1 and step == 1:
            for i in range(run):
                to[i] += x[i]
        else:
            for i in range(run):
                to[i * apart] += x[i * step]
        x += run * step
        n -= run
        go_to_next_run(&cursor, total.ndim, total.sizes, total.steps)


cdef inline char *sums_of(const TotalC *total, const State *state) noexcept nogil:
    """Where the sums are added up: one alone in long double, others in double."""
    if total.accumulators >= 0:
        return state.slots[0] + total.accumulators
    return state.slots[total.slot] + total.offset


cdef inline void add_block(
    const TotalC *total, const State *state, const char *x, Py_ssize_t stride, Py_ssize_t start, Py_ssize_t n
) noexcept nogil:
    cdef char *sums = sums_of(total, state)
    if total.count == 1 and total.is_float:
        (<long double *> sums)[0] += pairwise(<const float *> x, n, stride // 4)
    elif total.count == 1:
        (<long double *> sums)[0] += pairwise(<const double *> x, n, stride // 8)
    elif total.is_float:
        add_runs(total, <const float *> x, stride // 4, start, n, <double *> sums)
    else:
        add_runs(total, <const double *> x, stride // 8, start, n, <double *> sums)


cdef void start_totals(const GroupC *group, const State *state) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(group.n_totals):
        if group.totals[i].count == 1:
            (<long double *> sums_of(&group.totals[i], state))[0] = 0
        else:
            memset(sums_of(&group.totals[i], state), 0, group.totals[i].count * sizeof(double))


cdef void finish_totals(const GroupC *group, const State *state) noexcept nogil:
    """Sums to their places, in their dtypes."""
    cdef Py_ssize_t i, j
    cdef const TotalC *total
    cdef char *out
    cdef char *sums
    for i in range(group.n_totals):
        total = &group.totals[i]
        out, sums = state.slots[total.slot] + total.offset, sums_of(total, state)
        if total.count == 1 and total.is_float:
            (<float *> out)[0] = <float> (<long double *> sums)[0]
        elif total.count == 1:
            (<double *> out)[0] = <double> (<long double *> sums)[0]
        elif total.is_float:
            for j in range(total.count):
                (<float *> out)[j] = <float> (<double *> sums)[j]


# ---- steps -----------------------------------------------------------------------------------------------------------

cdef inline void run_block(const GroupC *group, const State *state, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef const OperationC *operation
    cdef char **pointers = state.pointers
    cdef char *args[MOST_OPERANDS]
    for i in range(group.n_fixed, group.n_operands):
        pointers[i] = place(&group.operands[i], state, start, n)
    for i in range(group.n_operations):
        operation = &group.operations[i]
        for j in range(operation.n_operands):
            args[j] = pointers[operation.operands[j]]
        if operation.loop != NULL:
            operation.loop(args, &n, operation.strides, operation.data)
        else:
            add_block(&group.totals[operation.total], state, args[0], operation.strides[0], start, n)


cdef bint run_group(const GroupC *group, State *state, Py_ssize_t *left) noexcept nogil:
    """Go on with a group until it is done, or what is left of a piece of work."""
    cdef Py_ssize_t i, n
    for i in range(group.n_fixed):
        state.pointers[i] = state.slots[group.operands[i].slot] + group.operands[i].offset
    if state.row == 0 and state.start == 0:
        start_totals(group, state)
    while state.row < group.rows:
        while state.start < group.length:
            if left[0] <= 0:
                return False
            n = min(group.block, group.length - state.start)
            run_block(group, state, state.row * group.length + state.start, n)
            left[0] -= n * group.n_operations
            state.start += n
        state.start = 0
        state.row += 1
    finish_totals(group, state)
    state.row = 0
    return True


cdef bint run_product(const ProductC *product, State *state, Py_ssize_t *left) noexcept nogil:
    """Go on with a matrix product: `state.row` is a place of the outer dimensions, `state.start` a row there."""
    cdef Py_ssize_t i, axis, element, products = max(1, product.core[1] * product.core[2])
    cdef Py_ssize_t most = max(<Py_ssize_t> LEAST_ROWS, PIECE_PRODUCTS // products)
    cdef Py_ssize_t dimensions[4]
    cdef char *args[3]
    dimensions[0] = 1
    dimensions[2] = product.core[1]
    dimensions[3] = product.core[2]
    while state.row < product.places:
        if left[0] <= 0:
            return False
        dimensions[1] = min(most, product.core[0] - state.start)
        element = state.row
        for i in range(3):
            args[i] = state.slots[product.slots[i]] + product.offsets[i]
        for axis in range(product.ndim - 1, -1, -1):
            for i in range(3):
                args[i] += element % product.sizes[axis] * product.strides[i][axis]
            element //= product.sizes[axis]
        args[0] += state.start * product.steps[3]
        args[2] += state.start * product.steps[7]
        product.loop(args, dimensions, product.steps, product.data)
        left[0] -= dimensions[1] * products // (PIECE_PRODUCTS // PIECE)
        state.start += dimensions[1]
        if state.start >= product.core[0]:
            state.start = 0
            state.row += 1
    state.row = 0
    return True


cdef Outcome go_on(const StepC *steps, Py_ssize_t n_steps, State *state) noexcept nogil:
    """Run until all is done, a call of Python is due, or signals should be looked at."""
    cdef Py_ssize_t left = PIECE
    cdef const StepC *step
    cdef bint done
    while state.step < n_steps:
        step = &steps[state.step]
        if step.kind == CALL:
            return AT_CALL
        if step.kind == GROUP:
            done = run_group(&step.group, state, &left)
        else:
            done = run_product(&step.product, state, &left)
        if not done:
            return PAUSED
        state.step += 1
    return DONE


# ---- programs --------------------------------------------------------------------------------------------------------

cdef struct Chunk:
    Chunk *next


cdef class Memory:
    """C arrays that live as long as this object."""

    cdef Chunk *chunks

    def __dealloc__(self):
        cdef Chunk *next_one
        while self.chunks != NULL:
            next_one = self.chunks.next
            PyMem_RawFree(self.chunks)
            self.chunks = next_one

    cdef void *zeros(self, size_t count, size_t size) except NULL:
        cdef Chunk *chunk = <Chunk *> PyMem_RawCalloc(1, LINE + count * size)
        if chunk == NULL:
            raise MemoryError()
        chunk.next = self.chunks
        self.chunks = chunk
        return <char *> chunk + LINE

    cdef Py_ssize_t *numbers(self, values) except NULL:
        cdef Py_ssize_t i
        cdef Py_ssize_t *out = <Py_ssize_t *> self.zeros(len(values), sizeof(Py_ssize_t))
        for i in range(len(values)):
            out[i] = values[i]
        return out


cdef class Workspace:
    """What one run of a program writes to, other than its outputs."""

    cdef State state
    cdef Memory memory
    cdef list objects           # by slot: arrays whose memory the slot points to
    cdef bint holds_arrays      # whether there are any but constants
    cdef void *arena

    def __cinit__(self, Py_ssize_t arena_bytes, Py_ssize_t n_slots, Py_ssize_t n_pointers):
        self.memory = Memory()
        self.objects = [None] * n_slots
        self.state.slots = <char **> self.memory.zeros(n_slots, sizeof(char *))
        self.state.pointers = <char **> self.memory.zeros(n_pointers, sizeof(char *))
        self.arena = PyMem_RawMalloc(arena_bytes + LINE)
        if self.arena == NULL:
            raise MemoryError(f"a compiled function needs {arena_bytes} bytes of working memory")
        self.state.slots[0] = <char *> self.arena + (LINE - <size_t> self.arena % LINE)

    def __dealloc__(self):
        PyMem_RawFree(self.arena)

    cdef void point(self, Py_ssize_t slot, cnp.ndarray array):
        self.objects[slot] = array
        self.holds_arrays = True
        self.state.slots[slot] = <char *> cnp.PyArray_DATA(array)


cdef class Program:
    """A graph lowered for inputs of certain strides."""

    cdef Memory memory
    cdef StepC *steps
    cdef Py_ssize_t n_steps, n_slots, n_pointers, arena_bytes, n_inputs
    cdef list calls             # by step
    cdef list constants, outputs
    cdef Py_ssize_t *output_slots
    cdef Py_ssize_t n_outputs
    cdef list idle              # workspaces
    cdef bint is_short

    def __init__(self, lowered, Py_ssize_t n_inputs):
        cdef Py_ssize_t i
        self.memory = Memory()
        self.idle = []
        self.constants, self.outputs = lowered.constants, lowered.outputs
        self.n_inputs, self.n_slots, self.n_outputs = n_inputs, lowered.n_slots, len(lowered.outputs)
        self.output_slots = self.memory.numbers([slot for slot, _, _, _ in lowered.outputs])
        self.n_steps = len(lowered.steps)
        # Numbers without dimensions have places of their own behind the arena, see `Tape.run_on_numbers`.
        self.arena_bytes = lowered.arena_bytes + NUMBER * lowered.n_slots
        self.is_short = lowered.work <= SHORT
        self.calls = [step if isinstance(step, Call) else None for step in lowered.steps]
        self.steps = <StepC *> self.memory.zeros(self.n_steps, sizeof(StepC))
        for i in range(self.n_steps):
            step = lowered.steps[i]
            if isinstance(step, Call):
                self.steps[i].kind = CALL
            elif isinstance(step, Group):
                self.steps[i].kind = GROUP
                self.fill_group(step, &self.steps[i].group)
            else:
                self.steps[i].kind = PRODUCT
                self.fill_product(step, &self.steps[i].product)

    cdef int fill_group(self, source, GroupC *out) except -1:
        cdef Py_ssize_t i
        out.rows, out.length, out.block = source.rows, source.length, source.block
        out.n_fixed, out.n_operands = source.n_fixed, len(source.operands)
        out.n_operations, out.n_totals = len(source.operations), len(source.totals)
        out.operands = <OperandC *> self.memory.zeros(out.n_operands, sizeof(OperandC))
        out.operations = <OperationC *> self.memory.zeros(out.n_operations, sizeof(OperationC))
        out.totals = <TotalC *> self.memory.zeros(out.n_totals, sizeof(TotalC))
        self.n_pointers = max(self.n_pointers, out.n_operands)
        for i in range(out.n_operands):
            self.fill_operand(source.operands[i], &out.operands[i])
        for i in range(out.n_operations):
            self.fill_operation(source.operations[i], out, &out.operations[i])
        for i in range(out.n_totals):
            self.fill_total(source.totals[i], &out.totals[i])
        return 0

    cdef int fill_operand(self, source, OperandC *out) except -1:
        out.kind = KINDS[source.kind]
        out.slot, out.offset, out.stride, out.step = source.slot, source.offset, source.stride, source.step
        out.buffer, out.itemsize, out.ndim = source.buffer, source.itemsize, len(source.sizes)
        out.sizes, out.strides = self.memory.numbers(source.sizes), self.memory.numbers(source.strides)
        out.copy = kernels.copy(out.itemsize)
        if out.kind in (GATHERED, PERIODIC) and out.copy == NULL:
            raise TypeError(f"the tape copies no elements of {out.itemsize} bytes")
        return 0

    cdef int fill_operation(self, source, const GroupC *group, OperationC *out) except -1:
        cdef Py_ssize_t j
        out.n_operands, out.total = len(source.operands), source.total
        for j in range(out.n_operands):
            out.operands[j] = source.operands[j]
            out.strides[j] = group.operands[out.operands[j]].stride
        if source.loop is not None:
            find_loop(source.loop, &out.loop, &out.data)
        return 0

    cdef int fill_total(self, source, TotalC *out) except -1:
        out.is_float, out.count, out.slot, out.offset = source.is_float, source.n_results, source.slot, source.offset
        out.accumulators, out.ndim = source.accumulators, len(source.sizes)
        out.sizes, out.steps = self.memory.numbers(source.sizes), self.memory.numbers(source.steps)
        return 0

    cdef int fill_product(self, source, ProductC *out) except -1:
        cdef Py_ssize_t i
        find_loop(source.loop, &out.loop, &out.data)
        out.places, out.ndim, out.sizes = 1, len(source.sizes), self.memory.numbers(source.sizes)
        for size in source.sizes:
            out.places *= size
        for i in range(3):
            out.slots[i], out.offsets[i], out.core[i] = source.slots[i], source.offsets[i], source.core[i]
            out.strides[i] = self.memory.numbers(source.strides[i])
        for i in range(6):
            out.steps[3 + i] = source.steps[i]
        return 0

    cdef Workspace check_out(self):
        """A workspace that nobody else uses until it is checked in."""
        cdef Workspace work
        if self.idle:
            return self.idle.pop()
        work = Workspace(self.arena_bytes, self.n_slots, self.n_pointers)
        for slot, array in self.constants:
            work.point(slot, array)
        return work

    cdef void check_in(self, Workspace work):
        """Give a workspace back; it lets go of the arrays that its run has seen."""
        cdef Py_ssize_t i
        if work.holds_arrays:
            for i in range(1, 1 + self.n_inputs):
                work.objects[i] = None
            for i in range(1 + self.n_inputs + len(self.constants), self.n_slots):
                work.objects[i] = None
            work.holds_arrays = False
        if self.arena_bytes <= KEPT_BYTES and len(self.idle) < KEPT_ARENAS:
            self.idle.append(work)

    cdef int run(self, Workspace work) except -1:
        """All steps; then warn of floating-point errors as NumPy would, which looks for them after each ufunc."""
        cdef State *state = &work.state
        cdef Outcome outcome = PAUSED
        cdef int errors = 0, looked_for = FE_DIVBYZERO | FE_OVERFLOW | FE_UNDERFLOW | FE_INVALID
        state.step = state.row = state.start = 0
        if fetestexcept(looked_for):
            feclearexcept(looked_for)
        while outcome != DONE:
            if self.is_short:
                outcome = go_on(self.steps, self.n_steps, state)
            else:
                with nogil:
                    outcome = go_on(self.steps, self.n_steps, state)
            if outcome == PAUSED:
                PyErr_CheckSignals()
            elif outcome == AT_CALL:
                errors |= fetestexcept(looked_for)
                self.call(work, self.calls[state.step])
                feclearexcept(looked_for)
                state.step += 1
        errors |= fetestexcept(looked_for)
        if errors:
            feclearexcept(looked_for)
            give_errors(errors)
        return 0

    cdef int call(self, Workspace work, step) except -1:
        """Let Python compute a value from arrays that show where its arguments are."""
        cdef list arguments = [view(work, argument) for argument in step.arguments]
        value = np.asarray(step.apply(*arguments, **step.attributes))
        cdef cnp.ndarray result = value
        if value.shape != step.shape or value.dtype != step.dtype:
            raise ValueError(
                f"a step returned shape {value.shape} and dtype {value.dtype}, but was traced with {step.shape} and "
                f"{step.dtype}"
            )
        if not (cnp.PyArray_IS_C_CONTIGUOUS(result) and cnp.PyArray_ISBEHAVED_RO(result)) or (
            not cnp.PyArray_CHKFLAGS(result, cnp.NPY_ARRAY_OWNDATA)
            and any(np.may_share_memory(value, argument) for argument in arguments)
        ) or any(value is argument for argument in arguments):
            result = np.array(value, dtype=step.dtype, order="C")
        for slot in step.dead:
            work.objects[slot] = None
        work.point(step.slot, result)
        return 0


cdef object view(Workspace work, argument):
    """An array, not to be written to, of a value or part of it."""
    cdef Py_ssize_t slot, offset
    slot, offset, shape, strides, dtype = argument
    cdef object owner = work if slot == 0 else work.objects[slot]
    cdef Py_ssize_t ndim = len(shape), i
    cdef cnp.npy_intp lengths[MOST_DIMENSIONS]
    cdef cnp.npy_intp steps[MOST_DIMENSIONS]
    for i in range(ndim):
        lengths[i] = shape[i]
        steps[i] = strides[i]
    cdef cnp.ndarray array = array_at(
        <PyTypeObject *> cnp.ndarray, ndim, lengths, dtype.num, steps, work.state.slots[slot] + offset, 0,
        cnp.NPY_ARRAY_ALIGNED, NULL,
    )
    cnp.set_array_base(array, owner)
    cnp.PyArray_UpdateFlags(array, cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_F_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED)
    return array


cdef int find_loop(source, strided_fn *loop_out, void **data_out) except -1:
    """The inner loop that `fastgd._schedule.loop_of` tells of: of a ufunc, the one at this place of its table."""
    cdef cnp.ufunc ufunc
    cdef Py_ssize_t place
    what = source[0]
    if isinstance(what, str):
        if what == "cast":
            loop_out[0] = kernels.cast(ord(source[1]), ord(source[2]))
        else:
            loop_out[0] = kernels.where(source[1]) if what == "where" else kernels.copy(source[1])
    else:
        ufunc, place = what, source[1]
        if place < 0 or place >= ufunc.ntypes:
            raise IndexError(f"{what} has no loop {place}")
        loop_out[0] = own_loop(what, place)
        if loop_out[0] == NULL:
            loop_out[0] = <strided_fn> <void *> ufunc.functions[place]
            data_out[0] = <void *> ufunc.data[place]
    if loop_out[0] == NULL:
        raise TypeError(f"no loop for {source}")
    return 0


cdef int find_addition() except -1:
    cdef void *unused
    return find_loop((np.add, np.add.types.index("dd->d")), &add_doubles, &unused)


find_addition()


cdef strided_fn own_loop(ufunc, Py_ssize_t place):
    """The kernel that stands in for a ufunc's loop on doubles, if there is one."""
    if ufunc.types[place] == "d->d":
        if ufunc is np.sin:
            return kernels.sin_f64
        if ufunc is np.cos:
            return kernels.cos_f64
    return NULL


cdef int give_errors(int errors) except -1:
    """As np.errstate has it: nothing, a warning, an exception."""
    cdef int given = 0
    if errors & FE_DIVBYZERO:
        given |= cnp.UFUNC_FPE_DIVIDEBYZERO
    if errors & FE_OVERFLOW:
        given |= cnp.UFUNC_FPE_OVERFLOW
    if errors & FE_UNDERFLOW:
        given |= cnp.UFUNC_FPE_UNDERFLOW
    if errors & FE_INVALID:
        given |= cnp.UFUNC_FPE_INVALID
    FASTGD_GIVE_ERRORS(b"a traced function", given)
    return 0


# ---- the tape --------------------------------------------------------------------------------------------------------

cdef class Tape:
    """A graph made ready to run on arrays of fixed shapes and dtypes; any strides, read-only or not.

    Parameters
    ----------
    inputs, outputs : sequence of fastgd._graph.Node

    Notes
    -----
    Called with one array for each input, it returns a tuple of new arrays. Threads may call it at the same time.
    Floating-point errors are reported once a call, as `np.errstate` asks for. Up to 32 MiB of working memory stay with
    the tape from one call to the next.
    """

    cdef object schedule
    cdef tuple shapes, dtypes
    cdef Py_ssize_t n_inputs
    cdef Program plain          # for inputs in C order
    cdef dict programs          # for others, by their strides
    cdef Memory memory
    cdef int *types
    cdef int *ndims
    cdef Py_ssize_t **dims
    cdef bint is_scalar
    cdef bint *gives_floats     # by output: whether it is float32

    def __init__(self, inputs, outputs):
        cdef Py_ssize_t i
        inputs, outputs = tuple(inputs), tuple(outputs)
        self.schedule = Schedule(inputs, outputs)
        self.shapes = tuple([node.shape for node in inputs])
        self.dtypes = tuple([node.dtype for node in inputs])
        self.n_inputs = len(inputs)
        self.programs = {}
        self.memory = Memory()
        self.types = <int *> self.memory.zeros(self.n_inputs, sizeof(int))
        self.ndims = <int *> self.memory.zeros(self.n_inputs, sizeof(int))
        self.dims = <Py_ssize_t **> self.memory.zeros(self.n_inputs, sizeof(Py_ssize_t *))
        for i in range(self.n_inputs):
            self.types[i], self.ndims[i] = self.dtypes[i].num, len(self.shapes[i])
            self.dims[i] = self.memory.numbers(self.shapes[i])
        self.gives_floats = <bint *> self.memory.zeros(len(outputs), sizeof(bint))
        for i in range(len(outputs)):
            self.gives_floats[i] = outputs[i].dtype.char == "f"
        self.is_scalar = all(node.shape == () and node.dtype.char in "fd" for node in (*inputs, *outputs))

    def __call__(self, *arrays):
        cdef Py_ssize_t i
        result = self.match(arrays)
        if result is not None:
            return result
        if len(arrays) != self.n_inputs:
            raise TypeError(f"this compiled function takes {self.n_inputs} arrays, got {len(arrays)}")
        return self.match(tuple([self.converted(arrays[i], i) for i in range(self.n_inputs)]))

    def match(self, tuple arrays):
        """The same as a call with arrays of these shapes and dtypes; None for anything else."""
        cdef Py_ssize_t i
        cdef bint in_order = True
        if len(arrays) != self.n_inputs:
            return None
        for i in range(self.n_inputs):
            if not self.fits(arrays[i], i):
                return None
            in_order = in_order and cnp.PyArray_IS_C_CONTIGUOUS(arrays[i])
        return self.run(self.plain_program() if in_order else self.program_for(arrays), arrays)

    cdef bint fits(self, value, Py_ssize_t i) noexcept:
        """Whether a value can be used as it is."""
        cdef cnp.ndarray array
        cdef int axis
        if type(value) is not cnp.ndarray:
            return False
        array = value
        if (
            cnp.PyArray_TYPE(array) != self.types[i] or cnp.PyArray_NDIM(array) != self.ndims[i]
            or not cnp.PyArray_ISBEHAVED_RO(array)
        ):
            return False
        for axis in range(self.ndims[i]):
            if cnp.PyArray_DIM(array, axis) != self.dims[i][axis]:
                return False
        return True

    cdef cnp.ndarray converted(self, value, Py_ssize_t i):
        """A value as a native, aligned array of the input's dtype, if no more than that is wrong with it."""
        array = np.asarray(value)
        if array.shape != self.shapes[i]:
            raise ValueError(
                f"argument {i} of a compiled function has shape {array.shape}; it was compiled for {self.shapes[i]}"
            )
        is_number = type(value) in (bool, int, float)
        if not is_number and array.dtype.newbyteorder("=") != self.dtypes[i]:
            raise TypeError(
                f"argument {i} of a compiled function has dtype {array.dtype}; it was compiled for {self.dtypes[i]}"
            )
        return np.require(array, self.dtypes[i], "A")

    cdef Program plain_program(self):
        if self.plain is None:
            self.plain = self.lowered_for([
                contiguous(shape, dtype.itemsize) for shape, dtype in zip(self.shapes, self.dtypes, strict=True)
            ])
        return self.plain

    cdef Program program_for(self, tuple arrays):
        key = tuple([array.strides for array in arrays])
        program = self.programs.get(key)
        if program is None:
            if len(self.programs) >= KEPT_PROGRAMS:
                self.programs.clear()
            program = self.programs[key] = self.lowered_for(key)
        return program

    cdef Program lowered_for(self, strides):
        return Program(lower(self.schedule, strides), self.n_inputs)

    cdef tuple run(self, Program program, tuple arrays):
        cdef Workspace work = program.check_out()
        cdef Py_ssize_t i
        cdef list results = []
        try:
            for i in range(self.n_inputs):
                work.point(1 + i, arrays[i])
            for slot, shape, dtype, strides in program.outputs:
                array = new_array(shape, dtype, strides)
                work.point(slot, array)
                results.append(array)
            program.run(work)
        finally:
            program.check_in(work)
        return tuple(results)

    def scalars(self, *numbers):
        """The same for functions of numbers alone: floats in, a tuple of floats out."""
        if not self.is_scalar:
            raise TypeError("scalars() is for inputs and outputs that are floats without dimensions")
        if len(numbers) != self.n_inputs:
            raise TypeError(f"this compiled function takes {self.n_inputs} numbers, got {len(numbers)}")
        return self.run_on_numbers(numbers)

    def match_floats(self, tuple numbers):
        """The same for so many Python floats, where outputs are numbers too; None for anything else."""
        if not self.is_scalar or len(numbers) != self.n_inputs:
            return None
        for number in numbers:
            if type(number) is not float:
                return None
        return self.run_on_numbers(numbers)

    cdef tuple run_on_numbers(self, tuple numbers):
        """Inputs and outputs lie behind the arena, each in the place of its slot."""
        cdef Program program = self.plain_program()
        cdef Workspace work = program.check_out()
        cdef Py_ssize_t i, slot
        cdef char **slots = work.state.slots
        cdef char *own = slots[0] + program.arena_bytes - NUMBER * program.n_slots
        cdef list results = []
        try:
            for i in range(self.n_inputs):
                slots[1 + i] = own + NUMBER * (1 + i)
                write_number(slots[1 + i], self.types[i] == cnp.NPY_FLOAT, numbers[i])
            for i in range(program.n_outputs):
                slot = program.output_slots[i]
                slots[slot] = own + NUMBER * slot
            program.run(work)
            for i in range(program.n_outputs):
                results.append(number_at(slots[program.output_slots[i]], self.gives_floats[i]))
        finally:
            program.check_in(work)
        return tuple(results)


cdef inline void write_number(char *place, bint is_float, double value) noexcept:
    if is_float:
        (<float *> place)[0] = <float> value
    else:
        (<double *> place)[0] = value


cdef inline double number_at(const char *place, bint is_float) noexcept:
    return (<const float *> place)[0] if is_float else (<const double *> place)[0]


cdef cnp.ndarray new_array(tuple shape, dtype, strides):
    """An array in C order, or in the order of these strides."""
    cdef cnp.npy_intp lengths[MOST_DIMENSIONS]
    cdef Py_ssize_t i, ndim = len(shape)
    if strides is None:
        for i in range(ndim):
            lengths[i] = shape[i]
        return cnp.PyArray_EMPTY(ndim, lengths, dtype.num, 0)
    order = sorted(range(ndim), key=lambda axis: -strides[axis])
    return np.empty([shape[axis] for axis in order], dtype).transpose(np.argsort(order))
