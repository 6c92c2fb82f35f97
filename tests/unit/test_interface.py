"""The interface file, the types that say the same, and their JSON."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from varlink import Interface, scanner

import kfd
from kfd import control
from kfd.control import State, Until
from kfd.daemon.methods import description
from kfd.marshal import MismatchError, from_json, to_json
from kfd.varlink import SERVICE
from tests.strategies import json_values, texts

FAMILIES = [
    importlib.import_module(f"{control.__name__}.{module.name}")
    for module in pkgutil.iter_modules(control.__path__)
]


TYPES = [
    one
    for family in FAMILIES
    for one in vars(family).values()
    if isinstance(one, type) and one.__module__ == family.__name__
]


CLASSES = [one for one in TYPES if dataclasses.is_dataclass(one)]


def interface() -> Interface:
    return Interface(description("io.kfd.Control"))


def varlink_type(hint: Any) -> str:
    """A Python annotation as varlink writes it."""
    arguments = get_args(hint)
    if type(None) in arguments:
        return "?" + varlink_type(arguments[0])
    if arguments and len(arguments) == 2:
        return "[string]" + varlink_type(arguments[1])
    if arguments:
        return "[]" + varlink_type(arguments[0])
    return {str: "string", int: "int", float: "float", bool: "bool"}.get(hint, hint.__name__)


def written(kind: Any) -> str:
    """A type that the independent parser read, as varlink writes it."""
    if isinstance(kind, scanner._Maybe):
        return "?" + written(kind.element_type)
    if isinstance(kind, scanner._Array):
        return "[]" + written(kind.element_type)
    if isinstance(kind, scanner._Dict):
        return "[string]" + written(kind.element_type)
    if isinstance(kind, scanner._CustomType):
        return str(kind.name)
    return {str: "string", int: "int", float: "float", bool: "bool"}[type(kind)]


def fields_of(cls: type) -> list[tuple[str, str]]:
    hints = get_type_hints(cls)
    return [(field.name, varlink_type(hints[field.name])) for field in dataclasses.fields(cls)]


def fields_in(struct: Any) -> list[tuple[str, str]]:
    return [(name, written(kind)) for name, kind in struct.fields.items()]


def test_the_interface_file_and_the_types_say_the_same() -> None:
    described: dict[str, Any] = {}
    for name, member in interface().members.items():
        if isinstance(member, scanner._Method):
            described[f"{name}Parameters"] = fields_in(member.in_type)
            described[f"{name}Reply"] = fields_in(member.out_type)
        elif isinstance(member.type, scanner._Enum):
            described[name] = list(member.type.fields)
        else:
            described[name] = fields_in(member.type)
    implemented = {
        one.__name__: fields_of(one) if dataclasses.is_dataclass(one) else list(one)
        for one in TYPES
    }
    assert described == implemented


def test_no_name_is_given_twice() -> None:
    """varlink has one name space for types, methods and errors."""
    names = re.findall(r"^(?:type|method|error) (\w+)", description("io.kfd.Control"), re.MULTILINE)
    assert len(names) == len(set(names))


def test_every_method_and_error_is_in_the_interface_file() -> None:
    members = interface().members.items()
    assert set(control.METHODS) == {n for n, m in members if isinstance(m, scanner._Method)}
    assert set(control.ERRORS) == {n for n, m in members if isinstance(m, scanner._Error)}


def test_the_interface_files_are_in_the_package() -> None:
    package = Path(kfd.__file__).parent
    assert {path.stem for path in package.glob("*.varlink")} == {"io.kfd.Control", SERVICE}
    assert Interface(description(SERVICE)).name == SERVICE


def instances(cls: type) -> st.SearchStrategy[Any]:
    hints = get_type_hints(cls)
    return st.builds(cls, **{name: values(hint) for name, hint in hints.items()})


@given(st.sampled_from(CLASSES).flatmap(instances))
def test_instances_survive_json(instance: Any) -> None:
    document = json.loads(json.dumps(to_json(instance)))
    assert from_json(type(instance), document, strict=True) == instance


def values(hint: Any) -> st.SearchStrategy[Any]:
    arguments = get_args(hint)
    if type(None) in arguments:
        return st.none() | values(arguments[0])
    if len(arguments) == 2:
        return st.dictionaries(texts, values(arguments[1]), max_size=3)
    if arguments:
        return st.lists(values(arguments[0]), max_size=3)
    if dataclasses.is_dataclass(hint):
        return instances(hint)
    basic = {
        str: texts,
        int: st.integers(-(2**63), 2**63 - 1),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
    }
    return basic[hint] if hint in basic else st.sampled_from(list(hint))


@given(st.sampled_from(CLASSES), json_values)
def test_no_json_value_raises_anything_but_a_mismatch(cls: type, document: Any) -> None:
    with suppress(MismatchError):
        from_json(cls, document, strict=True)


@pytest.mark.parametrize(
    ("cls", "document", "message"),
    [
        (control.ListParameters, {}, "limit: is missing"),
        (control.ListParameters, {"limit": True}, "limit: an integer is expected"),
        (control.ListParameters, {"limit": 1.0}, "limit: an integer is expected"),
        (control.ListParameters, {"limit": 2**63}, "limit: an integer of 64 bits is expected"),
        (control.ListParameters, {"limit": 1, "x": 1}, "x: is not known"),
        (control.ListParameters, {"limit": 1, "route": 5}, "route: a string is expected"),
        (control.QuitParameters, {"now": 1}, "now: true or false is expected"),
        (control.QuitParameters, {"timeout": True}, "timeout: a number is expected"),
        (control.QuitParameters, {"timeout": 10**400}, "timeout: an integer of 64 bits"),
        (control.QuitParameters, [], "an object is expected"),
        (control.SendParameters, {"files": {}}, "files: an array is expected"),
        (control.SendParameters, {"files": [{"a": 1}]}, "files[0].a: is not known"),
        (control.SendParameters, {"files": [{}, {"descriptor": "0"}]}, "files[1].descriptor: "),
        (control.SendParameters, {"files": [], "meta": []}, "meta: an object is expected"),
        (control.SendParameters, {"files": [], "meta": {"a": 1}}, "meta.a: a string is expected"),
        (control.SendParameters, {"files": [], "route": "\ud800"}, "route: text is expected"),
        (control.WaitParameters, {"tids": [], "until": "soon"}, "until: one of queued, in_kafka"),
    ],
)
def test_a_mismatch_names_the_field(cls: type, document: Any, message: str) -> None:
    with pytest.raises(MismatchError) as caught:
        from_json(cls, document, strict=True)
    assert str(caught.value).startswith(message)


def test_a_reply_of_a_newer_version_is_read() -> None:
    document = {"text": "no", "fix": "", "since": 5}
    read = from_json(control.NotPermitted, document, strict=False)
    assert read == control.NotPermitted("no", "")


@pytest.mark.parametrize("state", State)
def test_who_waits_for_a_state_waits_until_then_or_the_end(state: State) -> None:
    assert state.reached(Until.QUEUED)
    going_on = {State.QUEUED, State.SENDING, State.RECEIVING}
    assert state.reached(Until.IN_KAFKA) == (state not in going_on)
    assert state.reached(Until.DELIVERED) == (state not in {*going_on, State.IN_KAFKA})


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
def test_names_survive_requests(name: bytes) -> None:
    assert control.name_bytes(*control.name_fields(name)) == name


@pytest.mark.parametrize(
    "fields", [("a", "YQ=="), ("", None), ("a\0b", None), (None, ""), (None, "?"), (None, "AA==")]
)
def test_bad_names_are_refused(fields: tuple[str | None, str | None]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        control.name_bytes(*fields)


def test_no_name_is_none() -> None:
    assert control.name_bytes(None, None) is None
