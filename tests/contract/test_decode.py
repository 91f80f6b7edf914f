"""Whatever a file holds: a record is well typed, and nothing raises."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_supervisor.contract.decode import decode, decode_or, decode_strictly


class Colour(StrEnum):
    RED = "red"


class Pair(NamedTuple):
    pid: int
    boot: str


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = 0
    share: float | None = None


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str = "unknown"
    number: float = 0.0
    flag: bool = False
    colour: Colour | None = None
    inner: Inner = field(default_factory=Inner)
    inners: tuple[Inner, ...] = ()
    words: list[str] = field(default_factory=list)
    by_name: Mapping[str, float] = field(default_factory=dict)
    pair: Pair | None = None
    anything: dict[str, Any] = field(default_factory=dict)
    span: tuple[float, float] | None = None


@dataclass(frozen=True)
class Needy:
    name: str
    size: int | None = None


TABLE = [
    ({}, Outer()),
    ({"name": "x", "unheard": 1}, Outer(name="x")),
    ({"name": 7, "flag": 1}, Outer()),
    ({"number": 3}, Outer(number=3.0)),
    ({"number": True}, Outer()),
    ({"number": float("nan")}, Outer()),
    ({"number": 10**400}, Outer()),
    ({"inner": {"size": -(2**63)}}, Outer(inner=Inner(size=-(2**63)))),
    ({"inner": {"size": 2**63}}, Outer()),
    ({"anything": {"a": 2**63}}, Outer(anything={"a": 2**63})),
    ({"colour": "red"}, Outer(colour=Colour.RED)),
    ({"colour": "blue"}, Outer()),
    ({"inner": {"size": 5, "share": "x"}}, Outer(inner=Inner(size=5))),
    ({"inner": [1]}, Outer()),
    ({"inners": [{"size": 1}, {"size": 2}]}, Outer(inners=(Inner(size=1), Inner(size=2)))),
    ({"inners": [{"size": 1}, 2]}, Outer()),
    ({"words": ["a", "b"]}, Outer(words=["a", "b"])),
    ({"words": ["a", 1]}, Outer()),
    ({"by_name": {"a": 1}}, Outer(by_name={"a": 1.0})),
    ({"by_name": {"a": "1"}}, Outer()),
    ({"pair": {"pid": 1, "boot": "b"}}, Outer(pair=Pair(1, "b"))),
    ({"pair": {"pid": 1}}, Outer()),
    ({"anything": {"a": [None, 1.5]}}, Outer(anything={"a": [None, 1.5]})),
    ({"span": [1, 2.5]}, Outer(span=(1.0, 2.5))),
    ({"span": [1, 2, 3]}, Outer()),
]


@pytest.mark.parametrize(("document", "record"), TABLE, ids=str)
def test_what_does_not_fit_is_not_known(document: object, record: Outer):
    assert decode(Outer, document) == record


@pytest.mark.parametrize("document", [None, 7, "x", [], [["name", "x"]]])
def test_what_is_no_object_is_no_record(document: object):
    assert decode(Outer, document) is None
    assert decode_or(Outer, document) == Outer()


def test_a_field_without_a_default_is_needed():
    assert decode(Needy, {"size": 1}) is None
    assert decode(Needy, {"name": 1}) is None
    assert decode(Needy, {"name": "x"}) == Needy("x")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([one.name for one in dataclasses.fields(Outer)] + ["size", "share", "pid", "boot"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_never_raises_and_is_always_well_typed(document: object):
    found = decode_or(Outer, document)
    assert type(found.name) is str
    assert type(found.number) is float
    assert type(found.flag) is bool
    assert found.colour is None or type(found.colour) is Colour
    assert type(found.inner) is Inner
    assert all(type(inner.size) is int for inner in found.inners)
    assert all(type(word) is str for word in found.words)
    assert all(type(value) is float for value in found.by_name.values())
    assert found.pair is None or (type(found.pair.pid) is int and type(found.pair.boot) is str)
    assert found.span is None or len(found.span) == 2


INNERS = st.builds(
    Inner, size=st.integers(-(2**63), 2**63 - 1), share=st.none() | st.floats(allow_nan=False, allow_infinity=False)
)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.builds(
        Outer, name=st.text(), number=FINITE, flag=st.booleans(), colour=st.sampled_from([None, Colour.RED]), inner=INNERS,
        inners=st.lists(INNERS, max_size=3).map(tuple), words=st.lists(st.text(), max_size=3),
        by_name=st.dictionaries(st.text(), FINITE, max_size=3),
        span=st.none() | st.tuples(FINITE, FINITE),
    )
)  # fmt: skip
def test_there_and_back(record: Outer):
    assert decode(Outer, json.loads(json.dumps(asdict(record)))) == record


@pytest.mark.parametrize(
    ("document", "record"),
    [
        ({}, Outer()),
        ({"name": "x", "unheard": [1]}, Outer(name="x")),
        ({"name": 7}, None),
        ({"name": "x", "number": "1"}, None),
        ({"colour": "blue"}, None),
        ({"inner": 7}, None),
        ({"span": [1]}, None),
        ({"number": 3}, Outer(number=3.0)),
        (None, None),
        ([], None),
    ],
)
def test_strictly_one_value_that_does_not_fit_makes_it_no_record(document: object, record: Outer | None):
    assert decode_strictly(Outer, document) == record


def test_strictly_a_field_without_a_default_is_needed():
    assert decode_strictly(Needy, {"size": 1}) is None
    assert decode_strictly(Needy, {"name": "x", "size": "1"}) is None
    assert decode_strictly(Needy, {"name": "x", "size": 1}) == Needy("x", 1)


@dataclass(frozen=True, kw_only=True)
class Odd:
    word: Literal["a", "b", 1] = "a"
    anything: Any = None
    either: int | str | None = None
    once: int | None = 5
    old: Optional[int] = None  # noqa: UP045 - as older code declares it
    bare: list = field(default_factory=list)
    pairs: tuple[tuple[int, str], ...] = ()
    nested: dict[str, dict[str, int]] = field(default_factory=dict)
    loose: dict = field(default_factory=dict)
    derived: int = field(default=7, init=False)


@pytest.mark.parametrize(
    ("document", "record"),
    [
        ({"word": "b"}, Odd(word="b")),
        ({"word": 1}, Odd(word=1)),
        ({"word": True}, Odd()),
        ({"word": 1.0}, Odd()),
        ({"word": "c"}, Odd()),
        ({"anything": [1, {"a": None}]}, Odd(anything=[1, {"a": None}])),
        ({"either": 5}, Odd(either=5)),
        ({"either": "x"}, Odd(either="x")),
        ({"either": True}, Odd()),
        ({"once": None}, Odd(once=None)),
        ({"once": "x"}, Odd()),
        ({"old": 3}, Odd(old=3)),
        ({"bare": [1, "x", None]}, Odd(bare=[1, "x", None])),
        ({"bare": "x"}, Odd()),
        ({"pairs": [[1, "a"], [2, "b"]]}, Odd(pairs=((1, "a"), (2, "b")))),
        ({"pairs": [[1, "a"], [2]]}, Odd()),
        ({"pairs": [[1, "a"], ["b", 2]]}, Odd()),
        ({"nested": {"a": {"b": 1}}}, Odd(nested={"a": {"b": 1}})),
        ({"nested": {"a": {"b": "1"}}}, Odd()),
        ({"nested": [1]}, Odd()),
        ({"loose": {"a": object}}, Odd(loose={"a": object})),
        ({"derived": 9}, Odd()),
    ],
)
def test_every_declared_type(document: object, record: Odd):
    assert decode(Odd, document) == record


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        (2**63 - 1, True),
        (2**63, False),
        (-(2**63), True),
        (-(2**63) - 1, False),
        (True, False),
        (1.0, False),
        ("1", False),
    ],
)
def test_whole_numbers_have_64_bits(value: Any, fits: bool):
    assert decode(Inner, {"size": value}) == (Inner(size=value) if fits else Inner())


@pytest.mark.parametrize(
    ("value", "share"),
    [
        (1, 1.0),
        (2**70, float(2**70)),
        (0.5, 0.5),
        (10**400, None),
        (float("inf"), None),
        (float("nan"), None),
        (True, None),
        (None, None),
    ],
)
def test_fractions_are_finite_and_whole_numbers_may_stand_for_them(value: object, share: float | None):
    found = decode(Inner, {"share": value}).share
    assert (found, type(found)) == (share, type(share))
