"""What a commit says besides its offset: read as it was written, and no other way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfd.offsets import MAX_TEXT, Open, Progress, decode

TOPIC_ID = "Sx+Kf/3dQm2dGgAAAAAAAA"
ONE, TWO = b"\x00\x01\x02\x03", b"abcd"


@st.composite
def progresses(draw: st.DrawFn) -> Progress:
    """Any progress that a consumer could have made."""
    offset = draw(st.integers(0, 2**40))
    firsts = sorted(draw(st.sets(st.integers(offset, offset + 2**20), max_size=20)))
    least = firsts[-1] + 1 if firsts else offset
    position = draw(st.integers(least, least + 2**20))
    opened = {
        first: Open(
            draw(st.binary(min_size=4, max_size=4)),
            draw(st.integers(0, 2**30)),
            draw(st.integers(first, position)),
        )
        for first in firsts
    }
    return Progress(TOPIC_ID, offset, position, opened)


@given(progresses())
def test_it_is_read_as_it_was_written(progress: Progress) -> None:
    assert decode(progress.encode()) == progress


@given(st.text() | st.from_regex(r"1 [a-z]+ [0-9]+ [0-9]+( \+[0-9]+:[0-9]+:[0-9]+:[0-9a-f]{8})*"))
def test_no_text_crashes_the_decoder(text: str) -> None:
    progress = decode(text)
    if progress is not None:
        assert progress.encode() == text
        assert progress.offset <= progress.position
        for first, one in progress.open.items():
            assert progress.offset <= first <= one.rest <= progress.position
            assert first < progress.position


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "2 T 5 9",
        "1 T 5",
        "1 T 9 5",
        "1 T 05 9",
        "1 T 5 9 ",
        "1 T 5 9\n",
        "1 T 5 9 +0:1:0",
        "1 T 5 9 +4:0:0:00000000",  # begins where nothing was read yet
        "1 T 5 9 +1:0:4:00000000",  # the rest before the first record
        "1 T 5 9 +1:0:0:00000000 +0:0:0:00000001",  # two of one offset
        "1 T 5 9 +1:0:0:0000000G",
        "1 T -5 9",
        "1 T \u0665 9",
        "1 T 5 99999999999999999999",
    ],
)
def test_what_is_not_valid_is_nothing(text: str | None) -> None:
    assert decode(text) is None


def test_a_text_that_would_be_too_long_is_left_out() -> None:
    opened = {first: Open(ONE, 10, 10**6) for first in range(1000)}
    assert Progress(TOPIC_ID, 0, 10**6, opened).encode() == ""
    assert decode("1 " + "T" * MAX_TEXT + " 5 9") is None


def test_a_host_goes_on_where_it_holds_everything_before() -> None:
    progress = Progress(TOPIC_ID, 10, 90, {10: Open(ONE, 7, 80), 20: Open(TWO, 3, 60)})
    assert progress.start({(10, ONE): 7, (20, TWO): 3}) == 60
    assert progress.start({(10, ONE): 9, (20, TWO): 4}) == 60
    assert progress.start({(10, ONE): 7, (20, TWO): 2}) == 20
    assert progress.start({(10, ONE): 7, (20, ONE): 3}) == 20  # another one began there
    assert progress.start({(20, TWO): 3}) == 10
    assert progress.start({}) == 10


def test_a_host_begins_at_the_position_when_nothing_is_open() -> None:
    assert Progress(TOPIC_ID, 90, 90, {}).start({}) == 90


def test_what_was_not_durable_is_read_again_whoever_holds_more() -> None:
    progress = Progress(TOPIC_ID, 10, 90, {10: Open(ONE, 0, 10)})
    assert progress.start({(10, ONE): 5}) == 10
