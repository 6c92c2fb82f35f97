"""The control protocol without a socket: types, JSON, framing, errors."""

from __future__ import annotations

import dataclasses
import json
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
from kfd.errors import (
    ConfigError,
    ExitCode,
    KfdError,
    NoSuchTransferError,
    NotPermittedError,
    TimedOutError,
)
from kfd.marshal import MismatchError, from_json, to_json
from kfd.refusals import from_varlink, not_permitted, to_varlink
from kfd.varlink import (
    MAX_DEPTH,
    SERVICE,
    Call,
    FrameReader,
    ProtocolError,
    Reply,
    VarlinkError,
    decode,
    decode_call,
    decode_reply,
    encode,
    encode_call,
    encode_error,
    encode_reply,
)

TYPES = [
    one
    for one in vars(control).values()
    if isinstance(one, type) and one.__module__ == control.__name__
]
CLASSES = [one for one in TYPES if dataclasses.is_dataclass(one)]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


# --- the types and their interface file -----------------------------------------------------


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


# --- framing --------------------------------------------------------------------------------


@given(
    st.lists(st.binary(max_size=30).filter(lambda frame: b"\0" not in frame), max_size=8),
    st.lists(st.integers(0, 300), max_size=8),
)
def test_frames_come_out_however_the_stream_is_cut(frames: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frame + b"\0" for frame in frames)
    places = sorted({0, *(min(cut, len(stream)) for cut in cuts), len(stream)})
    reader = FrameReader(64)
    got = []
    for start, end in zip(places, [*places[1:], len(stream)], strict=True):
        got += reader.feed(stream[start:end])
    assert got == frames
    assert not reader.begun


def test_a_frame_has_at_most_the_limit_with_its_nul() -> None:
    assert FrameReader(8).feed(b"1234567\0") == [b"1234567"]
    for stream in (b"12345678\0", b"12345678", b"a\0" + b"12345678"):
        with pytest.raises(ProtocolError):
            FrameReader(8).feed(stream)


def test_an_endless_frame_is_refused_as_it_grows() -> None:
    reader = FrameReader(1000)
    for _ in range(99):
        reader.feed(b"x" * 10)
    with pytest.raises(ProtocolError):
        reader.feed(b"x" * 10)


@given(texts, st.dictionaries(texts, st.integers() | texts), st.booleans(), st.booleans())
def test_calls_survive(method: str, parameters: dict[str, Any], more: bool, oneway: bool) -> None:
    call = Call(method, parameters, more, oneway and not more)
    (frame,) = FrameReader(1 << 20).feed(encode_call(call))
    assert decode_call(frame) == call


@given(st.dictionaries(texts, texts), st.booleans())
def test_replies_survive(parameters: dict[str, str], continues: bool) -> None:
    reply = Reply(parameters, continues)
    assert decode_reply(encode_reply(reply)[:-1]) == reply


def test_an_error_reply_is_raised() -> None:
    with pytest.raises(VarlinkError) as caught:
        decode_reply(encode_error(VarlinkError("a.B", {"c": 1}))[:-1])
    assert (caught.value.name, caught.value.parameters) == ("a.B", {"c": 1})


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_protocol_error(frame: bytes) -> None:
    _try(frame)


@given(json_values)
def test_no_json_raises_anything_but_a_protocol_error(value: Any) -> None:
    _try(json.dumps(value).encode())


def _try(frame: bytes) -> None:
    for read in (decode_call, decode_reply):
        with suppress(ProtocolError, VarlinkError):
            read(frame)


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_depth_is_bounded() -> None:
    assert decode(nested(MAX_DEPTH))
    with pytest.raises(ProtocolError, match="deeper"):
        decode(nested(MAX_DEPTH + 1))
    assert decode(b'{"a":"' + b"[" * 50 + b'\\""}')


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(piece * (65536 // len(piece)), id=repr(piece))
        for piece in (b'\\"', b'"\\', b'"', b"[", b"{", b'"a', b'[{"', b"1", b"\\")
    ],
)
def test_a_hostile_frame_costs_one_pass(frame: bytes) -> None:
    """Quadratic work on any of these takes minutes."""
    with pytest.raises(ProtocolError):
        decode_call(frame)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"method":1}',
        b'{"method":"a.B","parameters":[]}',
        b'{"method":"a.B","more":1}',
        b'{"method":"a.B","more":true,"oneway":true}',
        b'{"method":"a.B","upgrade":true}',
        b'{"method":"a.B","extra":1}',
        b'{"method":"a.B","parameters":{"x":NaN}}',
        b'{"method":"a.B","parameters":{"x":-Infinity}}',
        b'{"method":"\xff"}',
        b'{"method":"a.B"} {}',
    ],
)
def test_what_is_no_call_is_refused(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_call(frame)


def test_what_is_not_json_is_not_sent() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        encode({"a": float("nan")})


# --- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (NotPermittedError("no", fix="ask"), NotPermittedError),
        (NoSuchTransferError("none", fix="look"), NoSuchTransferError),
        (ConfigError("wrong", where="kfd.yaml:3", fix="mend"), KfdError),
        (TimedOutError("late"), KfdError),
    ],
)
def test_errors_keep_text_fix_and_exit_code(raised: KfdError, kind: type[KfdError]) -> None:
    got = from_varlink(to_varlink(raised))
    assert isinstance(got, kind)
    assert (str(got), got.fix, got.exit_code) == (str(raised), raised.fix, raised.exit_code)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (VarlinkError(f"{SERVICE}.MethodNotFound", {"method": "a.B"}), "MethodNotFound: a.B"),
        (VarlinkError("x.y.Z", {}), "x.y.Z"),
        (VarlinkError("io.kfd.Control.New", {}), "io.kfd.Control.New"),
        (VarlinkError("io.kfd.Control.Refused", {"text": 1}), "text: a string is expected"),
    ],
)
def test_errors_that_are_not_known_are_told(error: VarlinkError, text: str) -> None:
    assert text in str(from_varlink(error))


def test_an_exit_code_of_a_newer_version_is_a_failure() -> None:
    fields = {"text": "new", "fix": "", "exit_code": 99}
    assert from_varlink(VarlinkError("io.kfd.Control.Refused", fields)).exit_code == 1
    assert ExitCode.FAILED == 1


def test_who_is_not_permitted_learns_how_to_become_so() -> None:
    error = not_permitted("anna", "/run/kfd/kfd.sock", "kfd")
    assert str(error) == "anna may not use /run/kfd/kfd.sock"
    assert error.fix == "sudo usermod -aG kfd anna, then log in again"
    assert "usermod" not in not_permitted("anna", "/run/kfd/kfd.sock", None).fix
