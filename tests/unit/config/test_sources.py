"""Where a configuration comes from besides a file, and how it is shown."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from kfd.config import from_flags, from_values, load, show
from kfd.errors import ConfigError, UsageError
from tests.support import CHECKOUT
from tests.unit.config.files import uncommented, written


def test_what_is_shown_reads_back_as_the_same(tmp_path: Path) -> None:
    config = load(written(tmp_path, uncommented()))
    assert load(written(tmp_path, show(config))) == config
    assert pickle.loads(pickle.dumps(config.uploads)) == config.uploads


def test_flags_make_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = from_flags("b:1", "t", Path("in"), Path("x/../out"))
    upload, download = config.uploads["upload"], config.downloads["download"]
    assert config.kafka_properties() == {"bootstrap.servers": "b:1"}
    assert (upload.directory, upload.topic) == (tmp_path / "in", "t")
    assert (download.directory, download.topic) == (tmp_path / "out", "t")
    assert (download.layout.text, download.group) == ("{path}", "kfd-download")
    assert list(from_flags("b:1", "t", Path("in"), None).downloads) == []
    assert list(from_flags("b:1", "t", None, Path("out")).uploads) == []


def test_faults_of_flags_name_the_option() -> None:
    with pytest.raises(ConfigError) as caught:
        from_flags("b:1", "a b", Path("/a"), Path("/c"))
    assert [str(fault) for fault in caught.value.faults] == [
        "--topic: uploads.upload.topic: 'a b' is not the name of a topic",
        "--topic: downloads.download.topic: 'a b' is not the name of a topic",
    ]
    with pytest.raises(ConfigError) as caught:
        from_flags("b:1", "t", Path("/a"), Path("/a/b"))
    assert str(caught.value) == (
        "--download: downloads.download.directory: /a/b is inside that of uploads.upload"
    )
    with pytest.raises(UsageError, match="nothing to do"):
        from_flags("b:1", "t", None, None)


def test_values_make_a_configuration_without_places() -> None:
    config = from_values({"kafka": {"bootstrap.servers": "b:1"}})
    assert config.where("kafka") == ""
    with pytest.raises(ConfigError) as caught:
        from_values({"kafka": {"bootstrap.servers": "b:1"}, "pools": {"x": "1"}})
    assert str(caught.value) == "pools.x: unknown key"


def test_units_and_errors_come_without_pydantic() -> None:
    code = "import sys, kfd.units, kfd.errors, kfd.yamlfile; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=False).returncode == 0
