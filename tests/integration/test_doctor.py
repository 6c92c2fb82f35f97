"""``kfdctl doctor`` against a real daemon and a real broker: what is well, what isn't, and why."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import ONE_READER, MakeHost
from tests.integration.daemon import Daemon
from tests.integration.host import POWERLESS, Host
from tests.rawclient import Raw
from tests.support import eventually

pytestmark = pytest.mark.broker

DONE, FAILED, NOT_RUNNING = 0, 1, 3


def checks(daemon: Daemon) -> dict[str, tuple[str, str]]:
    """Outcome and text by name; of several with one name the worst."""
    order = ["ok", "skipped", "warn", "fail"]
    found: dict[str, tuple[str, str]] = {}
    for one in daemon.call("Doctor")["checks"]:
        seen = (one["outcome"], one["text"])
        assert one["fix"] or one["outcome"] in ("ok", "skipped"), one
        if one["name"] not in found or order.index(found[one["name"]][0]) < order.index(seen[0]):
            found[one["name"]] = seen
    return found


def rewrite(daemon: Daemon, **values: Any) -> None:
    daemon.config.write_text(yaml.safe_dump(yaml.safe_load(daemon.config.read_text()) | values))


def test_all_is_well(host: Host, topic: str, bootstrap: str) -> None:
    host.put("run", b"1")
    host.receives("run")
    eventually(lambda: host.status()["uploads"][0]["delivered"] == 1, 30)
    found = checks(host)
    first = bootstrap.split(",", maxsplit=1)[0]
    for name in (
        *(f"broker {first}", "login", f"topic {topic}", f"rights on {topic}", "configuration"),
        *("uploads.out", "downloads.in", "ledger", "inotify", "now"),
    ):
        assert found[name][0] == "ok", (name, found[name])
    assert "fail" not in {outcome for outcome, _ in found.values()}
    done = host.ctl("doctor")
    assert done.returncode == DONE, done.stdout
    assert f"ok   topic {topic}: " in done.stdout
    assert " well" in done.stdout.splitlines()[-1]


def test_the_clock_is_compared_with_the_brokers(make_host: MakeHost, topic: str) -> None:
    """In a topic that kfd has made records have the brokers' times."""
    host = make_host(topic=f"{topic}-made", pools=ONE_READER)
    host.start()
    assert checks(host)["clock"][0] == "skipped"
    host.put("run", b"1")
    host.sent(1)
    assert checks(host)["clock"] == ("ok", "agrees with the brokers' within 1 s")


def test_checks_come_one_by_one(host: Host) -> None:
    with Raw(host.socket) as client:
        client.write("Doctor", more=True)
        answers = []
        while (answer := client.read()).get("continues"):
            answers.append(answer["parameters"]["checks"])
    assert answers.pop(0) == []  # before the first look, which may hang
    assert len(answers) > 8
    assert all(len(one) == 1 for one in answers)
    assert answer["parameters"]["checks"] == []


def test_what_is_wrong_is_found(make_host: MakeHost, topic: str) -> None:
    host = make_host(pools=ONE_READER, upload={"then": "delete"}, chunk_size="4MiB")
    host.start()
    (host.up / "x").mkdir()
    host.down.rename(host.down.with_name("moved"))
    host.down.mkdir()
    host.config.chmod(0o644)
    rewrite(host, kafka={**yaml.safe_load(host.config.read_text())["kafka"], "sasl.password": "x"})
    eventually(lambda: host.status()["problems"] != [], 30)
    found = checks(host)
    assert found["downloads.in"][0] == "fail"
    assert "was replaced" in found["downloads.in"][1]
    assert found[f"topic {topic}"][0] == "fail"
    assert "does not fit" in found[f"topic {topic}"][1]
    assert found["configuration"] == (
        "warn",
        f"changed in {host.config}, needs a restart: kafka.sasl.password",
    )
    assert found["uploads.out.then"][0] == "warn"
    done = host.ctl("doctor", "--json")
    assert done.returncode == FAILED
    assert json.loads(done.stdout)["running"] is True


def test_directories_that_kfd_may_not_use(make_host: MakeHost) -> None:
    host = make_host(pools=ONE_READER, upload={"then": {"move": "/"}})
    host.prefix = POWERLESS
    done = host.config.parent / "done"
    done.mkdir()
    values = yaml.safe_load(host.config.read_text())
    values["uploads"]["out"]["then"] = {"move": str(done)}
    host.config.write_text(yaml.safe_dump(values))
    host.start()
    done.chmod(0o500)
    host.up.chmod(0o000)
    try:
        found = checks(host)
        assert found["uploads.out"] == ("fail", f"kfd may not read {host.up}")
        host.up.chmod(0o700)
        assert checks(host)["uploads.out.then"] == ("fail", f"kfd may not write in {done}")
    finally:
        host.up.chmod(0o700)
        done.chmod(0o700)


def test_no_broker(make_host: MakeHost) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    host = make_host(bootstrap=f"127.0.0.1:{port}", pools=ONE_READER)
    host.start()
    found = checks(host)
    assert found[f"broker 127.0.0.1:{port}"] == ("fail", "no connection: Connection refused")
    assert found["login"][0] == "skipped"
    assert found["downloads.in"][0] == "ok"


@contextmanager
def silent_port() -> Iterator[int]:
    """Hangs up on whoever says something, as a port for TLS does on plain text."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                connection, _ = server.accept()
                with connection:
                    if not over.is_set():
                        connection.recv(100)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            over.set()
            socket.create_connection(server.getsockname()).close()
            thread.join()


def test_a_port_that_lets_nobody_in(make_host: MakeHost) -> None:
    with silent_port() as port:
        host = make_host(bootstrap=f"127.0.0.1:{port}", pools=ONE_READER)
        host.start()
        found = checks(host)
        assert found[f"broker 127.0.0.1:{port}"][0] == "ok"
        assert found["login"][0] == "fail"
        host.kill9()


def test_only_one_at_a_time(host: Host) -> None:
    answers = []

    def ask() -> None:
        with Raw(host.socket) as client:
            answers.append(client.call("Doctor"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [one for one in answers if "error" in one]
    assert len(answers) - len(refused) >= 1
    assert all("at work already" in one["parameters"]["text"] for one in refused)
    assert checks(host)["now"][0] == "ok"


def test_acls(host: Host, topic: str, bootstrap: str) -> None:
    done = host.ctl("doctor", "--acls")
    assert done.returncode == DONE
    commands = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    start = f"kafka-acls.sh --bootstrap-server {bootstrap} --add --allow-principal User:ANONYMOUS"
    assert all(line.startswith(start) for line in commands)
    assert f"{start} --operation Read --group {topic}-readers" in commands
    assert any(line.endswith(f"--topic {topic}.receipts") for line in commands)


def test_where_it_does_not_run(host: Host, topic: str) -> None:
    host.terminate()
    done = host.ctl("doctor", "--config", host.config)
    assert done.returncode == NOT_RUNNING
    assert "kfd is not running" in done.stderr
    assert "from outside" in done.stderr
    assert "ok   configuration: " in done.stdout
    assert f"ok   topic {topic}: " in done.stdout
    done = host.ctl("doctor", "--acls", "--config", host.config)
    assert f"--group {topic}-readers" in done.stdout


def test_where_it_does_not_run_and_its_file_is_wrong(tmp_path: Path) -> None:
    with Daemon(tmp_path, "127.0.0.1:1") as daemon:
        daemon.config.write_text("kafka: {bootstrap.servers: b}\nuplods: {}\n")
        done = daemon.ctl("doctor", "--config", daemon.config)
        assert done.returncode == NOT_RUNNING
        assert "FAIL configuration: kfd.yaml:2: uplods: unknown key" in done.stdout
        assert 'fix: did you mean "uploads"?' in done.stdout
