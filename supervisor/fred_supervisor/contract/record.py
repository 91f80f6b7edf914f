"""`record`: a frozen dataclass whose fields are given by name, and which costs little at import.

`dataclasses` compiles six methods for each class, 0.3 ms and some 8 kB each time; the hundred records of the supervisor
made a third of its start. Here the methods are written once and read the fields. `fields`, `replace` and `asdict` of
`dataclasses` work as ever, and so do type checkers (PEP 681).
"""

from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field
from typing import Any, Never, TypeVar, dataclass_transform

Kind = TypeVar("Kind")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def record(kind: type[Kind]) -> type[Kind]:
    """Make a class a record, as `@dataclass(frozen=True, kw_only=True)` would."""
    made: Any = dataclass(
        init=False,
        repr=False,
        eq=False,
        match_args=False,
    )(kind)
    made.__init__, made.__repr__ = _init, _repr
    made.__eq__, made.__hash__ = _eq, _hash
    made.__setattr__, made.__delattr__ = _refuse, _refuse
    return kind


def _init(self: Any, **given: Any) -> None:
    """Raises TypeError for a field that is missing, or that there is not."""
    kind = type(self)
    if len(given) == len(kind.__dataclass_fields__) and given.keys() == kind.__dataclass_fields__.keys():
        self.__dict__.update({name: given[name] for name in kind.__dataclass_fields__})  # as `replace` does
        return
    values = {}
    for name, one in kind.__dataclass_fields__.items():
        values[name] = given.pop(name) if name in given else _default(kind, one)
    if given:
        raise TypeError(f"{kind.__name__} has no field {', '.join(given)}")
    self.__dict__.update(values)


def _default(kind: type, one: Field[Any]) -> Any:
    if one.default is not MISSING:
        return one.default
    if one.default_factory is not MISSING:
        return one.default_factory()
    raise TypeError(f"{kind.__name__} needs the field {one.name}")


def _repr(self: Any) -> str:
    return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"


def _eq(self: Any, other: Any) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    return self.__dict__ == other.__dict__


def _hash(self: Any) -> int:
    return hash(tuple(self.__dict__.values()))


def _refuse(self: object, name: str, *_: object) -> Never:
    raise FrozenInstanceError(f"a record does not change: {type(self).__name__}.{name}")
