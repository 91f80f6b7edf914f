"""A record is what a frozen dataclass with keyword fields is."""

import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_supervisor.contract.record import record


@record
class Ours:
    """With every sort of field."""

    a: int
    b: str | None = None
    c: dict[str, int] = field(default_factory=dict)
    d: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Theirs:
    """The same, as the standard library has it."""

    a: int
    b: str | None = None
    c: dict[str, int] = field(default_factory=dict)
    d: tuple[int, ...] = ()


@record
class Other:
    """Of the same fields, and not equal to it."""

    a: int
    b: str | None = None


VALUES = st.fixed_dictionaries(
    {"a": st.integers(0, 2)},
    optional={
        "b": st.sampled_from([None, "x"]),
        "c": st.dictionaries(st.sampled_from("uv"), st.integers(0, 1)),
        "d": st.lists(st.integers(0, 1), max_size=2).map(tuple),
    },
)


@given(VALUES, VALUES)
def test_a_record_is_a_frozen_dataclass(first, second):
    ours, theirs = Ours(**first), Theirs(**first)
    assert asdict(ours) == asdict(theirs)
    assert repr(ours).removeprefix("Ours") == repr(theirs).removeprefix("Theirs")
    assert [one.name for one in fields(ours)] == [one.name for one in fields(theirs)]
    assert (ours == Ours(**second)) == (theirs == Theirs(**second))
    assert asdict(replace(ours, **second)) == asdict(replace(theirs, **second))
    assert copy.deepcopy(ours) == pickle.loads(pickle.dumps(ours)) == Ours(**dict(reversed(first.items())))


def test_the_default_of_a_record_is_its_own():
    assert Ours(a=1).c is not Ours(a=1).c


def test_records_of_two_kinds_are_not_equal():
    assert Ours(a=1) != Other(a=1)
    assert Ours(a=1) != {"a": 1, "b": None, "c": {}, "d": ()}


def test_a_record_without_a_changing_field_can_be_a_key():
    assert {Other(a=1): "one"}[Other(b=None, a=1)] == "one"
    with pytest.raises(TypeError):
        hash(Ours(a=1))


def test_a_record_does_not_change():
    ours = Ours(a=1)
    with pytest.raises(FrozenInstanceError, match=r"Ours\.a"):
        ours.a = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError, match=r"Ours\.a"):
        del ours.a
    assert ours == Ours(a=1)


@pytest.mark.parametrize(("given", "line"), [({}, "needs the field a"), ({"a": 1, "e": 2}, "has no field e")])
def test_a_record_wants_its_fields_and_no_others(given, line):
    with pytest.raises(TypeError, match=line):
        Ours(**given)
