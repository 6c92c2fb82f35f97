"""A broker that asks who one is, and allows only what was granted: with exactly what ``kfdctl
doctor --acls`` names kfd works, and without it says what is missing."""

from __future__ import annotations

import json
import re
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not all are in its __all__
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.broker import running_broker
from tests.integration.conftest import ONE_READER
from tests.integration.host import Host
from tests.support import eventually

pytestmark = pytest.mark.broker

PROPERTIES = """
listeners=PLAINTEXT://127.0.0.1:@PORT@,SASL://127.0.0.1:{port},CONTROLLER://127.0.0.1:@CONTROLLER_PORT@
advertised.listeners=PLAINTEXT://127.0.0.1:@PORT@,SASL://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
listener.name.sasl.sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_kfd="right";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A broker with users and rights: where administrators ask it, and where users do."""
    home = tmp_path_factory.mktemp("guarded")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    properties = home / "sasl.properties"
    properties.write_text(PROPERTIES.format(port=port))
    with running_broker(home / "broker", properties=properties) as broker:
        yield broker.bootstrap, f"127.0.0.1:{port}"


def login(password: str) -> dict[str, str]:
    return {
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "kfd",
        "sasl.password": password,
    }


@pytest.fixture
def host(guarded: tuple[str, str], tmp_path: Path) -> Iterator[Host]:
    topic = f"kfd-test-{uuid.uuid4().hex[:12]}"
    with Host(tmp_path / "h", guarded[1], topic, kafka=login("right"), pools=ONE_READER) as made:
        yield made


def found(host: Host, name: str) -> list[dict[str, Any]]:
    """The checks of this name."""
    return [one for one in host.call("Doctor")["checks"] if one["name"].startswith(name)]


def grant(administration: str, wanted: dict[str, Any]) -> None:
    """Do what ``--acls`` says, as an administrator would with its commands."""
    admin = AdminClient({"bootstrap.servers": administration})
    bindings = [
        AclBinding(
            *(_resource(one["resource"]), one["name"], ResourcePatternType.LITERAL),
            *(wanted["principal"], "*", _operation(operation), AclPermissionType.ALLOW),
        )
        for one in wanted["grants"]
        for operation in one["operations"]
    ]
    for answer in admin.create_acls(bindings).values():
        answer.result(30)


def _resource(name: str) -> ResourceType:
    return ResourceType["BROKER" if name == "cluster" else name.upper()]


def _operation(name: str) -> AclOperation:
    return AclOperation[re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper()]


def test_what_doctor_names_is_enough(host: Host, guarded: tuple[str, str]) -> None:
    host.start()
    host.put("run", b"1")
    assert found(host, "login")[0]["outcome"] == "ok"
    assert "as kfd" in found(host, "login")[0]["text"]
    eventually(lambda: host.status()["problems"] != [], 30)
    assert {one["outcome"] for one in found(host, "topic ")} <= {"fail", "warn", "skipped"}
    wanted = json.loads(host.ctl("doctor", "--acls", "--json").stdout)["acls"]
    assert wanted["principal"] == "User:kfd"
    grant(guarded[0], wanted)
    host.receives("run", deadline=60)
    host.delivers("run", deadline=60)
    assert {one["outcome"] for one in found(host, "rights on kfd-")} == {"ok"}
    assert {one["outcome"] for one in found(host, "topic ")} == {"ok"}
    assert [one for one in host.status()["problems"] if one["degrades"]] == []


def test_a_right_that_is_missing_is_named(host: Host, guarded: tuple[str, str]) -> None:
    host.start()
    wanted = json.loads(host.ctl("doctor", "--acls", "--json").stdout)["acls"]
    for one in wanted["grants"]:
        one["operations"] = [name for name in one["operations"] if name != "Write"]
    grant(guarded[0], wanted)
    host.put("run", b"1")

    def says() -> bool:
        (check, *_) = found(host, "rights on kfd-")
        return bool(check["outcome"] == "fail" and "not granted: Write" in check["text"])

    eventually(says, 60, every=0.5)
    (check, *_) = found(host, "rights on kfd-")
    assert check["fix"].startswith("kafka-acls.sh --bootstrap-server 127.0.0.1:")
    assert "--allow-principal User:kfd --operation Write --topic kfd-" in check["fix"]


def test_a_wrong_password(host: Host, guarded: tuple[str, str]) -> None:
    host.configure(guarded[1], kafka=login("n0t-this-0ne"))
    host.start()
    (check,) = found(host, "login")
    assert check["outcome"] == "fail"
    assert "uthentication failed" in check["text"]
    assert "sasl.password" in check["fix"]
    assert "n0t-this-0ne" not in json.dumps(host.call("Doctor"))
    assert found(host, f"broker {guarded[1]}")[0]["outcome"] == "ok"
    host.kill9()
