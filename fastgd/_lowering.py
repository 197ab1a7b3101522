"""From a schedule to numbers that the compiled tape runs: where values live, and how blocks are cut.

`lower` gives each value its place for arguments of given strides: a position in one block of memory, the *arena*, which
is used again as soon as its value is dead, or an output. Its result holds numbers alone, which `fastgd._tape` copies
into C structs. Views (transposes, reshapes, slices, broadcasts) are found out here, by trying, and cost nothing at run
time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastgd._graph import CALL, CONSTANT, ELEMENTWISE, INPUT, MATMUL, SUM, Node
from fastgd._schedule import Schedule, Step

__all__ = ["LONGEST", "Call", "Group", "Lowered", "Product", "contiguous", "lower"]

#: Bytes that the blocks of a group take together, and limits of the length of one.
BLOCKS_BYTES = 1 << 17
SHORTEST, LONGEST = 256, 2048
LINE = 64
#: Between blocks, so that equal places of two of them do not compete for a place in the cache.
APART = 3 * LINE
LONG_DOUBLE = 16


class Place(NamedTuple):
    """Where a value is: so many bytes behind the start of the value that node `root` stands for."""

    root: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Operand(NamedTuple):
    """An operand of a group's operations. Its element e is at `slots[slot] + offset` and on, by kind.

    "flat"      + e * stride; where `step` is 0, each block starts there anew
    "runs"      + the offset of the block's first element by sizes and strides, then every `stride`
    "gathered"  in a buffer of the arena at `buffer`, to which each block is copied before it is used
    "periodic"  the same, where all blocks are alike
    """

    kind: str
    slot: int
    offset: int
    stride: int
    step: int
    buffer: int
    itemsize: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]


class Operation(NamedTuple):
    """An inner loop and its operands by number, the result last; without a loop, the sum of that number."""

    loop: tuple[Any, ...] | None
    operands: tuple[int, ...]
    total: int


class Total(NamedTuple):
    """A sum: element e of its operand is added to the result whose place sizes and steps tell."""

    is_float: bool
    n_results: int
    slot: int
    offset: int
    accumulators: int       # their place in the arena; -1 if sums are added up where the result goes
    sizes: tuple[int, ...]
    steps: tuple[int, ...]


class Group(NamedTuple):
    rows: int
    length: int
    block: int
    n_fixed: int
    operands: list[Operand]
    operations: list[Operation]
    totals: list[Total]


class Product(NamedTuple):
    """A matrix product (n, k) by (k, m) for each place of the outer dimensions."""

    loop: tuple[Any, ...]
    slots: tuple[int, int, int]
    offsets: tuple[int, int, int]
    core: tuple[int, int, int]
    steps: tuple[int, ...]
    sizes: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]


class Call(NamedTuple):
    """A call of Python: its arguments as (slot, offset, shape, strides, dtype), and the slot of what it returns."""

    apply: Any
    attributes: dict[str, Any]
    arguments: list[tuple[int, int, tuple[int, ...], tuple[int, ...], np.dtype[Any]]]
    slot: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    dead: list[int]


class Lowered(NamedTuple):
    """What the tape runs. Slot 0 is the arena; then come inputs, constants, outputs, and what calls return."""

    n_slots: int
    constants: list[tuple[int, np.ndarray]]
    outputs: list[tuple[int, tuple[int, ...], np.dtype[Any], tuple[int, ...] | None]]
    arena_bytes: int
    work: int
    steps: list[Group | Product | Call]


def contiguous(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """The strides of an array in C order."""
    strides, step = [], itemsize
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def nbytes_of(node: Node) -> int:
    return prod(node.shape) * node.dtype.itemsize


def collapsed(sizes: Sequence[int], *strides: Sequence[int]) -> tuple[list[int], list[list[int]]]:
    """The fewest dimensions that make the same sequence of places, for all these strides at once."""
    out_sizes: list[int] = []
    out: list[list[int]] = [[] for _ in strides]
    for axis, size in enumerate(sizes):
        if size == 1:
            continue
        here = [s[axis] for s in strides]
        if out_sizes and all(o[-1] == h * size for o, h in zip(out, here, strict=True)):
            out_sizes[-1] *= size
            for o, h in zip(out, here, strict=True):
                o[-1] = h
        else:
            out_sizes.append(size)
            for o, h in zip(out, here, strict=True):
                o.append(h)
    return out_sizes, out


def broadcast(place: Place, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a value as if it had this shape."""
    missing = len(shape) - len(place.shape)
    own = (
        0 if size == 1 and wanted != 1 else stride
        for size, stride, wanted in zip(place.shape, place.strides, shape[missing:], strict=True)
    )
    return (0,) * missing + tuple(own)


def view_of(node: Node, place: Place, dtype: np.dtype[Any]) -> Place | None:
    """The place of a view of what is at `place`; None if the primitive returns a copy.

    It is tried on an array whose elements are never looked at.
    """
    before = sum(min(0, (size - 1) * stride) for size, stride in zip(place.shape, place.strides, strict=True))
    after = sum(max(0, (size - 1) * stride) for size, stride in zip(place.shape, place.strides, strict=True))
    if 0 in place.shape:
        return Place(place.root, place.offset, node.shape, contiguous(node.shape, dtype.itemsize))
    memory = np.empty(after - before + dtype.itemsize, np.uint8)
    array: np.ndarray = np.ndarray(place.shape, dtype, memory, -before, place.strides)
    assert node.primitive.apply is not None
    result = node.primitive.apply(array, **node.attributes)
    if not isinstance(result, np.ndarray) or not np.may_share_memory(result, memory):
        return None
    offset = result.__array_interface__["data"][0] - array.__array_interface__["data"][0]
    return Place(place.root, place.offset + offset, result.shape, result.strides)


class Need(NamedTuple):
    """So many bytes of the arena, from the first of these steps to the last."""

    first: int
    last: int
    nbytes: int
    what: tuple[str, int]


def fit_in(needs: Iterable[Need], base: int) -> tuple[dict[tuple[str, int], int], int]:
    """Offsets, none below `base`, such that what lives at one time does not overlap, and the end of them all.

    In the order of their first steps, each takes the first gap that is large enough.
    """
    offsets: dict[tuple[str, int], int] = {}
    live: list[tuple[int, int, int]] = []       # (start, end, last step), by start
    size = base
    for need in sorted(needs):
        nbytes = -(-max(need.nbytes, 1) // LINE) * LINE
        live = [entry for entry in live if entry[2] >= need.first]
        start = base
        for begin, end, _ in live:
            if begin - start >= nbytes:
                break
            start = end
        live.append((start, start + nbytes, need.last))
        live.sort()
        offsets[need.what] = start
        size = max(size, start + nbytes)
    return offsets, size


def lower(schedule: Schedule, strides: Sequence[tuple[int, ...]]) -> Lowered:
    """What the tape runs on inputs of these strides."""
    return Lowering(schedule, strides).lowered()


class Lowering:
    """One lowering: layouts of values first, then their lives, and last what each step does."""

    def __init__(self, schedule: Schedule, strides: Sequence[tuple[int, ...]]) -> None:
        self.schedule = schedule
        self.places: dict[int, Place] = {}
        self.orders: dict[int, tuple[int, ...]] = {}        # of the axes that a group goes over
        self.steps: list[Step] = []
        for i, node in enumerate(schedule.nodes):
            if schedule.kinds[i] == INPUT:
                self.places[i] = Place(i, 0, node.shape, tuple(strides[i]))
            elif schedule.kinds[i] == CONSTANT:
                assert node.value is not None
                self.places[i] = Place(i, 0, node.shape, contiguous(node.shape, node.dtype.itemsize))
        self._lay_out()
        self.lives = self._find_lives()
        self.slots, self.n_slots = self._number_slots()
        self.offsets: dict[tuple[str, int], int] = {}       # in the arena: of values, and of sums' accumulators

    # ---- layouts

    def _lay_out(self) -> None:
        schedule = self.schedule
        self._lay_out_views(-1)
        for at, step in enumerate(schedule.steps):
            if not step.nodes:
                continue
            order = self._order_of(step) if step.kind == ELEMENTWISE else ()
            self.orders[len(self.steps)] = order
            self.steps.append(step)
            for i in step.nodes:
                if schedule.kinds[i] != ELEMENTWISE:
                    self._lay_out_value(i, None)
                elif i in schedule.stored and schedule.home(i) == at:
                    self._lay_out_value(i, order)
            self._lay_out_views(at)

    def _lay_out_value(self, i: int, order: tuple[int, ...] | None) -> None:
        node = self.schedule.nodes[i]
        order = order if order is not None else tuple(range(len(node.shape)))
        along = contiguous([node.shape[axis] for axis in order], node.dtype.itemsize)
        strides = dict(zip(order, along, strict=True))
        self.places[i] = Place(i, 0, node.shape, tuple(strides[axis] for axis in range(len(node.shape))))

    def _lay_out_views(self, at: int) -> None:
        for i in self.schedule.views.get(at, ()):
            source = self.schedule.sources[i][0]
            place = view_of(self.schedule.nodes[i], self.places[source], self.schedule.nodes[source].dtype)
            if place is not None:
                self.places[i] = place
            else:
                self.steps.append(Step(CALL, [i]))
                self._lay_out_value(i, None)

    def externals(self, step: Step) -> list[int]:
        """What a group reads from memory."""
        inside = set(step.nodes)
        return list(dict.fromkeys(s for i in step.nodes for s in self.schedule.sources[i] if s not in inside))

    def _order_of(self, step: Step) -> tuple[int, ...]:
        """The order of axes in which most of what a group reads lies in memory."""
        assert step.shape is not None
        axes = tuple(range(len(step.shape)))
        whole = [self.places[i] for i in self.externals(step) if self.schedule.nodes[i].shape == step.shape]
        whole = [place for place in whole if 0 not in place.strides or 0 in place.shape]
        if not whole:
            return axes
        return tuple(sorted(axes, key=lambda axis: -sum(abs(place.strides[axis]) for place in whole)))

    # ---- lives

    def _find_lives(self) -> dict[int, list[int]]:
        """[first, last step] of each value that is made by a step, by root."""
        lives: dict[int, list[int]] = {}
        for at, step in enumerate(self.steps):
            reads = self.externals(step)
            for i in [*reads, *(i for i in step.nodes if self.is_stored_by(i, at))]:
                root = self.places[i].root
                if self.schedule.kinds[root] not in (INPUT, CONSTANT):
                    lives.setdefault(root, [at, at])[1] = at
        return lives

    def is_stored_by(self, i: int, at: int) -> bool:
        kind, schedule = self.schedule.kinds[i], self.schedule
        if kind != ELEMENTWISE:
            return True
        return i in schedule.stored and schedule.steps[schedule.home(i)] is self.steps[at]

    def _number_slots(self) -> tuple[dict[int, int], int]:
        """The slot of each root that is no value of the arena."""
        schedule = self.schedule
        slots = {i: i + 1 for i in range(schedule.n_inputs)}
        others = [i for i, kind in enumerate(schedule.kinds) if kind == CONSTANT] + schedule.outputs
        others += [step.nodes[0] for step in self.steps if step.kind == CALL]
        for i in others:
            slots[i] = len(slots) + 1
        return slots, len(slots) + 1

    # ---- what is run

    def lowered(self) -> Lowered:
        schedule = self.schedule
        drafts = {at: Draft(self, at) for at, step in enumerate(self.steps) if step.kind == ELEMENTWISE}
        needs = [
            Need(first, last, nbytes_of(schedule.nodes[root]), ("value", root))
            for root, (first, last) in self.lives.items() if root not in self.slots
        ]
        needs += [need for draft in drafts.values() for need in draft.accumulators()]
        base = max((draft.buffers_bytes for draft in drafts.values()), default=0)
        self.offsets, arena_bytes = fit_in(needs, base)
        steps: list[Group | Product | Call] = []
        work = 0
        for at, step in enumerate(self.steps):
            if step.kind == ELEMENTWISE:
                group = drafts[at].group()
                work += group.rows * group.length * len(group.operations)
                steps.append(group)
            elif step.kind == MATMUL:
                product = self._product(step.nodes[0])
                work += prod(product.core) * prod(product.sizes)
                steps.append(product)
            else:
                steps.append(self._call(at, step.nodes[0]))
        return Lowered(
            self.n_slots,
            [(self.slots[i], np.ascontiguousarray(schedule.nodes[i].value, schedule.nodes[i].dtype))
             for i, kind in enumerate(schedule.kinds) if kind == CONSTANT],
            [self._output(i) for i in schedule.outputs], arena_bytes, work, steps,
        )

    def position(self, i: int) -> tuple[int, int]:
        """Slot of a value and its offset from there."""
        place = self.places[i]
        if place.root in self.slots:
            return self.slots[place.root], place.offset
        return 0, self.offsets["value", place.root] + place.offset

    def _output(self, i: int) -> tuple[int, tuple[int, ...], np.dtype[Any], tuple[int, ...] | None]:
        node, strides = self.schedule.nodes[i], self.places[i].strides
        plain = strides == contiguous(node.shape, node.dtype.itemsize)
        return self.slots[i], node.shape, node.dtype, None if plain else strides

    def _product(self, i: int) -> Product:
        schedule, node = self.schedule, self.schedule.nodes[i]
        outer = node.shape[:-2]
        left, right = (self.places[s] for s in schedule.sources[i])
        result = self.places[i]
        strides = [
            broadcast(Place(p.root, p.offset, p.shape[:-2], p.strides[:-2]), outer) for p in (left, right, result)
        ]
        sizes, strides_out = collapsed(outer, *strides)
        places = [self.position(s) for s in (*schedule.sources[i], i)]
        signature = node.dtype.char * 2 + "->" + node.dtype.char
        return Product(
            (np.matmul, np.matmul.types.index(signature)),
            tuple(slot for slot, _ in places), tuple(offset for _, offset in places),    # type: ignore[arg-type]
            (left.shape[-2], left.shape[-1], right.shape[-1]),
            (*left.strides[-2:], *right.strides[-2:], *result.strides[-2:]),
            tuple(sizes), tuple(tuple(s) for s in strides_out),
        )

    def _call(self, at: int, i: int) -> Call:
        schedule, node = self.schedule, self.schedule.nodes[i]
        arguments = [
            (*self.position(s), self.places[s].shape, self.places[s].strides, schedule.nodes[s].dtype)
            for s in schedule.sources[i]
        ]
        dead = [
            self.slots[root] for root, (_, last) in self.lives.items()
            if last < at and root in self.slots and root not in schedule.outputs
        ]
        return Call(node.primitive.apply, node.attributes, arguments, self.slots[i], node.shape, node.dtype, dead)


class Draft:
    """A group being lowered: its block length and buffers first, for which no place of a value need be known."""

    def __init__(self, lowering: Lowering, at: int) -> None:
        self.lowering, self.at = lowering, at
        self.step = lowering.steps[at]
        self.order = lowering.orders[at]
        assert self.step.shape is not None
        self.shape = self.step.shape
        self.sizes = [self.shape[axis] for axis in self.order]
        self.externals = lowering.externals(self.step)
        schedule = lowering.schedule
        self.written = [
            i for i in self.step.nodes if schedule.kinds[i] == ELEMENTWISE and lowering.is_stored_by(i, at)
        ]
        self.sums = [i for i in self.step.nodes if schedule.kinds[i] == SUM]
        self.count = prod(self.shape)
        self.buffer_of, n_buffers = self._assign_buffers()
        self.itemsize = max((schedule.nodes[i].dtype.itemsize for i in (*self.step.nodes, *self.externals)), default=8)
        joint, _ = collapsed(
            self.sizes, *(self._strides_of(i) for i in self.externals), *(self._steps_of(i) for i in self.sums)
        )
        self._cut(joint, n_buffers)
        forms = {i: self._form(i) for i in self.externals}
        self.gathered = {i: n_buffers + k for k, i in enumerate(
            i for i in self.externals if forms[i][0] in ("gathered", "periodic"))}
        self.forms = forms
        self.buffer_bytes = -(-self.block * self.itemsize // LINE) * LINE + APART
        self.buffers_bytes = (n_buffers + len(self.gathered)) * self.buffer_bytes

    def _strides_of(self, i: int) -> list[int]:
        """Strides of a value along the axes of the group, in the order in which it goes over them."""
        strides = broadcast(self.lowering.places[i], self.shape)
        return [strides[axis] for axis in self.order]

    def _steps_of(self, i: int) -> list[int]:
        """How many results of sum i an element is from the next, along the group's axes in their order."""
        node = self.lowering.schedule.nodes[i]
        axes = set(node.attributes["axis"])
        kept = [axis for axis in range(len(self.shape)) if axis not in axes]
        along = dict(zip(kept, contiguous([self.shape[axis] for axis in kept], 1), strict=True))
        return [along.get(axis, 0) for axis in self.order]

    def _assign_buffers(self) -> tuple[dict[int, int], int]:
        """A buffer for each value that stays inside, taken over from values that are dead.

        A loop may write over an argument only where both have elements of one size.
        """
        schedule, written = self.lowering.schedule, set(self.written)
        last: dict[int, int] = {}
        for i in self.step.nodes:
            for s in schedule.sources[i]:
                last[s] = i
        free: list[int] = []
        buffer_of: dict[int, int] = {}
        n_buffers = 0
        for i in self.step.nodes:
            dying = [s for s in dict.fromkeys(schedule.sources[i]) if s in buffer_of and last[s] == i]
            size = schedule.nodes[i].dtype.itemsize
            alike = [s for s in dying if schedule.nodes[s].dtype.itemsize == size]
            free += [buffer_of[s] for s in alike]
            if schedule.kinds[i] == ELEMENTWISE and i not in written:
                if not free:
                    free.append(n_buffers)
                    n_buffers += 1
                buffer_of[i] = free.pop()
            free += [buffer_of[s] for s in dying if s not in alike]
        return buffer_of, n_buffers

    def _cut(self, joint: list[int], n_buffers: int) -> None:
        """Rows of so many elements, each in blocks; where rows are short, all of them as one and whole rows a block."""
        most = BLOCKS_BYTES // (self.itemsize * max(1, n_buffers + len(self.externals) + len(self.written)))
        most = min(LONGEST, max(SHORTEST, most))
        inner = joint[-1] if joint else 1
        if len(joint) > 1 and inner >= SHORTEST:
            self.rows, self.length = self.count // inner, inner
            pieces = -(-inner // most)
            self.block = -(-inner // pieces)
            return
        self.rows, self.length, self.block = min(self.count, 1), self.count, 1
        if not self.count:
            return
        period = 1
        for size in reversed(joint):
            if period * size > most:
                break
            period *= size
        self.block = min(self.count, most // period * period)

    def _form(self, i: int) -> tuple[str, list[int], list[int]]:
        """How the elements of a value are reached: kind, sizes and strides."""
        sizes, (strides,) = collapsed(self.sizes, self._strides_of(i))
        if len(sizes) <= 1:
            return "flat", sizes, strides
        if self.rows > 1 or sizes[-1] % self.block == 0:
            return "runs", sizes, strides       # no block reaches over the end of one
        if strides[0] == 0 and self.block % prod(sizes[1:]) == 0:
            return "periodic", sizes, strides
        return "gathered", sizes, strides

    def _external(self, i: int) -> Operand:
        slot, offset = self.lowering.position(i)
        kind, sizes, strides = self.forms[i]
        itemsize = self.lowering.schedule.nodes[i].dtype.itemsize
        if kind == "flat":
            stride = strides[0] if strides else 0
            return Operand("flat", slot, offset, stride, stride, 0, itemsize, (), ())
        if kind == "runs":
            return Operand("runs", slot, offset, strides[-1], 0, 0, itemsize, tuple(sizes), tuple(strides))
        buffer = self.gathered[i] * self.buffer_bytes
        return Operand(kind, slot, offset, itemsize, 0, buffer, itemsize, tuple(sizes), tuple(strides))

    def accumulators(self) -> list[Need]:
        """What its sums need of the arena: one that is alone is carried in long double, one of floats in double."""
        needs = []
        for i in self.sums:
            node = self.lowering.schedule.nodes[i]
            count = prod(node.shape)
            if count == 1 or node.dtype.char == "f":
                needs.append(Need(self.at, self.at, LONG_DOUBLE if count == 1 else 8 * count, ("sum", i)))
        return needs

    def group(self) -> Group:
        """The group, when all values have their places."""
        lowering, schedule = self.lowering, self.lowering.schedule
        operands: dict[int, Operand] = {}
        for i in self.externals:
            operands[i] = self._external(i)
        for i in self.step.nodes:
            itemsize = schedule.nodes[i].dtype.itemsize
            if i in self.buffer_of:
                offset = self.buffer_of[i] * self.buffer_bytes
                operands[i] = Operand("flat", 0, offset, itemsize, 0, 0, itemsize, (), ())
            elif schedule.kinds[i] == ELEMENTWISE:
                slot, offset = lowering.position(i)
                operands[i] = Operand("flat", slot, offset, itemsize, itemsize, 0, itemsize, (), ())
        ordered = sorted(operands, key=lambda i: not (operands[i].kind == "flat" and operands[i].step == 0))
        number = {i: k for k, i in enumerate(ordered)}
        operations: list[Operation] = []
        totals: list[Total] = []
        for i in self.step.nodes:
            sources = tuple(number[s] for s in schedule.sources[i])
            if schedule.kinds[i] == SUM:
                operations.append(Operation(None, sources, len(totals)))
                totals.append(self._total(i))
            else:
                operations.append(Operation(schedule.loops[i], (*sources, number[i]), -1))
        n_fixed = sum(operands[i].kind == "flat" and operands[i].step == 0 for i in ordered)
        return Group(self.rows, self.length, self.block, n_fixed, [operands[i] for i in ordered], operations, totals)

    def _total(self, i: int) -> Total:
        node = self.lowering.schedule.nodes[i]
        slot, offset = self.lowering.position(i)
        sizes, (steps,) = collapsed(self.sizes, self._steps_of(i))
        accumulators = self.lowering.offsets.get(("sum", i), -1)
        return Total(
            node.dtype.char == "f", prod(node.shape), slot, offset, accumulators, tuple(sizes), tuple(steps)
        )
