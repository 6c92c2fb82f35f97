"""On what it was measured: the machine, and the versions of all that took part."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import confluent_kafka

import kfd
from scripts.benchmark.kafka import CHECKOUT
from scripts.benchmark.peer import environment


def machine(directory: Path) -> dict[str, Any]:
    """What the figures depend on; ``directory`` is where the files are."""
    return {
        "processor": _processor(),
        "processors": f"{os.cpu_count()} processors",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.0f} GB",
        "file_system": _output("findmnt", "-n", "-o", "FSTYPE", "-T", str(directory)),
        "kernel": f"{platform.system()} {platform.release()}",
    }


def versions(*, own_broker: bool, peer: bool) -> dict[str, str]:
    """Of kfd with its revision, and of what it and the others stand on."""
    revision = _output("git", "-C", str(CHECKOUT), "describe", "--always", "--dirty")
    found = {
        "kfd": f"{kfd.__version__} {revision}".strip(),
        "Python": platform.python_version(),
        "confluent-kafka": str(confluent_kafka.version()),
        "librdkafka": str(confluent_kafka.libversion()[0]),
    }
    if own_broker:
        found["Kafka"] = _kafka_version()
    if peer:
        found["openmsistream"] = _peer_version()
    return found


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _kafka_version() -> str:
    pom = (CHECKOUT / "scripts" / "kafka" / "pom.xml").read_text()
    found = re.search(r"<artifactId>kafka_[^<]*</artifactId>\s*<version>([^<]*)<", pom)
    return found[1] if found else "?"


def _peer_version() -> str:
    look = "from importlib.metadata import version; print(version('openmsistream'))"
    return _output(str(environment() / "bin" / "python"), "-c", look)


def _output(*command: str) -> str:
    """What a program prints; nothing where it isn't there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
