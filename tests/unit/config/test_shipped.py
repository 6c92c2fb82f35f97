"""The file that is shipped: every key is in it, and its defaults are the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import yaml

from kfd.config import Config, load, show
from tests.unit.config.files import SHIPPED, faults, uncommented, written


def test_the_shipped_file_has_one_fault_until_it_names_a_broker() -> None:
    line = SHIPPED.read_text().splitlines().index("  bootstrap.servers: CHANGE-ME:9092") + 1
    assert faults(SHIPPED) == [
        (
            f"kfd.yaml:{line}: kafka.bootstrap.servers: still CHANGE-ME",
            "write the HOST:PORT of a broker, or several with commas between",
        )
    ]


def test_the_defaults_that_the_shipped_file_shows_are_the_defaults(tmp_path: Path) -> None:
    minimal = """\
kafka: {bootstrap.servers: "broker:9092"}
uploads: {scope3: {directory: /srv/instruments/scope3, topic: lecroy_files}}
downloads: {archive: {topic: lecroy_files, directory: /data/lab}}
"""
    default = yaml.safe_load(show(load(written(tmp_path, minimal))))
    shipped = yaml.safe_load(show(load(written(tmp_path, uncommented()))))
    # What has no default that could be written shows an example.
    assert shipped.pop("origin") == "scope3"
    assert len(shipped.pop("kafka")) == 7
    default.pop("kafka")
    assert shipped["uploads"]["scope3"].pop("settle") == "3s"
    assert shipped["downloads"]["archive"].pop("owner_group") == "analysts"
    assert shipped == default


def test_the_shipped_file_shows_every_key() -> None:
    document = yaml.safe_load(uncommented())
    routes = {"uploads": "scope3", "downloads": "archive"}
    for name, field in Config.model_fields.items():
        assert name in document
        if name in routes:
            shown = document[name][routes[name]]
            route = get_args(field.annotation)[1]
            assert set(shown) == set(route.model_fields) - {"name"}
