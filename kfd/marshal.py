"""Dataclasses to JSON values and back, by their annotations.

What comes back was written by somebody else: types are exact (a bool is no int), a value that
does not fit is a :class:`MismatchError` that names the field, and a reader chooses whether fields
that it doesn't know are an error (requests) or of a newer version (replies).
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

_INT_LIMIT = 1 << 63  # varlink's int has 64 bits


@dataclasses.dataclass(frozen=True, slots=True)
class _Shape:
    """What is known of a dataclass: its fields' types in their order, and the values of those
    that JSON may leave out, which have a default or are optional."""

    hints: Mapping[str, Any]
    absent: Mapping[str, Any]


_shapes: dict[type, _Shape] = {}  # filled once a class; two threads may find the same, no harm


class MismatchError(ValueError):
    """A JSON value that isn't of the type; ``field`` is where, like ``files[3].descriptor``."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field


def to_json(value: object) -> Any:
    """The JSON value of a dataclass instance, and of anything that its fields may hold."""
    if dataclasses.is_dataclass(value):
        return {name: to_json(getattr(value, name)) for name in _shape(type(value)).hints}
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Mapping):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_json(item) for item in value]
    return value


def from_json(cls: type[T], data: object, *, strict: bool, field: str = "") -> T:
    """An instance of dataclass ``cls`` from a JSON object, or :class:`MismatchError`.

    ``strict`` refuses fields that ``cls`` does not have; otherwise they are left out.
    """
    if not isinstance(data, dict):
        raise MismatchError(field, "an object is expected")
    shape = _shape(cls)
    hints = shape.hints
    if strict and data.keys() - hints.keys():
        raise MismatchError(_at(field, min(data.keys() - hints.keys())), "is not known")
    given = {
        name: _value(hint, data[name], strict, _at(field, name))
        for name, hint in hints.items()
        if name in data
    }
    for name in hints:
        if name not in given and name not in shape.absent:
            raise MismatchError(_at(field, name), "is missing")
    return cls(**{**shape.absent, **given})


def _at(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def _shape(cls: type) -> _Shape:
    shape = _shapes.get(cls)
    if shape is None:
        shape = _shapes[cls] = _examine(cls)
    return shape


def _examine(cls: type) -> _Shape:
    fields = dataclasses.fields(cls)
    resolved = get_type_hints(cls)
    hints = {item.name: resolved[item.name] for item in fields}
    defaults = {
        item.name: item.default for item in fields if item.default is not dataclasses.MISSING
    }
    optional = [name for name, hint in hints.items() if type(None) in get_args(hint)]
    return _Shape(hints, dict.fromkeys(optional) | defaults)


def _value(hint: Any, data: object, strict: bool, field: str) -> Any:
    origin = get_origin(hint)
    if origin is types.UnionType:
        return None if data is None else _value(get_args(hint)[0], data, strict, field)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(get_args(hint)[1], data, strict, field)
    if origin is not None and issubclass(origin, Sequence):
        return _sequence(get_args(hint)[0], data, strict, field)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_json(hint, data, strict=strict, field=field)
    return _scalar(hint, data, field)


def _mapping(hint: Any, data: object, strict: bool, field: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise MismatchError(field, "an object is expected")
    return {
        _text(name, field): _value(hint, item, strict, _at(field, name))
        for name, item in data.items()
    }


def _sequence(hint: Any, data: object, strict: bool, field: str) -> list[Any]:
    if not isinstance(data, list):
        raise MismatchError(field, "an array is expected")
    return [_value(hint, item, strict, f"{field}[{at}]") for at, item in enumerate(data)]


def _scalar(hint: type, data: object, field: str) -> Any:
    if hint is float:
        return _number(data, field)
    if hint is int:
        return _integer(data, field)
    if hint is bool:
        if not isinstance(data, bool):
            raise MismatchError(field, "true or false is expected")
        return data
    text = _text(data, field)
    return _member(hint, text, field) if issubclass(hint, StrEnum) else text


def _number(data: object, field: str) -> float:
    if isinstance(data, int) and not isinstance(data, bool):
        return float(_integer(data, field))
    if not isinstance(data, float) or not math.isfinite(data):
        raise MismatchError(field, "a number is expected")
    return data


def _integer(data: object, field: str) -> int:
    if isinstance(data, bool) or not isinstance(data, int):
        raise MismatchError(field, "an integer is expected")
    if not -_INT_LIMIT <= data < _INT_LIMIT:
        raise MismatchError(field, "an integer of 64 bits is expected")
    return data


def _text(data: object, field: str) -> str:
    if not isinstance(data, str):
        raise MismatchError(field, "a string is expected")
    if not data.isascii() and any("\ud800" <= char <= "\udfff" for char in data):
        raise MismatchError(field, "text is expected, not half of a surrogate pair")
    return data


def _member(hint: type[StrEnum], text: str, field: str) -> StrEnum:
    try:
        return hint(text)
    except ValueError:
        raise MismatchError(field, f"one of {', '.join(hint)} is expected") from None
