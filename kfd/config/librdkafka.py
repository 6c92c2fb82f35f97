"""What librdkafka's texts about its properties mean, and what to do: they name neither files nor
values, and advise to compile it anew."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from kfd.config.properties import ALIASES
from kfd.config.wrong import nearest

NO_PROPERTY = "no such property"
_MISSING = "write it, or {file: PATH}"
_ELSE = "see librdkafka's CONFIGURATION.md"
_QUOTED = re.compile(r"(?:property|bool value for)[: ]*\"([^\"]+)\"")
_MANDATORY = re.compile(r"`([a-z][a-z0-9_.]+)` is (mandatory .*)")
_FILE = re.compile(r"\b(ssl\.[a-z.]+\.location)(?: failed| PKCS#12 file)?: ")
_MECHANISMS = "SCRAM-SHA-512, SCRAM-SHA-256, PLAIN or OAUTHBEARER, as the brokers have it"
_PROTOCOLS = "one of: plaintext, ssl, sasl_plaintext, sasl_ssl"
# Those that people write; a misspelt one is most likely one of them.
_COMMON = (
    *("bootstrap.servers", "security.protocol", "client.id", "client.rack", "debug"),
    *("sasl.mechanism", "sasl.username", "sasl.password", "sasl.oauthbearer.config"),
    *("sasl.kerberos.service.name", "sasl.kerberos.principal", "sasl.kerberos.keytab"),
    *("ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.key.password"),
    *("ssl.ca.pem", "ssl.certificate.pem", "ssl.key.pem", "ssl.crl.location"),
    *("ssl.keystore.location", "ssl.keystore.password", "ssl.endpoint.identification.algorithm"),
    *("enable.ssl.certificate.verification", "broker.address.family", "socket.timeout.ms"),
    *("compression.type", "linger.ms", "batch.size", "request.timeout.ms", "session.timeout.ms"),
    *("fetch.max.bytes", "fetch.wait.max.ms", "max.partition.fetch.bytes", "max.poll.interval.ms"),
)


class Meaning(NamedTuple):
    """Of a text."""

    name: str  # of the property; empty: it isn't known
    what: str
    fix: str


def meaning(text: str, properties: Mapping[str, str]) -> Meaning:
    """Of what librdkafka says when it is given ``properties``. Reads the file that it can't."""
    quoted = _QUOTED.search(text)
    name = ALIASES.get(quoted[1], quoted[1]) if quoted else ""
    text = text.replace(f'"{quoted[1]}"', f'"{name}"').strip() if quoted else text
    if "No such configuration property" in text:
        near = nearest(name, _COMMON)
        return Meaning(name, NO_PROPERTY, near if near.startswith("did") else _ELSE)
    if name == "security.protocol":
        return Meaning(name, text, _PROTOCOLS)
    if (file := _FILE.search(text)) is not None:
        return _of_file(file[1], properties)
    if "SASL mechanism" in text:
        return _of_mechanism(properties)
    return _of_missing(text, properties) or Meaning(name, text, _ELSE)


def _of_file(name: str, properties: Mapping[str, str]) -> Meaning:
    path = properties.get(name, "")
    form = "PKCS#12" if name == "ssl.keystore.location" else "PEM"
    try:
        with open(path, "rb"):
            pass
    except PermissionError:
        return Meaning(name, f"may not be read: {path}", "let kfd's user read it")
    except OSError as error:
        return Meaning(name, f"{path}: {error.strerror}", f"name the file that holds it, in {form}")
    return Meaning(name, f"not what belongs there: {path}", f"a file in {form}")


def _of_mechanism(properties: Mapping[str, str]) -> Meaning:
    given = properties.get("sasl.mechanism", "")
    what = f"{given!r} is not known" if given else "missing"
    return Meaning("sasl.mechanism", what, f"write {_MECHANISMS}")


def _of_missing(text: str, properties: Mapping[str, str]) -> Meaning | None:
    if "sasl.username and sasl.password must be set" in text:
        missing = [one for one in ("sasl.username", "sasl.password") if not properties.get(one)]
        return Meaning(missing[0] if missing else "", "missing", _MISSING)
    if (mandatory := _MANDATORY.search(text)) is not None:
        return Meaning(mandatory[1], f"missing, {mandatory[2]}", _MISSING)
    return None
