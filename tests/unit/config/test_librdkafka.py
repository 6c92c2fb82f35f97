"""What librdkafka says of properties that it refuses, as people read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kfd.kafka import ClusterView, RefusedPropertyError

LOGIN = {"security.protocol": "sasl_ssl", "sasl.username": "kfd", "sasl.password": "geheim"}

KEYSTORE = {"security.protocol": "ssl", "ssl.keystore.password": "geheim"}


def refused(properties: dict[str, str]) -> tuple[str, str, str]:
    with pytest.raises(RefusedPropertyError) as caught:
        ClusterView({"bootstrap.servers": "k:1", **properties})
    assert "geheim" not in f"{caught.value} {caught.value.fix}"
    return caught.value.name, caught.value.what, caught.value.fix


@pytest.mark.parametrize(
    ("properties", "name", "what", "fix"),
    [
        ({"security.protocol": "ssll"}, "security.protocol", '"ssll"', "sasl_plaintext, sasl_ssl"),
        ({"sasl.passwrd": "geheim"}, "sasl.passwrd", "no such", 'did you mean "sasl.password"?'),
        ({"zzz": "1"}, "zzz", "no such", "CONFIGURATION.md"),
        (LOGIN, "sasl.mechanism", "sasl.mechanism: missing", "write SCRAM-SHA-512"),
        (LOGIN | {"sasl.mechanism": "PLAINX"}, "sasl.mechanism", "'PLAINX'", "write SCRAM"),
        (
            {"security.protocol": "sasl_ssl", "sasl.mechanism": "PLAIN", "sasl.username": "kfd"},
            *("sasl.password", "sasl.password: missing", "{file: PATH}"),
        ),
        (
            {"security.protocol": "ssl", "ssl.ca.location": "/no/ca.pem"},
            *("ssl.ca.location", "/no/ca.pem: No such file", "name the file"),
        ),
        (
            {"security.protocol": "ssl", "ssl.keystore.location": "/no/k.p12"},
            *("ssl.keystore.password", "missing, mandatory when `ssl.keystore", "{file: PATH}"),
        ),
        (
            KEYSTORE | {"ssl.keystore.location": "/no/k.p12"},
            *("ssl.keystore.location", "/no/k.p12: No such file", "in PKCS#12"),
        ),
    ],
)
def test_a_refusal_names_property_and_remedy(
    properties: dict[str, str], name: str, what: str, fix: str
) -> None:
    found = refused(properties)
    assert found[0] == name
    assert what in found[1]
    assert fix in found[2]


@pytest.mark.parametrize(
    ("name", "form"), [("ssl.ca.location", "PEM"), ("ssl.keystore.location", "PKCS#12")]
)
def test_a_file_that_is_no_certificate(tmp_path: Path, name: str, form: str) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("nothing")
    found = refused(KEYSTORE | {name: str(path)})
    assert found == (name, f"kafka.{name}: not what belongs there: {path}", f"a file in {form}")
