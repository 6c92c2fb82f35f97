"""openmsistream's wire: whatever the bytes are, a chunk or a reason; and nothing is believed."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgpack import packb, unpackb

from kfd.inspection.record import Recognizer, Record
from kfd.openmsistream import Chunk, Encoder, decode, looks_like, split_path
from kfd.paths import BadPath
from kfd.scattered import Piece
from kfd.wire import BadRecord, Reason

DATA = b"some bytes of a file"
SHA = hashlib.sha512(DATA).digest()
FIELDS: dict[str, Any] = {
    "filename": "run.trc",
    "file_sha512": SHA,
    "chunk_sha512": SHA,
    "offset": 0,
    "index": 1,
    "total": 1,
    "subdir": "scope/3",
    "filename_append": "",
    "data": DATA,
    "mtime": 1.5,
}


def record(fields: int = 10, **changes: Any) -> bytes:
    packed: bytes = packb([*(FIELDS | changes).values()][:fields])
    return packed


def refused(value: bytes | None) -> Reason:
    with pytest.raises(BadRecord) as caught:
        decode(value)
    return caught.value.reason


def test_a_record_is_read_without_a_copy_of_its_data() -> None:
    value = record()
    chunk = decode(value)
    assert chunk.data.obj is value
    assert chunk == Chunk(**FIELDS | {"data": chunk.data})
    assert bytes(chunk.data) == DATA
    assert chunk.path == b"scope/3/run.trc"
    assert chunk.intact
    assert not decode(record(data=DATA[::-1])).intact


def test_the_view_of_a_buffer_is_as_good() -> None:
    assert decode(memoryview(record())).path == b"scope/3/run.trc"


@pytest.mark.parametrize(
    "value",
    [None, b"", b"\x9a", b"plain text", b"\xc1" * 300, packb([1] * 10), packb({"a": 1})],
)
def test_what_is_of_another_kind_is_foreign(value: bytes | None) -> None:
    assert not looks_like(value)
    assert refused(value) is Reason.FOREIGN


@pytest.mark.parametrize("fields", [8, 11])
def test_other_numbers_of_fields_are_foreign(fields: int) -> None:
    assert refused(packb([*FIELDS.values(), "more"][:fields])) is Reason.FOREIGN


@pytest.mark.parametrize(
    "changes",
    [
        {"filename": 3},
        {"file_sha512": SHA[:-1]},
        {"chunk_sha512": SHA.hex()},
        {"filename": ["run.trc"]},
    ],
)
def test_what_has_no_name_and_two_digests_is_foreign(changes: dict[str, Any]) -> None:
    assert refused(record(**changes)) is Reason.FOREIGN


@pytest.mark.parametrize(
    "changes",
    [
        {"offset": "0"},
        {"offset": 0.0},
        {"index": True},
        {"total": None},
        {"subdir": b"scope"},
        {"filename_append": None},
        {"data": "text"},
        {"data": None},
        {"mtime": None},
        {"mtime": 5},
        {"mtime": float("nan")},
        {"mtime": float("inf")},
        {"mtime": 1e10},
        {"subdir": ["a"]},
        {"subdir": {}},
        {"subdir": "d/" * 2000},
    ],
)
def test_types_are_exact(changes: dict[str, Any]) -> None:
    assert refused(record(**changes)) is Reason.MALFORMED


@pytest.mark.parametrize(
    "changes",
    [
        {"index": 0},
        {"index": 2},
        {"index": -1, "total": -1},
        {"total": 2**64 - 1},
        {"offset": 1},
        {"offset": -1},
        {"total": 3, "index": 2, "offset": len(DATA) - 1},
        {"total": 3, "index": 3, "offset": 2 * len(DATA) - 2},
        {"total": 3, "index": 3, "offset": 41},
        {"total": 2, "data": b""},
        {"total": 2, "index": 2, "offset": 100, "data": b""},
        {"total": 2, "index": 2, "offset": 2**63, "data": b"x"},
    ],
)
def test_number_offset_and_length_agree(changes: dict[str, Any]) -> None:
    assert refused(record(**changes)) is Reason.MALFORMED


def test_where_chunks_lie() -> None:
    middle = decode(record(total=3, index=2, offset=len(DATA)))
    last = decode(record(total=3, index=3, offset=2 * len(DATA), data=b"end"))
    assert middle.chunk_size == last.chunk_size == len(DATA)
    assert decode(record(data=b"")).chunk_size == 0  # an empty file


@pytest.mark.parametrize(
    "changes",
    [
        {"filename": ".."},
        {"filename": "."},
        {"filename": ""},
        {"filename": "/etc/passwd"},
        {"filename": "a/b"},
        {"filename": "a\0b"},
        {"filename": "n" * 256},
        {"filename_append": "/../../x"},
        {"filename_append": "/x"},
        {"filename": "a.b", "filename_append": "\0"},
        {"subdir": ".."},
        {"subdir": "a/../../b"},
        {"subdir": "/etc"},
        {"subdir": "a//b"},
        {"subdir": "a/"},
        {"subdir": "."},
        {"subdir": ".kfd"},
        {"subdir": "", "filename": ".kfd"},
        {"subdir": "/".join("a" * 32)},
    ],
)
def test_no_path_leads_anywhere_else(changes: dict[str, Any]) -> None:
    assert refused(record(**changes)) is Reason.BAD_PATH


@pytest.mark.parametrize(
    ("name", "appended"),
    [
        ("run.trc", "run_A.trc"),
        ("run.1.trc", "run.1_A.trc"),
        ("noext", "noext_A"),
        (".hidden", ".hidden_A"),
        (".hid.x", ".hid_A.x"),
        ("a.", "a._A"),
        ("a..b", "a._A.b"),
        ("...x", ".._A.x"),
    ],
)
def test_what_is_appended_goes_where_openmsistream_puts_it(name: str, appended: str) -> None:
    path = decode(record(filename=name, filename_append="_A", subdir="")).path
    assert path == appended.encode()


def test_nine_fields_have_no_time() -> None:
    assert decode(record(fields=9)).mtime is None
    assert decode(record(fields=9)).mtime_ns is None
    assert refused(b"\x99" + record()[1:]) is Reason.MALFORMED
    assert refused(b"\x9a" + record(fields=9)[1:]) is Reason.MALFORMED


@pytest.mark.parametrize(
    ("mtime", "mtime_ns"), [(1.5, 1_500_000_000), (-1.25, -1_250_000_000), (0.0, None)]
)
def test_times_in_nanoseconds(mtime: float, mtime_ns: int | None) -> None:
    assert decode(record(mtime=mtime)).mtime_ns == mtime_ns


def test_a_claimed_length_is_not_believed() -> None:
    short = record()[: -len(DATA) - 11]  # up to the data
    for claim in (b"\xc6\xff\xff\xff\xff", b"\xc5\xff\xff", b"\xc4\xff", b"\xdb\xff\xff\xff\xff"):
        assert refused(short + claim + DATA) is Reason.MALFORMED


@pytest.mark.parametrize("length", [2082, 2100, 65_535])
def test_names_that_are_longer_than_any_path(length: int) -> None:
    assert refused(record(filename="n" * length)) is Reason.MALFORMED


@given(st.integers(0, 70_000), st.integers(0, 70_000), st.integers(0, 70_000))
def test_no_length_of_a_text_crashes_the_decoder(name: int, subdir: int, append: int) -> None:
    texts: dict[str, Any] = {
        "filename": "n" * name,
        "subdir": "s" * subdir,
        "filename_append": "a" * append,
    }
    look(record(**texts))


@given(st.binary(max_size=400))
def test_no_bytes_crash_the_decoder(value: bytes) -> None:
    look(value)


@given(st.data())
def test_no_mutation_crashes_the_decoder(data: st.DataObject) -> None:
    value = bytearray(record())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(value) - 1))
        value[place] = data.draw(st.integers(0, 255))
    place = data.draw(st.integers(0, len(value)))
    value[place:place] = data.draw(st.binary(max_size=9)) * data.draw(st.sampled_from([1, 1000]))
    cut = data.draw(st.integers(0, len(value)))
    look(bytes(value[:cut]))


def look(value: bytes) -> None:
    """Do with bytes what receivers and ``kfdctl inspect`` do."""
    Recognizer("topic", "id").look(Record(0, 0, None, None, None, value))
    try:
        chunk = decode(value)
    except BadRecord:
        return
    assert len(chunk.data) <= len(value)
    assert len(Piece.of(chunk).version) == 16
    assert chunk.mtime_ns is None or abs(chunk.mtime_ns) < 2**63


@given(
    st.lists(st.text("ab ;\\ü\n", min_size=1, max_size=5), min_size=1, max_size=5),
    st.sampled_from([0, 1, 255, 256, 65535, 65536]),
    st.integers(1, 1000),
    st.floats(-1e9, 4e9),
)
def test_what_is_encoded_is_read(names: list[str], size: int, total: int, mtime: float) -> None:
    path = "/".join(names).encode()
    data = bytes(size)
    sha512 = hashlib.sha512(data).digest()
    encoder = Encoder(path, SHA, total if size else 1, mtime)
    value = encoder.value(1, 0, data, sha512)
    chunk = decode(value)
    assert (chunk.path, bytes(chunk.data), chunk.mtime) == (path, data, mtime)
    assert chunk.file_sha512 == SHA
    assert chunk.intact
    assert value == packb(unpackb(value))


@pytest.mark.parametrize("path", [b"\xff.trc", b"a/\xe4/b", b"../x", b""])
def test_paths_that_cannot_be_sent(path: bytes) -> None:
    with pytest.raises(BadPath):
        split_path(path)
