"""From JSON to typed records, in one place: what does not make sense is not known, and nothing raises.

A record is a dataclass. Unknown keys are dropped, and a missing key, or a value of another type than its field is
declared with, takes the field's default: so older and newer versions read each other's files, and a garbled file
costs what is garbled in it. A record without a default for a field that is missing is None as a whole.

The standard library only: the contract needs nothing else, and the supervisor stays small.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, Final, TypeVar

Record = TypeVar("Record")


_WHOLE: Final = 1 << 63


class _Unfit:
    """The value of a field that cannot have the value that was found."""


_UNFIT: Final = _Unfit()
_AS_THEY_ARE: Final = (str, bool)
"""Types whose every value fits: most values are of one of them, and a list of runs has thousands."""


def decode(kind: type[Record], document: object) -> Record | None:
    """The record that `document` holds; None when it is no JSON object, or lacks a field that has no default."""
    if not isinstance(document, dict):
        return None
    values = {}
    for name, declared in _fields(typing.cast("Any", kind)).items():
        if name in document and not isinstance(value := _fit(declared, document[name]), _Unfit):
            values[name] = value
    try:
        return kind(**values)
    except TypeError:  # a field without a default is missing
        return None


def decode_strictly(kind: type[Record], document: object) -> Record | None:
    """The same, but one value that does not fit its field makes the whole record None: half of it would mislead."""
    if not isinstance(document, dict):
        return None
    declared = _fields(typing.cast("Any", kind))
    values = {name: _fit(declared[name], document[name]) for name in declared if name in document}
    if any(isinstance(value, _Unfit) for value in values.values()):
        return None
    try:
        return kind(**values)
    except TypeError:  # a field without a default is missing
        return None


def decode_or(kind: type[Record], document: object) -> Record:
    """The same for a record of which every field has a default: what is not there is not known."""
    found = decode(kind, document)
    return kind() if found is None else found


def unread(kind: Any, document: object) -> Mapping[str, Any]:
    """What no field takes, of the record and of the records in it: a later version has written it."""
    declared = _fields(kind)
    found: dict[str, object] = {}
    for key, value in document.items() if isinstance(document, dict) else ():
        if key not in declared:
            found[key] = value
        elif (inner := _record_of(declared[key])) is not None and (left := unread(inner, value)):
            found[key] = left
    return found


def with_unread(document: Mapping[str, Any], left: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record's `asdict`, and what it could not read."""
    both = {key: document[key] for key in left.keys() & document.keys()}
    deeper = {key: with_unread(value, left[key]) for key, value in both.items() if isinstance(value, dict)}
    return {**left, **document, **deeper}


def _record_of(declared: Any) -> Any:
    """The record that a declared type is, or may be; None where it is none."""
    origin, arguments, is_union = _parts(declared)
    return next((one for one in (arguments if is_union else (origin,)) if _is_record(one)), None)


@cache
def _fields(kind: Any) -> dict[str, object]:
    """Name → declared type of every field that `__init__` takes."""
    hints = typing.get_type_hints(kind)
    if dataclasses.is_dataclass(kind):
        return {one.name: hints[one.name] for one in dataclasses.fields(kind) if one.init}
    return {name: hints[name] for name in getattr(kind, "_fields", ())}  # a NamedTuple


def _fit(declared: Any, value: object) -> Any:
    """`value` as the declared type, or _UNFIT."""
    if declared is type(value) and (declared in _AS_THEY_ARE or (type(value) is float and math.isfinite(value))):
        return value
    origin, arguments, is_union = _parts(declared)
    if declared in (Any, object):
        return value
    if is_union:
        if value is None and types.NoneType in arguments:
            return None
        fits = (found for one in arguments if not isinstance(found := _fit(one, value), _Unfit))
        return next(fits, _UNFIT)
    if origin is typing.Literal:
        return value if any(value == one and type(value) is type(one) for one in arguments) else _UNFIT
    if origin in (list, tuple):
        return _sequence(origin, arguments, value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(arguments, value)
    if _is_record(origin):
        found = decode(origin, value)
        return _UNFIT if found is None else found
    if isinstance(origin, type) and issubclass(origin, Enum):
        return next((member for member in origin if member.value == value), _UNFIT)
    return _scalar(origin, value)


@cache
def _parts(declared: Any) -> tuple[Any, tuple[Any, ...], bool]:
    """Origin and arguments of a declared type, and whether it is a union."""
    origin = typing.get_origin(declared) or declared
    return origin, typing.get_args(declared), origin in (typing.Union, types.UnionType)


@cache
def _is_record(origin: Any) -> bool:
    return dataclasses.is_dataclass(origin) or hasattr(origin, "_fields")


def _sequence(origin: type, arguments: tuple[Any, ...], value: object) -> Any:
    """A list or tuple; one element that does not fit makes all of it unfit."""
    if not isinstance(value, list | tuple):
        return _UNFIT
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            return _UNFIT
        found = [_fit(one, element) for one, element in zip(arguments, value, strict=True)]
    else:
        found = [_fit(arguments[0] if arguments else Any, element) for element in value]
    return _UNFIT if any(isinstance(element, _Unfit) for element in found) else origin(found)


def _mapping(arguments: tuple[Any, ...], value: object) -> Any:
    if not isinstance(value, dict):
        return _UNFIT
    of = arguments[1] if arguments else Any
    found = {key: _fit(of, element) for key, element in value.items()}
    return _UNFIT if any(isinstance(element, _Unfit) for element in found.values()) else found


def _scalar(kind: Any, value: object) -> Any:
    """The type must match exactly, but an int may stand for a float. A number is finite, and a bool is no number.

    A whole number of more than 64 bits is none of ours, and arithmetic with it may raise OverflowError.
    """
    if kind is float and type(value) in (int, float):
        try:
            number = float(typing.cast("float", value))
        except OverflowError:
            return _UNFIT
        return number if math.isfinite(number) else _UNFIT
    if kind is int and type(value) is int and not -_WHOLE <= value < _WHOLE:
        return _UNFIT
    return value if type(value) is kind else _UNFIT
