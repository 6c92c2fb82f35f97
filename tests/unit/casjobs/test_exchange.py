"""What another side may do: nothing, too slowly, too much, half of it. It always ends."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kfd.daemon.catalogue import exchange
from kfd.daemon.catalogue.exchange import Caller, Question
from kfd.daemon.catalogue.sink import SinkError
from tests.casjobs.server import (
    Fault,
    RunningCasJobs,
    casjobs_server,
    closes,
    cut_off,
    drips,
    endless,
    hangs,
    lost,
)
from tests.support import unavailable
from tests.unit.casjobs.rows import ROW, numbered, sink


@pytest.fixture
def casjobs() -> Iterator[RunningCasJobs]:
    with casjobs_server() as server:
        yield server


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (hangs, "no answer within 0.3 s"),
        (drips, "no answer within 0.3 s"),
        (cut_off, "cut off"),
        (lost, "cut off"),
        (endless, "an answer of more than"),
    ],
)
def test_it_ends_and_says_why(
    casjobs: RunningCasJobs, fault: Fault, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = sink(casjobs.settings())
    here.write([ROW])
    monkeypatch.setattr(exchange, "SECONDS", 0.3 if "0.3" in what else 60.0)
    casjobs.next(fault)
    with pytest.raises(SinkError, match=what) as error:
        here.write([ROW])
    assert error.value.retry
    assert error.value.where.startswith(casjobs.url)


def test_an_answer_that_ends_with_its_connection(casjobs: RunningCasJobs) -> None:
    here = sink(casjobs.settings())
    here.write([ROW])
    casjobs.next(closes)
    here.write([numbered(7)])
    assert len(casjobs.rows("kfd_files")) == 2


def test_it_ends_when_the_daemon_stops(casjobs: RunningCasJobs) -> None:
    stopping = threading.Event()
    here = sink(casjobs.settings(), stopping=stopping)
    here.write([ROW])

    def stopped(*_: object) -> None:
        stopping.set()
        casjobs.released.wait(60)

    casjobs.next(stopped)
    with pytest.raises(SinkError, match="kfd is stopping"):
        here.write([ROW])


def test_nothing_is_begun_when_the_daemon_stops(casjobs: RunningCasJobs) -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(SinkError, match="kfd is stopping"):
        sink(casjobs.settings(), stopping=stopping).write([ROW])
    assert casjobs.logins == 0


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("http://nobody.invalid/", "can't be reached"),
        ("http://127.0.0.1:1/", "can't be reached: Connection refused"),
        ("http://127.0.0.1:99999/", "not an address to ask"),
        (f"http://{'x' * 70}.example/", "not an address to ask"),
        ("http://127.0.0.1/a b", "the answer was cut off, or isn't HTTP"),
    ],
)
def test_an_address_where_nobody_is(url: str, what: str) -> None:
    with pytest.raises(SinkError, match=what):
        Caller(threading.Event()).ask(Question("POST", url, {}))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, by itself; the key stands behind it."""
    place = tmp_path_factory.mktemp("tls")
    pem, key = place / "it.pem", place / "it.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=casjobs"]
    command += ["-keyout", str(key), "-out", str(pem)]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        unavailable("no openssl")
    with pem.open("a") as chain:
        chain.write(key.read_text())
    return pem


@pytest.fixture
def secure(certificate: Path) -> Iterator[RunningCasJobs]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with casjobs_server(tls) as server:
        yield server


def test_over_tls(secure: RunningCasJobs, certificate: Path) -> None:
    sink(secure.settings(ca=certificate)).write([ROW])
    assert len(secure.rows("kfd_files")) == 1


def test_who_is_not_trusted_is_told_nothing(secure: RunningCasJobs) -> None:
    with pytest.raises(SinkError, match="its certificate isn't trusted") as error:
        sink(secure.settings()).write([ROW])
    assert secure.logins == 0
    assert "ca:" in error.value.fix


def test_a_certificate_that_is_of_another(secure: RunningCasJobs, certificate: Path) -> None:
    settings = secure.settings(ca=certificate)
    settings["login"] = settings["login"].replace("127.0.0.1", "localhost")
    with pytest.raises(SinkError, match="its certificate isn't trusted: Hostname mismatch"):
        sink(settings).write([ROW])
    assert secure.logins == 0


def test_certificates_that_can_not_be_read(secure: RunningCasJobs, tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=f"{tmp_path}/none: ca: not usable: No such file"):
        sink(secure.settings(ca=tmp_path / "none")).write([ROW])
