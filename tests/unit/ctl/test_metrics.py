"""``kfdctl metrics``."""

from __future__ import annotations

from pathlib import Path

from tests.unit.ctl.kfdctl import run, run_json

TEXT = "# TYPE kfd_queue_records gauge\nkfd_queue_records 812.0\n"


def test_the_text_as_prometheus_reads_it(served: Path) -> None:
    assert run("--socket", served, "metrics") == (0, TEXT, "")


def test_json(served: Path) -> None:
    assert run_json("--socket", served, "metrics") == {"text": TEXT}
