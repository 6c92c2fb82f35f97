"""The alerts, by Prometheus's own program: what each fires for, and what it doesn't."""

from __future__ import annotations

import shutil
import subprocess

from tests.support import CHECKOUT, unavailable


def test_alerts_fire_when_they_should() -> None:
    if shutil.which("promtool") is None:
        unavailable("promtool is not installed")
    ended = subprocess.run(
        ["promtool", "test", "rules", "alerts.test.yaml"],
        cwd=CHECKOUT / "packaging/prometheus",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
