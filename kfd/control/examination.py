"""What is wrong here, and how to mend it; and what Kafka's administrator has to grant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, what came of it, and what to do."""

    name: str
    outcome: Outcome
    text: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class DoctorParameters:
    pass


@dataclass(frozen=True, slots=True)
class DoctorReply:
    checks: Sequence[Check]


class Resource(StrEnum):
    """What rights are on, as ``kafka-acls.sh`` calls it."""

    TOPIC = "topic"
    GROUP = "group"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Grant:
    """What has to be allowed on one thing; ``why`` names the routes."""

    resource: Resource
    name: str
    operations: Sequence[str]
    why: str


@dataclass(frozen=True, slots=True)
class AclsParameters:
    pass


@dataclass(frozen=True, slots=True)
class AclsReply:
    """``principal`` as the brokers know kfd, ``servers`` where they are asked."""

    principal: str
    servers: str
    grants: Sequence[Grant]


METHODS: Mapping[str, tuple[type, type]] = {
    "Doctor": (DoctorParameters, DoctorReply),
    "Acls": (AclsParameters, AclsReply),
}
