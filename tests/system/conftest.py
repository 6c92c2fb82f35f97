"""What is installed on a machine of a system test besides kfd."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml


@pytest.fixture
def configuration(bootstrap: str, topic: str, tmp_path: Path) -> Path:
    """A directory with a kfd.yaml of one upload and one download."""
    settings = {
        "kafka": {"bootstrap.servers": bootstrap},
        "uploads": {"scope": {"directory": "/srv/scope", "topic": topic}},
        "downloads": {"archive": {"directory": "/srv/lab", "topic": topic, "layout": "{path}"}},
    }
    (tmp_path / "kfd.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path
