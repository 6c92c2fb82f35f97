"""How kfd logs in, and that no password or token is ever shown."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator

import pytest

from kfd.daemon.catalogue.sink import SinkError
from kfd.errors import ConfigError
from tests.casjobs.server import RunningCasJobs, casjobs_server, status
from tests.unit.casjobs.rows import ROW, numbered, sink

PASSWORD = "swordfish; 'x'"


@pytest.fixture
def casjobs() -> Iterator[RunningCasJobs]:
    with casjobs_server() as server:
        server.users["anna"] = PASSWORD
        yield server


def test_one_log_in_serves_many_queries(casjobs: RunningCasJobs) -> None:
    here = sink(casjobs.settings())
    here.write([ROW])
    here.write([numbered(7)])
    assert casjobs.logins == 1


def test_a_token_that_expires_is_replaced(casjobs: RunningCasJobs) -> None:
    here = sink(casjobs.settings())
    here.write([ROW])
    casjobs.expire_tokens()
    here.write([numbered(7)])
    assert casjobs.logins == 2
    assert len(casjobs.rows("kfd_files")) == 2


def test_a_new_token_that_is_refused_as_well(casjobs: RunningCasJobs) -> None:
    here = sink(casjobs.settings())
    here.write([ROW])
    casjobs.next(status(401), status(401, b"no"))
    with pytest.raises(SinkError, match="log-in refused") as error:
        here.write([numbered(7)])
    assert "user and password of catalogue sciserver" in error.value.fix
    assert casjobs.logins == 2


def test_a_configured_token(casjobs: RunningCasJobs) -> None:
    settings = with_token(casjobs, casjobs.token())
    sink(settings).write([ROW])
    assert casjobs.logins == 0


def test_a_configured_token_is_read_again(casjobs: RunningCasJobs) -> None:
    """As from a file that somebody wrote anew."""
    tokens = [casjobs.token()]
    here = sink(with_token(casjobs, "any"), secret=lambda: tokens[-1])
    here.write([ROW])
    casjobs.expire_tokens()
    tokens.append(casjobs.token())
    here.write([numbered(7)])
    assert len(casjobs.rows("kfd_files")) == 2


def test_a_configured_token_that_expired(casjobs: RunningCasJobs) -> None:
    with pytest.raises(SinkError, match="log-in refused") as error:
        sink(with_token(casjobs, "0123")).write([ROW])
    assert "correct the token" in error.value.fix


def with_token(casjobs: RunningCasJobs, token: str) -> dict[str, str]:
    settings = casjobs.settings(token=token)
    del settings["user"], settings["password"]
    return settings


def test_a_secret_that_can_not_be_read(casjobs: RunningCasJobs) -> None:
    def unreadable() -> str:
        raise ConfigError("password: not readable: /x", where="kfd.yaml:7", fix="let kfd read it")

    with pytest.raises(SinkError, match=r"kfd\.yaml:7: password: not readable: /x"):
        sink(casjobs.settings(), secret=unreadable).write([ROW])


def refused_log_in(casjobs: RunningCasJobs) -> None:
    casjobs.users["anna"] = "another"
    sink(casjobs.settings(password=PASSWORD)).write([ROW])


def refused_token(casjobs: RunningCasJobs) -> None:
    token = casjobs.token()
    casjobs.next(status(401, token.encode()))
    sink(with_token(casjobs, token)).write([ROW])


def error_with_token(casjobs: RunningCasJobs) -> None:
    token = casjobs.token()
    casjobs.next(status(500, f"no, {token}".encode()))
    sink(with_token(casjobs, token)).write([ROW])


def redirected(casjobs: RunningCasJobs) -> None:
    casjobs.next(status(307, Location="https://elsewhere.example/x"))
    sink(casjobs.settings(password=PASSWORD)).write([ROW])


def token_with_line_end(casjobs: RunningCasJobs) -> None:
    sink(with_token(casjobs, "any"), secret=lambda: "hush\r\nX-Other: hush").write([ROW])


def nobody_there(casjobs: RunningCasJobs) -> None:
    casjobs.stop()
    sink(casjobs.settings(password=PASSWORD)).write([ROW])


@pytest.mark.parametrize(
    ("fails", "what"),
    [
        (refused_log_in, "log-in refused"),
        (refused_token, "log-in refused"),
        (error_with_token, "HTTP 500: no, "),
        (redirected, r"redirects to 'elsewhere\.example'"),
        (token_with_line_end, "the configured token isn't one"),
        (nobody_there, "can't be reached"),
    ],
)
def test_no_secret_is_shown(
    casjobs: RunningCasJobs,
    fails: Callable[[RunningCasJobs], None],
    what: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(SinkError, match=what) as error:
        fails(casjobs)
    seen = "".join(traceback.format_exception(error.value.with_traceback(None)))
    seen += repr(error.value) + error.value.fix + error.value.where + caplog.text
    for secret in [PASSWORD, "hush", *casjobs.tokens]:
        assert secret not in seen
    assert error.value.fix


def test_a_sink_shows_no_secret(casjobs: RunningCasJobs) -> None:
    here = sink(casjobs.settings())
    here.write([ROW])
    seen = repr(here) + repr(vars(here)) + repr(vars(here._open))
    assert PASSWORD not in seen
