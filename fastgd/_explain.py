"""The chain rule as a table: each step of a function, its value, its local derivatives, and their product so far."""

from __future__ import annotations

import html
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fastgd import _primitives as p
from fastgd._formulas import formula, in_short
from fastgd._graph import MATMUL, Node, in_order
from fastgd._rules import ELEMENTWISE_RULES, gradient_of_input
from fastgd._sympy import as_expression
from fastgd._traced import Trace, Traced, active_trace
from fastgd._transform import accumulate, dependent, make_runner, push_forward, simplified
from fastgd._trees import named_leaves
from fastgd.autodiff import as_callable, as_output, as_variable, called, dense, one, positions_of, with_leaves

__all__ = ["Explanation", "Partial", "Step", "explain"]

#: Of a longer table the first and last rows are shown.
HEAD, TAIL = 20, 20
#: A longer formula is named instead of written out.
CHARACTERS = 80
#: A longer one of a local derivative is left out.
LOCAL_CHARACTERS = 30
#: Operations of a formula that SymPy is given, written out: it takes seconds for longer ones.
SYMBOLIC_OPERATIONS = 200


class Partial(NamedTuple):
    """A local derivative: of a step u by one of its operands a.

    Attributes
    ----------
    of : str
        The name of the operand.
    formula : str
        ∂u/∂a, of an elementwise operation; of another one, how a change da changes u: ``X @ dw``.
    value : float, ndarray or None
        ∂u/∂a in numbers, entry by entry; None for operations that are not elementwise.
    """

    of: str
    formula: str
    value: Any


class Step(NamedTuple):
    """A step of a function.

    Attributes
    ----------
    name : str
        Of its result: that of the argument, u1, u2, ..., and at last the function's.
    expression : str
        What it does; empty for arguments and what else is given.
    value : float or ndarray
    partials : tuple of Partial
        By each operand that has a derivative.
    product : float, ndarray or None
        The product of the local derivatives so far: of a function of one number (forward mode) from the argument x up
        to this step, du/dx; else (reverse mode) from the result z back to this step, dz/du. None of what is constant.
    """

    name: str
    expression: str
    value: Any
    partials: tuple[Partial, ...]
    product: Any


@dataclass(frozen=True, eq=False)
class Explanation:
    """The chain rule for a function at a point, step by step. Printed it is a table, and in a notebook one in HTML.

    Attributes
    ----------
    function : str
        The formula, or the name if that is long.
    output : str
        What the result is called.
    mode : {"forward", "reverse"}
    steps : tuple of Step
    derivatives : dict
        By the argument's name, the derivative of the result.
    """

    function: str
    output: str
    mode: str
    steps: tuple[Step, ...]
    derivatives: dict[str, Any]
    _graph: tuple[Node, dict[str, Node]] = field(repr=False)

    @cached_property
    def symbolic(self) -> dict[str, Any] | None:
        """The derivatives as SymPy expressions, by the argument's name.

        None if SymPy is not installed, if there are arrays among the steps, an operation that SymPy does not know, or
        more than 200 operations in the formula.
        """
        output, inputs = self._graph
        if operations_written_out(output) > SYMBOLIC_OPERATIONS or any(node.shape for node in inputs.values()):
            return None
        try:
            import sympy
        except ImportError:
            return None
        symbols = {name: sympy.Symbol(name, real=True) for name in inputs}
        expression = as_expression(output, {id(node): symbols[name] for name, node in inputs.items()})
        if expression is None:
            return None
        return {name: sympy.diff(expression, symbol) for name, symbol in symbols.items()}

    def __str__(self) -> str:
        header, rows = self._cells()
        texts = [[name, value, ", ".join(partials), product] for name, value, partials, product in [header, *rows]]
        widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
        arrays = any(np.ndim(step.value) for step in self.steps)
        sides = "<<<<" if arrays else "<><>"  # numbers are read from their right end
        lines = [
            "   ".join(f"{text:{side}{width}}" for text, side, width in zip(row, sides, widths, strict=True)).rstrip()
            for row in texts
        ]
        if len(self.steps) > HEAD + TAIL:
            lines.insert(1 + HEAD, f"… {len(self.steps) - HEAD - TAIL} steps")
        return "\n".join([self._title(), "", *lines, "", *self._results()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The table, for a notebook."""
        header, rows = self._cells()
        cell = "text-align:left;padding:2px 12px 2px 0;vertical-align:top;font-family:monospace;white-space:pre"

        def row(cells: Sequence[Any], tag: str) -> str:
            lines = [text if isinstance(text, list) else [text] for text in cells]
            texts = ["<br>".join(map(html.escape, text)) for text in lines]
            return f"<tr>{''.join(f'<{tag} style={cell!r}>{text}</{tag}>' for text in texts)}</tr>"

        body = [row(cells, "td") for cells in rows]
        if len(self.steps) > HEAD + TAIL:
            body.insert(HEAD, row([f"… {len(self.steps) - HEAD - TAIL} steps", "", "", ""], "td"))
        results = "".join(f"<div style={cell!r}>{html.escape(line)}</div>" for line in self._results())
        table = f"<thead>{row(header, 'th')}</thead><tbody>{''.join(body)}</tbody>"
        return (
            f"<div><div style={cell!r}>{html.escape(self._title())}</div>"
            f"<table style='margin-left:0'>{table}</table>{results}</div>"
        )

    def _title(self) -> str:
        """The function, and where it is looked at."""
        at = ", ".join(f"{s.name} = {in_short(s.value)}" for s in self.steps if s.name in self.derivatives)
        return f"{self.output} = {self.function} at {at}"

    def _cells(self) -> tuple[list[Any], list[list[Any]]]:
        """The texts of the table: its header, and the rows that are shown."""
        steps = self.steps if len(self.steps) <= HEAD + TAIL else (*self.steps[:HEAD], *self.steps[-TAIL:])
        d = "d" if len(self.derivatives) == 1 else "∂"
        x = next(iter(self.derivatives))
        product = f"{d}·/{d}{x} ↓" if self.mode == "forward" else f"{d}{self.output}/{d}· ↑"
        rows = [
            [
                f"{step.name} = {step.expression}" if step.expression else step.name,
                in_short(step.value),
                [partial_text(step.name, partial) for partial in step.partials],
                "" if step.product is None else in_short(step.product),
            ]
            for step in steps
        ]
        return ["step", "value", ["local derivatives"], product], rows

    def _results(self) -> list[str]:
        """The derivatives, in numbers and as SymPy has them."""
        d = "d" if len(self.derivatives) == 1 else "∂"
        lines = []
        for name, value in self.derivatives.items():
            left = f"{d}{self.output}/{d}{name}"
            lines.append(f"{left} = {in_short(value) if np.ndim(value) else repr(value)}")
            if self.symbolic is not None and len(text := str(self.symbolic[name])) <= 2 * CHARACTERS:
                lines.append(f"{'':<{len(left)}} = {text}")
        return lines


def partial_text(step: str, partial: Partial) -> str:
    """A local derivative as a line."""
    if partial.value is None:
        return f"d{step} = {partial.formula}"
    value = in_short(partial.value)
    same = partial.formula in ("", value)
    return f"∂{step}/∂{partial.of} = {value if same else f'{partial.formula} = {value}'}"


# ---- from a function to its steps ------------------------------------------------------------------------------------


def explain(
    f: Callable[..., Any], *args: Any, argnums: int | Sequence[int] | None = None, **kwargs: Any
) -> Explanation:
    """The chain rule for a function at a point: a table of its steps, their local derivatives, and their products.

    Parameters
    ----------
    f : callable
        Of plain Python and NumPy, or a SymPy expression. Returns a number; if it is derived by one number, or an array.
    *args
        The arguments of f: numbers, float arrays, and nested lists, tuples and dicts of these.
    argnums : int or sequence of int, optional
        The arguments by which is derived, by default all of them. The others are given.
    **kwargs
        Further arguments of f, which are given.

    Returns
    -------
    Explanation
        Shown as a table, in a notebook in HTML. Its `steps` and `derivatives` have the figures.

    Raises
    ------
    TypeError
        If f returns an array and is derived by more than one number, if an argument is none that can be derived by, if
        f uses an operation that has no derivative here, or within a function that is being derived itself.

    Notes
    -----
    Of one number, the table is that of forward mode: du/dx for each step u, downwards. Else it is that of reverse mode:
    dz/du, upwards from the result z. Steps that are not elementwise have no table of local derivatives of a handy size;
    for them stands how they pass on a change, such as du = X @ dw.

    Examples
    --------
    >>> import fastgd as fg
    >>> table = fg.explain(lambda x, y: x * y + 1, 3.0, 2.0)
    >>> [f"{step.name} = {step.expression}" for step in table.steps[2:]], table.derivatives
    (['u1 = x*y', 'z = u1 + 1'], {'x': 2.0, 'y': 3.0})
    """
    f = as_callable(f)
    if active_trace() is not None:
        raise TypeError("explain cannot be used within a function that is being derived: its table is of numbers")
    if argnums is None:
        argnums = tuple(range(len(args)))
    positions = positions_of(argnums, len(args))
    labels = argument_names(f, len(args))
    named = [leaf for i in positions for leaf in named_leaves(args[i], labels[i])]
    if not named:
        raise TypeError(f"{called(f)} has no argument to derive by")
    values = [as_variable(value, name) for name, value in named]
    with Trace() as trace:
        variables = [
            trace.input(array, type(value) in (int, float)) for array, (_, value) in zip(values, named, strict=True)
        ]
        trace.simplifies = hasattr(f, "__wrapped__")  # a reader is to find what was written, but not in a derivative
        returned = f(*with_leaves(args, positions, variables), **kwargs)
        (output,) = simplified(trace, [as_output(returned, trace, called(f))])
        if not output.inputs:
            output = p.alias(output)  # the argument itself, or a constant
        trace.simplifies = True
        inputs = dict(zip((name for name, _ in named), variables, strict=True))
        given = {label: arg for k, (label, arg) in enumerate(zip(labels, args, strict=True)) if k not in positions}
        return Table(f, output, inputs, given | kwargs | surroundings(f)).explanation(values)


def argument_names(f: Callable[..., Any], count: int) -> list[str]:
    """What a function calls its arguments, or x, or x0, x1, ..."""
    plain = ["x"] if count == 1 else [f"x{k}" for k in range(count)]
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        return plain
    names = [q.name for q in parameters if q.kind in (q.POSITIONAL_ONLY, q.POSITIONAL_OR_KEYWORD)][:count]
    return names if len(names) == count else plain


def surroundings(f: Callable[..., Any]) -> dict[str, Any]:
    """What a function finds outside its arguments, by name."""
    try:
        found = inspect.getclosurevars(inspect.unwrap(f))
    except TypeError:
        return {}
    return {**found.globals, **found.nonlocals}


class Table:
    """A graph's nodes as the rows of a table: what they are called, and what there is to compute of them.

    Parameters
    ----------
    f : callable
    output : Traced
        What it returns.
    inputs : dict
        By name, what is derived by.
    given : dict
        By name, what else the function reads: arrays in the graph are looked for there.
    """

    def __init__(
        self, f: Callable[..., Any], output: Traced, inputs: dict[str, Traced], given: dict[str, Any]
    ) -> None:
        self.f, self.output, self.inputs = f, output, inputs
        self.order: list[Any] = list(in_order([output]))
        self.active = dependent(self.order, list(inputs.values()))
        self.hidden = hidden_parts(self.order)
        self.transparent = {
            id(node)
            for node in self.order
            if node.primitive is p.ALIAS
            or (node.primitive is p.RESHAPE and (id(node) in self.hidden or self.operation(node) is not node))
        }
        constants: list[Any] = [node for node in self.order if node.value is not None and node.shape]
        steps = [node for node in self.order if node.inputs and id(node) not in self.hidden]
        self.rows: list[Any] = [*inputs.values(), *constants, *steps]
        taken = {name.partition("[")[0] for name in inputs} | given.keys()
        u, c = free_letter("uvst", taken), free_letter("cabk", taken)
        self.names = {id(node): name for name, node in inputs.items()}
        self.names |= {id(node): given_name(node.value, given, f"{c}{k}") for k, node in enumerate(constants, start=1)}
        self.names |= {id(node): f"{u}{k}" for k, node in enumerate(steps, start=1)}
        self.names[id(output)] = output_name(f, taken)
        self.names |= {id(self.operation(node)): self.names[id(node)] for node in steps}
        for node in self.order:
            if id(node) in self.hidden and node.primitive is p.RESHAPE:
                self.names[id(node)] = self.names[id(node.inputs[0])]

    def explanation(self, values: Sequence[np.ndarray]) -> Explanation:
        """All figures, from one run of the graph at these values of the inputs."""
        forward = len(self.inputs) == 1 and values[0].shape == ()
        products = self.forward() if forward else self.backward()
        partials = {id(node): self.partials(node) for node in self.rows}
        wanted = [*self.rows, *products.values()]
        wanted += [local for found in partials.values() for _, _, local in found if local is not None]
        computed = make_runner(list(self.inputs.values()), wanted)(*values)
        arrays = {id(node): array for node, array in zip(wanted, computed, strict=True)}

        def figure(node: Traced | None) -> Any:
            if node is None:
                return None
            return arrays[id(node)] if node.shape else arrays[id(node)].item()

        steps = tuple(
            Step(
                self.names[id(node)],
                self.expression(node) if node.inputs else "",
                figure(node),
                tuple(Partial(of, text, figure(local)) for of, text, local in partials[id(node)]),
                figure(products.get(id(node))),
            )
            for node in self.rows
        )
        given = {id(node): self.names[id(node)] for node in self.rows if not node.inputs}
        return Explanation(
            formula(self.output, given, CHARACTERS, self.transparent) or f"f({', '.join(self.inputs)})",
            self.names[id(self.output)],
            "forward" if forward else "reverse",
            steps,
            {name: figure(products[id(self.output if forward else node)]) for name, node in self.inputs.items()},
            (self.output, dict(self.inputs)),
        )

    def operation(self, node: Traced) -> Any:
        """What is done in a row: where it is a product with a vector, the product before its shape is put right."""
        first = node.inputs[0] if node.inputs else node
        return first if is_product(first) and id(first) in self.hidden else node

    def expression(self, node: Traced) -> str:
        """What is done in a row, on operands that have rows of their own."""
        operation = self.operation(node)
        transparent = {id(node)} if node.primitive is p.ALIAS else ()
        return formula(operation, self.names, CHARACTERS, transparent) or operation.primitive.name

    def forward(self) -> dict[int, Traced]:
        """By id, du/dx of each row that depends on the only input."""
        (x,) = self.inputs.values()
        rows = [node for node in self.rows if id(node) in self.active or node is self.output]
        tangents = push_forward(rows, (x,), (one(x),))
        return {id(node): dense(tangent, node) for node, tangent in zip(rows, tangents, strict=True)}

    def backward(self) -> dict[int, Traced]:
        """By id, dz/du of each row that depends on an input, from the output z back."""
        if self.output.shape:
            raise TypeError(
                f"{called(self.f)} must return a number to be derived by several, got shape {self.output.shape}; "
                "choose one element, or derive by one number"
            )
        found: dict[int, Any] = {id(self.output): one(self.output)}
        for node in reversed(self.order):
            for i, source in enumerate(node.inputs):
                if id(source) in self.active and found.get(id(node)) is not None:
                    accumulate(found, source, gradient_of_input(node, found[id(node)], i))
        return {id(node): dense(found.get(id(node)), node) for node in self.rows if id(node) in self.active}

    def partials(self, node: Traced) -> list[tuple[str, str, Traced | None]]:
        """The local derivatives of a row, by each operand that has one: its name, the formula, what computes it."""
        operation = self.operation(node)
        sources = {id(source): source for source in operation.inputs if id(source) in self.active}
        rules = ELEMENTWISE_RULES.get(operation.primitive.name)
        found: list[tuple[str, str, Traced | None]] = []
        for key, source in sources.items() if id(node) in self.active else ():
            if rules is None:
                found.append((self.names[key], self.change(operation, source), None))
                continue
            terms = [
                rule(one(operation), operation, *operation.inputs)
                for rule, each in zip(rules, operation.inputs, strict=False)
                if each is source
            ]
            present = [term for term in terms if term is not None]
            local = sum(present[1:], start=present[0]) if present else operation.tracer.constant(0.0, operation.dtype)
            found.append((self.names[key], self.local_formula(local, operation), local))
        return found

    def local_formula(self, local: Traced, operation: Traced) -> str:
        """A local derivative in terms of the operation's operands and result; empty where it is a number or long."""
        if local.value is not None:
            return ""
        near = {id(node): self.names[id(node)] for node in (*operation.inputs, operation) if id(node) in self.names}
        return near.get(id(local)) or formula(local, near, LOCAL_CHARACTERS) or ""

    def change(self, operation: Traced, source: Traced) -> str:
        """How an operation that is not elementwise passes on a change of an operand."""
        name, primitive = self.names[id(source)], operation.primitive.name
        if primitive in CHANGES:
            operands = [self.names[id(each)] for each in operation.inputs]
            changes = CHANGES[primitive](self.names[id(operation)], *operands)
            return " + ".join(text for text, each in zip(changes, operation.inputs, strict=True) if each is source)
        if primitive not in LINEAR:
            return f"linear in d{name}"
        others = {id(each): "0" for each in operation.inputs} if primitive == "concatenate" else {}
        names = self.names | others | {id(source): f"d{name}"}
        return formula(operation, names, CHARACTERS, self.transparent) or f"linear in d{name}"


#: Operations that do to a change of their operands what they do to the operands.
LINEAR = frozenset(
    {"astype", "broadcast_to", "concatenate", "cumsum", "index", "reshape", "scatter", "sum", "transpose"}
)
#: What becomes of a change of each operand of others: by the names of the result and the operands.
CHANGES: dict[str, Callable[..., tuple[str, ...]]] = {
    "alias": lambda u, a: (f"d{a}",),
    "linalg.det": lambda u, a: (f"{u}*trace(inv({a}) @ d{a})",),
    "linalg.inv": lambda u, a: (f"-{u} @ d{a} @ {u}",),
    "linalg.slogdet": lambda u, a: (f"trace(inv({a}) @ d{a})",),
    "linalg.solve": lambda u, a, b: (f"-solve({a}, d{a} @ {u})", f"solve({a}, d{b})"),
    "matmul": lambda u, a, b: (f"d{a} @ {b}", f"{a} @ d{b}"),
    "max": lambda u, a: (f"d{a} where {a} is maximal",),
    "min": lambda u, a: (f"d{a} where {a} is minimal",),
    "stop_gradient": lambda u, a: ("0",),
}


def operations_written_out(output: Node) -> int:
    """How many operations a formula has, in which steps that are used twice stand twice."""
    counts: dict[int, int] = {}
    for node in in_order([output]):
        counts[id(node)] = sum(counts[id(source)] for source in node.inputs) + bool(node.inputs)
    return counts[id(output)]


def is_product(node: Node) -> bool:
    return node.primitive.kind == MATMUL


def hidden_parts(order: Sequence[Node]) -> set[int]:
    """The ids of what else a product with a vector is made of: the vector as a matrix, and the product as a matrix."""
    users: dict[int, list[Node]] = {}
    for node in order:
        for source in node.inputs:
            users.setdefault(id(source), []).append(node)
    hidden = set()
    for node in order:
        by = users.get(id(node), [])
        becomes_vector = is_product(node) and len(by) == 1 and only_squeezes(by[0])
        was_vector = only_squeezes(node) and len(by) > 0 and all(map(is_product, by))
        if becomes_vector or was_vector:
            hidden.add(id(node))
    return hidden


def only_squeezes(node: Node) -> bool:
    """Whether this takes away axes of length one, or adds some."""
    if node.primitive is not p.RESHAPE:
        return False
    before, after = ([length for length in shape if length != 1] for shape in (node.inputs[0].shape, node.shape))
    return before == after


def given_name(array: np.ndarray, given: dict[str, Any], otherwise: str) -> str:
    """What a constant is called where it comes from."""
    for name, value in given.items():
        if isinstance(value, np.ndarray) and value.shape == array.shape and np.array_equal(value, array):
            return name
    return otherwise


def free_letter(letters: str, taken: set[str]) -> str:
    """The first letter that, with a number behind it, names nothing yet."""
    numbered = {name.rstrip("0123456789") for name in taken if name[-1:].isdigit()}
    return next((letter for letter in letters if letter not in numbered), "step")


def output_name(f: Callable[..., Any], taken: set[str]) -> str:
    """The function's own name, or z where it has none or is the derivative of one."""
    own = called(f)
    names = ["z", "result"] if hasattr(f, "__wrapped__") or not own.isidentifier() else [own, "z", "result"]
    return next(name for name in names if name not in taken)
