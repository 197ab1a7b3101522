"""Nested lists, tuples and dicts are put together again as they were."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgd._structure import LEAF, flatten, flatten_like

Pair = namedtuple("Pair", "left right")

NESTED = st.recursive(
    st.floats(allow_nan=False),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=2), st.integers()), inner, max_size=3),
        st.tuples(inner, inner).map(lambda two: Pair(*two)),
    ),
    max_leaves=12,
)


def types(value):
    """The structure with types instead of leaves, which equality of lists and tuples does not look at."""
    if isinstance(value, dict):
        return dict, [(key, types(inner)) for key, inner in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [types(inner) for inner in value]
    return type(value)


@given(NESTED)
def test_what_is_taken_apart_is_put_together_again(value):
    leaves, layout = flatten(value)
    again = layout.unflatten(leaves)
    assert again == value
    assert types(again) == types(value)
    assert flatten_like(layout, value, "value") == leaves
    assert len(list(layout.paths())) == len(leaves)


@given(NESTED)
def test_a_path_is_where_the_leaf_is(value):
    leaves, layout = flatten(value)
    assert [eval(path, {"value": value}) for path in layout.paths("value")] == leaves


def test_one_value_is_a_leaf():
    assert flatten(1.5) == ([1.5], LEAF)
    assert list(LEAF.paths("x")) == ["x"]


def test_keys_may_come_in_another_order():
    _, layout = flatten({"a": 1, "b": [2, 3]})
    assert flatten_like(layout, OrderedDict(b=(5, 6), a=4), "jac") == [4, 5, 6]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], r"jac must be a dict, got list"),
        (1.0, r"jac must be a dict, got float"),
        ({"a": 1}, r"jac must have the keys \['a', 'b'\], got \['a'\]"),
        ({"a": 1, "b": [2, 3], "c": 0}, r"jac must have the keys \['a', 'b'\], got \['a', 'b', 'c'\]"),
        ({"a": 1, "b": [2]}, r"jac\['b'\] must have length 2, got 1"),
        ({"a": 1, "b": {0: 1, 1: 2}}, r"jac\['b'\] must be a list, got dict"),
    ],
)
def test_another_layout_is_named(value, message):
    _, layout = flatten({"a": 1, "b": [2, 3]})
    with pytest.raises(ValueError, match=message):
        flatten_like(layout, value, "jac")
